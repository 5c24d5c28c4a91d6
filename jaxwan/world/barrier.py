"""Barrier protocol: one round per tick, all workers that are alive at its start take part."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree
from jaxwan.core.tick import Tick
from jaxwan.world import failures
from jaxwan.world.compute import Pace, compute_s
from jaxwan.world.exchange import Fetch, Transfers, links, transfers, what_to_fetch
from jaxwan.world.failures import Outages, Walk
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
class BarrierState:
    """What a round needs from the rounds before it."""

    now: Instant
    rounds: jax.Array
    version: jax.Array
    cycle: jax.Array  # int32 [worker]
    applied: jax.Array  # int32; contributions in the newest version
    seen: jax.Array  # int32 [worker]; contributions in the version last fetched
    stranger: jax.Array  # bool [worker]; holds no model, the next fetch is dense
    ready: Instant  # [worker]; up from here until the next outage
    outages: Outages  # [worker, process]
    slow: Outages  # [worker, 1]
    totals: Totals
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


def begin(plan: WorldPlan, knobs: WorldKnobs, world_keys: WorldKeys) -> BarrierState:
    """Return the state before the first round."""
    n = plan.workers
    outages, slow = first_outages(knobs, world_keys)
    zero, none = jnp.int32(0), jnp.zeros(n, jnp.int32)
    return BarrierState(
        now=clock.start_of_time(), rounds=zero, version=zero, cycle=none, applied=zero, seen=none,
        stranger=jnp.ones(n, bool), ready=clock.start_of_time((n,)), outages=outages, slow=slow,
        totals=no_totals(n), status=zero,
    )  # fmt: skip


def _gather_workers(
    knobs: WorldKnobs, world_keys: WorldKeys, state: BarrierState
) -> tuple[BarrierState, Instant, jax.Array, jax.Array, jax.Array]:
    """Wait for those who are up now; where nobody is, for the first who recovers."""
    await_up = jax.vmap(failures.await_up, in_axes=(None, 0, 0, 0, None))
    outages, ready, wiped, bound = await_up(
        knobs.outages, world_keys.outages, state.outages, state.ready, state.now
    )
    ready = clock.choose(knobs.present, ready, clock.never(ready.seconds.shape))
    start = clock.latest_of(state.now, clock.minimum(ready))
    stranger = state.stranger | wiped
    changed = BarrierState(
        **{**vars(state), "outages": outages, "ready": ready, "stranger": stranger}
    )
    fresh = wiped | (state.stranger & (state.cycle > 0))
    return changed, start, ~clock.is_before(start, ready), fresh, jnp.any(bound)


def _work(
    plan: WorldPlan,
    knobs: WorldKnobs,
    world_keys: WorldKeys,
    state: BarrierState,
    start: Instant,
    takes_part: jax.Array,
) -> tuple[_Round, Outages]:
    """Let every worker that takes part download, compute and upload."""
    slow = jax.vmap(failures.catch_up, in_axes=(None, 0, 0, None))(
        knobs.slowdown, world_keys.slowdown, state.slow, start
    )
    slowed = ~clock.is_before(start, slow.start)[:, 0]
    pace = Pace(world_keys.compute, knobs.speed, slowed)
    compute = jax.vmap(compute_s, in_axes=(None, 0, 0))(knobs, pace, state.cycle)
    fetch = what_to_fetch(knobs, state.applied - state.seen, state.stranger)
    one_link = jax.vmap(transfers, in_axes=(None, None, 0, 0, 0, 0))
    moved = one_link(plan, knobs, links(knobs, world_keys.link), state.cycle, fetch, compute)

    def one(key: jax.Array, outages: Outages, down: jax.Array, work: jax.Array, up: jax.Array):
        return failures.walk(
            knobs.outages, key, outages, start, down, work, up, resume_download=False
        )

    walk = jax.vmap(one)(
        world_keys.outages, state.outages, moved.download_s, compute, moved.upload_s
    )
    lost = takes_part & walk.lost
    delivered = takes_part & ~walk.lost & ~clock.is_never(walk.end)
    return _Round(takes_part, delivered, lost, fetch, moved, compute, walk), slow


def _count(totals: Totals, round_: _Round, start: Instant) -> Totals:
    """Add one round to the totals."""
    ok = round_.delivered

    def total(mask: jax.Array, values: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(mask, values, 0.0))

    upload = clock.since(round_.walk.end, start) - round_.moved.download_s - round_.compute
    upload = jnp.maximum(upload, round_.moved.upload_s)
    n_ok = jnp.sum(ok.astype(jnp.int32))
    dense = jnp.sum((round_.takes_part & round_.fetch.dense).astype(jnp.int32))
    missed = jnp.sum(jnp.where(round_.takes_part, round_.fetch.updates, 0))
    return Totals(
        accepted=totals.accepted + n_ok,
        rejected=totals.rejected,
        lost=totals.lost + jnp.sum(round_.lost.astype(jnp.int32)),
        staleness_sum=totals.staleness_sum,
        staleness_max=totals.staleness_max,
        dense_fetches=totals.dense_fetches + dense,
        missed_updates=totals.missed_updates + missed,
        busy=clock.add(totals.busy, total(round_.takes_part, round_.walk.busy_s)),
        transfer=clock.add(totals.transfer, total(ok, round_.moved.download_s + upload)),
        latency=clock.add(totals.latency, total(ok, upload)),
        on_wire_up=clock.add(totals.on_wire_up, total(ok, round_.moved.wire_up_s)),
        on_wire_down=clock.add(totals.on_wire_down, total(ok, round_.moved.wire_down_s)),
        contributions=totals.contributions + ok.astype(jnp.int32),
        arrivals=totals.arrivals + ok.astype(jnp.int32),
    )


def tick(
    plan: WorldPlan, knobs: WorldKnobs, world_keys: WorldKeys, state: BarrierState
) -> tuple[BarrierState, Moment]:
    """Run one round: the world's step under a barrier."""
    gathered, start, takes_part, fresh, bound = _gather_workers(knobs, world_keys, state)
    dead = clock.is_never(start)
    live = (state.rounds < knobs.ticks) & (state.status == 0) & ~dead
    takes_part = takes_part & live
    round_, slow = _work(plan, knobs, world_keys, gathered, start, takes_part)
    walk = round_.walk
    noticed = clock.add(walk.lost_at, jnp.broadcast_to(knobs.detection_s, walk.lost.shape))
    closes = clock.latest(clock.choose(walk.lost, noticed, walk.end), takes_part)
    stuck = live & clock.is_never(closes)
    live = live & ~stuck
    n_ok = jnp.sum(round_.delivered.astype(jnp.int32))
    worked = BarrierState(
        now=closes,
        rounds=state.rounds + 1,
        version=state.version + (n_ok > 0),
        cycle=state.cycle + takes_part,
        applied=state.applied + n_ok,
        seen=jnp.where(takes_part, state.applied, state.seen),
        stranger=jnp.where(takes_part, walk.wiped, gathered.stranger),
        ready=clock.choose(takes_part, walk.end, gathered.ready),
        outages=jax.tree.map(
            lambda new, old: jnp.where(takes_part[:, None], new, old),
            walk.outages, gathered.outages,
        ),
        slow=slow,
        totals=_count(state.totals, round_, start),
        status=state.status,
    )  # fmt: skip
    after = jax.tree.map(lambda new, old: jnp.where(live, new, old), worked, state)
    bound = bound | jnp.any(walk.exhausted & takes_part)
    ended = jnp.where((dead | stuck) & (state.rounds < knobs.ticks), NO_WORKERS, 0)
    after = BarrierState(
        **{**vars(after), "status": after.status | ended | jnp.where(bound, OUTAGE_BOUND, 0)}
    )
    record = Tick(
        worker=jnp.arange(plan.workers, dtype=jnp.int32),
        cycle=state.cycle,
        base_age=jnp.zeros(plan.workers, jnp.int32),
        weight=jnp.where(live, round_.delivered, False).astype(jnp.float32),
        attacker=knobs.attacker,
        fresh=fresh & live,
        fetched=takes_part & live,
    )
    return after, Moment(record, after.now, after.version)
