"""The world against its plain-Python twin, and what must hold in any world."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import twin
from helpers.same import assert_told
from helpers.worlds import (
    EXPONENTIAL,
    alter,
    failing,
    lognormal,
    memoryless,
    moments_of,
    one,
    plan_of,
    renewal,
    repeat,
    run,
    seconds,
    stack,
    world_knobs,
)

from jaxwan.world.durations import LAWS
from jaxwan.world.failures import MOST_SPELLS
from jaxwan.world.run import carefree, run_worlds
from jaxwan.world.spells import FAILURES
from jaxwan.world.state import NO_WORKERS, OUTAGE_BOUND

WIDTH, TICKS = 4, 24
PLANS = {
    "events": plan_of("events", WIDTH, 1, TICKS),
    "buffered": plan_of("events", WIDTH, 2, TICKS),
    "barrier": plan_of("barrier", WIDTH, WIDTH, TICKS),
}
WAN = {
    "up_bps": [1e6, 2e6, 5e6, 1e6], "down_bps": [2e6, 2e6, 1e7, 1e6],
    "delay_s": [0.1, 0.2, 0.05, 0.3], "jitter_s": [0.02, 0.01, 0.005, 0.1],
    "speed": [1.0, 2.0, 0.7, 1.3],
}  # fmt: skip
CASES = {
    "steady": world_knobs(WIDTH, 3),
    "wan": world_knobs(WIDTH, 3, **WAN, max_staleness=2),
    "strict": world_knobs(WIDTH, 4, **WAN, max_staleness=0, compute_noise=EXPONENTIAL),
    "transient": world_knobs(WIDTH, 3, **WAN, outages=failing(memoryless(6.0, 1.5))),
    "churn": world_knobs(
        WIDTH, 4, **WAN, online=[True, False, True, False], max_staleness=3,
        outages=failing(churn=memoryless(8.0, 4.0)),
    ),
    "crash": world_knobs(
        WIDTH, 4, **WAN, outages=failing(crash=((15.0, 1.0, 0.0), (np.inf, 0.0, 0.0)))
    ),
    "slowdown": world_knobs(WIDTH, 3, **WAN, slowdown=renewal(memoryless(4.0, 3.0))),
    "overlap": world_knobs(WIDTH, 3, **WAN, overlap=True, local_steps=2.0),
    "everything": world_knobs(
        WIDTH, 4, **WAN, online=[True, True, False, True], max_staleness=2, overlap=True,
        outages=failing(memoryless(9.0, 1.0), memoryless(20.0, 5.0), memoryless(30.0, 6.0)),
        slowdown=renewal(memoryless(6.0, 3.0)), compute_noise=lognormal(0.5),
    ),
    "never again": world_knobs(
        WIDTH, 2, outages=failing(crash=((3.0, 0.0, 0.0), (np.inf, 0.0, 0.0)))
    ),
    "dead link": world_knobs(WIDTH, 3, up_bps=[0.0, 1e6, 1e6, 1e6]),
    "only dead links": world_knobs(WIDTH, 3, down_bps=[0.0] * 4),
    "one worker": world_knobs(WIDTH, 1, **WAN, outages=failing(memoryless(6.0, 1.5))),
    "few cycles": world_knobs(WIDTH, 3, **WAN, cycle_ends=7, ticks=5),
    "nobody": world_knobs(WIDTH, 0),
    "detection": world_knobs(
        WIDTH, 4, **WAN, detection_s=7.0, outages=failing(crash=memoryless(12.0, 9.0))
    ),
}  # fmt: skip
NAMES = tuple(CASES)
SEEDS = np.arange(len(NAMES)) * 17 + 3


@functools.cache
def batch(plan_name):
    """Run all cases side by side under one plan."""
    return run(PLANS[plan_name], stack(list(CASES.values())), SEEDS)


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("plan_name", PLANS)
def test_the_world_is_its_twin(plan_name, case):
    row, plan = NAMES.index(case), PLANS[plan_name]
    moments, outcome = batch(plan_name)
    mine, outcome = moments_of(moments, row), one(outcome, row)
    if plan.protocol == "events":
        told = twin.events(CASES[case], int(SEEDS[row]), plan.slots, plan.ticks)
    else:
        told = twin.barrier(CASES[case], int(SEEDS[row]), plan.ticks)
    assert_told(plan, mine, outcome, told)


@pytest.mark.parametrize("plan_name", PLANS)
def test_every_cycle_end_is_accepted_rejected_or_lost(plan_name):
    moments, outcome = batch(plan_name)
    totals = outcome.totals
    real = moments.tick.fetched & (moments.tick.cycle >= 0)
    ends = totals.accepted + totals.rejected + totals.lost
    np.testing.assert_array_equal(ends, real.sum(axis=(0, 2)))
    np.testing.assert_array_equal(totals.accepted, moments.tick.weight.sum(axis=(0, 2)))
    np.testing.assert_array_equal(totals.contributions.sum(axis=1), totals.accepted)
    np.testing.assert_array_equal(totals.arrivals.sum(axis=1), totals.accepted + totals.rejected)
    for leaf in jax.tree.leaves((moments, outcome)):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("plan_name", PLANS)
def test_a_world_without_workers_says_so(plan_name):
    _, outcome = batch(plan_name)
    status = dict(zip(NAMES, outcome.status, strict=True))
    ended = {name for name in NAMES if status[name] == NO_WORKERS}
    expected = {"never again", "only dead links", "nobody"}
    if plan_name == "barrier":
        expected |= {"dead link"}
    assert expected <= ended <= expected | {"crash"}
    assert set(status.values()) <= {0, NO_WORKERS}


@pytest.mark.parametrize("plan_name", PLANS)
def test_ticks_beyond_the_budget_are_empty(plan_name):
    moments, outcome = batch(plan_name)
    row = NAMES.index("few cycles")
    mine = moments_of(moments, row)
    beyond = jax.tree.map(lambda leaf: leaf[5:], mine)
    assert not beyond.tick.weight.any()
    assert not beyond.tick.fetched.any()
    assert not beyond.tick.fresh.any()
    assert np.all(seconds(beyond.now) == seconds(one(outcome.now, row)))
    if plan_name != "barrier":
        ends = one(outcome.totals, row)
        assert ends.accepted + ends.rejected + ends.lost == min(7, 5 * PLANS[plan_name].slots)


def same(a, b):
    """Assert that two trees are equal bit for bit."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.optimized
