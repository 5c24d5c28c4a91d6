"""Links that change with time: their laws, what transfers meet, and the front door."""

import functools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.worlds import (
    NEVER_UP,
    alter,
    lognormal,
    renewal,
    run,
    seconds,
    stack,
    world_knobs,
)
from scipy import integrate, optimize

from jaxwan.api import simulate
from jaxwan.core import keys
from jaxwan.core.clock import FRACTION, Instant
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import config_id, group
from jaxwan.experiment.resolve import resolve, resolve_and_warn
from jaxwan.experiment.resolved import Tape, Weather
from jaxwan.experiment.skies import bursts, tape_knobs
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.world import tape, weather
from jaxwan.world.exchange import Fetch, links, prepare_one, transfers
from jaxwan.world.plan import WorldPlan
from jaxwan.world.run import carefree
from jaxwan.world.tape import reels
from jaxwan.world.weather import CELL_SHARE, WeatherKnobs

CALM = {"depth": 0.0, "period_s": 86_400.0, "phase": 0.0, "spread": 0.0, "sigma": 0.0,
        "cell_s": 3600.0, "bad_loss": 0.0, "bad_factor": 1.0}  # fmt: skip


def knobs_of(workers, tapes=None, bursting=(math.inf, 1.0), **changes):
    """Return weather for so many workers, each in its own zone."""
    numbers = {name: jnp.float32(value) for name, value in (CALM | changes).items()}
    return WeatherKnobs(zone=jnp.arange(workers, dtype=jnp.int32), tape=tapes, **numbers,
                        **jax.tree.map(jnp.asarray, bursts(*bursting)))  # fmt: skip


