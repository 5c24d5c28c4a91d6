"""Uploads that share the coordinator's ingress, as fluid flows between events.

Every flow gets its fair share and never more than it could use alone (max-min fairness; Bertsekas
and Gallager 1992, Data Networks, 6.5.2). What a flow leaves unused the others get. Outages after
the computing ended do not pause a flow.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant


class Flows(NamedTuple):
    """The uploads under way `[worker]`."""

    left: jax.Array  # bits; 0 where nothing flows
    alone_bps: jax.Array  # what the worker's own link gives


def no_flows(workers: int) -> Flows:
    """Return nobody's upload."""
    return Flows(jnp.zeros(workers), jnp.full(workers, jnp.inf))


def fair_bps(flows: Flows, ingress_bps: jax.Array) -> jax.Array:
    """Return the rate `[worker]` of every flow; 0 where nothing flows."""
    active = flows.left > 0
    wanted = jnp.where(active, flows.alone_bps, jnp.inf)
    ranked = jnp.sort(wanted)
    place = jnp.arange(wanted.shape[0])
    count = jnp.sum(active)
    taken = jnp.cumsum(jnp.where(jnp.isfinite(ranked), ranked, 0.0))
    before = jnp.concatenate([jnp.zeros(1), taken[:-1]])  # by the more modest
    level = (ingress_bps - before) / jnp.maximum(count - place, 1)  # if those before are sated
    bound = (ranked >= level) & (place < count)
    fair = jnp.where(jnp.any(bound), level[jnp.argmax(bound)], jnp.inf)
    return jnp.where(active, jnp.minimum(flows.alone_bps, fair), 0.0)


def due_s(flows: Flows, rate_bps: jax.Array) -> jax.Array:
    """Return the seconds until each flow `[worker]` is through at the present rates."""
    instant = jnp.isinf(rate_bps)
    through_s = flows.left / jnp.where(instant | (rate_bps <= 0), 1.0, rate_bps)
    through_s = jnp.where(instant, 0.0, jnp.where(rate_bps > 0, through_s, jnp.inf))
    return jnp.where(flows.left > 0, through_s, jnp.inf)


def first_through(
    flows: Flows, ingress_bps: jax.Array, now: Instant
) -> tuple[jax.Array, Instant, jax.Array]:
    """Return which flow is through first, when, and the rates until then."""
    rate_bps = fair_bps(flows, ingress_bps)
    wait_s = due_s(flows, rate_bps)
    worker = jnp.argmin(wait_s).astype(jnp.int32)
    return worker, clock.add(now, wait_s[worker]), rate_bps


def drained(flows: Flows, rate_bps: jax.Array, seconds: jax.Array) -> Flows:
    """Return what is left after so many seconds; no flow ends by itself."""
    moved = jnp.where(jnp.isinf(rate_bps), 0.0, rate_bps * seconds)
    rest = jnp.maximum(flows.left - moved, jnp.finfo(jnp.float32).tiny)
    return flows._replace(left=jnp.where(flows.left > 0, rest, 0.0))
