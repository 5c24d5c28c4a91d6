"""Compressors that send every entry as a whole number of steps.

A step is cut to 12 significant bits, upwards, so that up to 4095 of them are exact in float32
whatever the compiler does, and no entry lies beyond the last one. The encoder finds the step in
what was sent: the greatest common divisor serves as well.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core import keys
from jaxwan.core.families import Knob, Static
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

CUT = 0xFFF
MOST_STEPS = 4095
LARGEST = np.float32(np.finfo(np.float32).max)
LEAST = np.float32(np.finfo(np.float32).tiny)
DIVISOR = np.float32(2.0**126)  # the largest whose reciprocal is normal; XLA multiplies by it
SIGNIFICANT = 24  # bits of a float32
TRITS = 3 ** np.arange(5)


def _masked(x: jax.Array, more: int) -> jax.Array:
    bits = (lax.bitcast_convert_type(x, jnp.int32) + more) & ~CUT
    return lax.bitcast_convert_type(bits, jnp.float32)


def step_of(reach: jax.Array, steps: jax.Array) -> jax.Array:
    """Return reach / steps, cut upwards, or 0 where it is not a normal number.

    At most the largest number / steps and 2**126, so that no sum of steps overflows.
    """
    most = _masked(jnp.minimum(LARGEST / steps, DIVISOR), 0)
    step = jnp.minimum(_masked(reach / steps, CUT), most)
    return jnp.where(step >= LEAST, step, 0)


def uniforms(key: jax.Array, rows: jax.Array) -> jax.Array:
    """Return one uniform in (0, 1) for each entry of `rows`."""
    seed = jax.random.bits(key, (2,))
    return keys.to_uniform(keys.words(seed, rows.size)).reshape(rows.shape)


def by_chance(key: jax.Array, x: jax.Array) -> jax.Array:
    """Round to one of the two nearest whole numbers, so that the mean is kept."""
    below = jnp.floor(x)
    return below + (uniforms(key, x) < x - below)


def in_steps(rows: jax.Array, step: jax.Array) -> jax.Array:
    """Return rows [chunk, entry] in units of step [chunk, 1]."""
    return rows / jnp.where(step > 0, step, 1)


def peaks(rows: jax.Array) -> jax.Array:
    """Return the largest magnitude of each row [chunk, entry] as [chunk, 1]."""
    return jnp.max(jnp.abs(rows), axis=1, keepdims=True)


def norms(rows: jax.Array) -> jax.Array:
    """Return the length of each row [chunk, entry] as [chunk, 1], saturating."""
    peak = peaks(rows)
    unit = jnp.clip(peak, LEAST, DIVISOR)
    root = jnp.sqrt(jnp.sum(jnp.square(rows / unit), axis=1, keepdims=True))
    return jnp.minimum(unit * root, LARGEST)


def _to_integers(form: Form, key: jax.Array, update: jax.Array, most: int) -> jax.Array:
    """Round each chunk to −most to `most` steps, spaced by its largest magnitude."""
    rows = to_chunks(form, update)
    step = step_of(peaks(rows), jnp.float32(most))
    scaled = in_steps(rows, step)
    chance = form.static["rounding"] == "stochastic"
    whole = by_chance(key, scaled) if chance else jnp.round(scaled)
    return from_chunks(form, jnp.clip(whole, -most, most) * step)


def common_steps(rows: np.ndarray) -> np.ndarray:
    """Return for each row [chunk, entry] the largest step it consists of, 0 for all zeros."""
    share, power = np.frexp(rows)
    whole = np.ldexp(share.astype(np.float64), SIGNIFICANT).astype(np.int64)
    power = np.where(whole == 0, np.iinfo(np.int32).max, power)
    least = power.min(axis=1, keepdims=True)
    whole = np.where(whole == 0, 0, np.abs(whole) << np.where(whole == 0, 0, power - least))
    found = np.gcd.reduce(whole, axis=1)
    least = np.where(found == 0, 0, least[:, 0])
    return np.ldexp(found.astype(np.float64), least - SIGNIFICANT).astype(np.float32)


def _pack_steps(form: Form, sent: np.ndarray, bits: int) -> bytes:
    """Encode the steps of the chunks as float32, then the numbers from −2**(bits − 1) on."""
    rows = host_chunks(form, sent)
    step = common_steps(rows)
    whole = np.rint(rows / np.where(step > 0, step, np.float32(1))[:, None]).astype(np.int64)
    codes = whole.reshape(-1)[: form.dim] + (1 << (bits - 1))
    return step.astype("<f4").tobytes() + pack_codes(codes, bits)


def _unpack_steps(form: Form, blob: bytes, bits: int) -> np.ndarray:
    """Decode the steps and the numbers to [dim]."""
    chunks = chunk_count(form)
    step = np.repeat(np.frombuffer(blob, "<f4", chunks), chunk_size(form))[: form.dim]
    codes = unpack_codes(blob, form.dim, bits, 4 * chunks)
    return (codes - (1 << (bits - 1))).astype(np.float32) * step


def round_to_bytes(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to 255 levels of each chunk's largest magnitude (Dettmers et al. 2022)."""
    return _to_integers(form, key, update, 127), memory


def bytes_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 8 bits an entry and a float32 a chunk."""
    return Wire(form.dim, 8.0, 32 * chunk_count(form))


def pack_bytes(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the steps, then one byte an entry."""
    return _pack_steps(form, sent, 8)


