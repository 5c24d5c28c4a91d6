"""Event protocol: exact next-event order; each slot of a tick holds one cycle end.

A cycle ends with an arrival, which is accepted or (too stale) rejected, or with a loss, which is
recorded when its worker is back: then the worker fetches the newest model, so the version it works
on is always known. A worker that joins late opens with an empty slot that is nobody's cycle.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, replace, row
from jaxwan.core.tick import Tick
from jaxwan.world import failures
from jaxwan.world.compute import Pace, compute_s
from jaxwan.world.exchange import Link, Transfers, links, transfers, what_to_fetch
from jaxwan.world.failures import Outages
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.state import (
    NO_WORKERS,
    OUTAGE_BOUND,
    Moment,
    Totals,
    WorldKeys,
    first_outages,
    no_totals,
)


@pytree
class Pending:
    """The cycle each worker is in, all `[worker]`: its outcome is known, its end lies ahead."""

    end: Instant
    lost: jax.Array
    joining: jax.Array  # not a cycle: the worker comes online
    wiped: jax.Array
    cycle: jax.Array  # int32
    version: jax.Array  # int32; the version it works on
    applied: jax.Array  # int32; contributions in that version
    dense: jax.Array  # it fetched the dense model
    updates: jax.Array  # int32; or so many updates
    busy_s: jax.Array
    latency_s: jax.Array
    transfer_s: jax.Array
    wire_up_s: jax.Array
    wire_down_s: jax.Array


@pytree
class EventState:
    """What the next cycle end needs."""

    now: Instant
    ticks: jax.Array  # int32; so far
    cycle_ends: jax.Array  # int32; so far
    version: jax.Array  # int32
    applied: jax.Array  # int32; contributions in the newest version
    pending: Pending
    outages: Outages  # [worker, process]
    slow: Outages  # [worker, 1]
    totals: Totals
    status: jax.Array


class _Start(NamedTuple):
    """What one worker's next cycle starts from."""

    begin: Instant
    cycle: jax.Array
    version: jax.Array
    applied: jax.Array
    missed: jax.Array  # int32; contributions since its last fetch
    anew: jax.Array  # bool; it holds no model


def _start_cycle(
    plan: WorldPlan,
    knobs: WorldKnobs,
    world_keys: WorldKeys,
    link: Link,
    speed: jax.Array,
    outages: Outages,
    slow: Outages,
    start: _Start,
) -> tuple[Pending, Outages, Outages, jax.Array]:
    """Work one worker's next cycle out, to its arrival or its recovery from a loss."""
    slow = failures.catch_up(knobs.slowdown, world_keys.slowdown, slow, start.begin)
    slowed = ~clock.is_before(start.begin, slow.start)[0]
    compute = compute_s(knobs, Pace(world_keys.compute, speed, slowed), start.cycle)
    fetch = what_to_fetch(knobs, start.missed, start.anew)
    moved: Transfers = transfers(plan, knobs, link, start.cycle, fetch, compute)
    walk = failures.walk(
        knobs.outages, world_keys.outages, outages, start.begin,
        moved.download_s, compute, moved.upload_s,
    )  # fmt: skip
    upload_s = clock.since(walk.end, start.begin) - moved.download_s - compute
    upload_s = jnp.maximum(upload_s, moved.upload_s)
    pending = Pending(
        end=walk.end, lost=walk.lost, joining=jnp.array(False), wiped=walk.wiped,
        cycle=start.cycle, version=start.version, applied=start.applied, dense=fetch.dense,
        updates=fetch.updates, busy_s=walk.busy_s, latency_s=upload_s,
        transfer_s=moved.download_s + upload_s, wire_up_s=moved.wire_up_s,
        wire_down_s=moved.wire_down_s,
    )  # fmt: skip
    return pending, walk.outages, slow, walk.exhausted


def begin(plan: WorldPlan, knobs: WorldKnobs, world_keys: WorldKeys) -> EventState:
    """Return the state before the first event: who is online has begun, the others will join."""
    n = plan.workers
    outages, slow = first_outages(knobs, world_keys)
    zero = jnp.int32(0)
    start_of_time = clock.start_of_time((n,))

    def one(worker_keys: WorldKeys, link: Link, speed: jax.Array, out: Outages, slow: Outages):
        fresh = _Start(clock.start_of_time(), zero, zero, zero, zero, jnp.array(True))
        return _start_cycle(plan, knobs, worker_keys, link, speed, out, slow, fresh)

    first = jax.vmap(one)(
        world_keys, links(knobs, world_keys.link), knobs.speed, outages, slow
    )
    online, online_outages, online_slow, bound = first
    join = jax.vmap(failures.await_up, in_axes=(None, 0, 0, 0, None))
    away_outages, joins, _, _ = join(
        knobs.outages, world_keys.outages, outages, start_of_time, clock.start_of_time()
    )
    away = ~knobs.online
    pending = replace(
        online,
        end=clock.choose(away, joins, online.end),
        joining=away,
        lost=away | online.lost,
        wiped=away | online.wiped,
        cycle=jnp.where(away, -1, 0),
    )
    pending = replace(
        pending, end=clock.choose(knobs.present, pending.end, clock.never((n,)))
    )

    def pick(a: Outages, b: Outages) -> Outages:
        return jax.tree.map(lambda x, y: jnp.where(away[:, None], x, y), a, b)

    return EventState(
        now=clock.start_of_time(), ticks=zero, cycle_ends=zero, version=zero, applied=zero,
        pending=pending, outages=pick(away_outages, online_outages), slow=pick(slow, online_slow),
        totals=no_totals(n), status=jnp.where(jnp.any(bound), OUTAGE_BOUND, 0).astype(jnp.int32),
    )  # fmt: skip


