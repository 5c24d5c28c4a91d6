"""Watch one run: every tick, what the workers lived through in it, and all their spells."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax

from jaxwan.core import clock
from jaxwan.core.keys import run_key
from jaxwan.core.pytrees import replace
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.run import PROTOCOLS
from jaxwan.world.spells import Luck, pass_spell, starts
from jaxwan.world.state import Moment, Outcome, conclude, make_world


def watch_world(plan: WorldPlan, knobs: WorldKnobs, seed: jax.Array) -> tuple[Moment, Outcome]:
    """Run one world and keep its ticks `[tick, ...]`, those that send everybody off included."""
    plan = replace(plan, watched=True)
    protocol = PROTOCOLS[plan.protocol]
    world = make_world(plan, knobs, run_key(seed))
    step = partial(protocol.tick, plan, world)

    def one(state: Any, _: None) -> tuple[Any, Moment]:
        return step(state)

    length = protocol.warmup(plan) + plan.ticks
    state, moments = jax.lax.scan(one, protocol.begin(plan, world), None, length=length)
    cut_off = protocol.in_flight_s(state)
    now, version, counts = state.now, state.version, state.counts
    return moments, conclude(world, now, version, counts, cut_off, state.status)


class Spells(NamedTuple):
    """Spells in the order of their starts `[worker, spell]`."""

    process: jax.Array  # int32; the plan's processes, slowdown last
    start: clock.Instant
    end: clock.Instant


def spells_of(plan: WorldPlan, room: int, knobs: WorldKnobs, seed: jax.Array) -> Spells:
    """Return everybody's first `room` spells, whatever the protocol and the links."""
    world = make_world(plan, knobs, run_key(seed))

    def own(key: jax.Array, first: jax.Array) -> tuple[jax.Array, jax.Array]:
        luck = Luck(world.laws, key)

        def one(spells: jax.Array, _: None) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            index = clock.earliest(starts(spells))
            spells, past = pass_spell(luck, spells, index)
            return spells, (index, past)

        return jax.lax.scan(one, first, None, length=room)[1]

    process, past = jax.vmap(own)(world.workers.spell_key, world.first)
    instants = [clock.Instant(past[..., at], past[..., at + 1]) for at in (0, 2)]
    return Spells(process, *instants)
