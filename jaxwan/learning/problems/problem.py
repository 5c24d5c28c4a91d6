"""Problem: what a training task must offer to the learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxwan.core.families import Knob, Static

Knobs = Mapping[str, jax.Array]
Statics = Mapping[str, Any]
Task = Mapping[str, jax.Array]
Layout = tuple[tuple[int, ...], ...]
Scores = tuple[jax.Array, jax.Array, jax.Array]  # loss, accuracy, loss on the workers' own data
Relabel = Callable[[jax.Array, int], jax.Array]  # of labels and the number of classes


class Problem(NamedTuple):
    """A training task and its facts. Parameters are one flat float32 vector `[dim]`.

    `apart` names the knob that makes the workers' data differ where it is above 0.

    `layout(static)` lists the tensor shapes without allocating them. `make_task(static)` returns
    the arrays that all runs share (one fixed task, as a data set is). `init(static, task, key)`
    draws the first parameters; `gradient(static, knobs, task, params, key, worker, relabel)` one
    worker's stochastic gradient, whose data is addressed by `key [2]` and whose labels a poisoner
    may change, where the task is `labelled`; `shard(static, knobs, worker)` are arrays that tell of
    a worker's data, and `evaluate(static, knobs, task, shard, params)` returns the held-out loss,
    its accuracy, and the loss on the data of the workers whose mean `shard` is; `floor(static,
    knobs, task)` is the held-out loss that no model can beat; `activations(static)` counts the
    values that one sample's forward pass leaves for the backward pass, nothing recomputed;
    `critical_batch(static, knobs, task, params)` is the batch beyond which a larger one hardly
    helps, where it is known.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    layout: Callable[[Statics], Layout]
    make_task: Callable[[Statics], dict[str, jax.Array]]
    init: Callable[[Statics, Task, jax.Array], jax.Array]
    gradient: Callable[
        [Statics, Knobs, Task, jax.Array, jax.Array, jax.Array, Relabel | None], jax.Array
    ]
    shard: Callable[[Statics, Knobs, jax.Array], Any]
    evaluate: Callable[[Statics, Knobs, Task, Any, jax.Array], Scores]
    floor: Callable[[Statics, Knobs, Task], jax.Array]
    activations: Callable[[Statics], int]
    apart: str = "skew"
    labelled: bool = True
    critical_batch: Callable[[Statics, Knobs, Task, jax.Array], jax.Array] | None = None
