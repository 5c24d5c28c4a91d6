"""Barrier protocol: one round per tick, all workers that are alive at its start take part."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import replace
from jaxwan.core.tick import Tick
from jaxwan.world.closing import close
from jaxwan.world.compute import Pace, compute_s
from jaxwan.world.exchange import (
    Fetch,
    Transfers,
    payload_share,
    transfers,
    warming,
    what_to_fetch,
)
from jaxwan.world.failures import Wait, Walk, await_up, walk
from jaxwan.world.plan import WorldPlan
from jaxwan.world.record import Lived
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
from jaxwan.world.together import all_reduce, shared_down_s, shared_up_s


class BarrierState(NamedTuple):
    """What a round needs from the rounds before it."""

    now: Instant
    rounds: jax.Array
    version: jax.Array
    cycle: jax.Array  # int32 [worker]
    applied: jax.Array  # int32; contributions in the newest version
    seen: jax.Array  # int32 [worker]; contributions in the version last fetched
    stranger: jax.Array  # bool [worker]; holds no model, the next fetch is dense
    ready: Instant  # [worker]; up from here until the next outage
    spells: jax.Array  # int32 [worker, process, 5]
    counts: Counts
    status: jax.Array


class _Round(NamedTuple):
    """One round as the workers lived it, all `[worker]`."""

    takes_part: jax.Array
    delivered: jax.Array
    lost: jax.Array
    cancelled: jax.Array  # still on their way when the round closed
    fetched: jax.Array  # the download was through when the round closed
    fetch: Fetch
    moved: Transfers
    payloads: jax.Array  # sent, in payloads
    wire_up_s: jax.Array
    wire_down_s: jax.Array
    sends: Instant  # from here on an update is on the way
    walk: Walk
    closes: Instant  # a scalar


def begin(plan: WorldPlan, world: World) -> BarrierState:
    """Return the state before the first round."""
    n = plan.workers
    zero, none = jnp.int32(0), jnp.zeros(n, jnp.int32)
    absent = clock.never((n,))
    return BarrierState(
        now=clock.start_of_time(), rounds=zero, version=zero, cycle=none, applied=zero, seen=none,
        stranger=jnp.ones(n, bool), spells=world.first,
        ready=clock.choose(world.knobs.present, clock.start_of_time((n,)), absent),
        counts=no_counts(n), status=zero,
    )  # fmt: skip


def _await_up(world: World, state: BarrierState) -> Wait:
    """Let every worker wait until it is up, now or later."""
    now = clock.latest_of(state.ready, _in_fleet(state.now))

    def one(own: jax.Array, spells: jax.Array, now: Instant) -> Wait:
        return await_up(Luck(world.laws, own), spells, now)

    return jax.vmap(one)(world.workers.spell_key, state.spells, now)


def _in_fleet(instant: Instant) -> Instant:
    """Return a scalar instant as `[1]`, to stand beside the workers'."""
    return jax.tree.map(lambda x: x[None], instant)


def _move(
    plan: WorldPlan, world: World, state: BarrierState, start: Instant, here: jax.Array
) -> tuple[Fetch, Transfers, jax.Array]:
    """Draw everybody's transfers and seconds of computation for a round, all `[worker]`."""
    knobs = world.knobs
    anew = state.stranger | warming(knobs, state.cycle)
    fetch = what_to_fetch(knobs, state.applied - state.seen, anew)

    def one(
        place: jax.Array, worker: Worker, spells: jax.Array, cycle: jax.Array, fetch: Fetch
    ) -> tuple[Transfers, jax.Array]:
        own = replace(knobs, local_steps=worker.steps)
        pace = Pace(worker.compute_key, worker.speed, slowed_at(spells, start))
        compute = compute_s(own, pace, cycle)
        moved = transfers(
            plan, own, worker.link, world.ready, place, cycle, fetch, compute, start
        )
        return moved, compute

    places = jnp.arange(plan.workers)
    moved, compute = jax.vmap(one)(places, world.workers, state.spells, state.cycle, fetch)
    if plan.exchange != "star":  # the result of an all-reduce is already there
        idle = fetch.bits <= 0
        none = jnp.zeros_like(moved.upload_s)
        moved = moved._replace(download_s=jnp.where(idle, 0.0, moved.download_s), upload_s=none)
    elif plan.shared:
        assert knobs.server is not None
        queued = shared_down_s(knobs.server, fetch.bits, here) - moved.wire_down_s
        moved = moved._replace(download_s=moved.download_s + jnp.maximum(queued, 0.0))
    return fetch, moved, compute


