"""One call of a family member, with default settings where none are told."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob, Static
from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS, Form


def defaults(knobs: Mapping[str, Knob]) -> dict[str, jax.Array]:
    return {name: jnp.float32(knob.default) for name, knob in knobs.items()}


def fixed(static: Mapping[str, Static]) -> dict[str, Any]:
    return {name: fact.default for name, fact in static.items()}


def form(name: str, layout: Any, **static: Any) -> Form:
    return Form(layout, fixed(COMPRESSORS[name].static) | static)


def compress(name: str, update: Any, key: Any = None, **settings: Any) -> Any:
    """Compress one flat update [dim] with an empty memory."""
    member = COMPRESSORS[name]
    own = {k: v for k, v in settings.items() if k in member.static}
    shape = form(name, (update.shape,), **own)
    told = {k: jnp.float32(v) for k, v in settings.items() if k not in member.static}
    key = jax.random.key(0) if key is None else key
    return member.apply(shape, defaults(member.knobs) | told, member.init(shape), key, update)[0]


def aggregate(name: str, knobs: Any, updates: Any, weights: Any, key: Any = None) -> Any:
    """Aggregate once with an empty memory; `knobs` may hold static arguments too."""
    member = AGGREGATORS[name]
    static = {k: knobs.get(k, v) for k, v in fixed(member.static).items()}
    traced = {k: v for k, v in knobs.items() if k not in static}
    memory = member.init(static, updates.shape[-1])
    key = jax.random.key(0) if key is None else key
    return member.apply(static, traced, memory, key, updates, weights)[0]


def corrupt(name: str, knobs: Any, updates: Any, attacker: Any, weights: Any = None) -> Any:
    """Attack once; adaptive attacks meet the mean."""
    weights = jnp.ones(updates.shape[0]) if weights is None else weights
    mean = partial(jnp.mean, axis=0)
    return ATTACKS[name].corrupt(knobs, jax.random.key(0), updates, attacker, weights, mean)
