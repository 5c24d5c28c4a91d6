"""Compressors that round every entry to a float of a few bits.

A scale is a power of two, 8 bits on the wire (E8M0 of OCP MX), the least at which nothing exceeds
the format's largest number. So scaling is exact, nothing saturates, and small updates do not
underflow. The rounding is arithmetic: no device needs to know the formats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core import keys
from jaxwan.core.families import Static
from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire, no_memory
from jaxwan.learning.compressors.codes import (
    chunk_count,
    chunk_of,
    chunk_size,
    from_chunks,
    host_chunks,
    pack_codes,
    to_chunks,
    unpack_codes,
)

FRACTION = 23  # bits of a float32
BIAS = 127
LEAST_NORMAL = -126  # exponent
MAGNITUDE = 0x7FFFFFFF
LARGEST_POWER = 254 << FRACTION  # 2**127 as bits


class Grid(NamedTuple):
    """A small float: sign, exponent and fraction; gradual underflow, no infinity."""

    exponent_bits: int
    fraction_bits: int
    least: int  # exponent of the smallest normal number
    top: float  # largest number

    @property
    def bits(self) -> int:
        """Return the bits of a code."""
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def values(self) -> np.ndarray:
        """Return the nonnegative numbers by code; codes above `top` are never sent."""
        code = np.arange(1 << (self.bits - 1))
        field, rest = code >> self.fraction_bits, code & ((1 << self.fraction_bits) - 1)
        whole = np.where(field > 0, rest + (1 << self.fraction_bits), rest)
        power = np.maximum(field, 1) - 1 + self.least - self.fraction_bits
        return np.ldexp(whole.astype(np.float32), power).astype(np.float32)


E4M3 = Grid(4, 3, -6, 448.0)
E5M2 = Grid(5, 2, -14, 57344.0)
FP4 = {"e2m1": Grid(2, 1, 0, 6.0), "e3m0": Grid(3, 0, -2, 16.0)}


def _bits(x: jax.Array) -> jax.Array:
    return lax.bitcast_convert_type(x, jnp.int32)


def _power(exponent: jax.Array) -> jax.Array:
    """Return 2**exponent exactly, for int32 exponents from −126 to 127."""
    return lax.bitcast_convert_type((exponent + BIAS) << FRACTION, jnp.float32)


def round_rows(grid: Grid, rows: jax.Array) -> jax.Array:
    """Round rows [chunk, entry] to the grid, ties to even, each under its power of two."""
    highest = np.float32((2 - 2.0**-grid.fraction_bits) * 2.0**127)
    rows = jnp.clip(rows, -highest, highest)
    peak = _bits(jnp.max(jnp.abs(rows), axis=1, keepdims=True))
    top = int(np.float32(grid.top).view(np.int32))
    lowest = LEAST_NORMAL - (grid.least - grid.fraction_bits)  # keeps what is sent normal
    exponent = jnp.maximum((peak - top + (1 << FRACTION) - 1) >> FRACTION, lowest)
    scaled = rows * _power(-exponent)
    binade = (_bits(jnp.abs(scaled)) >> FRACTION) - BIAS
    step = jnp.maximum(binade, grid.least) - grid.fraction_bits
    return jnp.round(scaled * _power(-step)) * _power(step) * _power(exponent)


def pack_rows(grid: Grid, rows: np.ndarray, dim: int) -> bytes:
    """Encode an exponent byte a row [chunk, entry], then the codes end to end."""
    top = int(np.float32(grid.top).view(np.int32))
    lowest = LEAST_NORMAL - (grid.least - grid.fraction_bits)
    peak = np.abs(rows).max(axis=1).view(np.int32).astype(np.int64)
    exponent = np.maximum((peak - top + (1 << FRACTION) - 1) >> FRACTION, lowest)
    scaled = np.ldexp(np.abs(rows, dtype=np.float64), -exponent[:, None]).astype(np.float32)
    codes = np.searchsorted(grid.values, scaled) + (np.signbit(rows) << (grid.bits - 1))
    head = (exponent + BIAS).astype(np.uint8).tobytes()
    return head + pack_codes(codes.reshape(-1)[:dim], grid.bits)


def unpack_rows(grid: Grid, blob: bytes, chunks: int, chunk: int, dim: int) -> np.ndarray:
    """Decode the exponent bytes and the codes to [dim]."""
    exponent = np.frombuffer(blob, np.uint8, chunks).astype(np.int64) - BIAS
    codes = unpack_codes(blob, dim, grid.bits, chunks)
    sign = 1 << (grid.bits - 1)
    value = np.where(codes & sign, -1, 1) * grid.values[codes & (sign - 1)].astype(np.float64)
    return np.ldexp(value, np.repeat(exponent, chunk)[:dim]).astype(np.float32)


def round_to_e4m3(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to 4 bits of exponent and 3 of fraction, up to ±448 times a power of two.

    Micikevicius et al. 2022, section 3; one scale a message, whatever tensors it holds.
    """
    return round_rows(E4M3, update[None])[0], memory


