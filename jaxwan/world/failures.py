"""Failures as renewal processes in simulated time, per worker.

Each process alternates up and down; its k-th outage is addressed by k, so it stays where it is
whatever the protocol does. Four laws of duration share one formula,
`scale * E**power * exp(sigma * N)` with E unit exponential and N standard normal.

A spell is an outage or a slowdown episode: int32 `[5]`, start and end as instants and its number,
in one row, so that a gather or a write moves it as a whole. A worker holds the current or next
spell of each process, `[process, 5]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, row

PROCESSES = ("transient", "churn", "crash", "partition")
WIPES = (False, True, True, False)  # does the process wipe the worker's memory?
PARTITION = PROCESSES.index("partition")  # cuts the link; the worker itself stays up
SLOWDOWN = ("slowdown",)
FAILURES = PROCESSES + SLOWDOWN
SLOW = len(PROCESSES)  # the place of the slowdown episodes among a worker's spells
MOST_SPELLS = 1 << 12  # bound of the spells in one cycle
MOST_IN_A_RUN = 1 << 20


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


class Luck(NamedTuple):
    """What decides one worker's spells: the laws of all its processes, and their keys."""

    laws: jax.Array  # [process, up or down, 3]; scale, power, sigma
    key: jax.Array  # [process, 2]


class Walk(NamedTuple):
    """How a piece of work fared among spells."""

    spells: jax.Array
    end: Instant  # arrival, or recovery when lost
    lost: jax.Array
    lost_at: Instant
    wiped: jax.Array
    busy_s: jax.Array  # time spent computing
    computed: Instant  # when the computing ended, done or lost
    exhausted: jax.Array  # the loop bound was met


def duration(law: DurationKnobs, word: jax.Array) -> jax.Array:
    """Draw durations in seconds, one uint32 word each; a law uses either E or N of that word."""
    exponential = -jnp.log(keys.to_uniform(word))
    spread = law.power * jnp.log(exponential) + law.sigma * keys.to_normal(word)
    return jnp.where(jnp.isinf(law.scale), jnp.inf, law.scale * jnp.exp(spread))


def laws_of(outages: RenewalKnobs, slowdown: RenewalKnobs) -> jax.Array:
    """Return the laws of all processes `[process, up or down, 3]`, slowdown last."""

    def side(first: DurationKnobs, last: DurationKnobs) -> jax.Array:
        both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), first, last)
        return jnp.stack([both.scale, both.power, both.sigma], axis=-1)

    return jnp.stack([side(outages.up, slowdown.up), side(outages.down, slowdown.down)], axis=1)


def _spell(luck: Luck, after: Instant, number: jax.Array, down_now: jax.Array) -> jax.Array:
    """Draw spell `number` `[..., 5]`, which follows an end; `down_now` skips the time up."""
    up, down = (DurationKnobs(*(luck.laws[..., side, i] for i in range(3))) for side in range(2))
    up_word, down_word = keys.threefry(luck.key, number, jnp.uint32(0))
    start = clock.add(after, jnp.where(down_now, 0.0, duration(up, up_word)))
    end = clock.add(start, duration(down, down_word))
    return jnp.stack([start.seconds, start.fraction, end.seconds, end.fraction, number], axis=-1)


def first_spells(luck: Luck, down_now: jax.Array) -> jax.Array:
    """Return spell 0 of each process `[process, 5]`; `down_now [process]` starts at time zero."""
    number = jnp.zeros_like(down_now, dtype=jnp.int32)
    return _spell(luck, clock.start_of_time(number.shape), number, down_now)


def starts(spells: jax.Array) -> Instant:
    """Return when spells `[..., 5]` start."""
    return Instant(spells[..., 0], spells[..., 1])


def ends(spells: jax.Array) -> Instant:
    """Return when spells `[..., 5]` end."""
    return Instant(spells[..., 2], spells[..., 3])


def slowed_at(spells: jax.Array, now: Instant) -> jax.Array:
    """Tell whether a worker whose spells are passed up to `now` is in a slowdown episode."""
    return ~clock.is_before(now, starts(spells[SLOW]))


