"""Chunks of an update, and codes of a few bits laid end to end on the host."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core.families import Static
from jaxwan.learning.compressors.base import Form


def chunk_of(default: int) -> Static:
    """Return the compile-time argument of how many entries share a scale."""
    return Static(default, "entries that share a scale; 0 is the whole message", low=0)


def chunk_size(form: Form) -> int:
    """Return how many entries share a scale; never more than there are."""
    return min(form.static["chunk"] or form.dim, form.dim)


def chunk_count(form: Form) -> int:
    """Return how many chunks a message has, the last one perhaps shorter."""
    return -(-form.dim // chunk_size(form))


def to_chunks(form: Form, update: jax.Array) -> jax.Array:
    """Cut an update [dim] into rows [chunk, entry], the last one filled up with zeros."""
    missing = chunk_count(form) * chunk_size(form) - form.dim
    return jnp.pad(update, (0, missing)).reshape(-1, chunk_size(form))


def from_chunks(form: Form, rows: jax.Array) -> jax.Array:
    """Put rows [chunk, entry] back together to [dim]."""
    return rows.reshape(-1)[: form.dim]


def host_chunks(form: Form, sent: np.ndarray) -> np.ndarray:
    """Cut what was sent [dim] into rows [chunk, entry] as `to_chunks` does."""
    missing = chunk_count(form) * chunk_size(form) - form.dim
    return np.pad(sent, (0, missing)).reshape(-1, chunk_size(form))


def pack_codes(codes: np.ndarray, bits: int) -> bytes:
    """Lay codes [entry] of 0 to 2**bits − 1 end to end, most significant bit first."""
    shifts = np.arange(bits)[::-1]
    return np.packbits((codes.astype(np.int64)[:, None] >> shifts) & 1 == 1).tobytes()


def unpack_codes(blob: bytes, count: int, bits: int, offset: int = 0) -> np.ndarray:
    """Read `count` codes [entry] of `bits` bits from a byte on."""
    flat = np.unpackbits(np.frombuffer(blob, np.uint8, offset=offset), count=count * bits)
    return flat.reshape(count, bits).astype(np.int64) @ (1 << np.arange(bits)[::-1])
