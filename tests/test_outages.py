"""Regional outages and recorded ones: beside the twin, by hand, and through the front door."""

import functools
import zlib

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import twin
from helpers.same import assert_told
from helpers.worlds import (
    alter,
    durations,
    memoryless,
    moments_of,
    one,
    renewal,
    run,
    seconds,
    stack,
    world_knobs,
)

from jaxwan.api import simulate
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.world.durations import RenewalKnobs
from jaxwan.world.plan import WorldPlan
from jaxwan.world.spells import FAILURES, NO_RECORD, PROCESSES, TraceKnobs

WIDTH, TICKS, INTERVALS = 4, 24, 3
ALL = {"processes": PROCESSES, "stationary": True, "intervals": INTERVALS}
PLANS = {
    "events": WorldPlan("events", "ideal", WIDTH, 1, TICKS, **ALL),
    "buffered": WorldPlan("events", "ideal", WIDTH, 2, TICKS, **ALL),
    "barrier": WorldPlan("barrier", "ideal", WIDTH, WIDTH, TICKS, **ALL),
}
NEVER = ((np.inf, 0.0, 0.0), (1.0, 0.0, 0.0))
WEIBULL = ((8.0, 2.0, 0.0), (1.0, 1.5, 0.0))
RECORD = (((0.0, 2.5), (6.0, 7.25)), (), ((3.5, 3.75), (9.0, 14.0)), ((12.0, np.inf),))
REGIONS = [zlib.crc32(name.encode()) for name in ("eu", "us", "eu", "asia")]


def outages(start=None, **own):
    """Return the processes of a plan that knows all of them; `start` gives shares down."""
    laws = [own.get(name, NEVER) for name in PROCESSES]
    share = [(start or {}).get(name, -1.0) for name in PROCESSES]
    found = renewal(*laws)
    return RenewalKnobs(found.up, found.down, jnp.asarray(share, jnp.float32))


def record(spells=((),) * WIDTH, rotate=False):
    """Return recorded spells in seconds as knobs."""
    table = np.tile(np.array(NO_RECORD, np.int32), (WIDTH, INTERVALS, 1))
    for worker, own in enumerate(spells):
        for number, pair in enumerate(own):
            parts = [(2**30, 0) if np.isinf(x) else (int(x), int(x % 1 * 2**20)) for x in pair]
            table[worker, number] = sum(parts, ())
    return TraceKnobs(jnp.asarray(table), jnp.array(rotate))


def knobs(present=WIDTH, slow=-1.0, **changes):
    """Return knobs of a WAN with everything that a plan of all processes needs."""
    base = {
        "up_bps": [1e6, 2e6, 5e6, 1e6], "down_bps": [2e6, 2e6, 1e7, 1e6],
        "delay_s": [0.1, 0.2, 0.05, 0.3], "outages": outages(), "trace": record(),
        "compress_s": jnp.float32(0),
        "region": jnp.asarray(np.array(REGIONS, np.uint32).view(np.int32)),
    }  # fmt: skip
    found = world_knobs(WIDTH, present, **base | changes)
    slowdown = RenewalKnobs(found.slowdown.up, found.slowdown.down, jnp.full(1, slow, jnp.float32))
    return alter(found, slowdown=slowdown)


CASES = {
    "quiet": knobs(),
    "regional": knobs(outages=outages(regional=memoryless(7.0, 2.0)), max_staleness=3),
    "recorded": knobs(trace=record(RECORD)),
    "both": knobs(outages=outages(regional=memoryless(9.0, 1.0)), trace=record(RECORD)),
    "stationary": knobs(outages=outages({"transient": 0.4}, transient=WEIBULL)),
    "stationary churn": knobs(
        outages=outages({"churn": 0.5, "transient": 0.2}, churn=memoryless(6.0, 6.0),
                        transient=WEIBULL),
        online=[True, False, True, True],
    ),
    "stationary regions": knobs(
        outages=outages({"regional": 0.5}, regional=((5.0, 0.0, 1.0), (5.0, 0.0, 1.0)))
    ),
    "compressing": knobs(compress_s=jnp.float32(0.75), overlap=True, max_staleness=2),
    "slowed": knobs(
        slow=0.5, slowdown=RenewalKnobs(durations([(4.0, 1.0, 0.0)]), durations([(4.0, 1.0, 0.0)]))
    ),
}  # fmt: skip
NAMES = tuple(CASES)
REPEATS = 3
ROWS = [name for name in NAMES for _ in range(REPEATS)]
SEEDS = np.arange(len(ROWS)) * 13 + 1


