"""Noisy quadratic: the smallest task with a power-law loss curve and closed forms to check."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.families import Knob, Static
from jaxwan.learning.problems.problem import (
    Knobs,
    Layout,
    Problem,
    Relabel,
    Scores,
    Statics,
    Task,
)

Shard = tuple[jax.Array, jax.Array]


def layout(static: Statics) -> Layout:
    """Return the one vector of parameters."""
    return ((static["dim"],),)


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the ranks 1..dim of the eigenvalues."""
    return {"rank": jnp.arange(1, static["dim"] + 1, dtype=jnp.float32)}


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Start at a standard normal point."""
    return keys.normals(key, static["dim"])


def curvature(knobs: Knobs, task: Task) -> jax.Array:
    """Return the eigenvalues `rank**-power`, the largest scaled to `stiffness`."""
    return knobs["stiffness"] * task["rank"] ** -knobs["power"]


def optimum(static: Statics, knobs: Knobs, worker: jax.Array) -> jax.Array:
    """Return the worker's optimum; without spread nothing is drawn.

    A loop of no or one turn, because `vmap` would make both branches of a condition.
    """
    stream = keys.stream(keys.run_key(0), "optimum")

    def draw(index: jax.Array, at: jax.Array) -> jax.Array:
        key = keys.address(stream, worker, index)
        return at + knobs["spread"] * keys.normals(key, static["dim"])

    turns = (knobs["spread"] > 0).astype(jnp.int32)
    return jax.lax.fori_loop(0, turns, draw, jnp.zeros(static["dim"], jnp.float32))


def gradient(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array, key: jax.Array, worker: jax.Array,
    relabel: Relabel | None = None,
) -> jax.Array:  # fmt: skip
    """Return curvature x (distance to the worker's optimum) plus white noise / sqrt(batch)."""
    size = knobs["noise"] / jnp.sqrt(knobs["batch"])
    noise = size * keys.normals(key, static["dim"])
    return curvature(knobs, task) * (params - optimum(static, knobs, worker)) + noise


def shard(static: Statics, knobs: Knobs, worker: jax.Array) -> Shard:
    """Return the worker's optimum and its square."""
    own = optimum(static, knobs, worker)
    return own, own**2


def evaluate(
    static: Statics, knobs: Knobs, task: Task, shard: Shard, params: jax.Array
) -> Scores:
    """Return the exact loss 1/2 sum(curvature x params**2), and NaN: there are no classes.

    The workers' own is the mean of 1/2 sum(curvature x (params - optimum)**2).
    """
    slope, (mean, square) = curvature(knobs, task), shard
    own = (params - mean) ** 2 + jnp.maximum(square - mean**2, 0)
    loss = 0.5 * jnp.sum(slope * params**2)
    return loss, jnp.float32(jnp.nan), 0.5 * jnp.sum(slope * own)


def critical_batch(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array
) -> jax.Array:
    """Return the gradient noise scale: the batch whose noise is as large as the gradient.

    tr(Sigma) / |gradient|**2 = dim x noise**2 / |curvature x params|**2 (McCandlish et al. 2018,
    equation 2.9). Below it a larger batch saves steps in proportion, above it hardly any.
    """
    slope = curvature(knobs, task) * params
    return static["dim"] * knobs["noise"] ** 2 / jnp.maximum(jnp.sum(slope**2), 1e-30)


def floor(static: Statics, knobs: Knobs, task: Task) -> jax.Array:
    """Return 0, the loss at the common optimum."""
    return jnp.float32(0.0)


def activations(static: Statics) -> int:
    """Return 0: the gradient needs the parameters only."""
    return 0


QUADRATIC = Problem(
    summary="Quadratic with a power-law spectrum, white gradient noise, shifted worker optima.",
    paper="Zhang et al. 2019, Which algorithmic choices matter at which batch sizes?",
    knobs={
        "stiffness": Knob(1.0, 0.0, 1e6, "largest eigenvalue", open_low=True),
        "power": Knob(1.0, 0.0, 10.0, "decay of the eigenvalues with their rank"),
        "noise": Knob(0.1, 0.0, 1e6, "standard deviation of one sample's gradient entry"),
        "batch": Knob(1, 1, 1_000_000_000, "samples that a gradient averages"),
        "spread": Knob(0.0, 0.0, 1e6, "standard deviation of the workers' optima"),
    },
    static={"dim": Static(256, "number of parameters", low=1, high=10**8)},
    layout=layout,
    make_task=make_task,
    init=init,
    gradient=gradient,
    shard=shard,
    evaluate=evaluate,
    floor=floor,
    activations=activations,
    apart="spread",
    labelled=False,
    critical_batch=critical_batch,
)
