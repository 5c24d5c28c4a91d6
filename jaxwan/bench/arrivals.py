"""Speed on this machine: the vectorized world beside a plain-Python event loop of the same model.

Both simulate asynchronous training without failures on a typical WAN: lognormal compute noise,
jittered links, downloads of the updates missed since the last fetch (or the dense model where that
is smaller), a staleness bound. Both are timed in the same call, by the clock on the wall (the world
on all cores, the loop on the one it can use) and by processor time (core against core).
"""

from __future__ import annotations

import heapq
import math
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.bench.rivals import Arrivals, Model, bench_rivals
from jaxwan.bench.timing import compiled, line
from jaxwan.world.durations import DurationKnobs, RenewalKnobs
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.run import run_worlds
from jaxwan.world.state import Outcome

TARGET_RATIO = 10.0
MOST_COST = 3.0  # of a transport, as a multiple of the ideal one
STEADY = ("transient",)  # the processes of a plan whose runs never fail


def heap_arrivals(model: Model, seed: int) -> Arrivals:
    """Simulate one run as an idiomatic event loop over a heap of arrivals."""
    rng = random.Random(seed)
    gauss, exp = rng.gauss, math.exp
    mean = -0.5 * model.sigma**2
    heap: list[tuple[float, int]] = []
    versions = [0] * model.workers
    version = accepted = rejected = 0
    upload_s = model.update_bits / model.bandwidth_bps
    delay_s, jitter_s = model.delay_s, model.jitter_s

    def cycle_s(bits: float) -> float:
        compute_s = model.step_s * exp(mean + model.sigma * gauss(0.0, 1.0))
        down_s = bits / model.bandwidth_bps + max(delay_s + jitter_s * gauss(0.0, 1.0), 0.0)
        return down_s + compute_s + upload_s + max(delay_s + jitter_s * gauss(0.0, 1.0), 0.0)

    for worker in range(model.workers):
        heapq.heappush(heap, (cycle_s(model.dense_bits), worker))
    now = 0.0
    for _ in range(model.workers * model.cycles):
        now, worker = heap[0]
        if version - versions[worker] <= model.max_staleness:
            version += 1
            accepted += 1
        else:
            rejected += 1
        missed = version - versions[worker]
        versions[worker] = version
        bits = min(missed * model.update_bits, model.dense_bits)
        heapq.heapreplace(heap, (now + cycle_s(bits), worker))
    return Arrivals(accepted, rejected, now)


def world_of(
    model: Model, runs: int, transport: str = "ideal"
) -> tuple[WorldPlan, WorldKnobs]:
    """Return the plan and the knobs `[run, ...]` of the same model."""
    n = model.workers
    ends = n * model.cycles
    every = jnp.ones(n, jnp.float32)

    def steady(processes: int) -> RenewalKnobs:
        one, zero = jnp.ones(processes), jnp.zeros(processes)
        return RenewalKnobs(
            DurationKnobs(jnp.full(processes, jnp.inf), zero, zero), DurationKnobs(one, zero, zero)
        )

    noise = (math.exp(-0.5 * model.sigma**2), 0.0, model.sigma)
    knobs = WorldKnobs(
        present=jnp.ones(n, bool), online=jnp.ones(n, bool), cut=jnp.zeros(n, bool),
        attacker=jnp.zeros(n, bool), onset_s=jnp.float32(0),
        speed=every, up_bps=every * model.bandwidth_bps, down_bps=every * model.bandwidth_bps,
        delay_s=every * model.delay_s, loss=every * 0, jitter_s=every * model.jitter_s,
        step_s=jnp.float32(model.step_s), compute_noise=DurationKnobs(*map(jnp.float32, noise)),
        local_steps=jnp.float32(1), overlap=jnp.array(False),
        overlap_steps=jnp.float32(0),
        update_bits=jnp.float32(model.update_bits), dense_bits=jnp.float32(model.dense_bits),
        max_staleness=jnp.int32(model.max_staleness), detection_s=jnp.float32(0),
        cycle_ends=jnp.int32(ends), ticks=jnp.int32(ends), outages=steady(len(STEADY)),
        slowdown=steady(1),
        slowdown_factor=jnp.float32(1),
    )  # fmt: skip
    plan = WorldPlan("events", transport, n, 1, ends, processes=STEADY)
    return plan, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (runs, *leaf.shape)), knobs)


