"""What the workers of one round do together: an all-reduce, or sharing the coordinator's link."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.world.collectives import COLLECTIVES, ring_s
from jaxwan.world.compute import BACKWARD_SHARE
from jaxwan.world.exchange import Fetch, transfers
from jaxwan.world.failures import Walk, await_up, walk
from jaxwan.world.plan import ServerKnobs, SiteKnobs, WorldPlan
from jaxwan.world.spells import Luck
from jaxwan.world.state import Worker, World

BETWEEN_REGIONS = "ring"  # how the regions of a hierarchical exchange reduce among themselves


class Reduced(NamedTuple):
    """How the all-reduce of a round went, all `[worker]`."""

    walk: Walk  # to the end of the exchange, or to recovery
    payloads: jax.Array  # sent by each worker, in payloads
    wire_s: jax.Array  # serialisation of what it sent


class _Shape(NamedTuple):
    """What an exchange of `count` workers asks of each link."""

    payloads: jax.Array  # sent over the link, in payloads
    messages: jax.Array  # one after the other, each with its latency


def _shape(name: str, count: jax.Array) -> _Shape:
    """Read the traffic and the messages of a collective off its closed form.

    In gossip every worker swaps one payload with one other (Boyd et al. 2006).
    """
    if name == "gossip":
        several = jnp.where(count > 1, 1.0, 0.0)
        return _Shape(several, several)
    seconds = COLLECTIVES[name].seconds
    return _Shape(seconds(1.0, count, 0.0, 1.0), seconds(0.0, count, 1.0, 1.0))


def _in_region(site: SiteKnobs, bits: jax.Array, here: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return how many regions take part and the seconds the exchange inside the slowest one takes.

    Inside a region its members all-reduce in a ring, and its leader sends the result to them.
    """
    same = (site.region[:, None] == site.region[None]) & here[:, None] & here[None]
    members = jnp.sum(same, axis=1)
    regions = jnp.sum(jnp.where(here, 1.0 / jnp.maximum(members, 1), 0.0))
    back_s = jnp.where(members > 1, site.delay_s + bits / site.bandwidth_bps, 0.0)
    inside_s = ring_s(bits, members, site.delay_s, site.bandwidth_bps) + back_s
    return jnp.round(regions), jnp.max(jnp.where(here, inside_s, 0.0))


def _exchange_s(
    plan: WorldPlan, world: World, cycle: jax.Array, here: jax.Array
) -> tuple[jax.Array, _Shape, jax.Array]:
    """Draw how long the exchange of those `here [worker]` takes, bound by its slowest link.

    Returns (seconds, shape, serialisation seconds `[worker]`).
    """
    knobs = world.knobs
    count = jnp.sum(here, dtype=jnp.int32)
    inside_s = jnp.float32(0)
    if plan.exchange == "hierarchical":
        assert knobs.site is not None
        count, inside_s = _in_region(knobs.site, knobs.update_bits, here)
    name = BETWEEN_REGIONS if plan.exchange == "hierarchical" else plan.exchange
    shape = _shape(name, count)
    sent = Fetch(jnp.array(False), jnp.int32(0), knobs.update_bits * shape.payloads)

    def one(
        place: jax.Array, worker: Worker, cycle: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        moved = transfers(plan, knobs, worker.link, world.ready, place, cycle, sent, jnp.float32(0))
        return moved.download_s, moved.wire_down_s  # a peer's link is the same both ways

    sent_s, wire_s = jax.vmap(one)(jnp.arange(plan.workers), world.workers, cycle)
    slowest = jnp.max(jnp.where(here, sent_s, 0.0))
    latency = jnp.max(jnp.where(here, knobs.delay_s, 0.0))
    between_s = jnp.where(count > 1, slowest + (shape.messages - 1.0) * latency, 0.0)
    return inside_s + between_s, shape, wire_s


def all_reduce(
    plan: WorldPlan, world: World, cycle: jax.Array, walked: Walk, delivered: jax.Array
) -> Reduced:
    """Let all who have computed exchange their updates as soon as the last of them is ready.

    The exchange hides behind the next `overlap_steps` steps of the slowest worker and, where it
    streams out as the gradient appears, behind the last backward pass. An outage of a
    member pauses it for everybody, one that wipes its memory or cuts it off loses its update.
    """
    knobs = world.knobs
    ready = clock.latest(walked.end, delivered)
    seconds, shape, wire_s = _exchange_s(plan, world, cycle, delivered)
    step_s = jnp.max(jnp.where(delivered, walked.busy_s, 0.0)) / knobs.local_steps
    ahead = knobs.overlap_steps + jnp.where(knobs.overlap, BACKWARD_SHARE, 0.0)
    left_s = jnp.maximum(seconds - ahead * step_s, 0.0)
    zero = jnp.float32(0)

    def one(own: jax.Array, walked: Walk, begin: Instant) -> Walk:
        luck = Luck(world.laws, own)
        up = await_up(luck, walked.spells, begin)
        done = walk(luck, up.spells, up.end, (zero, zero, left_s), lost=up.wiped,
                    resume_download=False)  # fmt: skip
        lost_at = clock.choose(up.wiped, up.end, done.lost_at)
        return done._replace(
            lost_at=lost_at, wiped=walked.wiped | up.wiped | done.wiped, busy_s=walked.busy_s,
            computed=walked.computed, exhausted=walked.exhausted | up.exhausted | done.exhausted,
        )

    begin = clock.choose(delivered, jax.tree.map(lambda x: x[None], ready),
                         clock.never(delivered.shape))  # fmt: skip
    after = jax.vmap(one)(world.workers.spell_key, walked, begin)
    joined = jax.tree.map(
        lambda new, old: jnp.where(jnp.reshape(delivered, (-1,) + (1,) * (new.ndim - 1)), new, old),
        after, walked,
    )  # fmt: skip
    several = jnp.where(delivered, shape.payloads, 0.0)
    return Reduced(joined, several, jnp.where(delivered, wire_s, 0.0))


def shared_down_s(server: ServerKnobs, bits: jax.Array, here: jax.Array) -> jax.Array:
    """Return when each download `[worker]` is through the coordinator's egress, all begun at once.

    Processor sharing: a flow is through when every flow has had as many bits as it, or all its own.
    """
    own = jnp.where(here, bits, 0.0)
    before = jnp.sum(jnp.minimum(own[:, None], own[None]), axis=1)
    return jnp.where(jnp.isinf(server.egress_bps), 0.0, before / server.egress_bps)


def shared_up_s(
    server: ServerKnobs, bits: jax.Array, begin_s: jax.Array, here: jax.Array
) -> jax.Array:
    """Return when each upload `[worker]` that begins at `begin_s` is through the shared ingress.

    Equal payloads leave a shared link in the order in which they began, and the last one when the
    busy period ends, max over k of (k-th beginning + bits behind it / rate), whether the link
    serves them in turn or all at once. The times between are those of service in turn.
    """
    order = jnp.argsort(jnp.where(here, begin_s, jnp.inf))
    each_s = jnp.where(jnp.isinf(server.ingress_bps), 0.0, bits / server.ingress_bps)
    place = jnp.arange(begin_s.shape[0], dtype=jnp.float32)
    ahead = jnp.where(here, begin_s, jnp.inf)[order] - place * each_s
    through = jax.lax.cummax(ahead) + (place + 1.0) * each_s
    return jnp.zeros_like(begin_s).at[order].set(through)