def pass_spell(luck: Luck, spells: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the spells with that of one process replaced by its next one, and the old one."""
    own, past = row((luck, spells), index)
    following = _spell(own, ends(past), past[4] + 1, jnp.array(False))
    hit = lax.iota(jnp.int32, spells.shape[0]) == index
    return jnp.where(hit[:, None], following[None], spells), past


@pytree
class _Progress:
    spells: jax.Array
    now: Instant
    left: jax.Array  # [3]; seconds of download, compute and upload still to do
    working: jax.Array  # computing has begun
    busy_s: jax.Array
    lost: jax.Array
    lost_at: Instant
    wiped: jax.Array
    computed: Instant  # when the computing ended, if it has
    turns: jax.Array


def _computed(progress: _Progress) -> Instant:
    """Return when the computing ended, or will if nothing interrupts it."""
    rest = progress.left[0] + progress.left[1]
    return clock.choose(rest > 0, clock.add(progress.now, rest), progress.computed)


def _finish(progress: _Progress) -> Instant:
    """Return when the rest of the work ends if nothing interrupts it."""
    left = progress.left
    return clock.add(progress.now, left[0] + left[1] + left[2])


def _threats(progress: _Progress) -> Instant:
    """Return from when on each process `[process]` would interrupt what is left of the work.

    A partition does not reach a worker that computes: it begins to matter when the upload is due,
    and not at all if it is over by then.
    """
    start = starts(progress.spells[:SLOW])
    far = progress.spells[PARTITION]
    cut, healed = starts(far), ends(far)
    left = progress.left
    computes_from = clock.add(progress.now, left[0])
    uploads_from = clock.add(progress.now, left[0] + left[1])
    computing = ~clock.is_before(cut, computes_from) | (progress.working & (left[0] <= 0))
    computing = computing & clock.is_before(cut, uploads_from) & (left[1] > 0)
    over = ~clock.is_before(uploads_from, healed)
    later = clock.choose(over, clock.never(), uploads_from)
    cut = clock.choose(computing, later, cut)
    cut = clock.choose(progress.lost, clock.never(), cut)
    hit = lax.iota(jnp.int32, SLOW) == PARTITION
    return clock.choose(hit, jax.tree.map(lambda x: x[None], cut), start)


def _struck(progress: _Progress) -> jax.Array:
    """Tell whether an outage comes before the work is done."""
    first = clock.minimum(_threats(progress))
    hit = clock.is_before(first, _finish(progress))
    return hit | (progress.lost & ~clock.is_before(progress.now, first))


def _unsettled(progress: _Progress) -> jax.Array:
    """Tell whether a spell must be passed: an outage in the way, or an episode that is over."""
    finish = _finish(progress)
    over = ~clock.is_before(finish, ends(progress.spells[SLOW]))
    ahead = ~clock.is_never(finish) & (progress.turns < MOST_SPELLS)
    return (_struck(progress) | over) & ahead


def _settle(luck: Luck, resume_download: bool, progress: _Progress) -> _Progress:
    """Pass one spell. In an outage transfers pause, and the compute in flight is lost."""
    struck, threats = _struck(progress), _threats(progress)
    worst = clock.earliest(threats)
    index = jnp.where(struck, worst, SLOW)
    spells, past = pass_spell(luck, progress.spells, index)
    start, end = row(threats, worst), ends(past)
    cut = index == PARTITION
    wipes = struck & row(jnp.array((*WIPES, False)), index)
    ahead = struck & clock.is_before(progress.now, start)
    elapsed = jnp.where(ahead, clock.since(start, progress.now), 0.0)
    left = progress.left
    before = jnp.stack([jnp.zeros_like(elapsed), left[0], left[0] + left[1]])
    used = jnp.clip(elapsed - before, 0.0, left)
    working = progress.working | (ahead & (elapsed >= left[0]))
    whole = cut & working & (lax.iota(jnp.int32, 3) < 2)  # a cut worker computes to the end
    used = jnp.where(whole, left, used)
    lost = working & ((used[1] < left[1]) | wipes) & struck & ~cut
    if not resume_download:
        lost = lost | ((wipes | cut) & ahead)
    lost = lost & ~progress.lost
    gone = lost | progress.lost
    computed = _computed(progress)
    return _Progress(
        spells=spells,
        now=clock.choose(struck, clock.latest_of(progress.now, end), progress.now),
        left=jnp.where(gone, 0.0, left - used),
        working=working,
        busy_s=progress.busy_s + used[1],
        lost=gone,
        lost_at=clock.choose(lost, start, progress.lost_at),
        wiped=progress.wiped | wipes,
        computed=clock.choose(lost & clock.is_before(start, computed), start, computed),
        turns=progress.turns + 1,
    )


def walk(
    luck: Luck,
    spells: jax.Array,
    begin: Instant,
    work: tuple[jax.Array, jax.Array, jax.Array],
    *,
    lost: jax.Array | bool = False,
    resume_download: bool = True,
) -> Walk:
    """Carry one cycle (download, compute, upload, in seconds) through a worker's spells.

    A transfer pauses in an outage and resumes after it; an outage while computing loses the cycle,
    and so does one that wipes the memory while uploading. A partition only pauses transfers. A lost
    cycle ends at recovery, and one that begins `lost` merely waits until the worker is up. With
    `resume_download=False` a wiping outage while downloading and a partition in any transfer lose
    the cycle as well. A transfer over a dead link never ends.

    `spells [process, 5]` must be passed up to `begin`; they are handed on passed up to the end.
    """
    false, gone = jnp.array(False), jnp.asarray(lost)
    left = jnp.where(gone, 0.0, jnp.stack(work))
    progress = _Progress(
        spells, begin, left, false, jnp.float32(0), gone, clock.never(), false, begin, jnp.int32(0)
    )

    def settle(progress: _Progress) -> _Progress:
        return _settle(luck, resume_download, progress)

    progress = lax.while_loop(_unsettled, settle, progress)
    return Walk(
        spells=progress.spells,
        end=_finish(progress),
        lost=progress.lost,
        lost_at=progress.lost_at,
        wiped=progress.wiped,
        busy_s=progress.busy_s + progress.left[1],
        computed=_computed(progress),
        exhausted=progress.turns >= MOST_SPELLS,
    )


class Wait(NamedTuple):
    """When a worker is next up."""

    spells: jax.Array
    end: Instant
    wiped: jax.Array
    exhausted: jax.Array


def await_up(luck: Luck, spells: jax.Array, now: Instant) -> Wait:
    """Pass the spells `[process, 5]` of an idle worker until it is up, now or later."""

    def down(spells: jax.Array, now: Instant) -> jax.Array:
        return ~clock.is_before(now, clock.minimum(starts(spells[:SLOW])))

    def unsettled(state: tuple[jax.Array, Instant, jax.Array, jax.Array]) -> jax.Array:
        spells, now, _, turns = state
        over = ~clock.is_before(now, ends(spells[SLOW]))
        return (down(spells, now) | over) & ~clock.is_never(now) & (turns < MOST_SPELLS)

    def settle(
        state: tuple[jax.Array, Instant, jax.Array, jax.Array],
    ) -> tuple[jax.Array, Instant, jax.Array, jax.Array]:
        spells, now, wiped, turns = state
        struck = down(spells, now)
        index = jnp.where(struck, clock.earliest(starts(spells[:SLOW])), SLOW)
        spells, past = pass_spell(luck, spells, index)
        later = clock.choose(struck, clock.latest_of(now, ends(past)), now)
        return spells, later, wiped | row(jnp.array((*WIPES, False)), index), turns + 1

    state = (spells, now, jnp.array(False), jnp.int32(0))
    spells, now, wiped, turns = lax.while_loop(unsettled, settle, state)
    return Wait(spells, now, wiped, turns >= MOST_SPELLS)


@pytree
class History:
    """What a worker went through until an instant."""

    count: jax.Array  # int32 [process]; spells begun after time zero
    up_s: jax.Array  # time up
    exhausted: jax.Array  # the loop bound was met


@pytree
class _Replay:
    spells: jax.Array
    count: jax.Array
    covered: Instant
    down: Instant
    turns: jax.Array


def history(luck: Luck, spells: jax.Array, until: Instant) -> History:
    """Replay a worker's spells from its first ones `[process, 5]` to an instant, exactly."""

    def begun(state: _Replay) -> jax.Array:
        first = clock.minimum(starts(state.spells))
        return clock.is_before(first, until) & (state.turns < MOST_IN_A_RUN)

    def step(state: _Replay) -> _Replay:
        index = clock.earliest(starts(state.spells))
        spells, past = pass_spell(luck, state.spells, index)
        start, end = starts(past), ends(past)
        end = clock.choose(clock.is_before(until, end), until, end)
        dark = (index < SLOW) & (index != PARTITION)
        dark_s = clock.since(end, clock.latest_of(start, state.covered))
        hit = lax.iota(jnp.int32, len(FAILURES)) == index
        real = (past[0] > 0) | (past[1] > 0)
        return _Replay(
            spells=spells,
            count=state.count + (hit & real),
            covered=clock.choose(dark, clock.latest_of(state.covered, end), state.covered),
            down=clock.add(state.down, jnp.where(dark, dark_s, 0.0)),
            turns=state.turns + 1,
        )

    zero = clock.start_of_time()
    none = jnp.zeros(len(FAILURES), jnp.int32)
    state = lax.while_loop(begun, step, _Replay(spells, none, zero, zero, jnp.int32(0)))
    return History(state.count, clock.since(until, state.down), state.turns >= MOST_IN_A_RUN)
