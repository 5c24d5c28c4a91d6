"""Barrier protocol: one round per tick, all workers that are alive at its start take part."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.tick import Tick
from jaxwan.world.compute import Pace, compute_s
from jaxwan.world.exchange import Fetch, Transfers, transfers, what_to_fetch
from jaxwan.world.failures import Wait, Walk, await_up, walk
from jaxwan.world.plan import WorldPlan
from jaxwan.world.spells import Luck, slowed_at
from jaxwan.world.state import (
    NO_WORKERS,
    OUTAGE_BOUND,
    Counts,
    Moment,
    Worker,
    World,
    attacking,
    count,
    no_counts,
)


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
    fetch: Fetch
    moved: Transfers
    compute: jax.Array
    walk: Walk


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
    now = clock.latest_of(state.ready, jax.tree.map(lambda x: x[None], state.now))

    def one(own: jax.Array, spells: jax.Array, now: Instant) -> Wait:
        return await_up(Luck(world.laws, own), spells, now)

    return jax.vmap(one)(world.workers.spell_key, state.spells, now)


def _work(
    plan: WorldPlan, world: World, state: BarrierState, start: Instant, takes_part: jax.Array
) -> _Round:
    """Let every worker that takes part download, compute and upload."""
    knobs = world.knobs

    def one(
        place: jax.Array, worker: Worker, spells: jax.Array, cycle: jax.Array,
        missed: jax.Array, anew: jax.Array, start: Instant,
    ) -> tuple[Fetch, Transfers, jax.Array, Walk]:  # fmt: skip
        pace = Pace(worker.compute_key, worker.speed, slowed_at(spells, start))
        compute = compute_s(knobs, pace, cycle)
        fetch = what_to_fetch(knobs, missed, anew)
        moved = transfers(plan, knobs, worker.link, world.ready, place, cycle, fetch, compute)
        work = (moved.download_s, compute, moved.upload_s)
        luck = Luck(world.laws, worker.spell_key)
        return fetch, moved, compute, walk(luck, spells, start, work, resume_download=False)

    missed = state.applied - state.seen
    begin = clock.choose(takes_part, jax.tree.map(lambda x: x[None], start),
                         clock.never(takes_part.shape))  # fmt: skip
    lived = jax.vmap(one)(
        jnp.arange(plan.workers), world.workers, state.spells, state.cycle, missed,
        state.stranger, begin,
    )  # fmt: skip
    fetch, moved, compute, walked = lived
    lost = takes_part & walked.lost
    delivered = takes_part & ~walked.lost & ~clock.is_never(walked.end)
    return _Round(takes_part, delivered, lost, fetch, moved, compute, walked)


def _count(counts: Counts, round_: _Round, start: Instant) -> Counts:
    """Add one round to the counts."""
    ok, present, moved = round_.delivered, round_.takes_part, round_.moved
    upload = clock.since(round_.walk.end, round_.walk.computed)
    zero = jnp.int32(0)

    def total(mask: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask, values, 0))

    def number(mask: jax.Array) -> jax.Array:
        return jnp.sum(mask, dtype=jnp.int32)

    events = (
        number(ok), zero, number(round_.lost), zero, number(present & round_.fetch.dense),
        total(present, round_.fetch.updates),
    )  # fmt: skip
    seconds = (
        total(present, round_.walk.busy_s), total(ok, moved.download_s + upload),
        total(ok, upload), total(ok, moved.wire_up_s), total(ok, moved.wire_down_s),
    )  # fmt: skip
    return count(counts, events, seconds, zero, ok, ok)


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
    takes_part = ~clock.is_before(jax.tree.map(lambda x: x[None], start), waited.end) & live
    fresh = waited.wiped | (state.stranger & (state.cycle > 0))
    gathered = state._replace(spells=waited.spells, stranger=state.stranger | waited.wiped)
    round_ = _work(plan, world, gathered, start, takes_part)
    walked = round_.walk
    noticed = clock.add(walked.lost_at, jnp.broadcast_to(knobs.detection_s, (n,)))
    closes = clock.latest(clock.choose(walked.lost, noticed, walked.end), takes_part)
    stuck = live & clock.is_never(closes)
    live = live & ~stuck
    accepted = jnp.sum(round_.delivered, dtype=jnp.int32)
    worked = BarrierState(
        now=closes,
        rounds=state.rounds + 1,
        version=state.version + (accepted > 0),
        cycle=state.cycle + takes_part,
        applied=state.applied + accepted,
        seen=jnp.where(takes_part, state.applied, state.seen),
        stranger=jnp.where(takes_part, walked.wiped, gathered.stranger),
        ready=clock.choose(takes_part, walked.end, waited.end),
        spells=jnp.where(takes_part[:, None, None], walked.spells, waited.spells),
        counts=_count(state.counts, round_, start),
        status=state.status,
    )
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
        attacker=knobs.attacker & attacking(knobs, walked.end),
        fresh=fresh & live,
        fetched=takes_part & live,
    )
    return after, Moment(record, after.now, after.version)
