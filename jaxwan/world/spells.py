"""Spells: the outages and slowdown episodes of a worker, each process an alternating renewal.

The k-th spell of a process is addressed by k, so it stays where it is whatever the protocol does.
A spell is int32 `[5]`, start and end as instants and its number, in one row, so that a gather or a
write moves it as a whole. A worker holds the current or next spell of each process of its plan, the
slowdown episodes last: `[process, 5]`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, row
from jaxwan.world.durations import DurationKnobs, RenewalKnobs, duration, residual

PROCESSES = ("transient", "churn", "crash", "partition", "regional", "replay")
USUAL = PROCESSES[:4]
WIPES = frozenset({"churn", "crash"})  # those that wipe the worker's memory
PARTITION = "partition"  # cuts the link; the worker itself stays up
FAILURES = (*PROCESSES, "slowdown")
NO_RECORD = (clock.NEVER_S, 0, clock.NEVER_S, 0)  # a recorded spell that never comes


@pytree
class TraceKnobs:
    """Recorded outages `[worker, interval, 4]`, start and end; each worker's last never comes."""

    spells: jax.Array  # int32
    rotate: jax.Array  # bool; the seed shifts which worker takes which record


@pytree
class Laws:
    """What the spells of one run follow."""

    names: tuple[str, ...]  # outage processes; slowdown stands behind them
    table: jax.Array  # [process, up or down, 3]; scale, power, sigma
    trace: jax.Array | None  # int32 [place, 4]; the recorded spells, worker after worker


class Luck(NamedTuple):
    """What decides one worker's spells.

    A replayed process has no luck: its key is the first and the last place of its record.
    """

    laws: Laws
    key: jax.Array  # uint32 [process, 2]


def laws_of(
    names: tuple[str, ...], outages: RenewalKnobs, slowdown: RenewalKnobs, trace: TraceKnobs | None
) -> Laws:
    """Return the laws of all processes, slowdown last."""

    def side(first: DurationKnobs, last: DurationKnobs) -> jax.Array:
        both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), first, last)
        return jnp.stack([both.scale, both.power, both.sigma], axis=-1)

    table = jnp.stack([side(outages.up, slowdown.up), side(outages.down, slowdown.down)], axis=1)
    return Laws(names, table, None if trace is None else trace.spells.reshape(-1, 4))


def record_places(trace: TraceKnobs, present: jax.Array, key: jax.Array) -> jax.Array:
    """Return the first and last place of every worker's record, uint32 `[worker, 2]`."""
    workers, intervals, _ = trace.spells.shape
    count = jnp.maximum(jnp.sum(present, dtype=jnp.uint32), 1)
    shift = jnp.where(trace.rotate, keys.words(key, 1)[0] % count, jnp.uint32(0))
    own = jnp.arange(workers, dtype=jnp.uint32)
    taken = jnp.where(own < count, (own + shift) % count, own) * jnp.uint32(intervals)
    return jnp.stack([taken, taken + jnp.uint32(intervals - 1)], axis=-1)


def spell_keys(
    names: tuple[str, ...],
    key: jax.Array,
    present: jax.Array,
    region: jax.Array | None,
    trace: TraceKnobs | None,
) -> jax.Array:
    """Return every worker's key of each process `[worker, process, 2]`.

    All workers share the partitions' key and so their partitions, those of one region their
    regional outages; a region's key is addressed by its code, not by its place among regions.
    """
    workers = present.shape[0]
    purposes = [f"failure.{name}" for name in (*names, "slowdown")]
    own = jnp.moveaxis(keys.fleet_keys(key, purposes, workers), 0, 1)
    if PARTITION in names:
        place = names.index(PARTITION)
        own = own.at[:, place].set(own[0, place][None])
    if "regional" in names:
        assert region is not None
        shared = keys.address(keys.stream(key, "failure.regional"), region.astype(jnp.uint32))
        own = own.at[:, names.index("regional")].set(shared)
    if trace is not None:
        places = record_places(trace, present, keys.stream(key, "failure.replay"))
        own = own.at[:, names.index("replay")].set(places)
    return own


def _law(table: jax.Array, side: int) -> DurationKnobs:
    return DurationKnobs(*(table[..., side, i] for i in range(3)))


def _spell(start: Instant, end: Instant, number: jax.Array) -> jax.Array:
    return jnp.stack([start.seconds, start.fraction, end.seconds, end.fraction, number], axis=-1)


