"""Event protocol: exact next-event order; each slot of a tick holds one cycle end.

A cycle ends with an arrival, which is accepted or (too stale) rejected, or with a loss, which is
recorded when its worker is back: then the worker fetches the newest model, so the version it works
on is always known. A worker that joins late opens with an empty slot that is nobody's cycle.

The ticks before the first (`warmup`) send every worker off, one a slot.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import replace, row
from jaxwan.core.tick import Tick
from jaxwan.world.ahead import Lead, joined, must_wait, nobody_ahead, wake
from jaxwan.world.compute import Pace, compute_s
from jaxwan.world.exchange import (
    Transfers,
    fetch_bits,
    payload_share,
    transfers,
    warming,
    what_to_fetch,
)
from jaxwan.world.failures import await_up, walk
from jaxwan.world.ingress import Flows, drained, fair_bps, first_through, no_flows
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.record import Lived
from jaxwan.world.rows import pack, unpack
from jaxwan.world.spells import Luck, slowed_at
from jaxwan.world.state import (
    NO_WORKERS,
    OUTAGE_BOUND,
    Counts,
    Moment,
    Worker,
    World,
    applied_by,
    attacking,
    count,
    no_counts,
)


class Pending(NamedTuple):
    """The cycle one worker is in: its outcome is known, its end lies ahead."""

    lost: jax.Array
    joining: jax.Array  # not a cycle: the worker comes online, or waits for slower ones
    wiped: jax.Array
    cycle: jax.Array  # int32
    version: jax.Array  # int32; the version it works on
    applied: jax.Array  # int32; contributions in that version
    dense: jax.Array  # it fetched the dense model
    updates: jax.Array  # int32; or so many updates
    busy_s: jax.Array
    computed: Instant  # when its computing ends
    latency_s: jax.Array
    transfer_s: jax.Array
    wire_up_s: jax.Array
    wire_down_s: jax.Array
    spells: jax.Array  # int32 [process, 5]; passed up to the end


class EventState(NamedTuple):
    """What the next cycle end needs."""

    now: Instant
    ticks: jax.Array  # int32; so far, negative while warming up
    cycle_ends: jax.Array  # int32; so far
    version: jax.Array  # int32
    applied: jax.Array  # int32; contributions in the newest version
    end: Instant  # [worker]
    pending: jax.Array  # int32 [worker, field]; packed
    counts: Counts
    status: jax.Array
    lead: Lead | None = None  # where workers that are too far ahead wait
    flows: Flows | None = None  # where uploads share the coordinator's ingress


def warmup(plan: WorldPlan) -> int:
    """Return how many ticks it takes to send every worker off."""
    return -(-plan.workers // plan.slots)


def _idle(spells: jax.Array) -> Pending:
    """Return the pending cycle of a worker that has not begun."""
    no, zero, none = jnp.array(False), jnp.int32(0), jnp.float32(0)
    return Pending(
        lost=no, joining=~no, wiped=~no, cycle=jnp.int32(-1), version=zero, applied=zero, dense=no,
        updates=zero, busy_s=none, computed=clock.never(), latency_s=none, transfer_s=none,
        wire_up_s=none, wire_down_s=none, spells=spells,
    )  # fmt: skip


_NO_SPELLS = jax.eval_shape(_idle, jax.ShapeDtypeStruct((0, 5), jnp.int32))
_FACTS = len(jax.tree.leaves(_NO_SPELLS)) - 1  # fields before the spells, one word each


def _unpack(packed: jax.Array) -> Pending:
    """Return the pending cycle that was packed."""
    spells = jax.ShapeDtypeStruct(((packed.shape[0] - _FACTS) // 5, 5), jnp.int32)
    return unpack(_NO_SPELLS._replace(spells=spells), packed)


def begin(plan: WorldPlan, world: World) -> EventState:
    """Return the state before the warm-up: everybody idle at time zero, who is absent for ever."""
    n = plan.workers
    zero = jnp.int32(0)
    return EventState(
        now=clock.start_of_time(), ticks=jnp.int32(-warmup(plan)), cycle_ends=zero, version=zero,
        applied=zero,
        end=clock.choose(world.knobs.present, clock.start_of_time((n,)), clock.never((n,))),
        pending=jax.vmap(lambda spells: pack(_idle(spells)))(world.first), counts=no_counts(n),
        status=zero, lead=nobody_ahead(world.workers.online) if plan.blocking else None,
        flows=no_flows(n) if plan.shared else None,
    )  # fmt: skip


class _End(NamedTuple):
    """One cycle end as the coordinator sees it."""

    live: jax.Array  # the run is not over
    opens: jax.Array  # no cycle end: the worker is sent off for the first time
    worker: jax.Array
    at: Instant
    done: Pending
    age: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    lost: jax.Array
    sends: jax.Array  # no cycle end: the upload reaches the shared ingress


def _goes_on(knobs: WorldKnobs, state: EventState) -> jax.Array:
    """Tell whether the run's budget of ticks and of cycle ends has room."""
    room = (state.ticks < knobs.ticks) & (state.cycle_ends < knobs.cycle_ends)
    return room & (state.status == 0)


