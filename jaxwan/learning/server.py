"""What the server does with the updates of one tick: attack, defence, merge, optimizer step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.pytrees import row
from jaxwan.core.tick import Tick
from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.feedback import compress_with_memory
from jaxwan.learning.model import Feed, Model, Server, form_of, parts, select, whole, write
from jaxwan.learning.optimizers import make
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.worker import fragment_of


def _tick_key(key: jax.Array, purpose: str, tick: Tick) -> jax.Array:
    """Return a key for a purpose by first slot and sum of cycles: never twice in a run."""
    first = keys.address(keys.stream(key, purpose), tick.worker[0], tick.cycle[0])
    return keys.typed(keys.address(first, jnp.sum(tick.cycle)))


def defend(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, memory: Any, tick: Tick, updates: jax.Array
) -> tuple[jax.Array, Any]:
    """Make one update of many `[slot, dim]`; also return the aggregator's new memory."""
    rule = AGGREGATORS[plan.aggregator]
    weights = rule.weigh(knobs.aggregator, tick.weight, tick.base_age, tick.steps)
    if plan.pre_aggregator:
        updates, weights = PRE_AGGREGATORS[plan.pre_aggregator].apply(
            dict(plan.pre_aggregator_static), knobs.pre_aggregator,
            _tick_key(key, "pre_aggregator", tick), updates, weights,
        )  # fmt: skip
    static, luck = dict(plan.aggregator_static), _tick_key(key, "aggregator", tick)
    return rule.apply(static, knobs.aggregator, memory, luck, updates, weights)


def attacked(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, server: Server, tick: Tick,
    updates: jax.Array,
) -> jax.Array:  # fmt: skip
    """Return the updates `[slot, dim]` after the attackers have changed theirs."""
    if not plan.attack:
        return updates

    def merged(updates: jax.Array) -> jax.Array:
        return defend(plan, knobs, key, server.aggregator, tick, updates)[0]

    corrupt = ATTACKS[plan.attack].corrupt
    luck = _tick_key(key, "attack", tick)
    settings = knobs.attack | dict(plan.attack_static)
    return corrupt(settings, luck, updates, tick.attacker, tick.weight, merged)


def own_part(plan: LearnPlan, server: Server, number: jax.Array) -> Server:
    """Return the server's state for the fragment of a tick."""
    return server if plan.fragments == 1 else row(server, fragment_of(plan, number))


def merge(
    plan: LearnPlan, knobs: LearnKnobs, key: jax.Array, model: Model, fed: Feed, updates: jax.Array
) -> Model:
    """Aggregate the updates `[slot, dim]` and take one optimizer step; nobody present, none.

    Where `age_power` is told, an update of age a is shrunk by (1 + a)**-age_power before it is
    aggregated (Xie et al. 2019, FedAsync; Nguyen et al. 2022, FedBuff, algorithm 1).
    """
    tick, several = fed.tick, plan.fragments > 1
    place = fragment_of(plan, fed.number)
    server = own_part(plan, model.server, fed.number)
    params = parts(plan, model.params)[place] if several else model.params
    if not plan.attack_first:
        updates = attacked(plan, knobs, key, server, tick, updates)
    if knobs.age_power is not None:
        trust = (1.0 + tick.base_age.astype(jnp.float32)) ** -knobs.age_power
        updates = updates * trust[:, None]
    mean, memory = defend(plan, knobs, key, server.aggregator, tick, updates)
    downlink = server.downlink
    if plan.downlink:
        mean, downlink = compress_with_memory(
            COMPRESSORS[plan.downlink], "plain", form_of(plan, plan.downlink_static),
            jnp.float32(1), knobs.downlink, downlink, _tick_key(key, "downlink", tick), mean,
        )  # fmt: skip
    optimizer = make(plan.optimizer, knobs.optimizer, dict(plan.optimizer_static))
    step, state = optimizer.update(mean, server.optimizer, params)
    anyone = jnp.any(tick.weight > 0)
    server = select(anyone, Server(state, memory, downlink), server)
    params = jnp.where(anyone, params + step, params)
    if several:
        server = write(model.server, place, server)
        params = whole(parts(plan, model.params).at[place].set(params), model.params.shape[0])
    return model._replace(params=params, server=server)
