"""Transports: the measurements and published figures, edges, monotonicity, and common luck."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwan as jw
from jaxwan.bench.arrivals import Model, world_of
from jaxwan.core import clock, keys
from jaxwan.core.pytrees import replace
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.validate import clouds, tcp
from jaxwan.world.exchange import links, prepare, prepare_one, transfers, what_to_fetch
from jaxwan.world.state import make_world
from jaxwan.world.transport import TRANSPORTS, Path
from jaxwan.world.transports import flow, generate, table

TCP = [name for name, transport in TRANSPORTS.items() if transport.size]
WAN = {"bandwidth_bps": 50e6, "delay_s": 0.1, "loss": 0.01, "jitter_s": 0.01}
INF = math.inf


def link(transport="cubic", **changes):
    return jw.Link(**{**WAN, "transport": transport, **changes})


def path_of(**changes):
    given = {**WAN, "streams": 1.0, "window_bytes": INF, **changes}
    return Path(*(jnp.float32(given[name]) for name in Path._fields))


def deciles(seed, payload, own):
    return np.quantile(jw.transfer_time(seed, payload, own, 512), (0.1, 0.5, 0.9))


def test_there_are_three_models_of_tcp():
    assert TCP == ["reno", "cubic", "bbr"]


@pytest.mark.parametrize("module", [tcp, clouds])
def test_the_model_agrees_with_what_was_measured(module):
    checks = module.checks()
    assert len(checks) == {tcp: 12, clouds: 4}[module]
    assert not [check for check in checks if not check.passed]


def test_the_picture_of_the_transfers_is_drawn(tmp_path):
    tcp.figure(tmp_path / "tcp.png")
    assert (tmp_path / "tcp.png").stat().st_size > 20_000


def test_division_by_the_bandwidth_is_what_the_measurements_refute():
    """One CUBIC stream took 35 s for 4 MB where the division says 0.64 s; eight took 7, BBR 3."""
    for transport, streams, told in (("cubic", 1, 34.4), ("cubic", 8, 6.4), ("bbr", 1, 2.97)):
        found = np.median(jw.transfer_time(0, 4e6, link(transport, streams=streams)))
        assert found == pytest.approx(told, rel=0.35)
    assert np.median(jw.transfer_time(0, 4e6, link("ideal"))) == pytest.approx(0.84, rel=0.02)


@pytest.mark.parametrize("name", TCP)
def test_no_distance_no_loss_and_no_end_of_bandwidth_take_no_time(name):
    free = jw.Link(bandwidth_bps=INF, transport=name)
    for payload in (1, 1e6, 1e11):
        assert (jw.transfer_time(0, payload, free) == 0).all()


@pytest.mark.parametrize("name", TCP)
def test_without_distance_segments_take_what_they_occupy_of_the_link(name):
    near = jw.Link(bandwidth_bps=1e6, transport=name)
    for segments, off in ((0.01, 0.03), (1, 0.03), (3, 0.08), (7, 0.03), (10, 0.03), (60, 0.03)):
        middle = np.median(jw.transfer_time(0, 1448 * segments, near))
        assert middle == pytest.approx(segments * 1514 * 8 / 1e6, rel=off), segments


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_dead_link_never_delivers(name):
    assert np.isinf(jw.transfer_time(0, 1e3, link(name, bandwidth_bps=0.0))).all()


@pytest.mark.parametrize("name", TCP)
def test_extremes_stay_finite_and_above_the_round_trip(name):
    for loss in (0.0, 1e-8, 0.5, 0.99):
        for delay_s in (0.0, 1e-4, 0.1, 300.0):
            for streams, window in ((1, None), (256, 4096.0), (64, 1e12)):
                own = link(name, loss=loss, delay_s=delay_s, streams=streams, window_bytes=window)
                for payload in (1.0, 1e3, 1e11):
                    seconds = jw.transfer_time(1, payload, own)
                    assert np.isfinite(seconds).all()
                    assert (seconds >= np.float32(2 * delay_s)).all()
                    assert (seconds >= 0.6 * payload * 8 / 50e6).all()


@pytest.mark.parametrize("name", TCP)
def test_more_bytes_never_take_less_time(name):
    payloads = np.geomspace(1, 1e11, 90)
    for loss in (0.0, 1e-4, 0.02, 0.2):
        levels = np.stack([deciles(2, p, link(name, loss=loss)) for p in payloads])
        assert (np.diff(levels, axis=0) >= -1e-4 * levels[:-1]).all()


@pytest.mark.parametrize("name", TCP)
def test_more_loss_never_helps(name):
    losses = [0.0, *np.geomspace(1e-6, 0.5, 40)]
    for payload in (2e4, 1e6, 1e9):
        levels = np.stack([deciles(3, payload, link(name, loss=p)) for p in losses])
        assert (np.diff(levels, axis=0) >= -1e-4 * levels[:-1]).all()


@pytest.mark.parametrize("name", TCP)
def test_bandwidth_hardly_ever_hurts(name):
    rates = np.geomspace(1e5, 1e11, 40)
    for payload in (2e4, 1e6, 1e9):
        middle = [np.median(jw.transfer_time(4, payload, link(name, bandwidth_bps=r)))
                  for r in rates]  # fmt: skip
        assert (np.diff(np.log(middle)) < 0.12).all()
        assert middle[-1] < middle[0]


def test_a_window_limits_the_rate():
    seconds = jw.transfer_time(0, 1e10, link(loss=0.0, jitter_s=0.0, window_bytes=1e5))
    assert np.median(seconds) == pytest.approx(1e10 / 1e5 * 0.2, rel=0.1)


def test_streams_share_the_link_and_outrun_one_that_loses():
    one, eight = (np.median(jw.transfer_time(0, 4e6, link(streams=n))) for n in (1, 8))
    assert 3 < one / eight < 9
    full = jw.transfer_time(0, 1e9, link(loss=0.0, streams=8))
    assert np.median(full) >= 1e9 * 8 / 50e6


def test_setting_up_costs_a_round_trip_and_the_timeouts_of_lost_handshakes():
    loss, samples = 0.1, 20_000
    lossy = {"loss": loss, "jitter_s": 0.0}
    plain = jw.transfer_time(0, 1e4, link(**lossy), samples)
    extra = jw.transfer_time(0, 1e4, link(**lossy), samples, connect=True) - plain
    assert extra.min() == pytest.approx(0.2, rel=0.02)
    failed = 1 - (1 - loss) ** 2
    for timeouts, share in ((1, failed), (2, failed**2)):
        bound = 3 * math.sqrt(share * (1 - share) / samples)
        assert abs((extra > 2**timeouts - 1).mean() - share) < bound


@pytest.mark.parametrize("name", TRANSPORTS)
def test_the_receiver_has_it_one_delay_before_the_sender_knows(name):
    transport, path = TRANSPORTS[name], path_of()
    words = keys.words(keys.run_key(5), 200)
    prepared, start = transport.prepare(path), jnp.int32(0)

    def both(word, bits):
        draws = (transport.transfer_s, transport.delivery_s)
        return [draw(word, bits, path, prepared, start) for draw in draws]

    draw = jax.jit(jax.vmap(both, in_axes=(0, None)))
    told, received = draw(words, jnp.float32(8e5))
    np.testing.assert_allclose(told - received, 0.1, rtol=1e-4)
    _, nothing = draw(words, jnp.float32(0))
    error = 0.01 / math.sqrt(len(words))
    assert abs(float(nothing.mean()) - 0.1) < 3 * error


@pytest.mark.parametrize("name", TCP)
@pytest.mark.parametrize("bits", [8.0, 3.7e5, 2e8, 5e12])
def test_one_payload_prepared_is_the_same_as_any(name, bits):
    transport, path = TRANSPORTS[name], path_of(streams=4.0)
    bits, start = jnp.float32(bits), jnp.int32(0)
    curve, fixed = transport.prepare(path), transport.fix(path, bits)
    assert (curve.shape, fixed.shape) == ((transport.size,), (transport.fixed_size,))
    for word in np.asarray(keys.words(keys.run_key(6), 8)):
        any_s = transport.delivery_s(word, bits, path, curve, start)
        own_s = transport.fixed_delivery_s(word, bits, path, fixed, start)
        np.testing.assert_allclose(any_s, own_s, rtol=2e-3)


@pytest.mark.optimized
def test_another_transport_leaves_all_other_luck_alone():
    worlds = []
    for name in ("ideal", "cubic"):
        plan, knobs = world_of(Model(), 1, name)
        knobs = jax.tree.map(lambda x: x[0], knobs)
        world = jax.jit(make_world, static_argnums=0)(plan, knobs, keys.run_key(7))
        worlds.append((world.workers, world.first, world.laws))
    jax.tree.map(np.testing.assert_array_equal, *worlds)


LOSSY = {"delay_s": 0.1, "loss": 0.02, "transport": "cubic", "jitter_s": 0.0}


@functools.partial(jax.jit, static_argnums=0)
def in_the_world(plan, knobs):
    """Draw 32 cycles' transfers of the second worker, who fetches one update."""
    worker, none, zero = jnp.int32(1), jnp.float32(0), clock.start_of_time()
    link = jax.tree.map(lambda x: x[1], links(knobs, jnp.ones((2, 2), jnp.uint32)))
    fetch, ready = what_to_fetch(knobs, worker, jnp.array(False)), prepare_one(plan, knobs)
    return jax.vmap(
        lambda cycle: transfers(plan, knobs, link, ready, worker, cycle, fetch, none, zero)
    )(jnp.arange(32))


