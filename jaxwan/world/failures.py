"""Failures as renewal processes in simulated time, per worker.

Each process alternates up and down; its k-th outage is addressed by k, so it stays where it is
whatever the protocol does. Four laws of duration share one formula,
`scale * E**power * exp(sigma * N)` with E unit exponential and N standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, replace, row

PROCESSES = ("transient", "churn", "crash")
WIPES = (False, True, True)  # does the process wipe the worker's memory?
SLOWDOWN = ("slowdown",)
MOST_OUTAGES = 1 << 16  # bound of every loop over outages


class Law(NamedTuple):
    """A law of durations: `cast(mean, shape)` gives (scale, power, sigma)."""

    summary: str
    cast: Callable[[float, float], tuple[float, float, float]]


def cast_exponential(mean: float, shape: float) -> tuple[float, float, float]:
    """Memoryless durations."""
    return mean, 1.0, 0.0


def cast_weibull(mean: float, shape: float) -> tuple[float, float, float]:
    """Weibull durations with the given mean and shape."""
    return mean / math.gamma(1.0 + 1.0 / shape), 1.0 / shape, 0.0


def cast_lognormal(mean: float, shape: float) -> tuple[float, float, float]:
    """Lognormal durations with the given mean and sigma = shape."""
    return mean * math.exp(-0.5 * shape * shape), 0.0, shape


def cast_deterministic(mean: float, shape: float) -> tuple[float, float, float]:
    """Durations that all equal their mean."""
    return mean, 0.0, 0.0


LAWS = {
    "exponential": Law("memoryless", cast_exponential),
    "weibull": Law("Weibull; shape < 1 gives heavy tails", cast_weibull),
    "lognormal": Law("lognormal; shape is sigma of the logarithm", cast_lognormal),
    "deterministic": Law("always the mean", cast_deterministic),
}


@pytree
class DurationKnobs:
    """Parameters of one law of durations per process `[process]`; scale in seconds.

    As compute noise they are scalars and the scale is a pure number.
    """

    scale: jax.Array
    power: jax.Array
    sigma: jax.Array


@pytree
class RenewalKnobs:
    """Up and down laws of each process `[process]`."""

    up: DurationKnobs
    down: DurationKnobs


@pytree
class Outages:
    """The current or next outage of each process of one worker `[process]`."""

    start: Instant
    end: Instant
    count: jax.Array  # int32; the outage's own number


class Walk(NamedTuple):
    """How a piece of work fared among outages."""

    outages: Outages
    end: Instant  # arrival, or recovery when lost
    lost: jax.Array
    lost_at: Instant
    wiped: jax.Array
    busy_s: jax.Array  # time spent computing
    exhausted: jax.Array  # the loop bound was met


def duration(law: DurationKnobs, word: jax.Array) -> jax.Array:
    """Draw durations in seconds, one uint32 word each; a law uses either E or N of that word."""
    exponential = -jnp.log(keys.to_uniform(word))
    spread = law.power * jnp.log(exponential) + law.sigma * keys.to_normal(word)
    return jnp.where(jnp.isinf(law.scale), jnp.inf, law.scale * jnp.exp(spread))


def draw(knobs: RenewalKnobs, key: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the up and down durations of outage number `count`, under `key [..., 2]`."""
    up_word, down_word = keys.threefry(key, count, jnp.uint32(0))
    return duration(knobs.up, up_word), duration(knobs.down, down_word)


def first_outages(knobs: RenewalKnobs, key: jax.Array, down_now: jax.Array) -> Outages:
    """Return outage number 0 of each process; `down_now [process]` starts at time zero."""
    count = jnp.zeros_like(down_now, dtype=jnp.int32)
    up_s, down_s = draw(knobs, key, count)
    zero = clock.start_of_time(count.shape)
    start = clock.add(zero, jnp.where(down_now, 0.0, up_s))
    return Outages(start, clock.add(start, down_s), count)


