"""What an attack is: its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import masked_mean

Knobs = Mapping[str, Any]
Aggregate = Callable[[jax.Array], jax.Array]


class Attack(NamedTuple):
    """An attack and its facts.

    `corrupt(knobs, key, updates [slot, dim], attacker [slot], weights [slot], aggregate) ->
    updates` changes the rows where the bool mask `attacker` is set and keeps the others bit by bit.
    `knobs` holds the static arguments too. A slot of weight 0 is absent. `aggregate(updates) ->
    [dim]` is what the server will do with them, for attacks that search against it (`adaptive`);
    None is the mean. `random`: the attack draws from its key. An omniscient attack looks at the
    present honest updates; where there are none, at the attackers' own honest ones.
    `poison_batch(label, classes) -> label` is what attackers do to their data, None where they
    leave it alone. `finite`: finite updates stay finite.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    corrupt: Callable[
        [Knobs, jax.Array, jax.Array, jax.Array, jax.Array, Aggregate | None], jax.Array
    ]
    random: bool = False
    adaptive: bool = False
    finite: bool = True
    poison_batch: Callable[[jax.Array, int], jax.Array] | None = None


def observed(attacker: jax.Array, weights: jax.Array) -> jax.Array:
    """Weigh the slots [slot] an omniscient attacker looks at by 1, the others by 0."""
    present = weights > 0
    honest = present & ~attacker
    return jnp.where(jnp.any(honest), honest, present).astype(jnp.float32)


def moments(updates: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the mean and the standard deviation [dim] of the slots of weight 1."""
    mean = masked_mean(updates, seen)
    away = jnp.where(seen[:, None] > 0, jnp.abs(updates - mean[None]), 0)
    peak = jnp.max(away, axis=0)
    share = away / jnp.where(peak > 0, peak, 1)[None]
    return mean, peak * jnp.sqrt(masked_mean(jnp.square(share), seen))


def replace(updates: jax.Array, attacker: jax.Array, sent: jax.Array) -> jax.Array:
    """Let all attackers send the same [dim]."""
    return jnp.where(attacker[:, None], sent[None], updates)