def transfers_of(**link):
    """Return the transfers in the world that an experiment over this link is lowered to."""
    common = {"scenario": "simple", "challenge": "baseline", "steps": 10, "timing_only": True}
    common |= {"strategy": jw.Sync(), "workers": 2, "compressor": "none", "aggregator": "mean"}
    (own,) = group([resolve(jw.Experiment(**common, link=LOSSY | link))])
    return in_the_world(own.world, jax.tree.map(lambda leaf: leaf[0], own.world_knobs))


def test_an_experiment_feels_its_transport():
    settings = [{"streams": 1}, {"streams": 16}, {"streams": 16, "window_bytes": 4096.0}]
    moved = [transfers_of(**setting) for setting in settings]
    for way in ("upload_s", "download_s"):
        one, many, narrow = (float(jnp.median(getattr(each, way))) for each in moved)
        assert many < one
        assert many < narrow


def test_in_a_world_every_transfer_that_opens_its_connections_takes_a_round_trip_more():
    plain, opened = (transfers_of(loss=0.0, connect=connect) for connect in (False, True))
    for way in ("upload_s", "download_s"):
        more = getattr(opened, way) - getattr(plain, way)
        np.testing.assert_allclose(more, 0.2, rtol=0.01)
    np.testing.assert_array_equal(opened.wire_up_s, plain.wire_up_s)


