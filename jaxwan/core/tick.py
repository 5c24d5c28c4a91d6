"""Tick: the record of one server update, the only thing the world tells the learner.

Barrier protocols have one slot per worker; event protocols have K slots, the buffer size. A slot
whose contribution is absent, lost or rejected keeps its place with weight 0.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp

from jaxwan.core.pytrees import pytree


@pytree
class Tick:
    """Who contributes to one server update, and on which version of the model each worked.

    `fresh` marks a worker whose error memory and local optimizer were wiped (crash, churn) before
    this cycle. In event protocols a slot's worker fetches the next model right after its slot.
    """

    worker: jax.Array  # int32 [slot]
    cycle: jax.Array  # int32 [slot]; the worker's own counter, the address of its data and noise
    base_age: jax.Array  # int32 [slot]; versions between the model it worked on and the newest
    weight: jax.Array  # float32 [slot]; 0 = no contribution
    steps: jax.Array  # float32 [slot]; gradient steps that went into the contribution
    attacker: jax.Array  # bool [slot]
    fresh: jax.Array  # bool [slot]
    fetched: jax.Array  # bool [slot]; the worker fetches the newest model after this slot


def tick_room(shape: tuple[int, ...]) -> Tick:
    """Return the shapes and types of ticks `shape`, whose last axis is the slot."""
    kinds = jnp.int32, jnp.float32, bool
    whole, real, flag = (cast(jax.Array, jax.ShapeDtypeStruct(shape, kind)) for kind in kinds)
    return Tick(
        worker=whole, cycle=whole, base_age=whole, weight=real, steps=real, attacker=flag,
        fresh=flag, fetched=flag,
    )  # fmt: skip
