"""Stale synchronous parallel: a worker too many cycles ahead of the slowest waits for it.

Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server".
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant


class Lead(NamedTuple):
    """How far everybody is `[worker]`."""

    cycles: jax.Array  # int32; ended so far
    waits: jax.Array  # bool; for the slowest


ABSENT = 2**30  # the cycles of a worker that has not joined yet: it holds nobody


def nobody_ahead(online: jax.Array) -> Lead:
    """Return the lead before the first cycle; `online [worker]` at time zero."""
    return Lead(jnp.where(online, 0, ABSENT).astype(jnp.int32), jnp.zeros_like(online))


def joined(lead: Lead, who: jax.Array, at_work: jax.Array) -> Lead:
    """Let a worker that joins late (`who [worker]`) stand level with the slowest at work."""
    slowest = _slowest(lead, at_work & ~who)
    return lead._replace(cycles=jnp.where(who, slowest, lead.cycles))


def _slowest(lead: Lead, at_work: jax.Array) -> jax.Array:
    """Return the fewest cycles of those at work or waiting; who is gone for good holds nobody."""
    fewest = jnp.min(jnp.where(at_work | lead.waits, lead.cycles, ABSENT))
    return jnp.where(fewest == ABSENT, 0, fewest)


def must_wait(lead: Lead, bound: jax.Array, at_work: jax.Array) -> jax.Array:
    """Tell who `[worker]` is more than `bound` cycles ahead of the slowest."""
    return lead.cycles - _slowest(lead, at_work) > bound


def wake(
    lead: Lead, bound: jax.Array, end: Instant, now: Instant
) -> tuple[Lead, Instant]:
    """Let go those whom the slowest no longer holds; they begin now. `end [worker]`."""
    freed = lead.waits & ~must_wait(lead, bound, ~clock.is_never(end))
    end = clock.choose(freed, jax.tree.map(lambda x: x[None], now), end)
    return lead._replace(waits=lead.waits & ~freed), end
