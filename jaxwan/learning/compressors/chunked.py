"""Compressors that keep the largest entries of every chunk, so that each part gets a share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Knob, Static
from jaxwan.core.numerics import keep_largest_mask
from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Wire, no_memory

CHUNK = Static(4096, "entries of a chunk; a smaller model is one chunk", low=1, high=1 << 20)
LEVEL_BITS = 64  # two float32 magnitudes a chunk


def cut(size: int, chunk: int) -> list[int]:
    """Return the lengths of the chunks of `size` entries; the last may be short."""
    whole, rest = divmod(size, chunk)
    return [chunk] * whole + [rest] * (rest > 0)


def lengths_of(form: Form) -> np.ndarray:
    """Return the lengths `[chunk]` of the chunks of a flat update."""
    return np.asarray(cut(form.dim, min(form.static["chunk"], form.dim)), np.int32)


def counts_of(ratio: Any, lengths: np.ndarray) -> Any:
    """Return how many entries of each chunk are kept, `[chunk]` like `topk_count`."""
    numbers: Any = jnp if isinstance(ratio, jax.Array) else np
    kept = numbers.round(numbers.float32(ratio) * lengths.astype(np.float32))
    return numbers.clip(kept.astype(np.int32), 1, lengths)


def in_rows(flat: jax.Array, width: int) -> jax.Array:
    """Return the entries as rows `[chunk, width]`, the last one filled up with zeros."""
    return jnp.pad(flat, (0, -flat.shape[0] % width)).reshape(-1, width)


def keep_in_rows(rows: jax.Array, counts: jax.Array) -> jax.Array:
    """Mark the `counts [chunk]` largest magnitudes of each row `[chunk, width]`.

    Ties go to the lowest index, so what fills a short row up is never marked.
    """
    return jax.vmap(keep_largest_mask)(jnp.abs(rows), counts)


def keep_chunks(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Keep the k largest magnitudes of every chunk, ties by lowest index."""
    lengths = lengths_of(form)
    rows = in_rows(update, int(lengths[0]))
    kept = keep_in_rows(rows, counts_of(jnp.asarray(knobs["ratio"]), lengths))
    return jnp.where(kept, rows, 0).reshape(-1)[: form.dim], memory


def index_bits(length: int) -> int:
    """Return the bits of a position within a chunk, ⌈log₂ length⌉."""
    return (length - 1).bit_length()


def place_bits(lengths: np.ndarray, counts: np.ndarray) -> int:
    """Return the bits of all positions: in each chunk the shorter of indices and a bitmap."""
    sizes = {int(length): index_bits(int(length)) for length in np.unique(lengths)}
    width = np.asarray([sizes[int(length)] for length in lengths], np.int64)
    return int(np.minimum(counts * width, lengths).sum())


def spread(numbers: np.ndarray, width: int) -> np.ndarray:
    """Return whole numbers as bits, `width` each, the highest first."""
    return ((numbers[:, None] >> np.arange(width - 1, -1, -1)) & 1).astype(bool).reshape(-1)


def gathered(bits: np.ndarray, width: int) -> np.ndarray:
    """Return the whole numbers that `spread` made bits of."""
    return bits.reshape(-1, width) @ (1 << np.arange(width - 1, -1, -1))


def largest(row: np.ndarray, count: int) -> np.ndarray:
    """Return the sorted positions of the largest magnitudes, ties by lowest index."""
    return np.sort(np.argsort(-np.abs(row), kind="stable")[:count])


def write_places(length: int, kept: np.ndarray) -> np.ndarray:
    """Return the bits that tell the sorted positions `kept` within one chunk."""
    if len(kept) * index_bits(length) < length:
        return spread(kept, index_bits(length))
    bitmap = np.zeros(length, bool)
    bitmap[kept] = True
    return bitmap


