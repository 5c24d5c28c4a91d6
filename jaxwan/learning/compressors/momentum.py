"""Compressors that keep a momentum of their own and send its largest parts."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import keep_largest_mask
from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire
from jaxwan.learning.compressors.chunked import (
    counts_of,
    cut,
    in_rows,
    keep_in_rows,
    pack_rows,
    place_bits,
    ratio_knob,
    unpack_rows,
)
from jaxwan.learning.compressors.sparse import (
    pack_sparse,
    sparse_wire,
    topk_count,
    unpack_sparse,
)

SMALLEST = 1e-30  # rows without a larger entry wait: below, float32 has no digits left
EXPONENT = 0x7F800000


def two_buffers(form: Form) -> tuple[jax.Array, jax.Array]:
    """Return the empty velocity and accumulated velocity `[dim]`."""
    return jnp.zeros(form.dim, jnp.float32), jnp.zeros(form.dim, jnp.float32)


def clipped(update: jax.Array, most: jax.Array) -> jax.Array:
    """Return the update [dim] no longer than `most`; 0 leaves it alone."""
    peak = jnp.max(jnp.abs(update))
    peak = jnp.where(peak > 0, peak, 1)
    length = jnp.sqrt(jnp.sum(jnp.square(update / peak)))
    share = most / peak / jnp.maximum(length, SMALLEST)
    return jnp.where(most > 0, jnp.minimum(share, 1), 1) * update


def send_velocity(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send the k largest entries of the accumulated velocity, ties by lowest index.

    g clipped to a length; u ← m·u + g; v ← v + u; the k largest of v are sent and cleared in both u
    and v: momentum correction, local gradient clipping and momentum factor masking (Lin et al.
    2018, sections 3.1 to 3.3). The worker applies the momentum, so the server needs none.
    """
    velocity, waiting = memory
    velocity = knobs["momentum"] * velocity + clipped(update, knobs["clip"])
    waiting = waiting + velocity
    kept = keep_largest_mask(jnp.abs(waiting), topk_count(knobs["ratio"], form.dim))
    left = jnp.where(kept, 0, velocity), jnp.where(kept, 0, waiting)
    return jnp.where(kept, waiting, 0), left


@lru_cache(maxsize=64)
def cosines(length: int) -> np.ndarray:
    """Return the orthonormal DCT-II basis, `[entry, frequency]`."""
    place, wave = np.arange(length)[:, None], np.arange(length)[None, :]
    basis = np.cos(np.pi * (place + 0.5) * wave / length) * np.sqrt(2 / length)
    basis[:, 0] = np.sqrt(1 / length)
    return basis


def lengths_of(form: Form) -> np.ndarray:
    """Return the lengths `[chunk]` of the chunks; the last of each tensor may be short."""
    chunk = form.static["chunk"]
    return np.asarray([n for shape in form.layout for n in cut(math.prod(shape), chunk)], np.int32)


def tensors_in_rows(form: Form, flat: jax.Array) -> jax.Array:
    """Return the chunks of all tensors as rows `[chunk, width]`, filled up with zeros."""
    rows, start = [], 0
    for shape in form.layout:
        end = start + math.prod(shape)
        rows.append(in_rows(flat[start:end], form.static["chunk"]))
        start = end
    return jnp.concatenate(rows)


