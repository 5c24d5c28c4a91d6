"""Data skew between workers: each draws its classes with its own Dirichlet probabilities.

The concentration is alpha = 1/skew (Hsu et al. 2019, "Measuring the effects of non-identical data
distribution for federated visual classification"): skew 0 gives everyone the same, uniform data;
skew 10 leaves most workers one or two classes. A worker's probabilities depend on its index alone,
so adding a worker changes nobody else's data.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.families import Knob

ATTEMPTS = 4
SKEW = Knob(0.0, 0.0, 1e4, "label skew between workers: 1 / Dirichlet concentration, 0 = none")


def log_gammas(key: jax.Array, shape: jax.Array, count: int) -> jax.Array:
    """Return logarithms `[count]` of Gamma(shape) draws below `key [2]`, for any shape > 0.

    Marsaglia and Tsang 2000 at shape + 1, four attempts unrolled (all are rejected with
    probability below 1e-5; then the last one stands), times U**(1/shape), their section 6.
    """
    d = shape + jnp.float32(2 / 3)
    word = keys.words(key, (2 * ATTEMPTS + 1) * count).reshape(2 * ATTEMPTS + 1, count)
    normal, uniform = keys.to_normal(word[:ATTEMPTS]), keys.to_uniform(word[ATTEMPTS:])
    cube = jnp.maximum(1.0 + normal / jnp.sqrt(9.0 * d), 1e-3) ** 3
    bound = 0.5 * normal**2 + d * (1.0 - cube + jnp.log(cube))
    accepted = jnp.log(uniform[:ATTEMPTS]) < bound
    chosen = cube[-1]
    for attempt in reversed(range(ATTEMPTS - 1)):
        chosen = jnp.where(accepted[attempt], cube[attempt], chosen)
    return jnp.log(d * chosen) + jnp.log(uniform[-1]) / shape


def class_weights(skew: jax.Array, worker: jax.Array, classes: int) -> jax.Array:
    """Return one worker's class probabilities `[class]`, Dirichlet(1/skew)."""
    key = keys.address(keys.stream(keys.run_key(0), "skew"), worker)
    alpha = 1.0 / jnp.maximum(skew, 1e-4)
    own = jax.nn.softmax(log_gammas(key, alpha, classes))
    return jnp.where(skew > 0, own, 1.0 / classes)


def classes_of(weights: jax.Array, word: jax.Array) -> jax.Array:
    """Map random words, uint32 `[sample]`, to classes, int32 `[sample]`, by `weights [class]`."""
    edge = jnp.cumsum(weights)[:-1]
    above = keys.to_uniform(word)[:, None] >= edge[None, :]
    return jnp.sum(above, axis=1, dtype=jnp.int32)