def _next_end(plan: WorldPlan, knobs: WorldKnobs, state: EventState, slot: jax.Array) -> _End:
    """Find the earliest pending end; ties go to the lower worker index."""
    opens = state.ticks < 0
    turn = (state.ticks + warmup(plan)) * plan.slots + slot
    worker = jnp.where(opens, jnp.minimum(turn, plan.workers - 1), clock.earliest(state.end))
    at, packed = row((state.end, state.pending), worker)
    through = jnp.array(not plan.shared)
    if state.flows is not None:
        assert knobs.server is not None
        flow, when, _ = first_through(state.flows, knobs.server.ingress_bps, state.now)
        through = clock.is_before(when, at) & ~opens
        worker = jnp.where(through, flow, worker)
        at = clock.choose(through, when, at)
        packed = row(state.pending, worker)
    done = _unpack(packed)
    if state.flows is not None:
        latency_s = jnp.where(through, clock.since(at, done.computed), done.latency_s)
        download_s = done.transfer_s - done.latency_s
        done = done._replace(latency_s=latency_s, transfer_s=download_s + latency_s)
    live = _goes_on(knobs, state) & ~clock.is_never(at) & (~opens | (turn < plan.workers))
    age = state.version - done.version
    sends = live & ~done.lost & ~opens & ~through
    arrives = live & ~done.lost & ~opens & through
    fits = jnp.array(plan.blocking) | (age <= knobs.max_staleness)
    lost = live & done.lost & ~done.joining
    return _End(live, opens, worker, at, done, age, arrives & fits, arrives & ~fits, lost, sends)


def _count(plan: WorldPlan, knobs: WorldKnobs, counts: Counts, end: _End, hit: jax.Array) -> Counts:
    """Add one cycle end to the counts."""
    arrived = end.accepted | end.rejected
    ended = arrived | end.lost
    done = end.done
    age = jnp.where(end.accepted, end.age, 0)
    events = (
        end.accepted, end.rejected, end.lost, age, ended & done.dense,
        jnp.where(ended, done.updates, 0),
    )  # fmt: skip
    delivered = (done.transfer_s, done.latency_s, done.wire_up_s, done.wire_down_s)
    seconds = (
        jnp.where(ended, done.busy_s, 0.0), *(jnp.where(arrived, s, 0.0) for s in delivered),
        jnp.where(arrived, payload_share(plan, knobs, done.cycle), 0.0),
    )  # fmt: skip
    return count(counts, events, seconds, age, hit & end.accepted, hit & arrived)


class _Start(NamedTuple):
    """What the next cycle starts from."""

    version: jax.Array
    applied: jax.Array


class _Begun(NamedTuple):
    """How a cycle begins, for those who watch."""

    at: Instant
    slowed: jax.Array  # bool
    alone_bps: jax.Array  # what its upload could use, where the ingress is shared


