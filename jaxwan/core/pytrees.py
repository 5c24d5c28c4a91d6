"""One decorator for every state, plan and knob record: the annotation decides what is traced."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar, dataclass_transform

import jax

T = TypeVar("T")
_REGISTERED: set[type] = set()


def _traced(annotation: Any) -> bool:
    if annotation is jax.Array or annotation in _REGISTERED:
        return True
    return any(_traced(part) for part in typing.get_args(annotation))


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that JAX sees as a pytree.

    A field is traced iff its annotation mentions `jax.Array` or another pytree record (so
    `dict[str, jax.Array]` is traced); every other field is static and must be hashable.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    data = [name for name in names if _traced(hints[name])]
    meta = [name for name in names if name not in data]
    jax.tree_util.register_dataclass(cls, data_fields=data, meta_fields=meta)
    _REGISTERED.add(cls)
    return cls


def replace(record: T, **changes: Any) -> T:
    """Return a copy of a pytree record with some fields changed."""
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]


def row(tree: T, index: jax.Array) -> T:
    """Pick one row of every array in a tree; the index must be in bounds."""

    def one(column: jax.Array) -> jax.Array:
        return column.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)

    return jax.tree.map(one, tree)