def unpack_bytes(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the steps and the bytes."""
    return _unpack_steps(form, blob, 8)


def round_to_nibbles(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round to 15 levels of each chunk's largest magnitude (Dettmers et al. 2022)."""
    return _to_integers(form, key, update, 7), memory


def nibbles_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 4 bits an entry and a float32 a chunk."""
    return Wire(form.dim, 4.0, 32 * chunk_count(form))


def pack_nibbles(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the steps, then two entries a byte."""
    return _pack_steps(form, sent, 4)


def unpack_nibbles(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the steps and the half bytes."""
    return _unpack_steps(form, blob, 4)


def level_count(levels: Any) -> Any:
    """Return the whole number of levels, traced or as a Python int."""
    if isinstance(levels, jax.Array):
        return jnp.clip(jnp.round(levels), 1, MOST_STEPS)
    return min(max(int(np.rint(np.float32(levels))), 1), MOST_STEPS)


def quantize(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Round |x|·s/‖x‖₂ at random to a neighbouring whole number, for each chunk.

    Unbiased, with E|C(x) − x|² ≤ min(d/s², √d/s)·|x|² for d entries a chunk (Alistarh et al. 2017,
    lemma 3.1; chunks are the paper's buckets).
    """
    rows, most = to_chunks(form, update), level_count(knobs["levels"])
    step = step_of(norms(rows), most)
    whole = by_chance(key, in_steps(rows, step))
    return from_chunks(form, jnp.clip(whole, -most, most) * step), memory


def _level_bits(knobs: Knobs) -> int:
    """Return 1 + ⌈log₂(s + 1)⌉: a sign and a level."""
    return 1 + level_count(float(knobs["levels"])).bit_length()


def levels_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge a sign and ⌈log₂(s + 1)⌉ bits an entry and a float32 a chunk."""
    return Wire(form.dim, float(_level_bits(knobs)), 32 * chunk_count(form))


def pack_levels(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the steps, then the signed levels end to end."""
    return _pack_steps(form, sent, _level_bits(knobs))


def unpack_levels(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the steps and the levels."""
    return _unpack_steps(form, blob, _level_bits(knobs))


def ternarize(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send ±max|x| with probability |x|/max|x|, else 0 (Wen et al. 2017).

    A positive `clip` first cuts entries to that many standard deviations, which costs the
    unbiasedness.
    """
    unit = jnp.clip(jnp.max(jnp.abs(update)), LEAST, DIVISOR)
    shares = update / unit
    most = jnp.max(jnp.abs(shares))
    cut = knobs["clip"] * jnp.sqrt(jnp.mean(jnp.square(shares - jnp.mean(shares))))
    most = jnp.where(cut * unit >= LEAST, jnp.minimum(most, cut), most)
    sent = uniforms(key, shares) < jnp.abs(shares) / jnp.where(most > 0, most, 1)
    return jnp.where(sent, jnp.sign(shares) * (most * unit), 0), memory


def trits_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge a byte for five entries and one float32."""
    return Wire(form.dim, 1.6, 32)


def pack_trits(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the magnitude as float32, then five digits of base 3 a byte."""
    digits = np.sign(sent).astype(np.int64) + 1
    fives = np.pad(digits, (0, -len(digits) % 5)).reshape(-1, 5)
    return np.abs(sent).max().astype("<f4").tobytes() + (fives @ TRITS).astype(np.uint8).tobytes()


def unpack_trits(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the magnitude and the digits."""
    fives = np.frombuffer(blob, np.uint8, offset=4).astype(np.int64)
    digits = (fives[:, None] // TRITS % 3).reshape(-1)[: form.dim]
    return (digits - 1).astype(np.float32) * np.frombuffer(blob, "<f4", 1)


ROUNDING = Static(
    "nearest", "to the nearest level, or by chance and unbiased", choices=("nearest", "stochastic")
)
LEVELS = Knob(127, 1, MOST_STEPS, "levels of each sign")
CLIP = Knob(0.0, 0.0, 100.0, "clips at so many standard deviations; 0 does not (paper: 2.5)")

QUANTIZERS: dict[str, Compressor] = {
    "int8_chunked": Compressor(
        summary="Send every entry as one of 255 levels of its chunk's largest magnitude.",
        paper="Dettmers et al. 2022",
        knobs={},
        static={"chunk": chunk_of(256), "rounding": ROUNDING},
        init=no_memory,
        apply=round_to_bytes,
        wire=bytes_wire,
        pack=pack_bytes,
        unpack=unpack_bytes,
        unbiased=False,
        contractive=True,
    ),
    "int4": Compressor(
        summary="Send every entry as one of 15 levels of its chunk's largest magnitude.",
        paper="Dettmers et al. 2022",
        knobs={},
        static={"chunk": chunk_of(256), "rounding": ROUNDING},
        init=no_memory,
        apply=round_to_nibbles,
        wire=nibbles_wire,
        pack=pack_nibbles,
        unpack=unpack_nibbles,
        unbiased=False,
        contractive=True,
    ),
    "qsgd": Compressor(
        summary="Send every entry rounded at random to levels of the norm, unbiased.",
        paper="Alistarh et al. 2017",
        knobs={"levels": LEVELS},
        static={"chunk": chunk_of(0)},
        init=no_memory,
        apply=quantize,
        wire=levels_wire,
        pack=pack_levels,
        unpack=unpack_levels,
        unbiased=True,
        contractive=False,
    ),
    "terngrad": Compressor(
        summary="Send every entry as −1, 0 or 1 times the largest magnitude, unbiased.",
        paper="Wen et al. 2017",
        knobs={"clip": CLIP},
        static={},
        init=no_memory,
        apply=ternarize,
        wire=trits_wire,
        pack=pack_trits,
        unpack=unpack_trits,
        unbiased=True,
        contractive=False,
    ),
}