def at(times_s):
    """Return instants of float64 seconds."""
    ticks = np.round(np.asarray(times_s, np.float64) * FRACTION).astype(np.int64)
    return Instant(jnp.asarray(ticks // FRACTION, jnp.int32),
                   jnp.asarray(ticks % FRACTION, jnp.int32))  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def everywhere(name, knobs, sky, times):
    """Return what one function of the weather says, `[worker, time]`."""
    one = functools.partial(getattr(weather, name), knobs)
    return jax.vmap(lambda own: jax.vmap(lambda time: one(own, time))(times))(sky)


def skies_of(knobs, seed=0):
    return weather.skies(knobs, keys.run_key(seed))


def assert_mean(values, mean):
    """Refuse a mean more than three standard errors away."""
    error = np.std(values, ddof=1) / math.sqrt(np.size(values))
    assert abs(np.mean(values) - mean) < 3 * error, (np.mean(values), mean, error)


@pytest.mark.parametrize("moment_s", [0.0, 1234.5, 1e6])
def test_drift_is_lognormal_with_mean_one(moment_s):
    knobs = knobs_of(20_000, sigma=0.5, cell_s=300.0)
    found = np.asarray(everywhere("drift", knobs, skies_of(knobs), at([moment_s])), np.float64)
    assert_mean(found, 1.0)
    assert_mean(np.log(found), -0.125)
    assert_mean((np.log(found) + 0.125) ** 2, 0.25)


def test_drift_forgets_as_told():
    wanted = 500.0
    knobs = knobs_of(20_000, sigma=1.0, cell_s=wanted / CELL_SHARE)
    times = at([700.0, 700.0 + wanted, 700.0 + 2.3 * wanted])
    z = np.log(np.asarray(everywhere("drift", knobs, skies_of(knobs), times), np.float64)) + 0.5
    assert_mean(z[:, 0] * z[:, 1], math.exp(-1))
    assert_mean(z[:, 0] * z[:, 2], 0.0)


def test_the_hours_are_their_closed_form():
    changes = {"depth": 0.6, "period_s": 7200.0, "phase": 0.25, "spread": 0.5}
    knobs = knobs_of(4, **changes)
    sky, times = skies_of(knobs), np.linspace(0.0, 5 * 7200.0, 57)
    found = everywhere("diurnal", knobs, sky, at(times))
    phase = np.asarray(sky.phase, np.float64)
    wanted = 1 - 0.6 * (1 + np.cos(2 * np.pi * (times / 7200.0 - phase[:, None]))) / 2
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.all((phase > 0.25) & (phase < 0.75))
    assert len(set(phase)) == 4
    same = skies_of(alter(knobs, zone=jnp.asarray([7, 3, 7, 7], jnp.int32))).phase
    assert same[0] == same[2] == same[3] != same[1]


@pytest.mark.parametrize(("good_s", "bad_s"), [(9.0, 1.0), (0.05, 0.02), (40.0, 300.0)])
def test_bursts_are_a_two_state_chain(good_s, bad_s):
    """Seen every `step_s`, exponential spells are geometric runs of known means."""
    knobs, step_s, count = knobs_of(300, bursting=(good_s, bad_s)), 0.15 * min(good_s, bad_s), 4000
    times = 1000.0 + step_s * np.arange(count)
    bad = np.asarray(everywhere("is_bad", knobs, skies_of(knobs), at(times)))
    share, rate = bad_s / (good_s + bad_s), 1 / good_s + 1 / bad_s
    assert_mean(bad.mean(axis=1), share)
    leaves = -math.expm1(-rate * step_s)
    before, after = bad[:, :-1], bad[:, 1:]
    for state, other in ((True, 1 - share), (False, share)):
        left = (after != state)[before == state].astype(float)
        assert_mean(left, leaves * other)  # mean run 1 / that
    gone = (bad[:, :-2] & ~bad[:, 1:-1], bad[:, 2:])  # what came before does not matter
    assert_mean(gone[1][gone[0]].astype(float), leaves * share)
    edges = [np.flatnonzero(np.diff(row.astype(int))) for row in bad]
    runs = np.concatenate([np.diff(e)[bad[i, e[:-1] + 1]] for i, e in enumerate(edges) if len(e)])
    if len(runs) > 2000 and 50 / (leaves * (1 - share)) < count:  # long ones are seldom cut off
        assert_mean(runs * step_s, step_s / (leaves * (1 - share)))


@pytest.mark.parametrize("bad", [False, True])
def test_what_is_left_advances_at_the_rate_to_be_expected(bad):
    knobs = knobs_of(1, bursting=(8.0, 2.0))
    p, r = 0.2, 1 / 8 + 1 / 2
    for good_s, bad_s in ((0.01, 0.2), (1.0, 3.0), (5.0, 80.0), (300.0, 4000.0), (2.0, math.inf)):
        slow, fast = 1 / bad_s, 1 / good_s

        def done(t, slow=slow, fast=fast):
            share = lambda u: p + (bad - p) * math.exp(-r * u)  # noqa: E731
            return integrate.quad(lambda u: share(u) * slow + (1 - share(u)) * fast, 0, t)[0] - 1

        wanted = optimize.brentq(done, good_s * 0.5, min(bad_s, 100.0 + 10 * good_s) * 2)
        found = weather.expected_s(knobs, jnp.float32(bad), jnp.float32(good_s),
                                   jnp.float32(bad_s))  # fmt: skip
        assert float(found) == pytest.approx(wanted, rel=2e-4)


def through_bursts(means_s, good_s, bad_s, bad):
    """Follow transfers `[run]` that begin in a state through a chain; (seconds, bad seconds)."""
    rng, time_s, worst_s = np.random.default_rng(1), np.zeros(bad.size), np.zeros(bad.size)
    left, bad = np.ones(bad.size), bad.copy()
    while np.any(left > 0):
        spell_s = rng.exponential(np.where(bad, means_s[1], means_s[0]))
        whole_s = np.where(bad, bad_s, good_s)
        rest_s = np.where(left > 0, np.maximum(left, 1e-300) * whole_s, 0.0)
        spent_s = np.minimum(rest_s, spell_s)
        left = np.where(rest_s <= spell_s, 0.0, left - spell_s / whole_s)
        time_s, worst_s, bad = time_s + spent_s, worst_s + bad * spent_s, ~bad
    return time_s, worst_s


@pytest.mark.parametrize(("means_s", "good_s", "bad_s", "extra"), [
    ((8.0, 2.0), 0.1, 1.0, 0.0), ((100.0, 10.0), 20.0, 2000.0, 0.0), ((8.0, 2.0), 3.0, 30.0, 0.02),
    ((8.0, 2.0), 300.0, 3000.0, 0.002), ((8.0, 2.0), 1.0, math.inf, 0.0),
])  # fmt: skip
def test_transfers_through_bursts_take_what_the_chain_says(means_s, good_s, bad_s, extra):
    """Few spells exactly; with many, the expectation is `extra` off at most."""
    runs, knobs = 20_000, knobs_of(1, bursting=means_s)
    words = [keys.words(keys.run_key(n), runs) for n in range(4)]
    for bad in (np.zeros(runs, bool), np.ones(runs, bool)):
        found_s, share = jax.jit(jax.vmap(lambda own, *words: weather.weathered_s(
            knobs, own, jnp.float32(good_s), jnp.float32(bad_s), words)))(bad, *words)  # fmt: skip
        found_s, share = np.float64(found_s), np.float64(share)
        wanted_s, worst_s = through_bursts(means_s, good_s, bad_s, bad)
        for mine, other in ((found_s, wanted_s), (found_s * share, worst_s)):
            error = math.hypot(np.std(mine), np.std(other)) / math.sqrt(runs)
            room = extra * np.mean(wanted_s)
            assert abs(np.mean(mine) - np.mean(other)) < 3 * error + room


RECORD = Tape((0.0, 10.0, 12.5, 30.0, 31.0), (2e6, 0.0, 5e5, 8e6, 1e6), 40)
TAPES = Weather(tapes=(RECORD, Tape((0.0,), (3e6,), 7)), own=(0, 1, 0, -1))


def due_s(record, start_s, bits):
    """Return when a transfer is through, in float64, piece after piece."""
    time_s, left = start_s, bits
    while True:
        cycle, place = divmod(time_s, record.period_s)
        here = np.searchsorted(record.times_s, place, side="right") - 1
        until = (*record.times_s, record.period_s)[here + 1] + cycle * record.period_s
        rate = record.bps[here]
        if left <= rate * (until - time_s):
            return time_s + left / rate
        left, time_s = left - rate * (until - time_s), until


def test_a_record_is_followed_piece_by_piece():
    tapes = jax.tree.map(jnp.asarray, tape_knobs(TAPES, 9, 4))
    reel = jax.tree.map(lambda x: x[0], reels(tapes))
    rng = np.random.default_rng(0)
    starts = np.concatenate([np.round(rng.uniform(0, 4000, 300) * 64) / 64, [0, 10, 11, 39.5, 40]])
    bits = np.float64(np.float32(np.concatenate([10 ** rng.uniform(1, 9, 300), [2e7, 1, 1, 1, 1]])))
    through = jax.jit(jax.vmap(lambda b, t: tape.through_s(tapes, reel, b, t)))
    found = through(jnp.asarray(bits, jnp.float32), at(starts))
    wanted = [due_s(RECORD, s, b) - s for s, b in zip(starts, bits, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=2e-5)


NOBODYS = Weather(tapes=TAPES.tapes, own=(-1,) * 4)
ROOM = {"weather": True, "points": 8, "watched": True}
STILL = {"compute_noise": lognormal(0.0), "up_bps": [4e6] * 4, "down_bps": [4e6] * 4,
         "update_bits": 3e6, "dense_bits": 3e6, "outages": renewal(NEVER_UP)}  # fmt: skip


def knobs_in(changes, present=1, tapes=NOBODYS, **own):
    """Return knobs of a fleet without noise or failures in some weather; None is none."""
    if changes is None:
        return world_knobs(4, present, **STILL | own)
    tapes = jax.tree.map(jnp.asarray, tape_knobs(tapes, 8, 4))
    return world_knobs(4, present, **STILL | own, weather=knobs_of(4, tapes, **changes))


def world(protocol, *rows, seed=0, **plan):
    """Run worlds of four workers for 12 ticks, two at a time so that few programs serve all."""
    slots = 4 if protocol == "barrier" else 1
    plan = WorldPlan(protocol, "ideal", 4, slots, 12, processes=("transient",), **plan)
    return run(plan, stack([rows[0], rows[-1]]), [seed] * 2)


def test_rounds_over_a_record_end_when_it_says():
    """Download, a second of computing, upload: each from the instant it begins."""
    rows = [knobs_in({}, tapes=TAPES), knobs_in({"depth": 0.5, "period_s": 1e9}, tapes=TAPES)]
    moments, outcome = world("barrier", *rows, **ROOM)
    for run_, scale in ((0, 1.0), (1, 2.0)):  # the second at half the rate
        now = 0.0
        for tick in range(12):
            sends = due_s(RECORD, now, 3e6 * scale) + 1.0
            now = due_s(RECORD, sends, 3e6 * scale)
            assert seconds(moments.now)[tick, run_] == pytest.approx(now, abs=1e-4)
    assert np.all(seconds(outcome.totals.on_wire_up) > 0)


def test_an_exchange_among_all_begins_when_the_last_is_ready():
    knobs = knobs_in({}, 2, TAPES, speed=[1.0, 0.1, 1.0, 1.0])
    moments, _ = world("barrier", knobs, **ROOM, exchange="ring")
    ready = max(due_s(RECORD, 0.0, 3e6) + 1.0, due_s(TAPES.tapes[1], 0.0, 3e6) + 10.0)
    wanted = max(due_s(own, ready, 3e6) for own in TAPES.tapes)  # 2 (n - 1) / n = 1 payload
    assert seconds(moments.now)[0, 0] == pytest.approx(wanted, abs=1e-4)


ROUGH = {"depth": 0.5, "period_s": 60.0, "sigma": 0.4, "cell_s": 20.0, "spread": 1.0,
         "bad_factor": 0.2, "bad_loss": 0.05, "bursting": (5.0, 2.0)}  # fmt: skip


def cycles(worker, protocol, present, **own):
    """Return (begin, ready to send) of a worker's cycles from its second on; all are dense."""
    moments, _ = world(protocol, knobs_in(ROUGH, present, **own), **ROOM, seed=5)
    lived = jax.tree.map(lambda leaf: leaf[:, 0], moments.lived)
    mine = lived.began & (lived.worker == worker) & (lived.cycle > 0)
    return np.stack([seconds(lived.begin)[mine], seconds(lived.computed)[mine]], axis=1)


def test_who_joins_changes_nobodys_weather():
    few, many = (skies_of(knobs_of(n, **ROUGH)) for n in (3, 5))
    for small, large in zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True):
        np.testing.assert_array_equal(small, large[:3])
    alone, together = cycles(0, "events", 1), cycles(0, "events", 3)
    count = min(len(alone), len(together))
    assert count >= 3
    np.testing.assert_array_equal(alone[:count], together[:count])
    assert len(set(np.round(np.diff(alone, axis=1).ravel(), 6))) > 1  # there is weather


def test_another_protocol_meets_the_same_weather_at_the_same_time():
    """One worker alone lives the same under both; a slower one does not."""
    rounds, events = cycles(0, "barrier", 1), cycles(0, "events", 1)
    count = min(len(rounds), len(events))
    assert count >= 8
    np.testing.assert_allclose(rounds[:count], events[:count], atol=1e-5)
    assert cycles(0, "barrier", 1, step_s=1.5)[0, 0] != rounds[0, 0] + 0.5


def test_calm_weather_is_none():
    link = {"delay_s": [0.05] * 4, "loss": [0.01] * 4, "jitter_s": [0.01] * 4}
    plain, calm = (knobs_in(own, 3, **link) for own in (None, {}))
    rough = knobs_in(ROUGH, 3, TAPES, **link)
    before, _ = world("events", plain, carefree(plain))
    after, _ = world("events", calm, carefree(rough), **ROOM)
    np.testing.assert_allclose(seconds(after.now), seconds(before.now), rtol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def _uploads(plan, knobs, seeds):
    def one(seed):
        key = keys.run_key(seed)
        own = links(knobs, keys.worker_keys(key, "link", 4))
        if plan.weather:
            own = own._replace(sky=weather.skies(knobs.weather, key))
        ready = prepare_one(plan, knobs)
        fetch = Fetch(jnp.array(True), jnp.int32(0), knobs.dense_bits)
        first = jax.tree.map(lambda leaf: leaf[1], own)
        return transfers(plan, knobs, first, ready, jnp.int32(1), jnp.int32(3), fetch,
                         jnp.float32(1), at(5e6))  # fmt: skip

    return jax.vmap(one)(seeds)


def uploads(changes, loss, **plan):
    """Return one worker's transfers over CUBIC, for 2,000 seeds."""
    knobs = knobs_in(changes, delay_s=[0.05] * 4, loss=[loss] * 4, jitter_s=[0.01] * 4)
    own = WorldPlan("barrier", "cubic", 4, 4, 1, connect=True, **plan)
    return jax.tree.map(np.asarray, _uploads(own, knobs, jnp.arange(2000)))


def test_calm_weather_is_none_for_tcp():
    plain, calm = uploads(None, 0.01), uploads({}, 0.01, weather=True, points=8)
    for before, after in zip(plain, calm, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3)


def test_bursts_of_loss_hit_as_often_as_their_share_says():
    """Bursts much longer than a transfer: one loss or the other, with the same luck."""
    bursting = {"bad_loss": 0.05, "bursting": (3e7, 1e7)}
    good, poor, mixed = (
        uploads(own, loss, weather=True, points=8)
        for own, loss in (({}, 0.0), ({}, 0.05), (bursting, 0.0))
    )
    for low, high, found in ((good.upload_s, poor.upload_s, mixed.upload_s),
                             (good.download_s, poor.download_s, mixed.download_s)):  # fmt: skip
        slow, apart = np.isclose(found, high, rtol=1e-5), high > 1.001 * low  # else no loss came
        assert np.all(slow | np.isclose(found, low, rtol=1e-5))
        assert apart.mean() > 0.9
        assert_mean(slow[apart].astype(float), 0.25)
    np.testing.assert_allclose(mixed.wire_up_s, good.wire_up_s)


HEAD = "time_s,bandwidth_bps\n"
BASE = {"scenario": "simple", "challenge": "wan_bandwidth", "strategy": "sync",
        "compressor": "none", "steps": 20, "timing_only": True}  # fmt: skip


def asked(**own):
    return Experiment(**BASE, link={"weather": own})


def recorded(path, text, **changes):
    path.write_text(text)
    return Experiment(**BASE | changes, link={"weather": {"trace": str(path)}})


def test_through_the_door(tmp_path):
    slow = {"bandwidth_bps": 1e6}
    rough = {
        "diurnal": {"depth": 0.5, "spread": 1.0}, "drift": {"sigma": 0.3, "correlation_s": 9.0},
        "bursts": {"good_s": 20.0, "bad_s": 5.0, "bad_factor": 0.1},
    }  # fmt: skip
    calm = {"diurnal": {"depth": 0.0}}
    steady = recorded(tmp_path / "tape.csv", "time_s,bandwidth_bps,worker\n0,1e6,1\n5,1e6,1\n")
    asking = [Experiment(**BASE, link=slow | {"weather": own}) for own in (calm, rough)]
    frame = simulate([*asking, steady], seeds=8).frame
    mean = frame.groupby("config_index")["time_s"].mean()
    assert mean[1] > 1.2 * mean[0]
    assert mean[2] == pytest.approx(mean[0], rel=1e-3)
    plain, rough = Experiment(**BASE), asked(**rough)
    assert resolve(asked(drift="none", trace="none")).weather is None
    assert resolve(Experiment(**BASE, link={"weather": "none"})).weather is None
    assert config_id(resolve(plain)) == config_id(resolve(asked()))
    other = asked(diurnal={"depth": 0.5}), asked(diurnal={"depth": 0.4})
    assert len({config_id(resolve(one)) for one in (plain, rough, *other)}) == 4
    groups = group([resolve(one) for one in (plain, rough, *other)])
    assert [len(own.members) for own in groups] == [1, 3]
    assert group([resolve(plain)])[0].world_knobs.weather is None


def test_what_does_nothing_is_said():
    own = {"good_s": 1.0, "bad_s": 1.0, "bad_loss": 0.2}
    assert any("bad_loss" in told for told in resolve_and_warn(asked(bursts=own))[1])
    tcp = Experiment(**BASE, link={"transport": "cubic", "weather": {"bursts": own}})
    assert not any("bad_loss" in told for told in resolve_and_warn(tcp)[1])


BAD = {
    "order": (HEAD + "0,1\n5,1\n3,1\n", ["line 4", "time_s: 3", "before", "line 3", "> 5"]),
    "overlap": (HEAD + "0,1\n5,1\n5,2\n", ["line 4", "time_s: 5", "again", "line 3", "> 5"]),
    "negative": (HEAD + "0,1\n5,-3\n", ["line 3", "bandwidth_bps", "-3", "0 to 1e+15"]),
    "negative time": (HEAD + "-1,1\n", ["line 2", "time_s", "-1", "0 to 1e+08"]),
    "nan": (HEAD + "0,nan\n", ["line 2", "bandwidth_bps", "nan"]),
    "word": (HEAD + "0,fast\n", ["line 2", "bandwidth_bps", "number", "'fast'"]),
    "late": (HEAD + "2,1\n", ["line 2", "starts at 2", "allowed: 0"]),
    "dead": (HEAD + "0,0\n5,0\n", ["line 2", "always 0", "above 0"]),
    "empty": ("", ["empty", "time_s,bandwidth_bps"]),
    "only a header": (HEAD, ["no lines"]),
    "header": ("time,bandwidth_bps\n0,1\n", ["line 1", "'time'", "did you mean 'time_s'"]),
    "half a header": ("time_s\n0\n", ["line 1", "time_s,bandwidth_bps"]),
    "cells": (HEAD + "0,1,2\n", ["line 2", "2 cells", "3"]),
    "worker": ("worker,time_s,bandwidth_bps\nwroker-1,0,1\n",
               ["line 2", "'wroker-1'", "did you mean 'worker-1'"]),
    "number": ("worker,time_s,bandwidth_bps\n4,0,1\n", ["line 2", "'4'", "0 to 3"]),
    "nobody": ("worker,time_s,bandwidth_bps\n,0,1\n", ["line 2", "worker is empty"]),
    "by both names": ("worker,time_s,bandwidth_bps\nworker-0,0,1\n0,0,1\n",
                      ["line 3", "'0'", "'worker-0'", "already"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_refused_in_one_line(case, tmp_path):
    text, wanted = BAD[case]
    with pytest.raises(InputError) as caught:
        resolve(recorded(tmp_path / "bad.csv", text))
    found = str(caught.value)
    assert "\n" not in found
    for part in ("link.weather.trace", "bad.csv", *wanted):
        assert part in found


REFUSED = {
    "depth": ({"diurnal": {"depth": 1.0}}, ["diurnal.depth", "1.0", "[0, 0.99]"]),
    "no depth": ({"diurnal": {}}, ["diurnal", "'depth' is missing"]),
    "sigma": ({"drift": {"sigma": -1.0, "correlation_s": 9.0}}, ["drift.sigma", "-1.0"]),
    "nothing": ({"bursts": {"good_s": 1.0, "bad_s": 1.0}}, ["bursts", "bad_loss or bad_factor"]),
    "zero": ({"bursts": {"good_s": 0.0, "bad_s": 1.0, "bad_loss": 0.1}}, ["bursts.good_s", "0.0"]),
    "missing": ({"trace": "nowhere.csv"}, ["trace", "no such file: nowhere.csv"]),
    "spelling": ({"burst": {}}, ["weather", "'burst'", "did you mean 'bursts'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_weather_is_refused(case):
    table, wanted = REFUSED[case]
    with pytest.raises(InputError) as caught:
        asked(**table)
    for part in ("link.weather", *wanted):
        assert part in str(caught.value)


def test_a_record_that_does_not_fit_is_refused(tmp_path):
    file = tmp_path / "tape.csv"
    file.write_text(HEAD + "0,1e6\n7,2e6\n")
    with pytest.raises(InputError, match=r"link\.weather\.trace.*period_s: 7.*line 3.*> 7"):
        resolve(asked(trace={"file": str(file), "period_s": 7}))
    matrix = tmp_path / "matrix.csv"
    matrix.write_text("region_a,region_b,rtt_s,bandwidth_bps\na,b,0.1,1e8\n")
    with pytest.raises(InputError, match=r"link\.weather\.trace: .*exchange\.matrix"):
        resolve(recorded(file, HEAD + "0,1e6\n",
                         exchange={"kind": "ring", "matrix": str(matrix)}))  # fmt: skip


def test_a_record_beside_the_sweep_is_found_and_a_wrong_one_ends_with_two(
    tmp_path, monkeypatch, capsys
):
    from jaxwan import cli

    (tmp_path / "good.csv").write_text(HEAD + "0,1e6\n10,2e6\n")
    (tmp_path / "bad.csv").write_text(HEAD + "0,1e6\n0,2e6\n")
    file = tmp_path / "ask.toml"
    grid = '[grid]\nscenario = "simple"\nlink.weather.trace = ["good.csv", {}]\n'
    file.write_text(grid.format('"none"'))
    found = [one.weather for one in Sweep.from_toml(file).resolve()[0]]
    assert found[0].tapes == (Tape((0.0, 10.0), (1e6, 2e6), 20),)
    assert found[1] is None
    file.write_text(grid.format('"bad.csv"'))
    monkeypatch.setattr(sys, "argv", ["jaxwan", "sweep", str(file), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert "line 3" in text
    assert "link.weather.trace" in text
