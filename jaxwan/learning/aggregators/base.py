"""What an aggregator is: its facts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob, Static

Knobs = Mapping[str, Any]
Statics = Mapping[str, Any]


def no_memory(static: Statics, dim: int) -> tuple[()]:
    """Return the memory of an aggregator that keeps none."""
    return ()


def weigh_by_presence(
    knobs: Knobs, weights: jax.Array, age: jax.Array, tokens: jax.Array
) -> jax.Array:
    """Return the weights as they are."""
    return weights


class Aggregator(NamedTuple):
    """An aggregator and its facts.

    `init(static, dim) -> memory` and `apply(static, knobs, memory, key, updates [slot, dim],
    weights [slot]) -> (update [dim], memory)` are pure JAX; a slot of weight 0 is absent, and
    nobody present gives zeros. `weigh(knobs, weights, age, tokens)` turns how stale each update is
    and how many steps went into it (both `[slot]`) into the weights that `apply` gets. On the host,
    with plain numbers, knobs and static arguments together: `needs(settings)` is the least number
    of slots it is meant for, and `is_mean(settings, slots)` says whether it equals the unweighted
    mean of that many; `against(attackers, slots)` returns the settings against so many attackers.
    `robust`: two attackers of seven cannot pull it arbitrarily far. `most`: the largest number of
    slots, where there is one. `identity`: by default a lone update comes back as it is.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    apply: Callable[[Statics, Knobs, Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]
    needs: Callable[[Knobs], int]
    is_mean: Callable[[Knobs, int], bool]
    against: Callable[[int, int], dict[str, Any]]
    robust: bool
    init: Callable[[Statics, int], Any] = no_memory
    weigh: Callable[[Knobs, jax.Array, jax.Array, jax.Array], jax.Array] = weigh_by_presence
    most: int | None = None
    identity: bool = True


def leaves_all(settings: Knobs, slots: int) -> int:
    """Return the number of slots as it is."""
    return slots


class PreAggregator(NamedTuple):
    """What is done to the updates before they are aggregated, and its facts.

    `apply(static, knobs, key, updates [slot, dim], weights [slot]) -> (updates, weights)` is pure
    JAX and keeps the shapes. `leaves(settings, slots)` tells on the host, with plain numbers, how
    many of so many present slots are present afterwards. `random`: it draws from its key.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    apply: Callable[
        [Statics, Knobs, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]
    ]
    against: Callable[[int, int], dict[str, Any]]
    leaves: Callable[[Knobs, int], int] = leaves_all
    random: bool = False


def stateless(
    rule: Callable[[Knobs, jax.Array, jax.Array], jax.Array],
) -> Callable[[Statics, Knobs, Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, Any]]:
    """Return the `apply` of a rule `(knobs, updates, weights) -> update` without memory or luck."""

    @functools.wraps(rule)
    def apply(
        static: Statics, knobs: Knobs, memory: Any, key: jax.Array, updates: jax.Array,
        weights: jax.Array,
    ) -> tuple[jax.Array, Any]:  # fmt: skip
        return rule(knobs, updates, weights), memory

    return apply


def whole(knob: Any) -> jax.Array:
    """Return a knob that counts as int32."""
    return jnp.round(jnp.asarray(knob, jnp.float32)).astype(jnp.int32)


def usable(updates: jax.Array, weights: jax.Array) -> jax.Array:
    """Mark the present slots whose update is finite [slot]."""
    return (weights > 0) & jnp.all(jnp.isfinite(updates), axis=1)


def present_count(weights: jax.Array) -> jax.Array:
    """Return how many slots are present, int32."""
    return jnp.sum(weights > 0, dtype=jnp.int32)


TOLERATED = Knob(1, 0, 1000, "attackers tolerated")


def tolerate(attackers: int, slots: int) -> dict[str, float]:
    """Return f = attackers."""
    return {"f": attackers}


def needs_majority(knobs: Knobs) -> int:
    """Return 2f + 1."""
    return 2 * round(knobs["f"]) + 1


def drops_nobody(knobs: Knobs, slots: int) -> bool:
    """Return whether f = 0, or there is a single slot."""
    return round(knobs["f"]) == 0 or slots <= 1


def needs_one(knobs: Knobs) -> int:
    """Return 1: a single slot will do."""
    return 1


def alone(knobs: Knobs, slots: int) -> bool:
    """Return whether there is a single slot."""
    return slots <= 1


def needs_three(knobs: Knobs) -> int:
    """Return 3, which is 2f + 1 for one attacker."""
    return 3


def mean_up_to_two(knobs: Knobs, slots: int) -> bool:
    """Return whether a median of this many is their mean."""
    return slots <= 2


def as_it_is(attackers: int, slots: int) -> dict[str, Any]:
    """Return no knobs: there is nothing to set."""
    return {}
