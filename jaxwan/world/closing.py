"""When a round closes before everybody has arrived: quorum, backup workers, deadline, median + MAD.

Who is late is cancelled at the close: its work is dropped, and it starts the next round with the
others (Chen et al. 2016, "Revisiting Distributed Synchronous SGD"; K-sync of Dutta et al. 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree


@pytree
class ClosingKnobs:
    """What closes a round; the first rule that is met does. Scalars."""

    quorum: jax.Array  # share of those who take part, in (0, 1]
    backup: jax.Array  # int32; so many need not arrive
    deadline_s: jax.Array  # after the round's start; infinite for none
    mad: jax.Array  # median absolute deviations above the median arrival; infinite for none


class Close(NamedTuple):
    """How a round ended."""

    at: Instant
    cancelled: jax.Array  # bool [worker]; took part and neither arrived nor was lost by then


def needed(knobs: ClosingKnobs, count: jax.Array) -> jax.Array:
    """Return how many of `count` participants make a round complete; at least one."""
    quorum = jnp.ceil(knobs.quorum * count - 1e-4).astype(jnp.int32)
    return jnp.maximum(jnp.minimum(quorum, count - knobs.backup), 1)


def _median(ranked: jax.Array, count: jax.Array) -> jax.Array:
    """Return the median of the first `count` of `ranked [worker]`."""
    last = ranked.shape[0] - 1
    low = ranked[jnp.clip((count - 1) // 2, 0, last)]
    high = ranked[jnp.clip(count // 2, 0, last)]
    return jnp.where(low == high, low, 0.5 * (low + high))  # two infinities have no mean


def close_s(knobs: ClosingKnobs, arrival_s: jax.Array, takes_part: jax.Array) -> jax.Array:
    """Return the seconds after which a round may close, given its arrivals `[worker]`.

    Whoever never arrives has an infinite arrival; infinite where no rule ever closes the round.
    """
    count = jnp.sum(takes_part, dtype=jnp.int32)
    ranked = jnp.sort(jnp.where(takes_part, arrival_s, jnp.inf))
    complete = ranked[needed(knobs, count) - 1]
    middle = _median(ranked, count)
    apart = jnp.abs(arrival_s - middle)
    apart = jnp.where(takes_part & jnp.isfinite(apart), apart, jnp.inf)
    spread = _median(jnp.sort(apart), count)
    slack = jnp.where(knobs.mad > 0, knobs.mad * spread, 0.0)
    outlying = jnp.where(jnp.isfinite(knobs.mad), middle + slack, jnp.inf)
    return jnp.minimum(jnp.minimum(complete, outlying), knobs.deadline_s)


def close(
    knobs: ClosingKnobs,
    start: Instant,
    ends: Instant,
    known_at: Instant,
    delivered: jax.Array,
    takes_part: jax.Array,
) -> Close:
    """Close a round by the first rule that is met, at the latest when everybody's fate is known.

    `ends` are the arrivals of those who `delivered`, `known_at` when the coordinator has each
    arrival or notices the loss, all `[worker]`.
    """
    everybody = clock.latest(known_at, takes_part)
    since = jax.tree.map(lambda x: x[None], start)
    arrival_s = jnp.where(delivered, clock.since(ends, since), jnp.inf)
    early = clock.add(start, close_s(knobs, arrival_s, takes_part))
    cut = clock.is_before(early, everybody)
    at = clock.choose(cut, early, everybody)
    late = clock.is_before(jax.tree.map(lambda x: x[None], at), known_at)
    return Close(at, takes_part & late & cut)
