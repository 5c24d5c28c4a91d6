"""Flat parameter vectors and the tensors inside them."""

from __future__ import annotations

import math

import jax

from jaxwan.learning.problems.problem import Layout


def size(layout: Layout) -> int:
    """Return the number of entries of all tensors."""
    return sum(math.prod(shape) for shape in layout)


def split(params: jax.Array, layout: Layout) -> list[jax.Array]:
    """Cut a flat vector `[dim]` into its tensors."""
    tensors, start = [], 0
    for shape in layout:
        stop = start + math.prod(shape)
        tensors.append(params[start:stop].reshape(shape))
        start = stop
    return tensors
