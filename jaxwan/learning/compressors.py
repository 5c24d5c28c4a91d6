"""Compressors: what a worker sends instead of its update, and how many bits that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import keep_largest_mask

Layout = tuple[tuple[int, ...], ...]
Knobs = Mapping[str, Any]
FP16_MAX = 65504.0
SCALE_BITS = ~0xFF


class Wire(NamedTuple):
    """The size of one message: `values` of `bits_per_value` bits and `side_bits` beside them."""

    values: int
    bits_per_value: float
    side_bits: int

    @property
    def bits(self) -> int:
        """Return the size of the message in bits."""
        return math.ceil(self.values * self.bits_per_value) + self.side_bits

    @property
    def bytes(self) -> int:
        """Return the size of the message in whole bytes."""
        return -(-self.bits // 8)


class Compressor(NamedTuple):
    """A compressor and its facts.

    `apply(knobs, memory, key, update [dim]) -> (sent [dim], memory)` is pure JAX. `wire(knobs,
    layout)`, `pack(knobs, sent) -> bytes` and `unpack(knobs, blob, dim)` run on the host with plain
    numbers; `pack` is as long as `wire` claims. `unbiased`: E sent = update. `contractive`:
    |sent − update| ≤ c·|update| with c < 1. `sums`: packed messages of several workers can be
    added without decoding, so a ring can reduce them. `feedback`: error feedback is on by default.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    init: Callable[[int], Any]
    apply: Callable[[Knobs, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    wire: Callable[[Knobs, Layout], Wire]
    pack: Callable[[Knobs, np.ndarray], bytes]
    unpack: Callable[[Knobs, bytes, int], np.ndarray]
    unbiased: bool
    contractive: bool
    sums: bool
    feedback: bool


def dim_of(layout: Layout) -> int:
    """Return the number of entries of all tensors of a layout."""
    return sum(math.prod(shape) for shape in layout)


def no_memory(dim: int) -> tuple[()]:
    """Return the memory of a compressor that keeps none."""
    return ()


def send_all(knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array) -> tuple[jax.Array, Any]:
    """Send the update as it is."""
    return update, memory


def float32_wire(knobs: Knobs, layout: Layout) -> Wire:
    """Charge 32 bits an entry."""
    return Wire(dim_of(layout), 32.0, 0)


def pack_float32(knobs: Knobs, sent: np.ndarray) -> bytes:
    """Encode little-endian float32."""
    return sent.astype("<f4").tobytes()


def unpack_float32(knobs: Knobs, blob: bytes, dim: int) -> np.ndarray:
    """Decode little-endian float32."""
    return np.frombuffer(blob, "<f4", dim).astype(np.float32)


def round_to_half(
    knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to float16, saturating at ±65504 (Micikevicius et al. 2018)."""
    half = jnp.clip(update, -FP16_MAX, FP16_MAX).astype(jnp.float16)
    return half.astype(update.dtype), memory


def float16_wire(knobs: Knobs, layout: Layout) -> Wire:
    """Charge 16 bits an entry."""
    return Wire(dim_of(layout), 16.0, 0)


def pack_float16(knobs: Knobs, sent: np.ndarray) -> bytes:
    """Encode little-endian float16."""
    return sent.astype("<f2").tobytes()


def unpack_float16(knobs: Knobs, blob: bytes, dim: int) -> np.ndarray:
    """Decode little-endian float16."""
    return np.frombuffer(blob, "<f2", dim).astype(np.float32)


def round_to_int8(
    knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to the nearest of 255 levels spaced by the largest magnitude / 127.

    The spacing is cut to 16 significant bits, so that level times spacing is exact in float32
    whatever the compiler does, and the decoder gets the same bits.
    """
    peak = jnp.max(jnp.abs(update)) / 127
    bits = lax.bitcast_convert_type(peak, jnp.int32) & SCALE_BITS
    scale = lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.round(update / jnp.where(scale > 0, scale, 1)) * scale, memory


def int8_wire(knobs: Knobs, layout: Layout) -> Wire:
    """Charge 8 bits an entry and one float32 scale."""
    return Wire(dim_of(layout), 8.0, 32)


def pack_int8(knobs: Knobs, sent: np.ndarray) -> bytes:
    """Encode the spacing as float32, then one signed byte an entry."""
    scale = np.float32(np.max(np.abs(sent))) / np.float32(127)
    level = np.rint(sent / (scale if scale > 0 else np.float32(1)))
    return scale.astype("<f4").tobytes() + level.astype(np.int8).tobytes()


def unpack_int8(knobs: Knobs, blob: bytes, dim: int) -> np.ndarray:
    """Decode the spacing and the signed bytes."""
    scale = np.frombuffer(blob, "<f4", 1)[0]
    return np.frombuffer(blob, np.int8, dim, offset=4).astype(np.float32) * scale


def topk_count(ratio: Any, dim: int) -> Any:
    """Return how many of `dim` entries a ratio keeps: at least 1, ties to even, in float32.

    A traced ratio gives an int32 array, a plain number the same value as a Python int.
    """
    if isinstance(ratio, jax.Array):
        kept = jnp.round(ratio.astype(jnp.float32) * np.float32(dim)).astype(jnp.int32)
        return jnp.clip(kept, 1, dim)
    return min(max(int(np.rint(np.float32(ratio) * np.float32(dim))), 1), dim)


def keep_largest(
    knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Keep the k largest magnitudes, ties by lowest index (Aji and Heafield 2017)."""
    count = topk_count(knobs["ratio"], update.shape[0])
    return jnp.where(keep_largest_mask(jnp.abs(update), count), update, 0), memory


def sparse_wire(knobs: Knobs, layout: Layout) -> Wire:
    """Charge k float32 values and the cheaper of k 32-bit indices and one bit an entry."""
    dim = dim_of(layout)
    count = topk_count(float(knobs["ratio"]), dim)
    return Wire(count, 32.0, min(32 * count, dim))


def pack_sparse(knobs: Knobs, sent: np.ndarray) -> bytes:
    """Encode the k kept values after their indices, or after a bitmap where that is shorter."""
    dim = sent.shape[0]
    count = topk_count(float(knobs["ratio"]), dim)
    kept = np.sort(np.argsort(-np.abs(sent), kind="stable")[:count])
    values = sent[kept].astype("<f4").tobytes()
    if 32 * count <= dim:
        return kept.astype("<u4").tobytes() + values
    bitmap = np.zeros(dim, bool)
    bitmap[kept] = True
    return np.packbits(bitmap).tobytes() + values


def unpack_sparse(knobs: Knobs, blob: bytes, dim: int) -> np.ndarray:
    """Decode the kept values into a dense [dim]."""
    count = topk_count(float(knobs["ratio"]), dim)
    if 32 * count <= dim:
        kept = np.frombuffer(blob, "<u4", count).astype(np.int64)
    else:
        bitmap = np.frombuffer(blob, np.uint8, -(-dim // 8))
        kept = np.flatnonzero(np.unpackbits(bitmap, count=dim))
    dense = np.zeros(dim, np.float32)
    dense[kept] = np.frombuffer(blob, "<f4", count, offset=len(blob) - 4 * count)
    return dense


COMPRESSORS: dict[str, Compressor] = {
    "none": Compressor(
        summary="Send every entry as float32.",
        paper="",
        knobs={},
        static={},
        init=no_memory,
        apply=send_all,
        wire=float32_wire,
        pack=pack_float32,
        unpack=unpack_float32,
        unbiased=True,
        contractive=True,
        sums=True,
        feedback=False,
    ),
    "fp16": Compressor(
        summary="Send every entry as float16, saturating at ±65504.",
        paper="Micikevicius et al. 2018",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_half,
        wire=float16_wire,
        pack=pack_float16,
        unpack=unpack_float16,
        unbiased=False,
        contractive=False,
        sums=True,
        feedback=False,
    ),
    "int8": Compressor(
        summary="Send every entry as one of 255 levels of the largest magnitude.",
        paper="Dettmers 2016",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_int8,
        wire=int8_wire,
        pack=pack_int8,
        unpack=unpack_int8,
        unbiased=False,
        contractive=True,
        sums=False,
        feedback=False,
    ),
    "topk": Compressor(
        summary="Send the k entries of largest magnitude and their positions.",
        paper="Aji and Heafield 2017; Stich et al. 2018",
        knobs={"ratio": Knob(0.01, 0.0, 1.0, "fraction of entries kept", open_low=True)},
        static={},
        init=no_memory,
        apply=keep_largest,
        wire=sparse_wire,
        pack=pack_sparse,
        unpack=unpack_sparse,
        unbiased=False,
        contractive=True,
        sums=False,
        feedback=True,
    ),
}
