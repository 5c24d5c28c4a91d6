"""Records as rows of int32, so that one gather or one masked write moves a whole record."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar("T")


def pack(record: Any) -> jax.Array:
    """Return all leaves of a record (int32, uint32, float32 or bool) in one int32 `[field]`."""

    def bits(leaf: jax.Array) -> jax.Array:
        flat = jnp.ravel(leaf)
        if flat.dtype == jnp.bool_:
            return flat.astype(jnp.int32)
        return flat if flat.dtype == jnp.int32 else lax.bitcast_convert_type(flat, jnp.int32)

    return jnp.concatenate([bits(leaf) for leaf in jax.tree.leaves(record)])


def unpack(shapes: T, packed: jax.Array) -> T:
    """Return the record that was packed; `shapes` is one of its kind (only shapes are read)."""
    leaves, treedef = jax.tree.flatten(shapes)
    parts, start = [], 0
    for leaf in leaves:
        size = math.prod(leaf.shape)
        part = lax.slice_in_dim(packed, start, start + size).reshape(leaf.shape)
        start += size
        if leaf.dtype == jnp.bool_:
            part = part != 0
        elif leaf.dtype != jnp.int32:
            part = lax.bitcast_convert_type(part, leaf.dtype)
        parts.append(part)
    return jax.tree.unflatten(treedef, parts)