def _drawn(table: jax.Array, key: jax.Array, after: Instant, number: jax.Array) -> jax.Array:
    """Draw spell `number` `[..., 5]`, which follows an end."""
    up_word, down_word = keys.threefry(key, number, jnp.uint32(0))
    start = clock.add(after, duration(_law(table, 0), up_word))
    return _spell(start, clock.add(start, duration(_law(table, 1), down_word)), number)


def _recorded(trace: jax.Array, places: jax.Array, number: jax.Array) -> jax.Array:
    """Return spell `number` `[5]` of the record between two places."""
    place = jnp.minimum(places[0].astype(jnp.int32) + number, places[1].astype(jnp.int32))
    return jnp.concatenate([row(trace, place), number[None]])


def first_spells(luck: Luck, down_now: jax.Array, down_share: jax.Array | None) -> jax.Array:
    """Return spell 0 of each process `[process, 5]`; `down_now [process]` starts at time zero.

    Where `down_share [process]` is not negative, the process is in its stationary state.
    """
    laws, key = luck
    zero, number = clock.start_of_time(down_now.shape), jnp.zeros_like(down_now, dtype=jnp.int32)
    up_word, down_word = keys.threefry(key, number, jnp.uint32(0))
    up_s, down_s = duration(_law(laws.table, 0), up_word), duration(_law(laws.table, 1), down_word)
    if down_share is not None:
        which, share = (keys.to_uniform(w) for w in keys.threefry(key, number, jnp.uint32(1)))
        steady = down_share >= 0
        down_now = down_now | (steady & (which < down_share))
        current = jnp.where(down_now[:, None], laws.table[:, 1], laws.table[:, 0])
        left_s = residual(DurationKnobs(*(current[:, i] for i in range(3))), share, key)
        up_s = jnp.where(steady, left_s, up_s)
        down_s = jnp.where(steady & down_now, left_s, down_s)
    start = clock.add(zero, jnp.where(down_now, 0.0, up_s))
    first = _spell(start, clock.add(start, down_s), number)
    if laws.trace is not None:
        place = laws.names.index("replay")
        first = first.at[place].set(_recorded(laws.trace, key[place], jnp.int32(0)))
    return first


def untouched() -> jax.Array:
    """Return a spell `[1, 5]` that never comes."""
    end = clock.never()
    return _spell(end, end, jnp.int32(0))[None]


def everybodys_first(
    laws: Laws, spell_key: jax.Array, away: jax.Array, cut: jax.Array, down_share: jax.Array | None
) -> jax.Array:
    """Return all workers' first spells `[worker, process, 5]`.

    Who is `away` is in the down phase of its churn; only who is `cut` has partitions.
    """
    churns = np.array([name == "churn" for name in (*laws.names, "slowdown")])
    down_now = away[:, None] & churns[None]
    first = jax.vmap(lambda own, down: first_spells(Luck(laws, own), down, down_share))(
        spell_key, down_now
    )
    if PARTITION in laws.names:
        place = laws.names.index(PARTITION)
        first = first.at[:, place].set(jnp.where(cut[:, None], first[:, place], untouched()))
    return first


def dark_at_zero(names: tuple[str, ...], first: jax.Array) -> jax.Array:
    """Tell which workers `[worker]` an outage keeps down at time zero."""
    darkens = np.array([name != PARTITION for name in names])
    start = starts(first[:, : len(names)])
    return jnp.any((start.seconds == 0) & (start.fraction == 0) & darkens[None], axis=1)


def starts(spells: jax.Array) -> Instant:
    """Return when spells `[..., 5]` start."""
    return Instant(spells[..., 0], spells[..., 1])


def ends(spells: jax.Array) -> Instant:
    """Return when spells `[..., 5]` end."""
    return Instant(spells[..., 2], spells[..., 3])


def slowed_at(spells: jax.Array, now: Instant) -> jax.Array:
    """Tell whether a worker whose spells are passed up to `now` is in a slowdown episode."""
    return ~clock.is_before(now, starts(spells[-1]))


def pass_spell(luck: Luck, spells: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the spells with that of one process replaced by its next one, and the old one."""
    laws = luck.laws
    table, key, past = row((laws.table, luck.key, spells), index)
    following = _drawn(table, key, ends(past), past[4] + 1)
    if laws.trace is not None:
        replays = index == laws.names.index("replay")
        places = jnp.where(replays, key, jnp.uint32(0))
        taken = _recorded(laws.trace, places, past[4] + 1)
        following = jnp.where(replays, taken, following)
    hit = lax.iota(jnp.int32, spells.shape[0]) == index
    return jnp.where(hit[:, None], following[None], spells), past