@pytest.mark.parametrize("plan_name", PLANS)
def test_neighbours_do_not_change_a_row(plan_name):
    order = np.roll(np.arange(len(NAMES)), 5)
    order[: len(order) // 2] = order[0]
    knobs = stack([CASES[NAMES[i]] for i in order])
    moments, outcome = run(PLANS[plan_name], knobs, SEEDS[order])
    before = run(PLANS[plan_name], stack(list(CASES.values())), SEEDS)
    same(moments, jax.tree.map(lambda leaf: leaf[:, order], before[0]))
    same(outcome, jax.tree.map(lambda leaf: leaf[order], before[1]))


@pytest.mark.parametrize("plan_name", PLANS)
def test_absent_workers_change_nothing(plan_name):
    plan = PLANS[plan_name]
    rows = [i for i, name in enumerate(NAMES) if int(CASES[name].present.sum()) <= 3]

    def narrower(knobs):
        own = {n: v[:3] for n, v in vars(knobs).items() if getattr(v, "shape", None) == (WIDTH,)}
        return alter(knobs, **own)

    knobs = stack([narrower(CASES[NAMES[i]]) for i in rows])
    slots = plan.slots if plan.protocol == "events" else 3
    narrow = plan_of(plan.protocol, 3, slots, plan.ticks)
    moments, outcome = run(narrow, knobs, SEEDS[rows])
    wide_moments, wide = jax.tree.map(lambda leaf: leaf[:, rows], batch(plan_name)[0]), one(
        batch(plan_name)[1], np.array(rows)
    )
    for name in ("weight", "fetched", "cycle", "base_age", "fresh"):
        mine = getattr(wide_moments.tick, name)[..., : getattr(moments.tick, name).shape[-1]]
        held = moments.tick.fetched
        np.testing.assert_array_equal(mine * held, getattr(moments.tick, name) * held)
    assert not wide_moments.tick.fetched[..., slots:].any()
    gap = seconds(moments.now) - seconds(wide_moments.now)
    assert np.abs(gap).max() < 1e-3
    np.testing.assert_array_equal(outcome.failures, wide.failures[:, :3])
    np.testing.assert_array_equal(outcome.status, wide.status)


def cycles_until(moments, run_, bound):
    """Return {(worker, cycle)} that ended within the first ticks of a run."""
    tick = moments_of(moments, run_).tick
    held = tick.fetched[:bound]
    return set(zip(tick.worker[:bound][held], tick.cycle[:bound][held], strict=True))


def test_bandwidth_changes_neither_outages_nor_compute():
    """Common random numbers: what differs between two networks is the network."""
    failures = failing(memoryless(5.0, 1.0), memoryless(9.0, 2.0))
    base = world_knobs(WIDTH, 3, outages=failures)
    slow = alter(base, up_bps=jnp.full(WIDTH, 3e5), down_bps=jnp.full(WIDTH, 3e5))
    rows = [base, slow] * (len(NAMES) // 2)
    _, outcome = run(PLANS["barrier"], stack(rows), np.full(len(rows), 9))
    assert seconds(one(outcome.now, 1)) > seconds(one(outcome.now, 0))
    steady = alter(base, outages=failing())
    slower = alter(slow, outages=failing())
    _, outcome = run(
        PLANS["barrier"], stack([steady, slower] * (len(NAMES) // 2)), np.full(len(rows), 9)
    )
    busy = seconds(outcome.totals.busy)
    assert busy[0] == busy[1] > 0
    assert outcome.version[0] == outcome.version[1] == TICKS


def test_adding_a_worker_changes_nobody_elses_luck():
    """Without exchange between workers, each worker's own cycles end when they did."""
    failures = failing(memoryless(5.0, 1.0), memoryless(9.0, 2.0))
    three = world_knobs(WIDTH, 3, outages=failures, update_bits=0.0, dense_bits=0.0)
    four = alter(three, present=jnp.ones(WIDTH, bool))
    moments, _ = run(
        PLANS["events"], stack([three, four] * (len(NAMES) // 2)), np.full(len(NAMES), 4)
    )

    def ends(run_):
        mine = moments_of(moments, run_)
        held = mine.tick.fetched[:, 0]
        keys = zip(mine.tick.worker[held, 0], mine.tick.cycle[held, 0], strict=True)
        return dict(zip(keys, seconds(mine.now)[held], strict=True))

    few, many = ends(0), ends(1)
    shared = [key for key in many if key[0] < 3]
    assert len(shared) > 10
    assert {key for key in many if key[0] == 3}
    for key in shared:
        assert few[key] == many[key]


def test_failures_are_counted_to_the_end_of_the_run():
    """The history holds the outages begun before the end, whatever the protocol did with them."""
    up, down = LAWS["deterministic"].cast(3.0, 1.0), LAWS["deterministic"].cast(1.0, 1.0)
    knobs = world_knobs(
        WIDTH, 3, outages=failing((up, down)), slowdown=renewal((up, down)),
        compute_noise=lognormal(0.0), step_s=0.4,
    )  # fmt: skip
    _, outcome = run(PLANS["events"], repeat(knobs, len(NAMES)), np.arange(len(NAMES)))
    end = seconds(one(outcome.now, 0))
    begun = int(np.ceil((end - 3.0) / 4.0))
    dark = sum(min(4 * k + 4, end) - (4 * k + 3) for k in range(begun))
    np.testing.assert_array_equal(outcome.failures[0, :3, 0], begun)
    np.testing.assert_array_equal(outcome.failures[0, :3, FAILURES.index("slowdown")], begun)
    np.testing.assert_array_equal(outcome.failures[0, :, 1 : FAILURES.index("slowdown")], 0)
    np.testing.assert_array_equal(outcome.failures[0, 3], 0)
    np.testing.assert_allclose(outcome.up_s[0, :3], end - dark, rtol=1e-5)
    assert outcome.up_s[0, 3] == 0


@pytest.mark.optimized
def test_too_many_outages_are_reported():
    blinking = failing((LAWS["deterministic"].cast(1e-6, 1), LAWS["deterministic"].cast(1e-6, 1)))
    knobs = world_knobs(WIDTH, 1, outages=blinking, step_s=10.0)
    rows = [knobs] + [CASES["steady"]] * (len(NAMES) - 1)
    _, outcome = run(PLANS["barrier"], stack(rows), SEEDS)
    assert MOST_SPELLS <= 1 << 16
    assert outcome.status[0] & OUTAGE_BOUND
    assert not outcome.status[1:].any()


def test_carefree_keeps_the_stragglers_and_drops_the_rest():
    knobs = CASES["everything"]
    rows = [carefree(knobs), knobs] * (len(NAMES) // 2)
    _, outcome = run(PLANS["events"], stack(rows), np.full(len(rows), 2))
    assert seconds(one(outcome.now, 0)) < seconds(one(outcome.now, 1))
    assert outcome.failures[0].sum() == 0
    assert outcome.totals.lost[0] == 0
    assert seconds(one(outcome.totals.transfer, 0)) == 0


def test_a_late_start_joins_with_an_empty_slot():
    moments, _ = batch("events")
    tick = moments_of(moments, NAMES.index("churn")).tick
    joins = tick.fetched[:, 0] & (tick.cycle[:, 0] == -1)
    assert sorted(tick.worker[joins, 0]) == [1, 3]
    assert not tick.weight[joins].any()
    assert tick.fresh[joins].all()


@pytest.mark.parametrize("plan_name", PLANS)
def test_it_exports_for_every_platform(plan_name):
    knobs = stack([CASES["steady"], CASES["wan"]])
    seeds = jnp.arange(2)

    def program(knobs, seeds):
        moments, outcome = run_worlds(PLANS[plan_name], knobs, seeds)
        return jax.tree.leaves((moments, outcome))

    exported = jax.export.export(
        jax.jit(lambda leaves, seeds: program(jax.tree.unflatten(tree, leaves), seeds)),
        platforms=("cpu", "cuda", "tpu"),
    )
    leaves, tree = jax.tree.flatten(knobs)
    text = exported(leaves, seeds).mlir_module()
    assert "f64" not in text
    assert "callback" not in text
