"""Flat parameter vectors and the tensors inside them."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.learning.problems.problem import Layout


class Tensor(NamedTuple):
    """One tensor of a model: its shape, and the mean and deviation it starts with."""

    shape: tuple[int, ...]
    mean: float = 0.0
    deviation: float = 0.0


def he(*shape: int) -> Tensor:
    """Describe weights `[in..., out]` before a relu (He et al. 2015)."""
    return Tensor(shape, 0.0, (2.0 / math.prod(shape[:-1])) ** 0.5)


def readout(*shape: int) -> Tensor:
    """Describe a last layer `[in, out]` whose first outputs are small (Yang and Hu 2021)."""
    return Tensor(shape, 0.0, 1.0 / math.prod(shape[:-1]))


def zeros(*shape: int) -> Tensor:
    """Describe a tensor that starts at zero."""
    return Tensor(shape)


def ones(*shape: int) -> Tensor:
    """Describe a tensor that starts at one."""
    return Tensor(shape, 1.0)


def shapes(tensors: list[Tensor]) -> Layout:
    """Return the layout of a model."""
    return tuple(tensor.shape for tensor in tensors)


def size(layout: Layout) -> int:
    """Return the number of entries of all tensors."""
    return sum(math.prod(shape) for shape in layout)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def split(params: jax.Array, layout: Layout) -> list[jax.Array]:
    """Cut a flat vector `[dim]` into its tensors.

    Its derivative puts the tensors' own together again. JAX would pad each of them to `[dim]` and
    add them up: as many vectors of that size as there are tensors.
    """
    tensors, start = [], 0
    for shape in layout:
        stop = start + math.prod(shape)
        tensors.append(params[start:stop].reshape(shape))
        start = stop
    return tensors


def _split_forward(params: jax.Array, layout: Layout) -> tuple[list[jax.Array], None]:
    return split(params, layout), None


def _split_backward(layout: Layout, _: None, pieces: list[jax.Array]) -> tuple[jax.Array]:
    return (jnp.concatenate([piece.reshape(-1) for piece in pieces]),)


split.defvjp(_split_forward, _split_backward)


@jax.custom_vjp
def times(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Multiply samples `[sample, in]` by weights `[in, out]`.

    Its derivative by the weights comes out as they lie in memory. JAX makes the transposed matrix
    and turns it, which for a single run takes XLA on a CPU as long as the product.
    """
    return x @ weight


def _times_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, Any]:
    return x @ weight, (x, weight)


def _times_backward(kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = kept
    by_x = jax.lax.dot_general(slope, weight, (((1,), (1,)), ((), ())))
    return by_x, jax.lax.dot_general(x, slope, (((0,), (0,)), ((), ())))


times.defvjp(_times_forward, _times_backward)


def draw(tensors: list[Tensor], key: jax.Array) -> jax.Array:
    """Draw first parameters `[dim]`, normal tensor by tensor, below `key [2]`."""
    sizes = [math.prod(tensor.shape) for tensor in tensors]
    entries = list(zip(tensors, sizes, strict=True))
    mean = jnp.concatenate([jnp.full(count, tensor.mean) for tensor, count in entries])
    deviation = jnp.concatenate([jnp.full(count, tensor.deviation) for tensor, count in entries])
    return mean + deviation * keys.normals(key, sum(sizes))