def round_to_e5m2(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to 5 bits of exponent and 2 of fraction, up to ±57344 times a power of two.

    Micikevicius et al. 2022, section 3.
    """
    return round_rows(E5M2, update[None])[0], memory


def byte_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 8 bits an entry and one exponent byte."""
    return Wire(form.dim, 8.0, 8)


def pack_e4m3(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the exponent of the scale, then one E4M3 byte an entry."""
    return pack_rows(E4M3, sent[None], form.dim)


def unpack_e4m3(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the exponent and the E4M3 bytes."""
    return unpack_rows(E4M3, blob, 1, form.dim, form.dim)


def pack_e5m2(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the exponent of the scale, then one E5M2 byte an entry."""
    return pack_rows(E5M2, sent[None], form.dim)


def unpack_e5m2(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the exponent and the E5M2 bytes."""
    return unpack_rows(E5M2, blob, 1, form.dim, form.dim)


def round_to_fp4(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round each chunk to 15 numbers times a power of two.

    E2M1: ±0, 0.5, 1, 1.5, 2, 3, 4, 6 (OCP MX; Rouhani et al. 2023). E3M0: ±0 and the powers from
    1/4 to 16 (the outer gradients of Douillard et al. 2025).
    """
    rows = round_rows(FP4[form.static["format"]], to_chunks(form, update))
    return from_chunks(form, rows), memory


def fp4_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 4 bits an entry and one exponent byte a chunk."""
    return Wire(form.dim, 4.0, 8 * chunk_count(form))


def pack_fp4(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the exponents of the scales, then two entries a byte."""
    return pack_rows(FP4[form.static["format"]], host_chunks(form, sent), form.dim)


def unpack_fp4(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the exponents and the half bytes."""
    grid = FP4[form.static["format"]]
    return unpack_rows(grid, blob, chunk_count(form), chunk_size(form), form.dim)


def round_to_power(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round each magnitude at random to the power of two below or above, unbiased.

    2^e(1 + f) becomes 2^(e+1) with probability f: a random fraction is added and the carry kept.
    E|C(x) − x|² ≤ |x|²/8 (Horváth et al. 2019). Saturates at 2**127.
    """
    bits = _bits(update)
    luck = (keys.words(jax.random.bits(key, (2,)), form.dim) >> 9).astype(jnp.int32)
    kept = jnp.minimum((bits & MAGNITUDE), LARGEST_POWER) + luck
    power = jnp.minimum((kept >> FRACTION) << FRACTION, LARGEST_POWER)
    return lax.bitcast_convert_type((bits & ~MAGNITUDE) | power, jnp.float32), memory


def power_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 9 bits an entry: a sign and an exponent."""
    return Wire(form.dim, 9.0, 0)


def pack_powers(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the upper 9 bits of each float32, end to end."""
    return pack_codes(sent.view(np.uint32) >> FRACTION, 9)


def unpack_powers(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the upper 9 bits of each float32."""
    return (unpack_codes(blob, form.dim, 9).astype(np.uint32) << FRACTION).view(np.float32)


FLOATS: dict[str, Compressor] = {
    "fp8_e4m3": Compressor(
        summary="Send every entry as an 8-bit float of 4 significant bits, under one power of two.",
        paper="Micikevicius et al. 2022",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_e4m3,
        wire=byte_wire,
        pack=pack_e4m3,
        unpack=unpack_e4m3,
        unbiased=False,
        contractive=True,
        keeps_zero=True,
    ),
    "fp8_e5m2": Compressor(
        summary="Send every entry as an 8-bit float of 3 significant bits, under one power of two.",
        paper="Micikevicius et al. 2022",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_e5m2,
        wire=byte_wire,
        pack=pack_e5m2,
        unpack=unpack_e5m2,
        unbiased=False,
        contractive=True,
        keeps_zero=True,
    ),
    "fp4": Compressor(
        summary="Send every entry as a 4-bit float, under one power of two a chunk.",
        paper="Rouhani et al. 2023; Douillard et al. 2025",
        knobs={},
        static={
            "chunk": chunk_of(32),
            "format": Static("e2m1", "exponent and fraction bits", choices=("e2m1", "e3m0")),
        },
        init=no_memory,
        apply=round_to_fp4,
        wire=fp4_wire,
        pack=pack_fp4,
        unpack=unpack_fp4,
        unbiased=False,
        contractive=True,
    ),
    "natural": Compressor(
        summary="Send every entry rounded at random to a power of two.",
        paper="Horváth et al. 2019",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_power,
        wire=power_wire,
        pack=pack_powers,
        unpack=unpack_powers,
        unbiased=True,
        contractive=True,
        keeps_zero=True,
    ),
}