def _work(
    plan: WorldPlan, world: World, state: BarrierState, start: Instant, takes_part: jax.Array
) -> _Round:
    """Let every worker that takes part download, compute and upload, and close the round."""
    knobs = world.knobs
    fetch, moved, compute = _move(plan, world, state, start, takes_part)

    def one(
        own: jax.Array, spells: jax.Array, work: tuple[jax.Array, jax.Array, jax.Array],
        start: Instant,
    ) -> Walk:  # fmt: skip
        luck = Luck(world.laws, own)
        return walk(luck, spells, start, work, resume_download=False)

    begin = clock.choose(takes_part, _in_fleet(start), clock.never(takes_part.shape))
    work = (moved.download_s, compute, moved.upload_s)
    walked = jax.vmap(one)(world.workers.spell_key, state.spells, work, begin)
    payloads, sends = payload_share(plan, knobs, state.cycle), walked.computed
    wire_up_s, wire_down_s = moved.wire_up_s, moved.wire_down_s
    if plan.shared and plan.exchange == "star":
        walked = _queue(plan, world, walked, moved, start, takes_part)
    if plan.exchange != "star":
        ready = takes_part & ~walked.lost & ~clock.is_never(walked.end)
        sends = clock.choose(ready, _in_fleet(clock.latest(walked.end, ready)), sends)
        walked, payloads, wire_up_s = all_reduce(plan, world, state, walked, ready)
        wire_down_s = wire_down_s + wire_up_s  # what a peer sends another receives
    lost = takes_part & walked.lost
    delivered = takes_part & ~walked.lost & ~clock.is_never(walked.end)
    noticed = clock.add(walked.lost_at, jnp.broadcast_to(knobs.detection_s, lost.shape))
    known_at = clock.choose(walked.lost, noticed, walked.end)
    cancelled = jnp.zeros_like(lost)
    if plan.early:
        assert knobs.closing is not None
        closed = close(knobs.closing, start, walked.end, known_at, delivered, takes_part)
        closes, cancelled = closed.at, closed.cancelled
    else:
        closes = clock.latest(known_at, takes_part)
    fetched = ~clock.is_before(_in_fleet(closes), clock.add(begin, moved.download_s))
    return _Round(
        takes_part, delivered & ~cancelled, lost & ~cancelled, cancelled, fetched, fetch, moved,
        payloads, wire_up_s, wire_down_s, sends, walked, closes,
    )  # fmt: skip


def _queue(
    plan: WorldPlan, world: World, walked: Walk, moved: Transfers, start: Instant, here: jax.Array
) -> Walk:
    """Let the uploads wait for one another at the coordinator's ingress."""
    knobs = world.knobs
    assert knobs.server is not None
    sent = here & ~walked.lost & ~clock.is_never(walked.end)
    end_s = clock.since(walked.end, _in_fleet(start))
    service_s = jnp.maximum(moved.upload_s - knobs.delay_s, 0.0)
    begin_s = jnp.where(sent, end_s - service_s, jnp.inf)
    alone_bps = jnp.where(service_s > 0, knobs.update_bits / service_s, jnp.inf)
    through_s = shared_up_s(knobs.server, knobs.update_bits, begin_s, alone_bps)
    wait_s = jnp.where(sent, jnp.maximum(through_s - end_s, 0.0), 0.0)
    return walked._replace(end=clock.add(walked.end, wait_s))


def _count(counts: Counts, round_: _Round) -> Counts:
    """Add one round to the counts."""
    ok, present, moved = round_.delivered, round_.takes_part, round_.moved
    walked, late = round_.walk, round_.cancelled
    upload = clock.since(walked.end, round_.sends)
    received = present & (~late | round_.fetched)
    zero = jnp.int32(0)
    ahead = jnp.maximum(clock.since(walked.computed, _in_fleet(round_.closes)), 0.0)
    busy = jnp.where(late, jnp.clip(walked.busy_s - ahead, 0.0, walked.busy_s), walked.busy_s)

    def total(mask: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask, values, 0))

    def number(mask: jax.Array) -> jax.Array:
        return jnp.sum(mask, dtype=jnp.int32)

    events = (
        number(ok), number(late), number(round_.lost), zero,
        number(received & round_.fetch.dense), total(received, round_.fetch.updates),
    )  # fmt: skip
    seconds = (
        total(present, busy), total(ok, moved.download_s + upload), total(ok, upload),
        total(ok, round_.wire_up_s), total(ok, round_.wire_down_s), total(ok, round_.payloads),
    )  # fmt: skip
    return count(counts, events, seconds, zero, ok, ok | late)


