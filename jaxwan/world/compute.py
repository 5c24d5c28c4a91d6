"""How long a worker computes: reference step x noise x slowdown / speed."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.world.durations import duration
from jaxwan.world.plan import WorldKnobs


class Pace(NamedTuple):
    """One worker's own numbers, for one cycle."""

    key: jax.Array  # [2]
    speed: jax.Array
    slowed: jax.Array  # bool; in a slowdown episode at the start of the cycle


BACKWARD_SHARE = 2.0 / 3.0  # of a gradient step; the forward pass is the other third


def compute_s(knobs: WorldKnobs, pace: Pace, cycle: jax.Array) -> jax.Array:
    """Return the seconds of one cycle's computation, compression included."""
    word, _ = keys.threefry(pace.key, cycle, jnp.uint32(0))
    noise = duration(knobs.compute_noise, word)
    factor = jnp.where(pace.slowed, knobs.slowdown_factor, 1.0)
    steps_s = knobs.step_s * knobs.local_steps * noise * factor / pace.speed
    return steps_s if knobs.compress_s is None else steps_s + knobs.compress_s


def hidden_s(knobs: WorldKnobs, compute: jax.Array) -> jax.Array:
    """Return the seconds of an upload that may hide behind the last backward pass.

    In the limit of many layers the gradient leaves evenly during the backward pass (Douillard et
    al. 2025, App.), so a send of N bits ends at max(T, T/3 + N/B).
    """
    steps_s = compute if knobs.compress_s is None else compute - knobs.compress_s
    return jnp.where(knobs.overlap, BACKWARD_SHARE * steps_s / knobs.local_steps, 0.0)
