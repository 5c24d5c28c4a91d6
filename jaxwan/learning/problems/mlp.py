"""Multi-layer perceptron with relu on Gaussian-mixture vectors.

`MIXTURE` is the toy task of the study of asynchronous local SGD (Liu et al. 2024, section 6, and
its notebook): four classes of eight Gaussians each, with centres on the unit sphere and deviation
1/2, which is the same as centres 2 from zero and deviation 1; all workers draw from the same; one
hidden layer, batches of 32. There a vector has 512 entries, the layer 65,000 units, and there are
128,000 samples; here it is 32 and 64 unless told, and no end of samples.
"""

from __future__ import annotations

import itertools

import jax

from jaxwan.core.families import Static
from jaxwan.learning.problems import flat, mixture
from jaxwan.learning.problems.problem import (
    Knobs,
    Layout,
    Problem,
    Relabel,
    Scores,
    Statics,
    Task,
)


def tensors(static: Statics) -> list[flat.Tensor]:
    """Describe weights and biases, layer by layer."""
    widths, found = static["widths"], []
    for index, shape in enumerate(itertools.pairwise(widths)):
        last = index == len(widths) - 2
        found += [flat.readout(*shape) if last else flat.he(*shape), flat.zeros(shape[1])]
    return found


def layout(static: Statics) -> Layout:
    """Return weight and bias shapes, layer by layer."""
    return flat.shapes(tensors(static))


def space(static: Statics) -> mixture.Space:
    """Return the vectors that fit the first width."""
    return mixture.Space(1, static["widths"][0], 1)


def make_task(static: Statics) -> dict[str, jax.Array]:
    """Return the mixture that fits the first and last width."""
    return mixture.make_task(space(static), static["widths"][-1], static)


def init(static: Statics, task: Task, key: jax.Array) -> jax.Array:
    """Draw He-normal weights, a small last layer, and zero biases."""
    return flat.draw(tensors(static), key)


def logits(static: Statics, params: jax.Array, x: jax.Array) -> jax.Array:
    """Return the outputs `[sample, class]` for inputs `[sample, feature]`."""
    pieces = flat.split(params, layout(static))
    layers = list(zip(pieces[::2], pieces[1::2], strict=True))
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(flat.times(x, weight) + bias[None, :])
    weight, bias = layers[-1]
    return flat.times(x, weight) + bias[None, :]


def gradient(
    static: Statics, knobs: Knobs, task: Task, params: jax.Array, key: jax.Array, worker: jax.Array,
    relabel: Relabel | None = None,
) -> jax.Array:  # fmt: skip
    """Return the gradient on one fresh batch."""
    own = space(static)
    return mixture.worker_gradient(
        logits, own, static, knobs, task, params, key, worker, relabel
    )


def evaluate(
    static: Statics, knobs: Knobs, task: Task, shard: jax.Array, params: jax.Array
) -> Scores:
    """Return cross-entropy and accuracy on the held-out set."""
    return mixture.held_out_score(logits, static, task, shard, params)


def activations(static: Statics) -> int:
    """Return the inputs and every layer's outputs."""
    return sum(static["widths"])


MLP = Problem(
    summary="Multi-layer perceptron with relu on Gaussian-mixture vectors.",
    paper="Rumelhart et al. 1986; sizes as the suite's MNIST model",
    knobs=mixture.KNOBS,
    static={"widths": Static((32, 32, 16, 10), "features, hidden widths, classes")}
    | mixture.STATIC,
    layout=layout,
    make_task=make_task,
    init=init,
    gradient=gradient,
    shard=mixture.shard,
    evaluate=evaluate,
    floor=mixture.floor,
    activations=activations,
)

MIXTURE = MLP._replace(
    summary="Perceptron with one hidden layer on a mixture of mixtures of Gaussians.",
    paper="Liu et al. 2024, Asynchronous local-SGD training for language modeling, section 6",
    static={
        "widths": Static((32, 64, 4), "features, hidden widths, classes"),
        **mixture.STATIC,
        "modes": mixture.STATIC["modes"]._replace(default=8),
        "separation": mixture.STATIC["separation"]._replace(default=2.0),
    },
)
