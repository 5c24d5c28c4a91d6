"""Uploads of an event protocol share the coordinator's ingress fairly."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.worlds import lognormal, moments_of, run, seconds, stack, world_knobs

from jaxwan.world.ingress import Flows, fair_bps
from jaxwan.world.plan import ServerKnobs, WorldPlan

INF = float("inf")
WIDTH, ENDS, BITS = 5, 120, 1e6


def water(wanted, capacity):
    """Fill max-min fair rates one flow after the other, the most modest first."""
    rates, rest = np.zeros(len(wanted)), capacity
    order = np.argsort(wanted)
    for place, flow in enumerate(order):
        rates[flow] = min(wanted[flow], rest / (len(wanted) - place))
        rest -= rates[flow]
    return rates


def test_rates_are_max_min_fair():
    rng = np.random.default_rng(1)
    for _ in range(200):
        wanted = rng.exponential(size=6) * rng.choice([0.1, 1.0, 10.0], 6)
        active = rng.random(6) < 0.7
        capacity = rng.exponential() * 6
        flows = Flows(jnp.asarray(active * 1.0), jnp.asarray(wanted, jnp.float32))
        got = np.asarray(fair_bps(flows, jnp.float32(capacity)))
        np.testing.assert_allclose(got[active], water(wanted[active], capacity), rtol=1e-5)
        assert (got[~active] == 0).all()
    everything = fair_bps(Flows(jnp.ones(3), jnp.full(3, jnp.inf)), jnp.float32(6.0))
    np.testing.assert_allclose(everything, 2.0)
    mixed = Flows(jnp.ones(3), jnp.asarray([jnp.inf, 1.0, jnp.inf]))
    np.testing.assert_allclose(fair_bps(mixed, jnp.float32(6.0)), [2.5, 1.0, 2.5])


def fluid(step_s, up_bps, delay_s, ingress_bps, ends):
    """Simulate the same star in float64: a compute, the way to the server, then a fair share."""
    n = len(step_s)
    due = delay_s + step_s + delay_s  # when the next payload reaches the ingress
    left, now, arrivals = np.zeros(n), 0.0, []
    while len(arrivals) < ends:
        active = left > 0
        rates = np.zeros(n)
        rates[active] = water(up_bps[active], ingress_bps)
        through = np.where(active, now + left / np.where(active, rates, 1.0), np.inf)
        begins = np.where(active, np.inf, due)
        at = min(through.min(), begins.min())
        left = np.where(active, left - rates * (at - now), 0.0)
        now = at
        if through.min() <= begins.min():
            worker = int(through.argmin())
            left[worker] = 0.0
            due[worker] = now + delay_s[worker] + step_s[worker] + delay_s[worker]
            arrivals.append((now, worker))
        else:
            worker = int(begins.argmin())
            left[worker] = BITS
    return arrivals


RATE = {"tight": 8e5, "loose": 2e7, "free": INF, "luck": INF}
STEP_S = np.array([1.0, 1.13, 0.71, 0.937, 1.51])
UP = np.array([4e6, 1e6, 2.5e6, 8e6, 3e6], np.float32)
DELAY = np.array([0.05, 0.2, 0.1, 0.03, 0.4], np.float32)


@pytest.fixture(scope="module")
def worlds():
    """Run one program over several capacities."""
    rows = []
    for name, rate in RATE.items():
        noise = lognormal(0.3) if name == "luck" else (1.0, 0.0, 0.0)
        knobs = world_knobs(
            WIDTH, speed=1 / STEP_S, up_bps=UP, delay_s=DELAY, compute_noise=noise,
            update_bits=BITS, dense_bits=0.0, cycle_ends=ENDS,
            server=ServerKnobs(jnp.float32(rate), jnp.float32(INF)),
        )  # fmt: skip
        rows.append(knobs)
    plan = WorldPlan("events", "ideal", WIDTH, 1, 2 * ENDS + WIDTH, shared=True)
    return plan, rows, run(plan, stack(rows), np.zeros(len(rows), int))


def arrivals_of(moments, place):
    own = moments_of(moments, place)
    real = own.tick.weight[:, 0] > 0
    return seconds(own.now)[real], own.tick.worker[real, 0]


@pytest.mark.parametrize("place", range(3), ids=list(RATE)[:3])
def test_arrivals_are_those_of_a_fluid_simulation(worlds, place):
    _, _, (moments, outcome) = worlds
    rate = list(RATE.values())[place]
    when, worker = arrivals_of(moments, place)
    expected = fluid(STEP_S.copy(), UP.astype(float), DELAY.astype(float), min(rate, 1e12), ENDS)
    assert worker.tolist() == [own for _, own in expected]
    np.testing.assert_allclose(when, [at for at, _ in expected], rtol=2e-5)
    assert outcome.totals.accepted[place] == ENDS
    assert outcome.status[place] == 0


def test_a_wide_ingress_is_the_plain_star(worlds):
    _, rows, (moments, outcome) = worlds
    plain = WorldPlan("events", "ideal", WIDTH, 1, 2 * ENDS + WIDTH)
    bare = [
        world_knobs(WIDTH, speed=1 / STEP_S, up_bps=UP, delay_s=DELAY, update_bits=BITS,
                    dense_bits=0.0, cycle_ends=ENDS, compute_noise=lognormal(0.3))
    ]  # fmt: skip
    other, ended = run(plain, stack(bare), np.zeros(1, int))
    when, worker = arrivals_of(moments, 3)
    expected, own = arrivals_of(other, 0)
    assert worker.tolist() == own.tolist()
    np.testing.assert_allclose(when, expected, rtol=1e-5)
    for name in ("busy", "latency", "transfer"):
        shared, alone = (seconds(getattr(o.totals, name)) for o in (outcome, ended))
        np.testing.assert_allclose(shared[3], alone[0], rtol=1e-4)
    assert len(rows) == 4


def test_a_tight_ingress_is_the_bottleneck(worlds):
    _, _, (moments, _) = worlds
    when, _ = arrivals_of(moments, 0)
    assert (ENDS - 20) / (when[-1] - when[19]) == pytest.approx(8e5 / BITS, rel=0.02)