@functools.cache
def batch(plan_name):
    """Run all cases side by side under one plan, some seeds each."""
    return run(PLANS[plan_name], stack([CASES[name] for name in ROWS]), SEEDS)


@pytest.mark.parametrize("row", range(len(ROWS)), ids=lambda row: ROWS[row])
@pytest.mark.parametrize("plan_name", PLANS)
def test_the_world_is_its_twin(plan_name, row):
    plan, own, seed = PLANS[plan_name], CASES[ROWS[row]], int(SEEDS[row])
    moments, outcome = batch(plan_name)
    if plan.protocol == "events":
        told = twin.events(own, seed, plan.slots, plan.ticks, PROCESSES)
    else:
        told = twin.barrier(own, seed, plan.ticks, PROCESSES)
    assert_told(plan, moments_of(moments, row), one(outcome, row), told)


def test_a_region_goes_down_as_one_and_other_regions_do_not():
    _, outcome = batch("events")
    for row in (row for row, name in enumerate(ROWS) if name == "regional"):
        count = outcome.failures[row, :, FAILURES.index("regional")]
        assert count[0] == count[2] > 0
        assert outcome.up_s[row, 0] == outcome.up_s[row, 2]
        assert len({outcome.up_s[row, worker] for worker in (0, 1, 3)}) == 3