def pass_outage(
    knobs: RenewalKnobs, key: jax.Array, outages: Outages, index: jax.Array
) -> Outages:
    """Replace the outage of one process by the next one."""
    law, own, past = row((knobs, key, outages), index)
    count = past.count + 1
    up_s, down_s = draw(law, own, count)
    start = clock.add(past.end, up_s)
    following = Outages(start, clock.add(start, down_s), count)
    hit = jnp.arange(outages.count.shape[0], dtype=jnp.int32) == index
    return jax.tree.map(lambda new, old: jnp.where(hit, new, old), following, outages)


def await_up(
    knobs: RenewalKnobs, key: jax.Array, outages: Outages, ready: Instant, now: Instant
) -> tuple[Outages, Instant, jax.Array, jax.Array]:
    """Pass the outages that begin by `now`; return when the worker is next up.

    Returns (outages, ready, wiped, exhausted): up from `ready` until the next start; ready <= now
    means up now.
    """
    wipes = jnp.array(WIPES)

    def begun(state: tuple[Outages, Instant, jax.Array, jax.Array]) -> jax.Array:
        outages, ready, _, turns = state
        horizon = clock.latest_of(ready, now)
        first = clock.minimum(outages.start)
        reach = ~clock.is_before(horizon, first) & ~clock.is_never(ready)
        return reach & (turns < MOST_OUTAGES)

    def step(
        state: tuple[Outages, Instant, jax.Array, jax.Array],
    ) -> tuple[Outages, Instant, jax.Array, jax.Array]:
        outages, ready, wiped, turns = state
        index = clock.earliest(outages.start)
        ready = clock.latest_of(ready, row(outages.end, index))
        outages = pass_outage(knobs, key, outages, index)
        return outages, ready, wiped | row(wipes, index), turns + 1

    state = (outages, ready, jnp.array(False), jnp.int32(0))
    outages, ready, wiped, turns = jax.lax.while_loop(begun, step, state)
    return outages, ready, wiped, turns >= MOST_OUTAGES


@pytree
class _Progress:
    outages: Outages
    now: Instant
    download_s: jax.Array  # still to do
    compute_s: jax.Array
    upload_s: jax.Array
    working: jax.Array  # computing has begun
    busy_s: jax.Array
    lost: jax.Array
    lost_at: Instant
    wiped: jax.Array
    turns: jax.Array


def _finish(progress: _Progress) -> Instant:
    """Return when the rest of the work ends if nothing interrupts it."""
    t = clock.add(progress.now, progress.download_s)
    return clock.add(clock.add(t, progress.compute_s), progress.upload_s)


def _interrupted(progress: _Progress) -> jax.Array:
    first = clock.minimum(progress.outages.start)
    hit = clock.is_before(first, _finish(progress))
    hit = hit | (progress.lost & ~clock.is_before(progress.now, first))
    return hit & ~clock.is_never(progress.now) & (progress.turns < MOST_OUTAGES)


def _suffer(
    knobs: RenewalKnobs, key: jax.Array, resume_download: bool, progress: _Progress
) -> _Progress:
    """Go through one outage: transfers pause, the compute in flight is lost."""
    index = clock.earliest(progress.outages.start)
    current = (progress.outages.start, progress.outages.end, jnp.array(WIPES))
    start, end, wipes = row(current, index)
    ahead = clock.is_before(progress.now, start)
    elapsed = jnp.where(ahead, clock.since(start, progress.now), 0.0)
    downloaded = jnp.minimum(elapsed, progress.download_s)
    computed = jnp.clip(elapsed - progress.download_s, 0.0, progress.compute_s)
    uploaded = jnp.maximum(elapsed - progress.download_s - progress.compute_s, 0.0)
    working = progress.working | (ahead & (elapsed >= progress.download_s))
    compute_left = progress.compute_s - computed
    lost = working & ((compute_left > 0) | wipes)
    if not resume_download:
        lost = lost | (wipes & ahead)
    lost = lost & ~progress.lost
    gone = lost | progress.lost
    return _Progress(
        outages=pass_outage(knobs, key, progress.outages, index),
        now=clock.latest_of(progress.now, end),
        download_s=jnp.where(gone, 0.0, progress.download_s - downloaded),
        compute_s=jnp.where(gone, 0.0, compute_left),
        upload_s=jnp.where(gone, 0.0, jnp.maximum(progress.upload_s - uploaded, 0.0)),
        working=working,
        busy_s=progress.busy_s + computed,
        lost=gone,
        lost_at=clock.choose(lost, start, progress.lost_at),
        wiped=progress.wiped | wipes,
        turns=progress.turns + 1,
    )