def outcome(plan: WorldPlan, knobs: WorldKnobs, seeds: jax.Array) -> Outcome:
    """Run worlds and return how they ended."""
    return run_worlds(plan, knobs, seeds)[1]


class _Timed(NamedTuple):
    per_s: float
    per_core_s: float  # per second of processor time
    compile_s: float
    accepted_share: float


def _world_speed(
    model: Model, runs: int, seconds: float, transport: str = "ideal"
) -> _Timed:
    """Time the world on all local devices, or on two threads where there is one device."""
    plan, knobs = world_of(model, runs, transport)
    devices = jax.local_devices()
    lanes = devices if len(devices) > 1 else devices * 2
    program, compile_s = compiled(partial(outcome, plan), knobs, jnp.arange(runs))

    def work(lane: int, turn: int) -> Any:
        seeds = jnp.arange(runs, dtype=jnp.int32) + runs * (lane + len(lanes) * turn)
        return jax.block_until_ready(program(knobs, seeds))

    ended = work(0, 0)
    with ThreadPoolExecutor(len(lanes)) as pool:
        start, busy, turn = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < seconds:
            turn += 1
            list(pool.map(lambda lane: work(lane, turn), range(len(lanes))))  # noqa: B023
        spent, busy = time.perf_counter() - start, time.process_time() - busy
    arrivals = model.workers * model.cycles * runs * len(lanes) * turn
    share = float(jnp.sum(ended.totals.accepted)) / (model.workers * model.cycles * runs)
    return _Timed(arrivals / spent, arrivals / busy, compile_s, share)


def _heap_speed(model: Model, seconds: float) -> _Timed:
    """Time the plain loop on one core."""
    start, busy, runs, accepted = time.perf_counter(), time.process_time(), 0, 0
    while time.perf_counter() - start < seconds:
        accepted += heap_arrivals(model, runs).accepted
        runs += 1
    arrivals = runs * model.workers * model.cycles
    spent, busy = time.perf_counter() - start, time.process_time() - busy
    return _Timed(arrivals / spent, arrivals / busy, 0.0, accepted / arrivals)


def bench_arrivals(runs: int = 1024, seconds: float = 2.0) -> list[dict[str, Any]]:
    """Time asynchronous arrivals per second, in the world and in a plain-Python heap loop.

    `runs` is the width of one batch, `seconds` the time spent on each of the two. The transports
    are compared with the ideal one by processor time.
    """
    model = Model()
    before = _heap_speed(model, seconds / 2)
    world = _world_speed(model, runs, seconds)
    costs = [
        (name, _world_speed(model, runs, seconds / 2, name)) for name in ("cubic", "bbr")
    ]
    after = _heap_speed(model, seconds / 2)
    plain = 0.5 * (before.per_s + after.per_s)
    plain_core = 0.5 * (before.per_core_s + after.per_core_s)
    ratio, core_ratio = world.per_s / plain, world.per_core_s / plain_core

    return [
        line("async arrivals, plain Python heap loop", plain, "arrivals/s"),
        line(
            "async arrivals, vectorized world", world.per_s, "arrivals/s",
            ratio=ratio, target=TARGET_RATIO, ok=ratio >= TARGET_RATIO,
        ),
        line("the loop, by processor time", plain_core, "arrivals/s of one core"),
        line(
            "the world, by processor time", world.per_core_s, "arrivals/s of one core",
            ratio=core_ratio,
        ),
        line("compilation of the world", world.compile_s, "s"),
        line("accepted share, plain Python heap loop", after.accepted_share, ""),
        line("accepted share, vectorized world", world.accepted_share, ""),
        *(
            line(
                f"async arrivals over {name}; ratio: cost against ideal", own.per_s, "arrivals/s",
                ratio=world.per_core_s / own.per_core_s, target=MOST_COST,
                ok=world.per_core_s <= MOST_COST * own.per_core_s,
            )
            for name, own in costs
        ),
        *bench_rivals(model, world.per_core_s, seconds / 2),
    ]  # fmt: skip
