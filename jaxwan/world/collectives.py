"""How long a collective exchange takes: closed forms over a homogeneous network.

Every function takes the bits of one worker's payload, the number of workers that take part, the
latency of one message and the rate of a worker's link, each a traced array or a number, and
broadcasts; a lone worker exchanges nothing. Times are seconds until the last worker has the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Seconds = Callable[[ArrayLike, ArrayLike, ArrayLike, ArrayLike], jax.Array]


class Collective(NamedTuple):
    """A way to bring every worker's payload to every worker."""

    summary: str
    paper: str
    seconds: Seconds  # of (payload_bits, workers, latency_s, rate_bps)
    sums: bool  # are payloads added up on their way, as sparse and sign payloads cannot be?


def _where_several(workers: ArrayLike, seconds: jax.Array) -> jax.Array:
    return jnp.where(jnp.asarray(workers) > 1, seconds, 0.0)


def _reduced_bits(payload_bits: ArrayLike, workers: ArrayLike) -> jax.Array:
    """Return what each worker sends in a bandwidth-optimal all-reduce: 2 (n - 1) / n payloads."""
    count = jnp.maximum(jnp.asarray(workers, jnp.float32), 1.0)
    return 2.0 * (count - 1.0) / count * jnp.asarray(payload_bits, jnp.float32)


def rounds_log2(workers: ArrayLike) -> jax.Array:
    """Return the ceiling of log2 of a count, exact for every int32 (the bits of n - 1)."""
    below = jnp.maximum(jnp.asarray(workers).astype(jnp.int32) - 1, 0)
    return 32 - jax.lax.clz(below)


def ring_s(
    payload_bits: ArrayLike, workers: ArrayLike, latency_s: ArrayLike, rate_bps: ArrayLike
) -> jax.Array:
    """Return the seconds of a ring all-reduce: 2(n-1) messages of payload/n in a row."""
    messages = 2.0 * (jnp.asarray(workers, jnp.float32) - 1.0)
    sending_s = _reduced_bits(payload_bits, workers) / rate_bps
    return _where_several(workers, messages * latency_s + sending_s)


def halving_doubling_s(
    payload_bits: ArrayLike, workers: ArrayLike, latency_s: ArrayLike, rate_bps: ArrayLike
) -> jax.Array:
    """Return the seconds of an all-reduce in 2 ceil(log2 n) rounds of shrinking, then growing size.

    Recursive halving and doubling where n is a power of two, Bruck's index form elsewhere.
    """
    messages = 2.0 * rounds_log2(workers)
    sending_s = _reduced_bits(payload_bits, workers) / rate_bps
    return _where_several(workers, messages * latency_s + sending_s)


def one_server_s(
    payload_bits: ArrayLike, workers: ArrayLike, latency_s: ArrayLike, rate_bps: ArrayLike
) -> jax.Array:
    """Return the seconds of n uploads, then n downloads, over a server's link of `rate_bps`."""
    through = 2.0 * jnp.asarray(workers, jnp.float32) * jnp.asarray(payload_bits, jnp.float32)
    return _where_several(workers, 2.0 * jnp.asarray(latency_s) + through / rate_bps)


def all_gather_s(
    payload_bits: ArrayLike, workers: ArrayLike, latency_s: ArrayLike, rate_bps: ArrayLike
) -> jax.Array:
    """Return the seconds until every whole payload has gone round the ring: (n-1) messages."""
    message_s = latency_s + jnp.asarray(payload_bits, jnp.float32) / rate_bps
    return _where_several(workers, (jnp.asarray(workers, jnp.float32) - 1.0) * message_s)


COLLECTIVES: Mapping[str, Collective] = MappingProxyType(
    {
        "ring": Collective(
            "Reduce-scatter and all-gather around a ring: least traffic, most messages.",
            "Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms", ring_s, True,
        ),
        "halving_doubling": Collective(
            "Reduce-scatter and all-gather in log2 n rounds: least traffic, few messages.",
            "Thakur, Rabenseifner and Gropp 2005; Bruck et al. 1997", halving_doubling_s, True,
        ),
        "one_server": Collective(
            "All payloads through one server's link and the result back to everybody.",
            "Li et al. 2014, Scaling distributed machine learning with the parameter server",
            one_server_s, True,
        ),
        "all_gather": Collective(
            "Every whole payload to everybody: for payloads that do not sum.",
            "Thakur, Rabenseifner and Gropp 2005, Optimization of collective communication",
            all_gather_s, False,
        ),
    }
)  # fmt: skip
