"""Exact instants: an int32 pair (seconds, 2**-20 s), so a month and 50 ms are still told apart.

Durations are float32 seconds; only differences of instants become durations. `NEVER` (34 years) is
an absorbing end of time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core.pytrees import pytree

FRACTION = 2**20
NEVER_S = 2**30


@pytree
class Instant:
    """A point in time, `seconds + fraction / 2**20`, compared lexicographically."""

    seconds: jax.Array  # int32
    fraction: jax.Array  # int32 in [0, 2**20)


def start_of_time(shape: tuple[int, ...] = ()) -> Instant:
    """Return instant zero in every place of `shape`."""
    return Instant(jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.int32))


def never(shape: tuple[int, ...] = ()) -> Instant:
    """Return the end of time in every place of `shape`."""
    return Instant(jnp.full(shape, NEVER_S, jnp.int32), jnp.zeros(shape, jnp.int32))


def add(instant: Instant, duration_s: jax.Array) -> Instant:
    """Return the instant `duration_s` later; negative and NaN durations count as zero."""
    duration = jnp.where(duration_s > 0, jnp.minimum(duration_s, float(NEVER_S)), 0.0)
    whole = jnp.floor(duration)
    fraction = jnp.round((duration - whole) * FRACTION).astype(jnp.int32) + instant.fraction
    later_s = whole.astype(jnp.int32) + (fraction >> 20)
    over = later_s >= NEVER_S - instant.seconds
    seconds = instant.seconds + later_s
    return Instant(
        jnp.where(over, NEVER_S, seconds), jnp.where(over, 0, fraction & (FRACTION - 1))
    )


def since(later: Instant, earlier: Instant) -> jax.Array:
    """Return the duration in seconds from `earlier` to `later` (float32, may be negative)."""
    whole = (later.seconds - earlier.seconds).astype(jnp.float32)
    part = (later.fraction - earlier.fraction).astype(jnp.float32)
    return whole + part * jnp.float32(1.0 / FRACTION)


def plus(a: Instant, b: Instant) -> Instant:
    """Return the exact sum of two times since zero."""
    fraction = a.fraction + b.fraction
    return Instant(a.seconds + b.seconds + (fraction >> 20), fraction & (FRACTION - 1))


def minus(later: Instant, earlier: Instant) -> Instant:
    """Return the exact time between two instants, zero where they stand the other way round."""
    fraction = later.fraction - earlier.fraction
    seconds = later.seconds - earlier.seconds + (fraction >> 20)
    back = seconds < 0
    return Instant(jnp.where(back, 0, seconds), jnp.where(back, 0, fraction & (FRACTION - 1)))


def is_before(a: Instant, b: Instant) -> jax.Array:
    """Tell where `a` is strictly before `b`."""
    return (a.seconds < b.seconds) | ((a.seconds == b.seconds) & (a.fraction < b.fraction))


def is_never(a: Instant) -> jax.Array:
    """Tell where an instant is the end of time."""
    return a.seconds >= NEVER_S


def choose(condition: jax.Array, a: Instant, b: Instant) -> Instant:
    """Return `a` where the condition holds, else `b`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def latest_of(a: Instant, b: Instant) -> Instant:
    """Return the later of two instants, place by place."""
    return choose(is_before(a, b), b, a)


def minimum(instants: Instant) -> Instant:
    """Return the earliest instant of `[n]`."""
    first = jnp.min(instants.seconds)
    fraction = jnp.where(instants.seconds == first, instants.fraction, FRACTION)
    return Instant(first, jnp.min(fraction))


def earliest(instants: Instant) -> jax.Array:
    """Return the index of the earliest instant of `[n]`; ties go to the lower index."""
    first = jnp.min(instants.seconds)
    fraction = jnp.where(instants.seconds == first, instants.fraction, FRACTION)
    return jnp.argmin(fraction).astype(jnp.int32)


def latest(instants: Instant, where: jax.Array) -> Instant:
    """Return the latest instant among the places of `[n]` where the mask holds, else zero."""
    seconds = jnp.where(where, instants.seconds, 0)
    last = jnp.max(seconds)
    fraction = jnp.where(where & (instants.seconds == last), instants.fraction, 0)
    return Instant(last, jnp.max(fraction))


def to_seconds(instant: Instant) -> jax.Array:
    """Return seconds since zero as float32, for display and plots only."""
    return since(instant, start_of_time())