def test_runs_with_the_same_links_share_what_was_prepared():
    """A run must find the same in a batch turned round, in as few rows as can be."""
    plan, knobs = world_of(Model(workers=2), 40, "cubic")
    delay_s = np.concatenate([np.arange(17) / 100, np.repeat([0.3, 0.0, 0.3], (13, 7, 3))])
    knobs = replace(knobs, delay_s=jnp.full((40, 2), delay_s[:, None], jnp.float32))
    prepared = jax.jit(prepare, static_argnums=0)
    there, back = prepared(plan, knobs), prepared(plan, jax.tree.map(lambda x: x[::-1], knobs))
    assert there.row[-1] == np.count_nonzero(np.diff(delay_s))

    def found(ready, which):
        size = getattr(TRANSPORTS[plan.transport], {"down": "size", "up": "fixed_size"}[which])
        return np.reshape(getattr(ready, which), (-1, 2 * size))[np.asarray(ready.row)]

    for which in ("down", "up"):
        rows = found(there, which)
        np.testing.assert_allclose(rows, found(back, which)[::-1], rtol=1e-5)
        np.testing.assert_array_equal(rows[0], rows[33])  # no delay, both
        assert len(np.unique(rows, axis=0)) == len(np.unique(delay_s)) == 18


def test_a_simulated_flow_keeps_the_window_of_the_law():
    lanes, loss = 40, 0.003
    same = np.ones(lanes)
    for index, name in enumerate(("reno", "cubic")):
        setting = flow.Setting(index * same, 3e4 * same, 1e4 * same, 1e4 * same, 0.1 * same,
                               loss * same)  # fmt: skip
        seconds = flow.transfer_times(np.random.default_rng(0), setting, 4000)
        window = 3e4 / (np.mean(seconds) / 0.1)
        law = float(table.steady_window(name, 0.1, jnp.float32(loss)))
        assert window == pytest.approx(law, rel=0.3), name


