"""Multi-layer perceptron with relu on Gaussian-mixture images."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.families import Static
from jaxwan.learning.problems import mixture
from jaxwan.learning.problems.flat import split
from jaxwan.learning.problems.problem import Knobs, Layout, Problem, Statics, Task


def layout(static: Statics) -> Layout:
    """Return weight and bias shapes, layer by layer."""
    widths = static["widths"]
    shapes: list[tuple[int, ...]] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        shapes += [(fan_in, fan_out), (fan_out,)]
    return tuple(shapes)


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the mixture that fits the first and last width."""
    widths = static["widths"]
    return mixture.make_task(widths[0], widths[-1], static["separation"])


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Draw He-normal weights (He et al. 2015) and zero biases."""
    parts = []
    for index, shape in enumerate(layout(static)):
        if len(shape) == 1:
            parts.append(jnp.zeros(shape))
        else:
            draw = keys.normals(keys.address(key, index), shape[0] * shape[1])
            parts.append(draw * (2.0 / shape[0]) ** 0.5)
    return jnp.concatenate(parts)


def logits(static: Statics, params: jax.Array, x: jax.Array) -> jax.Array:
    """Return the outputs `[sample, class]` for inputs `[sample, feature]`."""
    tensors = split(params, layout(static))
    layers = list(zip(tensors[::2], tensors[1::2], strict=True))
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias[None, :])
    weight, bias = layers[-1]
    return x @ weight + bias[None, :]


def loss(static: Statics, params: jax.Array, batch: mixture.Batch) -> jax.Array:
    """Return the mean cross-entropy of a batch."""
    return mixture.score(jax.nn.log_softmax(logits(static, params, batch.x)), batch.label)[0]


def gradient(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array, key: jax.Array, worker: jax.Array
) -> jax.Array:
    """Return the gradient on one fresh batch."""
    batch = mixture.sample(task["centres"], key, static["batch"])
    return jax.grad(loss, argnums=1)(static, params, batch)


def evaluate(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return cross-entropy and accuracy on the held-out set."""
    return mixture.score(jax.nn.log_softmax(logits(static, params, task["x"])), task["label"])


def floor(static: Statics, knobs: Knobs, task: Task) -> jax.Array:
    """Return the Bayes cross-entropy on the held-out set."""
    return mixture.floor_of(task)


MLP = Problem(
    summary="Multi-layer perceptron with relu on Gaussian-mixture images.",
    paper="Rumelhart et al. 1986; sizes as the suite's MNIST model",
    knobs={},
    static={
        "widths": Static((32, 32, 16, 10), "features, hidden widths, classes"),
        "batch": Static(32, "samples in one gradient", low=1, high=65536),
        "separation": Static(4.0, "mean distance of the class centres from zero", low=0.0),
    },
    layout=layout,
    make_task=make_task,
    init=init,
    gradient=gradient,
    evaluate=evaluate,
    floor=floor,
)
