"""Keys are addresses: seed -> purpose -> worker -> that worker's own counter -> draw.

Nothing is drawn by position in a batch or by event number, so two configurations with one seed see
the same failures, stragglers and data, and adding a worker changes nobody else's luck.

A key is a uint32 pair `[..., 2]`; an address below it is one Threefry-2x32 block (Salmon et al.
2011, "Parallel random numbers: as easy as 1, 2, 3"), written here as plain array operations so that
XLA fuses it into the step. `jax.random` may be used below a key through `typed`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
BULK_ROUNDS = 13  # of Threefry, where every gradient entry takes a word
_ROOT_HALF = 0x3F3504F3  # the bits of sqrt(1/2)
# Chebyshev fits: log(1 + x)/x on (sqrt(1/2) - 1, sqrt(2) - 1), sin(pi/2 x)/x and cos(pi/2 x) by
# x**2 on (0, 1); the first two within 1e-8 of what they stand for, the last within 5e-8.
# fmt: off
_LOG = (
    0.999999974, -0.499999871, 0.333341841, -0.250021492, 0.199569452,
    -0.165607922, 0.14949567, -0.143767358, 0.0874169547,
)
_SINE = (
    1.57079632, -0.64596376, 0.0796899226, -0.00467415067, 0.000151675118,
)
_COSINE = (
    0.999999953, -1.23369821, 0.25365071, -0.0208105714, 0.000858162543,
)
# fmt: on


def threefry(
    key: jax.Array, high: jax.Array, low: jax.Array, rounds: int = 20
) -> tuple[jax.Array, jax.Array]:
    """Return the two uint32 words of Threefry-2x32 for counter (high, low) under `key [2]`.

    `high` and `low` broadcast against each other. With 13 rounds it still passes every test of
    BigCrush (Salmon et al. 2011, table 2); keys and single draws take the cautious 20.
    """
    k0, k1 = key[..., 0], key[..., 1]
    schedule = (k0, k1, k0 ^ k1 ^ jnp.uint32(_PARITY))
    x0 = jnp.asarray(high).astype(jnp.uint32) + k0
    x1 = jnp.asarray(low).astype(jnp.uint32) + k1
    for number in range(rounds):
        group, rotation = number // 4, _ROTATIONS[number // 4 % 2][number % 4]
        x0 = x0 + x1
        x1 = ((x1 << rotation) | (x1 >> (32 - rotation))) ^ x0
        if number % 4 == 3:
            x0 = x0 + schedule[(group + 1) % 3]
            x1 = x1 + schedule[(group + 2) % 3] + jnp.uint32(group + 1)
    return x0, x1


def run_key(seed: jax.Array | int) -> jax.Array:
    """Return the root key `[2]` of a run."""
    return jnp.stack([jnp.zeros((), jnp.uint32), jnp.asarray(seed).astype(jnp.uint32)])


def stream(key: jax.Array, purpose: str) -> jax.Array:
    """Return the key `[2]` of one purpose ("compute", "outage.transient", ...)."""
    return address(key, np.uint32(zlib.crc32(purpose.encode())))


def address(key: jax.Array, counter: ArrayLike, draw: ArrayLike = 0) -> jax.Array:
    """Return the key `[..., 2]` at a counter below `key [..., 2]`."""
    high, low = (jnp.asarray(word, jnp.uint32) for word in (counter, draw))
    return jnp.stack(threefry(key, high, low), axis=-1)


def worker_keys(key: jax.Array, purpose: str, workers: int) -> jax.Array:
    """Return one key per worker `[worker, 2]` for a purpose."""
    return fleet_keys(key, (purpose,), workers)[0]


def fleet_keys(key: jax.Array, purposes: Sequence[str], workers: int) -> jax.Array:
    """Return one key per purpose and worker `[purpose, worker, 2]`, in two blocks of Threefry.

    Stacking the keys of several purposes instead takes XLA minutes from 16 workers on.
    """
    codes = np.array([zlib.crc32(purpose.encode()) for purpose in purposes], np.uint32)
    base = address(key, codes)[:, None]
    return address(base, np.arange(workers, dtype=np.uint32)[None])


def typed(key: jax.Array) -> jax.Array:
    """Return `key [2]` as a typed key for `jax.random`."""
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def words(key: jax.Array, count: int) -> jax.Array:
    """Return `count` random uint32 words below `key [2]`."""
    half = (count + 1) // 2
    pair = threefry(key, jnp.arange(half, dtype=jnp.uint32), jnp.uint32(0))
    return jnp.concatenate(pair)[:count]


def to_uniform(word: jax.Array) -> jax.Array:
    """Map uint32 words to float32 strictly inside (0, 1), in steps of 2**-23."""
    return ((word >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-23)


def to_normal(word: jax.Array) -> jax.Array:
    """Map uint32 words to standard normals by the inverse distribution function."""
    return jnp.float32(2.0**0.5) * jax.lax.erf_inv(2.0 * to_uniform(word) - 1.0)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Evaluate a polynomial, lowest power first."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + jnp.float32(coefficient)
    return total


def _log(x: jax.Array) -> jax.Array:
    """Return the logarithm of normal positive float32, within 1e-7 and never above 0 up to 1."""
    bits = lax.bitcast_convert_type(x, jnp.int32) - _ROOT_HALF
    rest = lax.bitcast_convert_type((bits & 0x7FFFFF) + _ROOT_HALF, jnp.float32) - 1.0
    power = (bits >> 23).astype(jnp.float32)
    return power * jnp.float32(np.log(2.0)) + rest * _polynomial(_LOG, rest)


def to_normal_pair(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map two uint32 words to two independent standard normals up to 6.6 (Box and Muller 1958).

    Short polynomials instead of library functions: four times as fast on a CPU as the inverse
    distribution function. Their errors, below 1e-7, are those of float32 itself.
    """
    uniform = ((first >> 1).astype(jnp.int32).astype(jnp.float32) + 0.5) * jnp.float32(2.0**-31)
    radius = jnp.sqrt(-2.0 * _log(uniform))
    turn = second.astype(jnp.int32).astype(jnp.float32) * jnp.float32(2.0**-31)  # of half a circle
    height = radius * turn * _polynomial(_SINE, turn * turn)
    width = lax.bitcast_convert_type(radius * _polynomial(_COSINE, turn * turn), jnp.uint32)
    return lax.bitcast_convert_type(width ^ (first << 31), jnp.float32), height


def normals(key: jax.Array, count: int) -> jax.Array:
    """Return `count` standard normals below `key [2]`; another count gives other numbers."""
    half = (count + 1) // 2
    pair = threefry(key, jnp.arange(half, dtype=jnp.uint32), jnp.uint32(0), BULK_ROUNDS)
    return jnp.concatenate(to_normal_pair(*pair))[:count]
