"""Means that weigh the updates by how they came about."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob
from jaxwan.learning.aggregators.base import (
    Aggregator,
    Knobs,
    alone,
    as_it_is,
    needs_one,
    stateless,
)
from jaxwan.learning.aggregators.coordinate import average


def weigh_by_age(
    knobs: Knobs, weights: jax.Array, age: jax.Array, tokens: jax.Array
) -> jax.Array:
    """Weigh by (1 + age)^−power (Xie et al. 2019, the polynomial strategy).

    The aggregator divides by the sum of the weights, so a lone update is taken whole however stale.
    """
    late = jnp.maximum(age, 0).astype(jnp.float32)
    return weights * jnp.exp(-knobs["power"] * jnp.log1p(late))


def weigh_by_tokens(
    knobs: Knobs, weights: jax.Array, age: jax.Array, tokens: jax.Array
) -> jax.Array:
    """Weigh by the gradient steps behind an update (McMahan et al. 2017, algorithm 1)."""
    return weights * tokens


def ageless(knobs: Knobs, slots: int) -> bool:
    """Return whether age does not matter, or there is a single slot."""
    return knobs["power"] == 0 or slots <= 1


WEIGHTED: dict[str, Aggregator] = {
    "staleness_mean": Aggregator(
        summary="Average with less weight for updates of older models.",
        paper="Xie et al. 2019",
        knobs={"power": Knob(0.5, 0.0, 4.0, "weight falls as (1 + age)^-power")},
        static={},
        apply=stateless(average),
        needs=needs_one,
        is_mean=ageless,
        against=as_it_is,
        robust=False,
        weigh=weigh_by_age,
    ),
    "token_mean": Aggregator(
        summary="Average by the steps that went into each update.",
        paper="McMahan et al. 2017",
        knobs={},
        static={},
        apply=stateless(average),
        needs=needs_one,
        is_mean=alone,
        against=as_it_is,
        robust=False,
        weigh=weigh_by_tokens,
    ),
}