def walk(
    knobs: RenewalKnobs,
    key: jax.Array,
    outages: Outages,
    begin: Instant,
    download_s: jax.Array,
    compute_s: jax.Array,
    upload_s: jax.Array,
    resume_download: bool = True,
) -> Walk:
    """Carry one cycle (download, compute, upload) through a worker's outages.

    A transfer pauses in an outage and resumes after it; an outage while computing loses the cycle,
    and so does one that wipes the memory while uploading. A lost cycle ends at recovery.
    With `resume_download=False` a wiping outage while downloading loses the cycle as well.
    """
    false = jnp.array(False)
    zero = jnp.float32(0.0)
    progress = _Progress(
        outages, begin, download_s, compute_s, upload_s, false, zero, false, clock.never(), false,
        jnp.int32(0),
    )  # fmt: skip

    def suffer(progress: _Progress) -> _Progress:
        return _suffer(knobs, key, resume_download, progress)

    progress = jax.lax.while_loop(_interrupted, suffer, progress)
    return Walk(
        outages=progress.outages,
        end=_finish(progress),
        lost=progress.lost,
        lost_at=progress.lost_at,
        wiped=progress.wiped,
        busy_s=progress.busy_s + progress.compute_s,
        exhausted=progress.turns >= MOST_OUTAGES,
    )


def catch_up(knobs: RenewalKnobs, key: jax.Array, episodes: Outages, now: Instant) -> Outages:
    """Pass the episodes of a single process `[1]` that have ended by `now`."""

    def ended(state: tuple[Outages, jax.Array]) -> jax.Array:
        end = clock.minimum(state[0].end)
        over = ~clock.is_before(now, end) & ~clock.is_never(end)
        return over & (state[1] < MOST_OUTAGES)

    def step(state: tuple[Outages, jax.Array]) -> tuple[Outages, jax.Array]:
        return pass_outage(knobs, key, state[0], jnp.int32(0)), state[1] + 1

    return jax.lax.while_loop(ended, step, (episodes, jnp.int32(0)))[0]


@pytree
class History:
    """What a worker went through until an instant."""

    count: jax.Array  # int32 [process]; outages begun
    up_s: jax.Array  # time up


@pytree
class _Replay:
    outages: Outages
    count: jax.Array
    covered: Instant
    down: Instant
    turns: jax.Array


def history(knobs: RenewalKnobs, key: jax.Array, outages: Outages, until: Instant) -> History:
    """Replay a worker's outages from its first ones `[process]` to an instant, exactly."""

    def begun(state: _Replay) -> jax.Array:
        first = clock.minimum(state.outages.start)
        return clock.is_before(first, until) & (state.turns < MOST_OUTAGES)

    def step(state: _Replay) -> _Replay:
        index = clock.earliest(state.outages.start)
        start, end = row((state.outages.start, state.outages.end), index)
        end = clock.choose(clock.is_before(until, end), until, end)
        dark_s = clock.since(end, clock.latest_of(start, state.covered))
        hit = jnp.arange(state.count.shape[0], dtype=jnp.int32) == index
        return replace(
            state,
            outages=pass_outage(knobs, key, state.outages, index),
            count=state.count + hit,
            covered=clock.latest_of(state.covered, end),
            down=clock.add(state.down, dark_s),
            turns=state.turns + 1,
        )

    state = _Replay(
        outages, jnp.zeros_like(outages.count), clock.start_of_time(), clock.start_of_time(),
        jnp.int32(0),
    )  # fmt: skip
    state = jax.lax.while_loop(begun, step, state)
    return History(state.count, clock.since(until, state.down))