def test_the_table_is_what_its_generator_makes():
    stored = table._table()
    assert stored.shape[-1] == len(generate.SEGMENTS) * len(generate.LEVEL)
    made = generate.slab(1, 1, 0.1, 0.02, 20)
    again = generate.slab(1, 1, 0.1, 0.02, 20)
    np.testing.assert_array_equal(made, again)
    place = generate.RTT_S.index(0.1), generate.LOSS.index(0.02)
    shape = len(generate.PIPE), len(generate.SEGMENTS), len(generate.LEVEL)
    kept = np.moveaxis(generate.STEP * stored[1, 1, *place].reshape(shape), 0, 1)
    off = np.abs(kept[..., 3] - made[..., 3])  # the medians
    assert np.median(off) < 0.05


def test_keys_are_seeds_or_jax_keys():
    own, old = link(), jax.random.key_data(jax.random.key(9))
    first = jw.transfer_time(9, 1e6, own, 32)
    for key in (9, np.int64(9), jax.random.key(9), old):
        np.testing.assert_array_equal(jw.transfer_time(key, 1e6, own, 32), first)
    assert first.shape == (32,)
    assert not np.array_equal(jw.transfer_time(10, 1e6, own, 32), first)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jw.transfer_time(0, 0, link()), ["payload_bytes", "0"]),
        (lambda: jw.transfer_time(0, -5, link()), ["payload_bytes", "-5"]),
        (lambda: jw.transfer_time(0, math.nan, link()), ["payload_bytes", "nan"]),
        (lambda: jw.transfer_time(0, INF, link()), ["payload_bytes", "inf"]),
        (lambda: jw.transfer_time(0, "1MB", link()), ["payload_bytes", "1MB"]),
        (lambda: jw.transfer_time("x", 1, link()), ["key", "'x'"]),
        (lambda: jw.transfer_time(-1, 1, link()), ["key", "-1"]),
        (lambda: jw.transfer_time(0, 1, link(), samples=0), ["samples", "0"]),
        (lambda: jw.transfer_time(0, 1, WAN), ["link", "Link"]),
        (lambda: link("cubik"), ["transport", "cubik", "did you mean 'cubic'"]),
        (lambda: link(streams=0), ["streams", "0", "[1, 256]"]),
        (lambda: link(streams=1.5), ["streams", "1.5"]),
        (lambda: link(window_bytes=0.0), ["window_bytes", "0.0", "1024"]),
        (lambda: link(loss=1.0), ["loss", "1.0", "[0, 1)"]),
        (lambda: link(bandwidth_bps=math.nan), ["bandwidth_bps", "nan"]),
        (lambda: jw.Experiment(scenario="simple", link={"streams": 300}), ["link.streams", "300"]),
        (lambda: jw.Experiment(scenario="simple", link={"connect": 1}), ["link.connect", "1"]),
    ],
)
def test_nonsense_is_refused_at_the_door(call, words):
    with pytest.raises(jw.InputError) as error:
        call()
    assert not [word for word in words if word not in str(error.value)]
