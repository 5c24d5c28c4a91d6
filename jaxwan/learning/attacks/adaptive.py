"""Attacks that search for the scale that does most harm to the aggregator in use."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob
from jaxwan.core.numerics import masked_mean, row_norms
from jaxwan.learning.attacks.base import Aggregate, Attack, Knobs, moments, observed, replace
from jaxwan.learning.attacks.omniscient import little_z

GRID = np.exp2(-np.arange(20) / 2).astype(np.float32)  # of the largest scale
REFINED = np.exp2([0.5, -0.5, 0.25, -0.25, 0.125, -0.125, 0.0625, -0.0625]).astype(np.float32)


def most_harmful(
    send: Callable[[jax.Array], jax.Array], mean: jax.Array, start: jax.Array, most: jax.Array,
    updates: jax.Array, attacker: jax.Array, weights: jax.Array, aggregate: Aggregate | None,
) -> jax.Array:  # fmt: skip
    """Return the scale for which |aggregate − mean| is largest.

    `send(scale) -> [dim]` is what the attackers send. Tried are the start, `most`/√2^k for k = 0
    to 19, then eight steps of shrinking factors about the best so far; each is one aggregation.
    Against a rule that selects, harm jumps with the scale, and the best one may be missed.
    """

    def harm(scale: jax.Array) -> jax.Array:
        sent = replace(updates, attacker, send(scale))
        made = masked_mean(sent, weights) if aggregate is None else aggregate(sent)
        found = row_norms((made - mean)[None])[0]
        return jnp.where(jnp.isnan(found), -1.0, found)

    def attempt(turn: jax.Array, best: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        scale, done = best
        refined = jnp.minimum(scale * factors[turn], most)
        tried = jnp.where(turn < GRID.size, most * factors[turn], refined)
        here = harm(tried)
        return jnp.where(here > done, tried, scale), jnp.maximum(here, done)

    factors = jnp.asarray(np.concatenate([GRID, REFINED]))
    first = jnp.minimum(start, most)
    return lax.fori_loop(0, factors.size, attempt, (first, harm(first)))[0]


def little_is_most(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send mean − z·std of the honest with the z of most harm (ALIE; Allouah et al. 2023).

    The paper's own z_max (`little_z`) is among those tried, so this does no less harm than ALIE
    wherever z_max is allowed.
    """
    seen = observed(attacker, weights)
    mean, spread = moments(updates, seen)

    def send(z: jax.Array) -> jax.Array:
        return mean - z * spread

    start, most = little_z(attacker, weights), jnp.asarray(knobs["z"], jnp.float32)
    z = most_harmful(send, mean, start, most, updates, attacker, weights, aggregate)
    return replace(updates, attacker, send(z))


def inner_product_at_most(
    knobs: Knobs, key: jax.Array, updates: jax.Array, attacker: jax.Array, weights: jax.Array,
    aggregate: Aggregate | None = None,
) -> jax.Array:  # fmt: skip
    """Send −tau times the mean of the honest with the tau of most harm (IPM; Allouah et al. 2023).

    The search starts from the half that the attack without a search uses.
    """
    mean = masked_mean(updates, observed(attacker, weights))

    def send(tau: jax.Array) -> jax.Array:
        return -tau * mean

    start, most = jnp.float32(0.5), jnp.asarray(knobs["tau"], jnp.float32)
    tau = most_harmful(send, mean, start, most, updates, attacker, weights, aggregate)
    return replace(updates, attacker, send(tau))


ADAPTIVE: dict[str, Attack] = {
    "alie_optimal": Attack(
        summary="ALIE with as many standard deviations as harm the aggregator most.",
        paper="Allouah et al. 2023",
        knobs={"z": Knob(100.0, 0.0, 1e3, "most standard deviations tried")},
        static={},
        corrupt=little_is_most,
        adaptive=True,
    ),
    "ipm_optimal": Attack(
        summary="IPM with the size that harms the aggregator most.",
        paper="Allouah et al. 2023",
        knobs={"tau": Knob(100.0, 0.0, 1e6, "largest size tried")},
        static={},
        corrupt=inner_product_at_most,
        adaptive=True,
    ),
}
