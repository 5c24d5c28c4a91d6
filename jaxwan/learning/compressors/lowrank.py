"""Compressors that send matrices as products of thin ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Static
from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire

SMALLEST = 1e-30  # matrices without a larger entry wait: below, float32 has no digits left
DEPENDENT = 1e-5  # a column of which less is left beside the others adds no rank
EXPONENT = 0x7F800000


class Part(NamedTuple):
    """One tensor of the layout, as the matrix [rows, columns] it is sent as."""

    start: int
    rows: int
    columns: int
    rank: int  # 0 where the tensor is sent as it is

    @property
    def end(self) -> int:
        """Return where the next tensor begins."""
        return self.start + self.rows * self.columns

    @property
    def values(self) -> int:
        """Return the numbers that a message holds for this tensor."""
        return self.rank * (self.rows + self.columns) or self.rows * self.columns


def parts_of(form: Form) -> Iterator[Part]:
    """Yield the tensors: [first, rest] of rank r, or whole where factors are no shorter."""
    start = 0
    for shape in form.layout:
        rows = shape[0] if len(shape) > 1 else 1
        columns = math.prod(shape) // max(rows, 1)
        rank = min(form.static["rank"], rows, columns)
        thin = rank * (rows + columns) < rows * columns
        part = Part(start, rows, columns, rank if thin else 0)
        yield part
        start = part.end


def alike(form: Form) -> dict[tuple[int, int, int], list[Part]]:
    """Return the matrices that are sent as factors, by shape and rank."""
    groups: dict[tuple[int, int, int], list[Part]] = {}
    for part in parts_of(form):
        if part.rank:
            groups.setdefault((part.rows, part.columns, part.rank), []).append(part)
    return groups


def no_factors(form: Form) -> tuple[jax.Array, ...]:
    """Return the empty right factors, `[matrix, columns, rank]` for each shape."""
    return tuple(
        jnp.zeros((len(group), columns, rank), jnp.float32)
        for (_, columns, rank), group in alike(form).items()
    )


@lru_cache(maxsize=64)
def drawn(columns: int, rank: int) -> np.ndarray:
    """Return the right factor that a worker without one begins with."""
    return np.random.default_rng(columns).normal(size=(columns, rank)).astype(np.float32)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Multiply two matrices in float32 on every backend."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def level(columns: jax.Array) -> jax.Array:
    """Return the columns [n, rank] with largest magnitude 1, or 0 where there is nothing."""
    peak = jnp.max(jnp.abs(columns), axis=0, keepdims=True)
    return jnp.where(peak > SMALLEST, columns / jnp.where(peak > SMALLEST, peak, 1), 0)


def orthonormal(columns: jax.Array) -> jax.Array:
    """Return an orthonormal basis of the columns [n, rank], by Gram-Schmidt done twice.

    A column that depends on those before it becomes 0.
    """
    columns = level(columns)

    def add(index: jax.Array | int, basis: jax.Array) -> jax.Array:
        own = lax.dynamic_index_in_dim(columns, index, 1)
        whole = jnp.sqrt(jnp.sum(jnp.square(own)))
        for _ in range(2):
            own = own - product(basis, product(basis.T, own))
        left = jnp.sqrt(jnp.sum(jnp.square(own)))
        own = jnp.where(left > DEPENDENT * whole, own / jnp.where(left > 0, left, 1), 0)
        return lax.dynamic_update_slice_in_dim(basis, own, index, 1)

    return lax.fori_loop(0, columns.shape[1], add, jnp.zeros_like(columns))


def factored(matrix: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the low-rank approximation [n, m] and its right factor [m, rank], to begin with next.

    P = M·Q, orthonormalised; Q = Mᵀ·P; P·Qᵀ (Vogels et al. 2019, algorithm 1), of M divided by a
    power of two, so that no square overflows. Where Q has no column yet, a fixed draw stands in.
    """
    peak = jnp.max(jnp.abs(matrix))
    bits = lax.bitcast_convert_type(peak, jnp.int32) & EXPONENT
    scale = jnp.where(peak > SMALLEST, lax.bitcast_convert_type(bits, jnp.float32), 0)
    scaled = jnp.where(scale > 0, matrix / jnp.where(scale > 0, scale, 1), 0)
    known = level(right)
    missing = jnp.all(known == 0, axis=0, keepdims=True)
    left = orthonormal(product(scaled, jnp.where(missing, drawn(*right.shape), known)))
    right = product(scaled.T, left)
    return product(left, right.T) * scale, right


def send_factors(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send each matrix as a rank-r approximation, by one power step from the last one's factor.

    Vogels et al. 2019, PowerSGD, algorithms 1 and 2. There all workers' P and Q are averaged in
    between, which makes one power step on the mean of their matrices; here each worker steps on its
    own and the server merges the approximations, as any aggregator needs them. Vectors, and
    matrices that factors would not make shorter, are sent as they are.
    """
    pieces: dict[Part, jax.Array] = {}
    factors = []
    for right, group in zip(memory, alike(form).values(), strict=True):
        matrices = [
            update[part.start : part.end].reshape(part.rows, part.columns) for part in group
        ]
        sent, after = jax.vmap(factored)(jnp.stack(matrices), right)
        factors.append(after)
        pieces |= {part: own.reshape(-1) for part, own in zip(group, sent, strict=True)}
    whole = [
        pieces[part] if part.rank else update[part.start : part.end] for part in parts_of(form)
    ]
    return jnp.concatenate(whole), tuple(factors)


def factor_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 4·r·(n + m) bytes a matrix and 4 an entry of everything else."""
    return Wire(sum(part.values for part in parts_of(form)), 32.0, 0)


def pack_factors(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the two factors of every matrix, found again by a singular value decomposition."""
    numbers: list[np.ndarray] = []
    for part in parts_of(form):
        own = sent[part.start : part.end]
        if not part.rank:
            numbers.append(own)
            continue
        left, sizes, right = np.linalg.svd(
            own.reshape(part.rows, part.columns).astype(np.float64), full_matrices=False
        )
        numbers.append(left[:, : part.rank].reshape(-1))
        numbers.append((sizes[: part.rank, None] * right[: part.rank]).reshape(-1))
    return np.concatenate(numbers).astype("<f4").tobytes()


def unpack_factors(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode and multiply the factors of every matrix."""
    numbers, dense, at = np.frombuffer(blob, "<f4"), [], 0
    for part in parts_of(form):
        own, at = numbers[at : at + part.values].astype(np.float64), at + part.values
        if part.rank:
            middle = part.rows * part.rank
            own = own[:middle].reshape(part.rows, -1) @ own[middle:].reshape(part.rank, -1)
        dense.append(own.reshape(-1).astype(np.float32))
    return np.concatenate(dense)


LOWRANK: dict[str, Compressor] = {
    "powersgd": Compressor(
        summary="Send every matrix as the product of two thin ones.",
        paper="Vogels et al. 2019, PowerSGD, algorithm 1",
        knobs={},
        static={"rank": Static(2, "columns of the two factors", low=1, high=256)},
        init=no_factors,
        apply=send_factors,
        wire=factor_wire,
        pack=pack_factors,
        unpack=unpack_factors,
        unbiased=False,
        contractive=True,
        feedback=True,
        exact=False,
    ),
}