def read_places(
    bits: np.ndarray, lengths: np.ndarray, counts: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield where each chunk begins and the positions in it that `write_places` told."""
    start, at = 0, 0
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        width = index_bits(length)
        size = min(count * width, length)
        own, at = bits[at : at + size], at + size
        if count * width >= length:
            yield start, np.flatnonzero(own)
        else:
            yield start, gathered(own, width) if width else np.zeros(count, np.int64)
        start += length


def write_rows(flat: np.ndarray, lengths: np.ndarray, counts: np.ndarray) -> tuple[Any, Any]:
    """Return the bits of the positions and the kept entries of all chunks, in order."""
    rows = np.split(flat, np.cumsum(lengths)[:-1])
    kept = [largest(row, count) for row, count in zip(rows, counts, strict=True)]
    places = [write_places(len(row), own) for row, own in zip(rows, kept, strict=True)]
    values = [row[own] for row, own in zip(rows, kept, strict=True)]
    return np.concatenate(places), values


def pack_rows(flat: np.ndarray, lengths: np.ndarray, counts: np.ndarray) -> bytes:
    """Encode the positions of the kept entries, then the entries as float32."""
    places, values = write_rows(flat, lengths, counts)
    return np.packbits(places).tobytes() + np.concatenate(values).astype("<f4").tobytes()


def unpack_rows(blob: bytes, lengths: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Decode positions and entries into all entries of all chunks."""
    flat, total = np.zeros(int(lengths.sum()), np.float32), int(counts.sum())
    bits = np.unpackbits(np.frombuffer(blob[: len(blob) - 4 * total], np.uint8)).astype(bool)
    places = [start + own for start, own in read_places(bits, lengths, counts)]
    flat[np.concatenate(places)] = np.frombuffer(blob, "<f4", offset=len(blob) - 4 * total)
    return flat


def of_host(form: Form, knobs: Knobs) -> tuple[np.ndarray, np.ndarray]:
    """Return the lengths of the chunks and how many entries of each are kept."""
    lengths = lengths_of(form)
    return lengths, counts_of(float(knobs["ratio"]), lengths)


def chunked_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge k float32 values, and ⌈log₂ chunk⌉ bits a position or a chunk's bitmap."""
    lengths, counts = of_host(form, knobs)
    return Wire(int(counts.sum()), 32.0, place_bits(lengths, counts))


def pack_chunks(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the positions of every chunk, then the kept values as float32."""
    return pack_rows(sent, *of_host(form, knobs))


def unpack_chunks(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode the kept values into a dense [dim]."""
    return unpack_rows(blob, *of_host(form, knobs))


def two_levels(size: jax.Array, kept: jax.Array) -> jax.Array:
    """Round the kept magnitudes of one chunk to two levels `[width]`.

    They are the means of those up to the mean of all and of those above it.
    """

    def mean(group: jax.Array) -> jax.Array:
        count = jnp.sum(group, dtype=jnp.int32).astype(jnp.float32)
        return jnp.sum(jnp.where(group, size, 0) * (1 / jnp.maximum(count, 1)))

    high = kept & (size > mean(kept))
    return jnp.where(high, mean(high), mean(kept & ~high))


def keep_two_bits(
    form: Form, knobs: Knobs, memory: Any, key: jax.Array, update: jax.Array
) -> tuple[jax.Array, Any]:
    """Keep the k largest magnitudes of every chunk, as a sign and one of two levels each.

    Algorithm 1 of Sarfi et al. 2025 with error feedback around it. The four values of the 2 bits
    are our choice: ± two means of each chunk, one step of Lloyd's quantizer, so that what is lost
    is never longer than what was kept. Chunks are cut from the flat update, not 64 x 64 blocks from
    its matrices.
    """
    lengths = lengths_of(form)
    rows = in_rows(update, int(lengths[0]))
    kept = keep_in_rows(rows, counts_of(jnp.asarray(knobs["ratio"]), lengths))
    level = jax.vmap(two_levels)(jnp.abs(rows), kept)
    sent = jnp.where(kept, jnp.where(rows < 0, -level, level), 0)
    return sent.reshape(-1)[: form.dim], memory


def two_bit_wire(form: Form, knobs: Knobs) -> Wire:
    """Charge 2 bits a kept value and its position, and two float32 levels a chunk."""
    lengths, counts = of_host(form, knobs)
    side_bits = place_bits(lengths, counts) + LEVEL_BITS * len(lengths)
    return Wire(int(counts.sum()), 2.0, side_bits)


def pack_two_bits(form: Form, knobs: Knobs, key: jax.Array, sent: np.ndarray) -> bytes:
    """Encode the two levels of every chunk, the positions, then a sign and a level a value."""
    places, values = write_rows(sent, *of_host(form, knobs))
    levels = np.asarray([(np.abs(own).min(), np.abs(own).max()) for own in values], "<f4")
    codes = [
        np.stack([own < 0, np.abs(own) > low], axis=1).reshape(-1)
        for own, (low, _) in zip(values, levels, strict=True)
    ]
    return levels.tobytes() + np.packbits(np.concatenate([places, *codes])).tobytes()


def unpack_two_bits(form: Form, knobs: Knobs, blob: bytes) -> np.ndarray:
    """Decode levels, positions, signs and levels chosen into a dense [dim]."""
    lengths, counts = of_host(form, knobs)
    levels = np.frombuffer(blob, "<f4", 2 * len(lengths)).astype(np.float32).reshape(-1, 2)
    bits = np.unpackbits(np.frombuffer(blob, np.uint8, offset=levels.nbytes)).astype(bool)
    total = int(counts.sum())
    at = place_bits(lengths, counts)
    negative, high = bits[at : at + 2 * total].reshape(total, 2).T
    low_high = np.repeat(levels, counts, axis=0)
    level = np.where(high, low_high[:, 1], low_high[:, 0])
    dense = np.zeros(form.dim, np.float32)
    places = [start + own for start, own in read_places(bits, lengths, counts)]
    dense[np.concatenate(places)] = np.where(negative, -level, level)
    return dense


def ratio_knob(default: float) -> Knob:
    """Return the knob of the share that is kept of every chunk."""
    return Knob(default, 0.0, 1.0, "fraction kept of every chunk, at least one", open_low=True)


CHUNKED: dict[str, Compressor] = {
    "chunk_topk": Compressor(
        summary="Send the k entries of largest magnitude of every chunk and their positions.",
        paper="Sarfi et al. 2025; top-k of Aji and Heafield 2017 chunk by chunk",
        knobs={"ratio": ratio_knob(0.01)},
        static={"chunk": CHUNK},
        init=no_memory,
        apply=keep_chunks,
        wire=chunked_wire,
        pack=pack_chunks,
        unpack=unpack_chunks,
        unbiased=False,
        contractive=True,
        sparse=True,
        feedback=True,
    ),
    "sparseloco": Compressor(
        summary="Send a sign and one of two levels for the k largest entries of every chunk.",
        paper="Sarfi et al. 2025, SparseLoCo, algorithm 1",
        knobs={"ratio": ratio_knob(1 / 64)},
        static={"chunk": CHUNK},
        init=no_memory,
        apply=keep_two_bits,
        wire=two_bit_wire,
        pack=pack_two_bits,
        unpack=unpack_two_bits,
        unbiased=False,
        contractive=True,
        feedback=True,
        decay=0.95,
    ),
}
