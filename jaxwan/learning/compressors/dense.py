"""Compressors that send every entry with fewer bits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.learning.compressors.base import (
    Compressor,
    Form,
    Knobs,
    Wire,
    no_memory,
)

FP16_MAX = 65504.0
FP16_LEAST = 2.0**-14  # the least normal one
BF16_MAX = 255 * 2.0**120
SCALE_BITS = ~0xFF


def send_all(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send the update as it is."""
    return update, memory


def float32_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 32 bits an entry."""
    return Wire(form.dim, 32.0, 0)


def pack_float32(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode little-endian float32."""
    return sent.astype("<f4").tobytes()


def unpack_float32(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode little-endian float32."""
    return np.frombuffer(blob, "<f4", form.dim).astype(np.float32)


def round_to_half(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to float16, ties to even, saturating at ±65504 (Micikevicius et al. 2018).

    Subnormal ones are multiples of 2^-24. A pair of casts would not do: on a GPU, XLA drops it.
    """
    clipped = jnp.clip(update, -FP16_MAX, FP16_MAX)
    half = lax.reduce_precision(clipped, exponent_bits=5, mantissa_bits=10)
    fine = jnp.round(clipped * np.float32(2.0**24)) * np.float32(2.0**-24)
    return jnp.where(jnp.abs(clipped) < FP16_LEAST, fine, half), memory


def half_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 16 bits an entry."""
    return Wire(form.dim, 16.0, 0)


def pack_float16(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode little-endian float16."""
    return sent.astype("<f2").tobytes()


def unpack_float16(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode little-endian float16."""
    return np.frombuffer(blob, "<f2", form.dim).astype(np.float32)


def round_to_bfloat(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to bfloat16: 8 bits of exponent and 7 of fraction, ties to even (Kalamkar et al. 2019).

    Saturates at ±3.39e38. A pair of casts would not do: XLA may drop it.
    """
    clipped = jnp.clip(update, -BF16_MAX, BF16_MAX)
    return lax.reduce_precision(clipped, exponent_bits=8, mantissa_bits=7), memory


def pack_bfloat16(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the upper 16 bits of each float32, little-endian."""
    return (sent.view(np.uint32) >> 16).astype("<u2").tobytes()


def unpack_bfloat16(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the upper 16 bits of each float32."""
    return (np.frombuffer(blob, "<u2", form.dim).astype(np.uint32) << 16).view(np.float32)


def round_to_int8(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to the nearest of 255 levels spaced by the largest magnitude / 127.

    The spacing is cut to 16 significant bits, so that level times spacing is exact in float32
    whatever the compiler does, and the decoder gets the same bits.
    """
    peak = jnp.max(jnp.abs(update)) / 127
    bits = lax.bitcast_convert_type(peak, jnp.int32) & SCALE_BITS
    scale = lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.round(update / jnp.where(scale > 0, scale, 1)) * scale, memory


def int8_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 8 bits an entry and one float32 scale."""
    return Wire(form.dim, 8.0, 32)


def pack_int8(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the spacing as float32, then one signed byte an entry."""
    scale = np.float32(np.max(np.abs(sent))) / np.float32(127)
    level = np.rint(sent / (scale if scale > 0 else np.float32(1)))
    return scale.astype("<f4").tobytes() + level.astype(np.int8).tobytes()


def unpack_int8(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the spacing and the signed bytes."""
    scale = np.frombuffer(blob, "<f4", 1)[0]
    return np.frombuffer(blob, np.int8, form.dim, offset=4).astype(np.float32) * scale


def scaled_sign(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send ±mean|update| by the sign of each entry; zero counts as positive.

    C(x) = (‖x‖₁/d)·sign x, and |C(x) − x|² = |x|² − ‖x‖₁²/d (Karimireddy et al. 2019, lemma 8).
    """
    scale = jnp.sum(jnp.abs(update) * np.float32(1 / update.shape[0]))
    return jnp.where(update >= 0, scale, -scale), memory


def sign_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 1 bit an entry and one float32 scale."""
    return Wire(form.dim, 1.0, 32)


def pack_sign(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the scale as float32, then one bit an entry."""
    scale = np.abs(sent[:1]).astype("<f4")
    return scale.tobytes() + np.packbits(sent >= 0).tobytes()


def unpack_sign(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the scale and the bits."""
    scale = np.frombuffer(blob, "<f4", 1).astype(np.float32)
    positive = np.unpackbits(np.frombuffer(blob, np.uint8, offset=4), count=form.dim).astype(bool)
    return np.where(positive, scale, -scale)


DENSE: dict[str, Compressor] = {
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
        keeps_zero=True,
        sums=True,
    ),
    "fp16": Compressor(
        summary="Send every entry as float16, saturating at ±65504.",
        paper="Micikevicius et al. 2018",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_half,
        wire=half_wire,
        pack=pack_float16,
        unpack=unpack_float16,
        unbiased=False,
        contractive=False,
        keeps_zero=True,
        sums=True,
    ),
    "bf16": Compressor(
        summary="Send every entry as bfloat16, with the range of float32 and 8 significant bits.",
        paper="Kalamkar et al. 2019",
        knobs={},
        static={},
        init=no_memory,
        apply=round_to_bfloat,
        wire=half_wire,
        pack=pack_bfloat16,
        unpack=unpack_bfloat16,
        unbiased=False,
        contractive=True,
        keeps_zero=True,
        sums=True,
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
        keeps_zero=True,
    ),
    "sign": Compressor(
        summary="Send the sign of every entry and the mean magnitude.",
        paper="Seide et al. 2014; Karimireddy et al. 2019",
        knobs={},
        static={},
        init=no_memory,
        apply=scaled_sign,
        wire=sign_wire,
        pack=pack_sign,
        unpack=unpack_sign,
        unbiased=False,
        contractive=True,
        feedback=True,
    ),
}