class _End(NamedTuple):
    """One cycle end as the coordinator sees it."""

    live: jax.Array  # the run is not over
    worker: jax.Array
    hit: jax.Array  # bool [worker]; this worker, if live
    done: Pending  # its row
    age: jax.Array
    accepted: jax.Array
    rejected: jax.Array
    lost: jax.Array


def _goes_on(knobs: WorldKnobs, state: EventState) -> jax.Array:
    """Tell whether the run's budget of ticks and of cycle ends has room."""
    return (state.ticks < knobs.ticks) & (state.cycle_ends < knobs.cycle_ends)


def _next_end(knobs: WorldKnobs, state: EventState) -> _End:
    """Find the earliest pending end; ties go to the lower worker index."""
    pending = state.pending
    worker = clock.earliest(pending.end)
    done = row(pending, worker)
    live = _goes_on(knobs, state) & ~clock.is_never(done.end)
    hit = (jnp.arange(pending.lost.shape[0], dtype=jnp.int32) == worker) & live
    age = state.version - done.version
    arrives = live & ~done.lost
    fits = age <= knobs.max_staleness
    lost = live & done.lost & ~done.joining
    return _End(live, worker, hit, done, age, arrives & fits, arrives & ~fits, lost)


def _count(totals: Totals, end: _End) -> Totals:
    """Add one cycle end to the totals."""
    arrived = end.accepted | end.rejected
    ended = arrived | end.lost
    done = end.done

    def seconds(mask: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.where(mask, value, 0.0)

    accepted_age = jnp.where(end.accepted, end.age, 0)
    return Totals(
        accepted=totals.accepted + end.accepted,
        rejected=totals.rejected + end.rejected,
        lost=totals.lost + end.lost,
        staleness_sum=totals.staleness_sum + accepted_age,
        staleness_max=jnp.maximum(totals.staleness_max, accepted_age),
        dense_fetches=totals.dense_fetches + (ended & done.dense),
        missed_updates=totals.missed_updates + jnp.where(ended, done.updates, 0),
        busy=clock.add(totals.busy, seconds(ended, done.busy_s)),
        transfer=clock.add(totals.transfer, seconds(arrived, done.transfer_s)),
        latency=clock.add(totals.latency, seconds(arrived, done.latency_s)),
        on_wire_up=clock.add(totals.on_wire_up, seconds(arrived, done.wire_up_s)),
        on_wire_down=clock.add(totals.on_wire_down, seconds(arrived, done.wire_down_s)),
        contributions=totals.contributions + (end.hit & end.accepted),
        arrivals=totals.arrivals + (end.hit & arrived),
    )


def _restart(
    plan: WorldPlan,
    knobs: WorldKnobs,
    world_keys: WorldKeys,
    state: EventState,
    end: _End,
    version: jax.Array,
    applied: jax.Array,
) -> EventState:
    """Start the next cycle of the worker whose cycle ended, on the newest version."""
    mine = (world_keys, state.outages, state.slow, links(knobs, world_keys.link), knobs.speed)
    own_keys, outages, slow, link, speed = row(mine, end.worker)
    start = _Start(
        begin=end.done.end,
        cycle=end.done.cycle + 1,
        version=version,
        applied=applied,
        missed=applied - end.done.applied,
        anew=end.done.wiped,
    )
    made = _start_cycle(plan, knobs, own_keys, link, speed, outages, slow, start)
    pending, outages, slow, bound = made

    def write(new: jax.Array, old: jax.Array) -> jax.Array:
        mask = end.hit.reshape(end.hit.shape + (1,) * (old.ndim - 1))
        return jnp.where(mask, new[None], old)

    return replace(
        state,
        pending=jax.tree.map(write, pending, state.pending),
        outages=jax.tree.map(write, outages, state.outages),
        slow=jax.tree.map(write, slow, state.slow),
        now=clock.choose(end.live, end.done.end, state.now),
        status=state.status | jnp.where(bound & end.live, OUTAGE_BOUND, 0),
    )


def _slot(end: _End, attacker: jax.Array) -> Tick:
    """Write one cycle end down for the learner."""
    return Tick(
        worker=end.worker,
        cycle=end.done.cycle,
        base_age=end.age,
        weight=end.accepted.astype(jnp.float32),
        attacker=attacker[end.worker] & end.live,
        fresh=end.done.wiped & end.live,
        fetched=end.live,
    )


def tick(
    plan: WorldPlan, knobs: WorldKnobs, world_keys: WorldKeys, state: EventState
) -> tuple[EventState, Moment]:
    """Take the next K cycle ends: the world's step under an event protocol."""

    def one(carry: tuple[EventState, jax.Array], slot: jax.Array):
        state, taken = carry
        end = _next_end(knobs, state)
        taken = taken + end.accepted
        flush = slot == plan.slots - 1
        version = state.version + (flush & (taken > 0))
        applied = state.applied + jnp.where(flush, taken, 0)
        nobody = clock.is_never(end.done.end) & _goes_on(knobs, state)
        state = _restart(plan, knobs, world_keys, state, end, version, applied)
        state = replace(
            state,
            cycle_ends=state.cycle_ends + (end.live & ~end.done.joining),
            totals=_count(state.totals, end),
            version=version,
            applied=applied,
            status=state.status | jnp.where(nobody, NO_WORKERS, 0),
        )
        return (state, taken), _slot(end, knobs.attacker)

    slots = jnp.arange(plan.slots, dtype=jnp.int32)
    (state, _), record = jax.lax.scan(one, (state, jnp.int32(0)), slots)
    state = replace(state, ticks=state.ticks + 1)
    return state, Moment(record, state.now, state.version)
