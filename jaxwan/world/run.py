"""Run many worlds side by side and keep the ticks they made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.keys import run_key
from jaxwan.core.pytrees import replace
from jaxwan.core.tick import tick_room
from jaxwan.world import barrier, events
from jaxwan.world.durations import DurationKnobs, RenewalKnobs
from jaxwan.world.exchange import prepare
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.spells import NO_RECORD, TraceKnobs
from jaxwan.world.state import BY_RUN, Moment, Outcome, World, conclude, make_world
from jaxwan.world.weather import calm


class Protocol(NamedTuple):
    """How a protocol begins, what one tick of it does, and how many ticks precede the first."""

    begin: Any
    tick: Any
    warmup: Callable[[WorldPlan], int]
    in_flight_s: Callable[[Any], jax.Array]  # seconds computed in cycles cut off by the end


PROTOCOLS = {
    "barrier": Protocol(barrier.begin, barrier.tick, lambda plan: 0, lambda state: jnp.float32(0)),
    "events": Protocol(events.begin, events.tick, events.warmup, events.in_flight_s),
}


def carefree(knobs: WorldKnobs) -> WorldKnobs:
    """Return the same run with infinite bandwidth, zero delay and no failures."""
    free = jnp.full_like(knobs.up_bps, jnp.inf)
    zero = jnp.zeros_like(knobs.delay_s)

    def no_outage(law: RenewalKnobs) -> RenewalKnobs:
        up = law.up
        share = None if law.down_share is None else jnp.full_like(law.down_share, -1.0)
        never = DurationKnobs(jnp.full_like(up.scale, jnp.inf), up.power, up.sigma)
        return replace(law, up=never, down_share=share)

    def no_record(trace: TraceKnobs) -> TraceKnobs:
        nothing = jnp.broadcast_to(jnp.array(NO_RECORD, jnp.int32), trace.spells.shape)
        return replace(trace, spells=nothing)

    server, site = knobs.server, knobs.site
    if server is not None:
        server = jax.tree.map(lambda rate: jnp.full_like(rate, jnp.inf), server)
    if site is not None:
        site = replace(site, bandwidth_bps=jnp.full_like(site.bandwidth_bps, jnp.inf),
                       delay_s=jnp.zeros_like(site.delay_s))  # fmt: skip
    return replace(
        knobs, server=server, site=site,
        up_bps=free, down_bps=free, delay_s=zero, jitter_s=zero, loss=zero,
        online=knobs.present, outages=no_outage(knobs.outages), slowdown=no_outage(knobs.slowdown),
        trace=None if knobs.trace is None else no_record(knobs.trace),
        weather=None if knobs.weather is None else calm(knobs.weather),
    )  # fmt: skip


def run_worlds(
    plan: WorldPlan, knobs: WorldKnobs, seeds: jax.Array
) -> tuple[Moment, Outcome]:
    """Run one world per seed `[run]` with its knobs `[run, ...]`.

    Returns the ticks `[tick, run, ...]` and how each world ended. The loop stops with the run that
    has most ticks; the rest of the room stays empty (weight 0).
    """
    protocol = PROTOCOLS[plan.protocol]
    ready = prepare(plan, knobs)

    def make(knobs: WorldKnobs, seed: jax.Array, row: jax.Array) -> World:
        return make_world(plan, knobs, run_key(seed), ready._replace(row=row))

    world = jax.vmap(make, out_axes=BY_RUN)(knobs, seeds, ready.row)
    state = jax.vmap(partial(protocol.begin, plan), in_axes=(BY_RUN,))(world)
    step = jax.vmap(partial(protocol.tick, plan), in_axes=(BY_RUN, 0))
    lived = jax.eval_shape(step, world, state)[1].lived if plan.watched else None
    shape = Moment(tick_room((*seeds.shape, plan.slots)), state.now, state.version, lived)
    room = jax.tree.map(lambda x: jnp.zeros((plan.ticks, *x.shape), x.dtype), shape)

    def body(index: jax.Array, carry: tuple[Any, Moment]) -> tuple[Any, Moment]:
        state, room = carry
        state, moment = step(world, state)
        place = jnp.maximum(index, 0)
        write = jax.lax.dynamic_update_index_in_dim
        return state, jax.tree.map(lambda all_, one: write(all_, one, place, 0), room, moment)

    most = jnp.minimum(jnp.max(knobs.ticks), plan.ticks)
    first = -protocol.warmup(plan)
    state, moments = jax.lax.fori_loop(first, most, body, (state, room))
    cut_off = jax.vmap(protocol.in_flight_s)(state)
    finish = jax.vmap(conclude, in_axes=(BY_RUN, 0, 0, 0, 0, 0))
    outcome = finish(world, state.now, state.version, state.counts, cut_off, state.status)
    return moments, outcome