def _start_cycle(
    plan: WorldPlan, world: World, end: _End, start: _Start
) -> tuple[Instant, Pending, jax.Array, _Begun]:
    """Work out the next cycle of the worker whose cycle ended, to its arrival or recovery.

    Returns (end, pending, loop bound met, beginning). A worker that opens offline only waits to
    join.
    """
    knobs, done = world.knobs, end.done
    shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype),
                         world.workers)  # fmt: skip
    worker: Worker = unpack(shape, row(world.packed, end.worker))
    away = end.opens & ~worker.online
    luck = Luck(world.laws, worker.spell_key)
    begin = clock.choose(end.live, end.at, clock.never())
    wiped = jnp.array(False)
    if plan.blocking or plan.shared:  # spells passed by while it waited
        up = await_up(luck, done.spells, begin)
        begin, wiped = up.end, up.wiped
        done = done._replace(spells=up.spells, wiped=done.wiped | wiped)
    cycle = done.cycle + 1
    pace = Pace(worker.compute_key, worker.speed, slowed_at(done.spells, begin))
    knobs = replace(knobs, local_steps=worker.steps)
    compute = compute_s(knobs, pace, cycle)
    anew = done.wiped | warming(knobs, cycle)
    fetch = what_to_fetch(knobs, start.applied - done.applied, anew)
    moved: Transfers = transfers(
        plan, knobs, worker.link, world.ready, end.worker, cycle, fetch, compute, begin
    )
    upload_s, alone_bps = moved.upload_s, jnp.float32(0)
    if plan.shared:  # only the way to the ingress; there it flows
        way_s = jnp.minimum(worker.link.delay_s, upload_s)
        alone_bps = knobs.update_bits / (upload_s - way_s)
        upload_s = way_s
    work = (moved.download_s, compute, upload_s)
    walked = walk(luck, done.spells, begin, work, lost=away)
    latency_s = clock.since(walked.end, walked.computed)
    pending = Pending(
        lost=walked.lost, joining=away, wiped=walked.wiped | away | wiped,
        cycle=jnp.where(away, -1, cycle),
        version=start.version, applied=start.applied, dense=fetch.dense, updates=fetch.updates,
        busy_s=walked.busy_s, computed=walked.computed, latency_s=latency_s,
        transfer_s=moved.download_s + latency_s, wire_up_s=moved.wire_up_s,
        wire_down_s=moved.wire_down_s, spells=walked.spells,
    )  # fmt: skip
    return walked.end, pending, walked.exhausted, _Begun(begin, pace.slowed, alone_bps)


def in_flight_s(state: EventState) -> jax.Array:
    """Return the seconds computed in cycles that the end of the run cut off."""
    pending = jax.vmap(_unpack)(state.pending)
    now = jax.tree.map(lambda x: x[None], state.now)
    ahead = jnp.maximum(clock.since(pending.computed, now), 0.0)
    done = jnp.clip(pending.busy_s - ahead, 0.0, pending.busy_s)
    return jnp.sum(jnp.where(pending.joining, 0.0, done))


def _hold(
    knobs: WorldKnobs, end: _End, hit: jax.Array, lead: Lead, ends: Instant, pending: Pending
) -> tuple[Lead, Instant, Pending]:
    """Let the worker whose cycle ended wait if it is too far ahead, and wake whom it held up.

    A waiting worker has no end; when it is woken its end is at once, and is no cycle.
    """
    done = end.done
    joins = hit & done.joining & (done.cycle < 0) & ~end.opens
    lead = joined(lead, joins, ~clock.is_never(ends))
    lead = lead._replace(cycles=lead.cycles + (hit & ~done.joining & ~end.opens))
    waits = hit & ~done.joining & must_wait(lead, knobs.max_staleness, ~clock.is_never(ends) | hit)
    kept = done._replace(joining=jnp.array(True), lost=jnp.array(True))
    held = jnp.any(waits)
    pending = jax.tree.map(lambda own, next_one: jnp.where(held, own, next_one), kept, pending)
    ends = clock.choose(waits, clock.never(waits.shape), ends)
    lead = lead._replace(waits=(lead.waits & ~hit) | waits)
    lead, ends = wake(lead, knobs.max_staleness, ends, end.at)
    return lead, ends, pending