def _lived(
    world: World, state: BarrierState, start: Instant, round_: _Round, live: jax.Array
) -> Lived:
    """Tell what the workers lived through in a round."""
    here, walked = round_.takes_part & live, round_.walk
    begin = jax.tree.map(lambda x: jnp.broadcast_to(x, here.shape), start)
    end = clock.choose(round_.cancelled, _in_fleet(round_.closes), walked.end)
    return Lived(
        began=here, worker=jnp.arange(here.shape[0], dtype=jnp.int32), cycle=state.cycle,
        begin=begin, busy_s=walked.busy_s, computed=walked.computed, sends=round_.sends,
        ended=end, lost=round_.lost, cancelled=round_.cancelled,
        slowed=jax.vmap(slowed_at)(state.spells, begin),
        down_bits=round_.fetch.bits, up_bits=world.knobs.update_bits * round_.payloads,
    )  # fmt: skip


def tick(
    plan: WorldPlan, world: World, state: BarrierState
) -> tuple[BarrierState, Moment]:
    """Run one round: the world's step under a barrier."""
    knobs, n = world.knobs, plan.workers
    waited = _await_up(world, state)
    start = clock.minimum(waited.end)
    dead = clock.is_never(start)
    budget = (state.rounds < knobs.ticks) & (state.status == 0)
    live = budget & ~dead
    takes_part = ~clock.is_before(_in_fleet(start), waited.end) & live
    fresh = waited.wiped | (state.stranger & (state.cycle > 0))
    gathered = state._replace(spells=waited.spells, stranger=state.stranger | waited.wiped)
    round_ = _work(plan, world, gathered, start, takes_part)
    walked, left = round_.walk, round_.cancelled
    stuck = live & clock.is_never(round_.closes)
    live = live & ~stuck
    accepted = jnp.sum(round_.delivered, dtype=jnp.int32)
    applied = state.applied + applied_by(plan, accepted)
    holds = takes_part & (~left | round_.fetched)  # who was cancelled in mid-download has nothing
    seen = jnp.where(holds, state.applied, state.seen)
    if plan.exchange != "star":
        seen = jnp.where(round_.delivered, applied, seen)
    gone = takes_part & ~left
    worked = BarrierState(
        now=round_.closes,
        rounds=state.rounds + 1,
        version=state.version + (accepted > 0),
        cycle=state.cycle + takes_part,
        applied=applied,
        seen=seen,
        stranger=jnp.where(holds, walked.wiped & ~left, gathered.stranger),
        ready=clock.choose(gone, walked.end, clock.choose(left, _in_fleet(round_.closes),
                                                          waited.end)),
        spells=jnp.where(gone[:, None, None], walked.spells, waited.spells),
        counts=_count(state.counts, round_),
        status=state.status,
    )  # fmt: skip
    after = jax.tree.map(lambda new, old: jnp.where(live, new, old), worked, state)
    bound = jnp.any(waited.exhausted & knobs.present) | jnp.any(walked.exhausted & takes_part)
    ended = jnp.where((dead & budget) | stuck, NO_WORKERS, 0)
    status = state.status | ended | jnp.where(bound & budget, OUTAGE_BOUND, 0)
    after = after._replace(status=status)
    record = Tick(
        worker=jnp.arange(n, dtype=jnp.int32),
        cycle=state.cycle,
        base_age=jnp.zeros(n, jnp.int32),
        weight=(round_.delivered & live).astype(jnp.float32),
        steps=world.workers.steps,
        attacker=knobs.attacker & attacking(knobs, walked.end),
        fresh=fresh & live,
        fetched=takes_part & live,
    )
    lived = _lived(world, gathered, start, round_, live) if plan.watched else None
    return after, Moment(record, after.now, after.version, lived)
