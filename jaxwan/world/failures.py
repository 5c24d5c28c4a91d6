"""What failures do: a cycle carried through a worker's spells, a wait, and the whole history."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, row
from jaxwan.world.spells import (
    PARTITION,
    WIPES,
    Luck,
    ends,
    pass_spell,
    starts,
)

MOST_SPELLS = 1 << 12  # bound of the spells in one cycle
MOST_IN_A_RUN = 1 << 20


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


def _wipes(names: tuple[str, ...], index: jax.Array) -> jax.Array:
    """Tell whether a process, slowdown last, wipes the worker's memory."""
    return row(jnp.array([*(name in WIPES for name in names), False]), index)


def _is_cut(names: tuple[str, ...], index: jax.Array) -> jax.Array:
    """Tell whether a process is the partition."""
    return index == names.index(PARTITION) if PARTITION in names else jnp.zeros_like(index, bool)


def _threats(names: tuple[str, ...], progress: _Progress) -> Instant:
    """Return from when on each process `[process]` would interrupt what is left of the work.

    A partition does not reach a worker that computes: it begins to matter when the upload is due,
    and not at all if it is over by then.
    """
    start = starts(progress.spells[:-1])
    if PARTITION not in names:
        return start
    far = progress.spells[names.index(PARTITION)]
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
    hit = _is_cut(names, lax.iota(jnp.int32, len(names)))
    return clock.choose(hit, jax.tree.map(lambda x: x[None], cut), start)


def _struck(names: tuple[str, ...], progress: _Progress) -> jax.Array:
    """Tell whether an outage comes before the work is done."""
    first = clock.minimum(_threats(names, progress))
    hit = clock.is_before(first, _finish(progress))
    return hit | (progress.lost & ~clock.is_before(progress.now, first))


def _unsettled(names: tuple[str, ...], progress: _Progress) -> jax.Array:
    """Tell whether a spell must be passed: an outage in the way, or an episode that is over."""
    finish = _finish(progress)
    over = ~clock.is_before(finish, ends(progress.spells[-1]))
    ahead = ~clock.is_never(finish) & (progress.turns < MOST_SPELLS)
    return (_struck(names, progress) | over) & ahead


def _settle(luck: Luck, resume_download: bool, progress: _Progress) -> _Progress:
    """Pass one spell. In an outage transfers pause, and the compute in flight is lost."""
    names = luck.laws.names
    struck, threats = _struck(names, progress), _threats(names, progress)
    worst = clock.earliest(threats)
    index = jnp.where(struck, worst, len(names))
    spells, past = pass_spell(luck, progress.spells, index)
    start, end = row(threats, worst), ends(past)
    cut = _is_cut(names, index)
    wipes = struck & (_wipes(names, index) | (clock.is_never(end) & ~cut))  # or is for good
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

    progress = lax.while_loop(partial(_unsettled, luck.laws.names), settle, progress)
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
    names = luck.laws.names

    def down(spells: jax.Array, now: Instant) -> jax.Array:
        return ~clock.is_before(now, clock.minimum(starts(spells[:-1])))

    def unsettled(state: tuple[jax.Array, Instant, jax.Array, jax.Array]) -> jax.Array:
        spells, now, _, turns = state
        over = ~clock.is_before(now, ends(spells[-1]))
        return (down(spells, now) | over) & ~clock.is_never(now) & (turns < MOST_SPELLS)

    def settle(
        state: tuple[jax.Array, Instant, jax.Array, jax.Array],
    ) -> tuple[jax.Array, Instant, jax.Array, jax.Array]:
        spells, now, wiped, turns = state
        struck = down(spells, now)
        index = jnp.where(struck, clock.earliest(starts(spells[:-1])), len(names))
        spells, past = pass_spell(luck, spells, index)
        later = clock.choose(struck, clock.latest_of(now, ends(past)), now)
        return spells, later, wiped | _wipes(names, index), turns + 1

    state = (spells, now, jnp.array(False), jnp.int32(0))
    spells, now, wiped, turns = lax.while_loop(unsettled, settle, state)
    return Wait(spells, now, wiped, turns >= MOST_SPELLS)


@pytree
class History:
    """What a worker went through until an instant."""

    count: jax.Array  # int32 [process], slowdown last; spells begun after time zero
    up: Instant  # time up, exact
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
    names = luck.laws.names

    def begun(state: _Replay) -> jax.Array:
        first = clock.minimum(starts(state.spells))
        return clock.is_before(first, until) & (state.turns < MOST_IN_A_RUN)

    def step(state: _Replay) -> _Replay:
        index = clock.earliest(starts(state.spells))
        spells, past = pass_spell(luck, state.spells, index)
        start, end = starts(past), ends(past)
        end = clock.choose(clock.is_before(until, end), until, end)
        dark = (index < len(names)) & ~_is_cut(names, index)
        lasts = clock.minus(end, clock.latest_of(start, state.covered))
        hit = lax.iota(jnp.int32, len(names) + 1) == index
        real = (past[0] > 0) | (past[1] > 0)
        return _Replay(
            spells=spells,
            count=state.count + (hit & real),
            covered=clock.choose(dark, clock.latest_of(state.covered, end), state.covered),
            down=clock.choose(dark, clock.plus(state.down, lasts), state.down),
            turns=state.turns + 1,
        )

    zero = clock.start_of_time()
    none = jnp.zeros(len(names) + 1, jnp.int32)
    state = lax.while_loop(begun, step, _Replay(spells, none, zero, zero, jnp.int32(0)))
    return History(state.count, clock.minus(until, state.down), state.turns >= MOST_IN_A_RUN)
