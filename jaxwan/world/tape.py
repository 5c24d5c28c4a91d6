"""Recorded bandwidth, replayed: pieces of constant rate, over and over.

What a link has passed since the record began is kept as an instant, too: the seconds in which the
mean rate passes as much. So the end of a transfer that meets many pieces is as exact as the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, row


@pytree
class TapeKnobs:
    """All records of a run, one after the other, and which of them each worker's link follows."""

    start: jax.Array  # int32 [point, 2]; when a piece begins, an instant
    passed: jax.Array  # int32 [point, 2]; seconds at the mean rate before it, an instant
    bps: jax.Array  # [point]
    first: jax.Array  # int32 [worker]; the first point of the worker's record
    count: jax.Array  # int32 [worker]; its points, 0 = no record
    period_s: jax.Array  # int32 [worker]; it starts again after so long
    mean_bps: jax.Array  # [worker]


class Reel(NamedTuple):
    """One worker's part of TapeKnobs."""

    first: jax.Array
    pieces: jax.Array
    period_s: jax.Array
    mean_bps: jax.Array


def reels(tape: TapeKnobs) -> Reel:
    """Return all workers' parts `[worker]`."""
    return Reel(tape.first, tape.count, tape.period_s, tape.mean_bps)


def _instant(column: jax.Array, place: jax.Array) -> Instant:
    found = row(column, place)
    return Instant(found[..., 0], found[..., 1])


def _last(room: int, reel: Reel, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Return a record's last point where a falling condition holds, by bisection; or its first."""

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = ends
        middle = (low + high) // 2
        up = holds(jnp.minimum(middle, room - 1)) & (middle > low)
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    ends = reel.first, reel.first + jnp.maximum(reel.pieces, 1)
    return lax.fori_loop(0, room.bit_length(), halve, ends)[0]


def _after(tape: TapeKnobs, reel: Reel, column: jax.Array, point: jax.Array) -> Instant:
    """Return where the next piece stands, or the record's end."""
    final = point + 1 >= reel.first + reel.pieces
    following = _instant(column, jnp.minimum(point + 1, tape.bps.shape[0] - 1))
    return clock.choose(final, Instant(reel.period_s, jnp.zeros_like(reel.period_s)), following)


def through_s(tape: TapeKnobs, reel: Reel, bits: jax.Array, at: Instant) -> jax.Array:
    """Return the seconds that the recorded link needs for `bits` from `at` on."""
    room = tape.bps.shape[0]
    now = Instant(at.seconds % reel.period_s, at.fraction)
    here = _last(room, reel, lambda point: ~clock.is_before(now, _instant(tape.start, point)))
    bps = row(tape.bps, here)
    passes = clock.since(_after(tape, reel, tape.start, here), now) * bps
    rest_s = jnp.maximum(bits - passes, 0.0) / reel.mean_bps
    due = clock.add(_after(tape, reel, tape.passed, here), rest_s)
    rounds = (due.seconds - (due.fraction == 0)) // reel.period_s
    due = Instant(due.seconds - rounds * reel.period_s, due.fraction)
    there = _last(room, reel, lambda point: clock.is_before(_instant(tape.passed, point), due))
    begins = _instant(tape.start, there)
    begins = Instant(begins.seconds + rounds * reel.period_s, begins.fraction)
    share = reel.mean_bps / jnp.maximum(row(tape.bps, there), 1e-30)
    later_s = clock.since(begins, now) + clock.since(due, _instant(tape.passed, there)) * share
    return jnp.where(bits <= passes, bits / bps, later_s)


def met_bps(
    tape: TapeKnobs, reel: Reel, scale: jax.Array, bits: jax.Array, at: Instant
) -> jax.Array:
    """Return the mean rate that a transfer of `bits` meets from `at` on, if all is scaled."""
    some = jnp.maximum(bits, 1.0)
    return some / through_s(tape, reel, some / scale, at)
