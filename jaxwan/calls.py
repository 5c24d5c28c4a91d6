"""Members with what must be static about them, as hashable functions: each compiles once.

They are compared by value, so a second call of the same member meets the compiled one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS, Form, Layout
from jaxwan.learning.feedback import compress_with_memory, init_memory

Fixed = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Compression:
    """A compressor on tensors of these shapes, as a hashable function."""

    name: str
    layout: Layout
    static: Fixed
    feedback: str

    @property
    def form(self) -> Form:
        """Return what the compressor knows of its updates."""
        return Form(self.layout, dict(self.static))

    def start(self) -> Any:
        """Return the memory before the first call."""
        return init_memory(COMPRESSORS[self.name], self.feedback, self.form)

    def __call__(self, decay: Any, knobs: Any, memory: Any, key: Any, update: Any) -> Any:
        """Return what arrives [dim], and the memory."""
        return compress_with_memory(
            COMPRESSORS[self.name], self.feedback, self.form, decay, knobs, memory, key, update
        )


@dataclass(frozen=True)
class Preparation:
    """A pre-aggregator as a hashable function; without a name it leaves all as it is."""

    name: str = ""
    static: Fixed = ()

    def __call__(self, knobs: Any, key: Any, updates: Any, weights: Any) -> Any:
        """Return updates [worker, dim] and weights [worker]; a row of weight 0 is zeros."""
        if not self.name:
            return updates, weights
        member = PRE_AGGREGATORS[self.name]
        rows, kept = member.apply(dict(self.static), knobs, key, updates, weights)
        return jnp.where(kept[:, None] > 0, rows, 0), kept


@dataclass(frozen=True)
class Aggregation:
    """An aggregator behind a pre-aggregator, as a hashable function."""

    name: str
    dim: int
    static: Fixed
    before: Preparation

    def start(self) -> Any:
        """Return the memory before the first call."""
        return AGGREGATORS[self.name].init(dict(self.static), self.dim)

    def __call__(
        self, knobs: Any, before: Any, memory: Any, key: Any, updates: Any, weights: Any,
        age: Any, tokens: Any,
    ) -> Any:  # fmt: skip
        """Return the update [dim], and the memory."""
        rule = AGGREGATORS[self.name]
        weights = rule.weigh(knobs, weights, age, tokens)
        updates, weights = self.before(before, jax.random.fold_in(key, 1), updates, weights)
        return rule.apply(dict(self.static), knobs, memory, key, updates, weights)


@dataclass(frozen=True)
class Corruption:
    """An attack, and the aggregator it searches against, as a hashable function."""

    name: str
    static: Fixed
    against: Aggregation

    def __call__(
        self, knobs: Any, against: Any, key: Any, updates: Any, attacker: Any
    ) -> jax.Array:
        """Return the updates [worker, dim] with the attackers' rows replaced."""
        rule, present = self.against, jnp.ones(updates.shape[0], jnp.float32)

        def aggregate(rows: jax.Array) -> jax.Array:
            luck = jax.random.fold_in(key, 1)
            return rule(against, {}, rule.start(), luck, rows, present, 0 * present, present)[0]

        knobs = knobs | dict(self.static)
        return ATTACKS[self.name].corrupt(knobs, key, updates, attacker, present, aggregate)