def test_a_region_keeps_its_luck_whoever_joins_and_wherever_it_stands():
    """Regions are addressed by name: neither their order nor another worker matters."""
    base = alter(CASES["regional"], update_bits=jnp.float32(0), dense_bits=jnp.float32(0))
    place = np.array([3, 1, 0, 2])
    moved = alter(base, region=base.region[place])
    fewer = alter(base, present=jnp.arange(WIDTH) < 3)
    rows = [base, moved, fewer] * (len(ROWS) // 3)
    _, outcome = run(PLANS["events"], stack(rows), np.full(len(rows), 5))
    end = seconds(outcome.now)
    first, shuffled, less = (
        outcome.failures[i, :, FAILURES.index("regional")] / end[i] for i in range(3)
    )
    np.testing.assert_allclose(shuffled, first[place], atol=2.5 / end.min())
    np.testing.assert_allclose(less[:3], first[:3], atol=2.5 / end.min())


def test_recorded_outages_give_their_up_time_exactly():
    for plan_name in PLANS:
        _, outcome = batch(plan_name)
        for row in (row for row, name in enumerate(ROWS) if name == "recorded"):
            end = float(seconds(one(outcome.now, row)))
            for worker, own in enumerate(RECORD):
                dark = sum(max(min(up, end) - down, 0.0) for down, up in own if down < end)
                assert outcome.up_s[row, worker] == end - dark
                begun = sum(0 < down < end for down, _ in own)
                assert outcome.failures[row, worker, FAILURES.index("replay")] == begun


def test_rotation_hands_every_record_to_one_worker():
    rows = [knobs(trace=record(RECORD, rotate=True))] * len(ROWS)
    _, outcome = run(PLANS["events"], stack(rows), SEEDS)
    plain = [len(own) for own in RECORD]
    seen = set()
    for row in range(len(ROWS)):
        end = float(seconds(one(outcome.now, row)))
        own = [sum(max(min(up, end) - down, 0.0) for down, up in r if down < end) for r in RECORD]
        dark = np.float32(end) - outcome.up_s[row]
        shifts = [s for s in range(WIDTH) if np.allclose(dark, np.roll(own, -s), atol=1e-4)]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert len(seen) > 1
    assert plain == [2, 0, 2, 1]


CSV = "worker,down_s,up_s\nworker-1,2,3.5\n3,0,1\nworker-1,10,inf\n"


def recorded(path, text=CSV, **changes):
    """Return a run that replays a file."""
    path.write_text(text)
    base = {"scenario": "simple", "challenge": "wan_bandwidth", "strategy": "sync",
            "compressor": "none", "steps": 60, "timing_only": True}  # fmt: skip
    return Experiment(**base | {"failures": {"replay": str(path)}} | changes)


def test_the_column_availability_is_that_of_the_file(tmp_path):
    frame = simulate(recorded(tmp_path / "down.csv"), seeds=3).frame
    for _, run_ in frame.iterrows():
        end = run_["time_s"]
        assert end > 10
        dark = 1.5 + 1.0 + (end - 10.0)
        assert run_["availability"] == pytest.approx(1 - dark / (4 * end), rel=1e-12)
        assert run_["failures_replay"] == 2  # the one at time zero is no new failure
    assert frame["failures"].eq(2).all()


def test_a_quiet_run_beside_a_recorded_one_is_as_without_it(tmp_path):
    quiet = recorded(tmp_path / "down.csv", failures={})
    both = simulate([quiet, recorded(tmp_path / "down.csv")], seeds=2)
    alone = simulate(quiet, seeds=2).frame
    mine = both.frame[both.frame["config_index"] == 0]
    np.testing.assert_allclose(mine["time_s"], alone["time_s"], rtol=1e-6)
    np.testing.assert_allclose(mine["availability"], 1.0, rtol=1e-12)
    assert len(group([resolve(quiet), resolve(recorded(tmp_path / "down.csv"))])) == 1


def test_regional_outages_are_counted_once_a_region():
    own = {"mtbf_s": 3.0, "duration_s": 0.5}
    base = Experiment(scenario="simple", challenge="wan_latency", strategy="sync", steps=40,
                      compressor="none", failures={"regional": own}, timing_only=True)  # fmt: skip
    frame = simulate(base, seeds=8).frame
    rate = frame["failures_regional"] / frame["time_s"]
    regions = len({worker.region for worker in resolve(base).workers})
    assert regions == 3
    spread = rate.std(ddof=1) / np.sqrt(len(rate))
    assert abs(rate.mean() - regions / 3.5) < 3 * spread + 0.1
    assert (frame["failures"] == frame["failures_regional"]).all()


HEAD = "worker,down_s,up_s\n"
BAD = {
    "overlap": (HEAD + "0,1,5\n0,4,6\n", ["line 3", "down_s: 4", "overlaps", "1 to 5", ">= 5"]),
    "by both names": (HEAD + "worker-0,1,5\n0,4,6\n", ["line 3", "overlaps", "line 2"]),
    "order": (HEAD + "0,7,8\n0,1,2\n", ["line 3", "down_s: 1", "starts before", "line 2"]),
    "after the last": (HEAD + "0,7,inf\n0,9,10\n", ["line 3", "overlaps"]),
    "negative": (HEAD + "0,-1,2\n", ["line 2", "down_s", "-1", "0 to 1e9"]),
    "nan": (HEAD + "0,nan,2\n", ["line 2", "down_s", "nan"]),
    "endless start": (HEAD + "0,inf,inf\n", ["line 2", "down_s", "inf"]),
    "huge": (HEAD + "0,1,2e9\n", ["line 2", "up_s", "2e9"]),
    "up before down": (HEAD + "0,5,3\n", ["line 2", "up_s: 3", "down_s = 5"]),
    "no time": (HEAD + "0,5,5\n", ["line 2", "up_s: 5"]),
    "word": (HEAD + "0,soon,3\n", ["line 2", "down_s", "number", "'soon'"]),
    "worker": (HEAD + "wroker-1,1,2\n", ["line 2", "'wroker-1'", "did you mean 'worker-1'"]),
    "number": (HEAD + "4,1,2\n", ["line 2", "'4'", "0 to 3"]),
    "no worker": (HEAD + ",1,2\n", ["line 2", "worker is empty"]),
    "cells": (HEAD + "0,1\n", ["line 2", "3 cells", "2"]),
    "empty": ("", ["empty", "worker,down_s,up_s"]),
    "only a header": (HEAD, ["no outages"]),
    "header": ("worker,down,up_s\n0,1,2\n", ["line 1", "'down'", "did you mean 'down_s'"]),
    "other order": ("down_s,up_s,worker\n1,2,0\n", ["line 1", "worker,down_s,up_s"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_refused_in_one_line(case, tmp_path):
    text, wanted = BAD[case]
    with pytest.raises(InputError) as caught:
        resolve(recorded(tmp_path / "bad.csv", text))
    found = str(caught.value)
    assert "\n" not in found
    for part in ("failures.replay", "bad.csv", *wanted):
        assert part in found


def test_a_missing_record_is_refused():
    with pytest.raises(InputError, match=r"failures\.replay.*no such file: nowhere\.csv"):
        Experiment(scenario="simple", failures={"replay": "nowhere.csv"})


def test_a_wrong_record_ends_the_command_line_with_two(tmp_path, monkeypatch, capsys):
    import sys

    from jaxwan import cli

    (tmp_path / "bad.csv").write_text(HEAD + "0,5,3\n")
    file = tmp_path / "ask.toml"
    file.write_text('[grid]\nscenario = "simple"\nfailures.replay = "bad.csv"\n')
    monkeypatch.setattr(sys, "argv", ["jaxwan", "sweep", str(file), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert "line 2" in text
    assert "failures.replay" in text