def _flow(
    knobs: WorldKnobs, state: EventState, flows: Flows, end: _End, own: jax.Array, begun: _Begun
) -> Flows:
    """Let the flows go on until an event; one may begin then, or be through."""
    assert knobs.server is not None
    rate_bps = fair_bps(flows, knobs.server.ingress_bps)
    passed_s = jnp.where(end.live, clock.since(end.at, state.now), 0.0)
    flows = drained(flows, rate_bps, passed_s)
    left = jnp.where(end.sends, knobs.update_bits, 0.0)
    return Flows(
        jnp.where(own, left, flows.left),
        jnp.where(own & ~end.sends, begun.alone_bps, flows.alone_bps),
    )


def _slot(world: World, end: _End) -> Tick:
    """Write one cycle end down for the learner."""
    real = end.live & ~end.opens & ~end.sends
    woken = end.done.joining & (end.done.cycle >= 0)
    return Tick(
        worker=end.worker,
        cycle=end.done.cycle,
        base_age=end.age,
        weight=end.accepted.astype(jnp.float32),
        steps=row(world.workers.steps, end.worker),
        attacker=row(world.knobs.attacker, end.worker) & real & attacking(world.knobs, end.at),
        fresh=end.done.wiped & real & ~woken,
        fetched=real,
    )


def _lived(
    plan: WorldPlan, world: World, end: _End, begun: _Begun, pending: Pending
) -> Lived:
    """Tell what the worker lives through in the cycle that follows an end."""
    knobs, several = world.knobs, pending.updates * fetch_bits(world.knobs)
    return Lived(
        began=end.live & ~end.sends & ~pending.joining, worker=end.worker, cycle=pending.cycle,
        begin=begun.at, busy_s=pending.busy_s, computed=pending.computed, sends=pending.computed,
        ended=end.at, lost=pending.lost, cancelled=jnp.array(False), slowed=begun.slowed,
        down_bits=jnp.where(pending.dense, knobs.dense_bits, several),
        up_bits=knobs.update_bits * payload_share(plan, knobs, pending.cycle),
    )  # fmt: skip


def tick(plan: WorldPlan, world: World, state: EventState) -> tuple[EventState, Moment]:
    """Take the next K cycle ends: the world's step under an event protocol."""
    knobs = world.knobs
    index = jnp.arange(plan.workers, dtype=jnp.int32)

    def one(
        carry: tuple[EventState, jax.Array], slot: jax.Array
    ) -> tuple[tuple[EventState, jax.Array], tuple[Tick, Lived | None]]:
        state, taken = carry
        end = _next_end(plan, knobs, state, slot)
        taken = taken + end.accepted
        flush = slot == plan.slots - 1
        version = state.version + (flush & (taken > 0))
        applied = state.applied + jnp.where(flush, applied_by(plan, taken), 0)
        nobody = clock.is_never(end.at) & ~end.opens & _goes_on(knobs, state)
        next_end, pending, bound, begun = _start_cycle(plan, world, end, _Start(version, applied))
        own = (index == end.worker) & end.live
        hit = own & ~end.sends
        ends = jax.tree.map(lambda new, old: jnp.where(hit, new, old), next_end, state.end)
        lead = state.lead
        if lead is not None:
            lead, ends, pending = _hold(knobs, end, hit, lead, ends, pending)
        flows = state.flows
        if flows is not None:
            flows = _flow(knobs, state, flows, end, own, begun)
            ends = clock.choose(own & end.sends, clock.never(own.shape), ends)
        status = jnp.where(nobody, NO_WORKERS, 0) | jnp.where(bound & end.live, OUTAGE_BOUND, 0)
        state = EventState(
            now=clock.choose(end.live, end.at, state.now),
            ticks=state.ticks,
            cycle_ends=state.cycle_ends + (end.live & ~end.done.joining & ~end.sends),
            version=version,
            applied=applied,
            end=ends,
            pending=jnp.where(hit[:, None], pack(pending)[None], state.pending),
            counts=_count(plan, knobs, state.counts, end, hit),
            status=state.status | status,
            lead=lead,
            flows=flows,
        )
        lived = _lived(plan, world, end, begun, pending) if plan.watched else None
        return (state, taken), (_slot(world, end), lived)

    slots = jnp.arange(plan.slots, dtype=jnp.int32)
    (state, _), (record, lived) = jax.lax.scan(one, (state, jnp.int32(0)), slots)
    state = state._replace(ticks=state.ticks + 1)
    return state, Moment(record, state.now, state.version, lived)
