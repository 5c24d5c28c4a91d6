"""What the workers of one round do together: an all-reduce, or sharing the coordinator's link."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import replace
from jaxwan.world.collectives import COLLECTIVES, ring_s
from jaxwan.world.compute import BACKWARD_SHARE
from jaxwan.world.exchange import Fetch, payload_share, staged, transfers
from jaxwan.world.failures import Walk, await_up, walk
from jaxwan.world.ingress import Flows, drained, due_s, fair_bps
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


class _Sent(NamedTuple):
    """One exchange: how long it takes, and what each worker `[worker]` sends for it."""

    seconds: jax.Array
    payloads: jax.Array
    wire_s: jax.Array  # serialisation of what it sends


class _Inside(NamedTuple):
    """The part of a hierarchical exchange within the regions."""

    regions: jax.Array  # how many take part
    leads: jax.Array  # bool [worker]; stands for its region
    payloads: jax.Array  # [worker]
    seconds: jax.Array  # of the slowest region


def _in_region(site: SiteKnobs, bits: jax.Array, here: jax.Array) -> _Inside:
    """Let the members of each region all-reduce in a ring, and its leader send the result on."""
    same = (site.region[:, None] == site.region[None]) & here[:, None] & here[None]
    members = jnp.sum(same, axis=1)
    leads = here & (jnp.argmax(same, axis=1) == jnp.arange(here.shape[0]))
    ring = 2.0 * (members - 1.0) / jnp.maximum(members, 1)
    sent = jnp.where(here, ring + jnp.where(leads, members - 1.0, 0.0), 0.0)
    back_s = jnp.where(members > 1, site.delay_s + bits / site.bandwidth_bps, 0.0)
    inside_s = ring_s(bits, members, site.delay_s, site.bandwidth_bps) + back_s
    slowest_s = jnp.max(jnp.where(here, inside_s, 0.0))
    return _Inside(jnp.sum(leads, dtype=jnp.int32), leads, sent, slowest_s)


def _exchange(
    plan: WorldPlan, world: World, rounds: jax.Array, cycle: jax.Array, here: jax.Array, at: Instant
) -> _Sent:
    """Draw the exchange of those `here [worker]` from `at` on, bound by the slowest link.

    The regions exchange among themselves in every `outer_every`-th round.
    """
    knobs = world.knobs
    count, speaks, inside = jnp.sum(here, dtype=jnp.int32), here, None
    if plan.exchange == "hierarchical":
        assert knobs.site is not None
        inside = _in_region(knobs.site, knobs.update_bits, here)
        outer = rounds % knobs.site.outer_every == knobs.site.outer_every - 1
        count, speaks = jnp.where(outer, inside.regions, 1), inside.leads & outer
    shape = _shape(BETWEEN_REGIONS if inside else plan.exchange, count)

    def one(
        place: jax.Array, worker: Worker, cycle: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        bits = staged(plan, knobs, cycle)[0].update_bits * shape.payloads
        sent = Fetch(jnp.array(False), jnp.int32(0), bits)
        own = replace(knobs, local_steps=worker.steps)
        moved = transfers(
            plan, own, worker.link, world.ready, place, cycle, sent, jnp.float32(0), at
        )
        return moved.download_s, moved.wire_down_s  # a peer's link is the same both ways

    sent_s, wire_s = jax.vmap(one)(jnp.arange(plan.workers), world.workers, cycle)
    slowest = jnp.max(jnp.where(speaks, sent_s, 0.0))
    latency = jnp.max(jnp.where(speaks, knobs.delay_s, 0.0))
    seconds = jnp.where(count > 1, slowest + (shape.messages - 1.0) * latency, 0.0)
    payloads = jnp.where(speaks, shape.payloads * payload_share(plan, knobs, cycle), 0.0)
    wire_s = jnp.where(speaks, wire_s, 0.0)
    if inside is None:
        return _Sent(seconds, payloads, wire_s)
    assert knobs.site is not None
    local_s = knobs.update_bits * inside.payloads / knobs.site.bandwidth_bps
    return _Sent(seconds + inside.seconds, payloads + inside.payloads, wire_s + local_s)


def all_reduce(
    plan: WorldPlan, world: World, state: Any, walked: Walk, delivered: jax.Array
) -> Reduced:
    """Let all who have computed exchange their updates as soon as the last of them is ready.

    `state` is the barrier's before the round. The exchange hides behind the next `overlap_steps`
    steps of the slowest worker and, where it streams out as the gradient appears, behind the last
    backward pass. An outage of a member pauses it for everybody, one that wipes its memory or cuts
    it off loses its update.
    """
    knobs = world.knobs
    ready = clock.latest(walked.end, delivered)
    sent = _exchange(plan, world, state.rounds, state.cycle, delivered, ready)
    step_s = jnp.max(jnp.where(delivered, walked.busy_s / world.workers.steps, 0.0))
    ahead = knobs.overlap_steps + jnp.where(knobs.overlap, BACKWARD_SHARE, 0.0)
    left_s = jnp.maximum(sent.seconds - ahead * step_s, 0.0)
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
    return Reduced(joined, sent.payloads, sent.wire_s)


def shared_down_s(server: ServerKnobs, bits: jax.Array, here: jax.Array) -> jax.Array:
    """Return when each download `[worker]` is through the coordinator's egress, all begun at once.

    Processor sharing: a flow is through when every flow has had as many bits as it, or all its own.
    """
    own = jnp.where(here, bits, 0.0)
    before = jnp.sum(jnp.minimum(own[:, None], own[None]), axis=1)
    return jnp.where(jnp.isinf(server.egress_bps), 0.0, before / server.egress_bps)


def shared_up_s(
    server: ServerKnobs, bits: jax.Array, begin_s: jax.Array, alone_bps: jax.Array
) -> jax.Array:
    """Return when each upload `[worker]` that begins at `begin_s` is through the shared ingress.

    Fluid flows with max-min fair shares, from one beginning or end to the next; a flow that never
    begins has an infinite beginning.
    """
    count = begin_s.shape[0]
    index = jnp.arange(count)

    def event(
        _: jax.Array, carry: tuple[Flows, jax.Array, jax.Array, jax.Array]
    ) -> tuple[Flows, jax.Array, jax.Array, jax.Array]:
        flows, ahead_s, through_s, now_s = carry
        rate_bps = fair_bps(flows, server.ingress_bps)
        wait_s = due_s(flows, rate_bps)
        first, following = jnp.argmin(wait_s), jnp.argmin(ahead_s)
        ends = now_s + wait_s[first] <= ahead_s[following]
        at_s = jnp.where(ends, now_s + wait_s[first], ahead_s[following])
        live = jnp.isfinite(at_s)
        flows = drained(flows, rate_bps, jnp.where(live, at_s - now_s, 0.0))
        over, new = (index == first) & ends & live, (index == following) & ~ends & live
        left = jnp.where(over, 0.0, jnp.where(new, bits, flows.left))
        return (
            Flows(left, alone_bps), jnp.where(new, jnp.inf, ahead_s),
            jnp.where(over, at_s, through_s), jnp.where(live, at_s, now_s),
        )  # fmt: skip

    never_s = jnp.full_like(begin_s, jnp.inf)
    start = (Flows(jnp.zeros_like(begin_s), alone_bps), begin_s, never_s, jnp.float32(0))
    return jax.lax.fori_loop(0, 2 * count, event, start)[2]
