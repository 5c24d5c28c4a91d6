"""Laws of durations, one formula for all: `scale * E**power * exp(sigma * N)`.

E is unit exponential and N standard normal. Weibull has E alone (power = 1 / shape), lognormal N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.pytrees import pytree

TRIES = 8  # of a rejection sampler that accepts at least 95 %


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
    """Up and down laws of each process `[process]`.

    `down_share` is the probability to be down at time zero where a process starts in its
    stationary state, and -1 where it starts up and anew; None stands for -1 everywhere.
    """

    up: DurationKnobs
    down: DurationKnobs
    down_share: jax.Array | None = None


def duration(law: DurationKnobs, word: jax.Array) -> jax.Array:
    """Draw durations in seconds, one uint32 word each; a law uses either E or N of that word."""
    exponential = -jnp.log(keys.to_uniform(word))
    spread = law.power * jnp.log(exponential) + law.sigma * keys.to_normal(word)
    return jnp.where(jnp.isinf(law.scale), jnp.inf, law.scale * jnp.exp(spread))


def residual(law: DurationKnobs, share: jax.Array, key: jax.Array) -> jax.Array:
    """Draw what is left at time zero of durations in equilibrium, seconds; below `key [..., 2]`.

    That is a uniform `share` of a duration drawn with a density proportional to its length: E
    becomes Gamma(1 + power), N shifts by sigma (Cox 1962, Renewal Theory, 5.2). The Gamma is
    Marsaglia and Tsang's (2000), with so many tries that one in 10**10 draws is off.
    """
    d = law.power + jnp.float32(2.0 / 3.0)

    def attempt(counter: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        first, second = keys.threefry(key, counter, jnp.uint32(1))
        normal, chance = keys.to_normal(first), keys.to_uniform(second)
        cube = (1.0 + normal / jnp.sqrt(9.0 * d)) ** 3
        log_cube = jnp.log(jnp.maximum(cube, 1e-30))
        accepts = jnp.log(chance) < 0.5 * normal**2 + d * (1.0 - cube + log_cube)
        return accepts & (cube > 0), log_cube, normal

    accepts, log_cube, normal = jax.vmap(attempt)(jnp.arange(1, TRIES + 1, dtype=jnp.uint32))
    taken = jnp.argmax(accepts, axis=0)[None]
    log_gamma = jnp.log(d) + jnp.take_along_axis(log_cube, taken, axis=0)[0]
    spread = law.power * log_gamma + law.sigma * (normal[0] + law.sigma)
    return jnp.where(jnp.isinf(law.scale), jnp.inf, share * law.scale * jnp.exp(spread))
