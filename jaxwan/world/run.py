"""Run many worlds side by side and keep the ticks they made."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock
from jaxwan.core.keys import run_key
from jaxwan.core.pytrees import replace
from jaxwan.world import barrier, events
from jaxwan.world.failures import PROCESSES, DurationKnobs, RenewalKnobs
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.state import Moment, Outcome, conclude, make_keys


class Protocol(NamedTuple):
    """How a protocol begins and what one tick of it does."""

    begin: Any
    tick: Any


PROTOCOLS = {
    "barrier": Protocol(barrier.begin, barrier.tick),
    "events": Protocol(events.begin, events.tick),
}


def carefree(knobs: WorldKnobs) -> WorldKnobs:
    """Return the same run with infinite bandwidth, zero delay and no failures."""
    free = jnp.full_like(knobs.up_bps, jnp.inf)
    zero = jnp.zeros_like(knobs.delay_s)

    def no_outage(law: RenewalKnobs) -> RenewalKnobs:
        up = law.up
        return replace(law, up=DurationKnobs(jnp.full_like(up.scale, jnp.inf), up.power, up.sigma))

    return replace(
        knobs, up_bps=free, down_bps=free, delay_s=zero, jitter_s=zero, loss=zero,
        online=knobs.present, outages=no_outage(knobs.outages), slowdown=no_outage(knobs.slowdown),
    )  # fmt: skip


def run_worlds(
    plan: WorldPlan, knobs: WorldKnobs, seeds: jax.Array
) -> tuple[Moment, Outcome]:
    """Run one world per seed `[run]` with its knobs `[run, ...]`.

    Returns the ticks `[tick, run, ...]` and how each world ended. The loop stops with the run that
    has most ticks; the rest of the room stays empty (weight 0).
    """
    protocol = PROTOCOLS[plan.protocol]
    world_keys = jax.vmap(lambda seed: make_keys(run_key(seed), plan.workers))(seeds)
    state = jax.vmap(protocol.begin, in_axes=(None, 0, 0))(plan, knobs, world_keys)
    step = jax.vmap(protocol.tick, in_axes=(None, 0, 0, 0))
    shape = jax.eval_shape(lambda s: step(plan, knobs, world_keys, s)[1], state)
    room = jax.tree.map(lambda x: jnp.zeros((plan.ticks, *x.shape), x.dtype), shape)

    def body(index: jax.Array, carry: tuple[Any, Moment]) -> tuple[Any, Moment]:
        state, room = carry
        state, moment = step(plan, knobs, world_keys, state)
        write = jax.lax.dynamic_update_index_in_dim
        return state, jax.tree.map(lambda all_, one: write(all_, one, index, 0), room, moment)

    most = jnp.minimum(jnp.max(knobs.ticks), plan.ticks)
    state, moments = jax.lax.fori_loop(0, most, body, (state, room))
    finish = jax.vmap(conclude, in_axes=(None, 0, 0, 0, 0, 0, 0))
    outcome = finish(
        plan, knobs, world_keys, state.now, state.version, state.totals, state.status
    )
    return moments, outcome


FAILURE_NAMES = (*PROCESSES, "slowdown")

__all__ = ["FAILURE_NAMES", "PROTOCOLS", "carefree", "clock", "run_worlds"]