def rows_in_tensors(form: Form, rows: jax.Array) -> jax.Array:
    """Return the rows of `tensors_in_rows` as a flat [dim]."""
    flat, start = [], 0
    for shape in form.layout:
        count = math.prod(shape)
        end = start + -(-count // form.static["chunk"])
        flat.append(rows[start:end].reshape(-1)[:count])
        start = end
    return jnp.concatenate(flat)


def transformed(form: Form, rows: jax.Array, back: bool) -> jax.Array:
    """Return the DCT-II of every row `[chunk, width]`, or its inverse; short rows by their own."""
    lengths, width = lengths_of(form), form.static["chunk"]
    out = rows
    for length in sorted(set(lengths.tolist())):
        basis = cosines(length).astype(np.float32)
        basis = basis.T if back else basis
        own = np.flatnonzero(lengths == length)
        whole = len(own) == len(lengths)
        some = rows if whole else rows[own]
        made = jnp.matmul(some[:, :length], basis, precision=lax.Precision.HIGHEST)
        made = jnp.pad(made, ((0, 0), (0, width - length)))
        out = made if whole else out.at[own].set(made)
    return out


def fresh_momentum(form: Form) -> jax.Array:
    """Return the empty momentum `[dim]`."""
    return jnp.zeros(form.dim, jnp.float32)


def scales_of(rows: jax.Array) -> jax.Array:
    """Return the power of two below the largest magnitude of each row `[chunk, 1]`.

    Rows without an entry above 1e-30 get 0.
    """
    peak = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    bits = lax.bitcast_convert_type(peak, jnp.int32) & EXPONENT
    return jnp.where(peak > SMALLEST, lax.bitcast_convert_type(bits, jnp.float32), 0)


def send_waves(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Send the k largest DCT coefficients of every chunk of the momentum, and take them off it.

    m ← β·m + g; q = inverse DCT of the k largest coefficients; m ← m − q; q is sent (Peng et al.
    2024, algorithm 1). Differs from the paper in that chunks are runs of a flattened tensor with a
    DCT of one dimension, not blocks of a matrix with one of two, and in that the step length and
    the sign of the merged update are the optimizer's. A chunk below 1e-30 everywhere waits.
    """
    momentum = knobs["momentum"] * memory + update
    rows = tensors_in_rows(form, momentum)
    scale = scales_of(rows)
    waves = transformed(form, jnp.where(scale > 0, rows / jnp.where(scale > 0, scale, 1), 0), False)
    kept = keep_in_rows(waves, counts_of(jnp.asarray(knobs["ratio"]), lengths_of(form)))
    sent = transformed(form, jnp.where(kept, waves, 0), True) * scale
    sent = rows_in_tensors(form, sent)
    return sent, momentum - sent


def wave_counts(form: Form, knobs: Knobs) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of the chunks and how many coefficients of each are kept."""
    lengths = lengths_of(form)
    return lengths, counts_of(float(knobs["ratio"]), lengths)


def wave_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge k float32 coefficients a chunk, and ⌈log₂ chunk⌉ bits a position or a bitmap."""
    lengths, counts = wave_counts(form, knobs)
    return Wire(int(counts.sum()), 32.0, place_bits(lengths, counts))


def on_host(flat: np.ndarray, lengths: np.ndarray, back: bool) -> np.ndarray:
    """Return the DCT-II of every chunk, or its inverse, in float64."""
    rows = np.split(flat.astype(np.float64), np.cumsum(lengths)[:-1])
    bases = {int(length): cosines(int(length)) for length in np.unique(lengths)}
    return np.concatenate([row @ (bases[len(row)].T if back else bases[len(row)]) for row in rows])


def pack_waves(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the positions of the coefficients of `sent`, then the coefficients as float32."""
    lengths, counts = wave_counts(form, knobs)
    return pack_rows(on_host(sent, lengths, False), lengths, counts)


def unpack_waves(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the coefficients and transform them back."""
    lengths, counts = wave_counts(form, knobs)
    return on_host(unpack_rows(blob, lengths, counts), lengths, True).astype(np.float32)


MOMENTUM: dict[str, Compressor] = {
    "dgc": Compressor(
        summary="Send the largest entries of a velocity that piles up until it is sent.",
        paper="Lin et al. 2018, Deep Gradient Compression, sections 3.1 to 3.3",
        knobs={
            "ratio": Knob(0.01, 0.0, 1.0, "fraction of entries kept", open_low=True),
            "momentum": Knob(0.9, 0.0, 1.0, "momentum of the worker"),
            "clip": Knob(0.0, 0.0, 1e9, "longest gradient a worker adds, 0 for any"),
        },
        static={},
        init=two_buffers,
        apply=send_velocity,
        wire=sparse_wire,
        pack=pack_sparse,
        unpack=unpack_sparse,
        unbiased=False,
        contractive=False,
        sparse=True,
    ),
    "demo": Compressor(
        summary="Send the largest DCT coefficients of a momentum and take them off it.",
        paper="Peng et al. 2024, DeMo, algorithm 1",
        knobs={
            "ratio": ratio_knob(1 / 32),
            "momentum": Knob(0.999, 0.0, 1.0, "decay of the momentum"),
        },
        static={"chunk": Static(64, "entries that are transformed together", low=1, high=1024)},
        init=fresh_momentum,
        apply=send_waves,
        wire=wave_wire,
        pack=pack_waves,
        unpack=unpack_waves,
        unbiased=False,
        contractive=False,
        exact=False,
    ),
}
