"""What an aggregator is: its facts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxwan.core.families import Knob, Static

Knobs = Mapping[str, Any]


class Aggregator(NamedTuple):
    """An aggregator and its facts.

    `apply(knobs, updates [slot, dim], weights [slot]) -> [dim]` is pure JAX; a slot of weight 0 is
    absent, and nobody present gives zeros. On the host, with plain numbers: `needs(knobs)` is the
    least number of slots it is meant for, and `is_mean(knobs, slots)` says whether it equals the
    unweighted mean of that many; `against(attackers, slots)` returns the knobs to set against so
    many attackers.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    apply: Callable[[Knobs, jax.Array, jax.Array], jax.Array]
    needs: Callable[[Knobs], int]
    is_mean: Callable[[Knobs, int], bool]
    against: Callable[[int, int], dict[str, float]]
    robust: bool


def needs_three(knobs: Knobs) -> int:
    """Return 3, which is 2f + 1 for one attacker."""
    return 3


def mean_up_to_two(knobs: Knobs, slots: int) -> bool:
    """Return whether a median of this many is their mean."""
    return slots <= 2


def as_it_is(attackers: int, slots: int) -> dict[str, float]:
    """Return no knobs: there is nothing to set."""
    return {}
