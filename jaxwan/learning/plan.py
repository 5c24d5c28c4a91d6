"""LearnPlan (static) and LearnKnobs (traced): everything that decides what a contribution does."""

from __future__ import annotations

from dataclasses import field
from typing import Any

import jax

from jaxwan.core.pytrees import pytree

Statics = tuple[tuple[str, Any], ...]


@pytree
class LearnPlan:
    """Names of family members, shapes and counts; a change recompiles."""

    problem: str
    problem_static: Statics
    compressor: str
    compressor_static: Statics
    feedback: str  # error feedback around the compressor: one of FEEDBACKS
    aggregator: str
    attack: str  # "" where nobody attacks
    optimizer: str
    optimizer_static: Statics
    inner: str  # the workers' optimizer where they take local steps, "" where they send gradients
    inner_static: Statics
    local_steps: int
    workers: int
    slots: int
    stale: bool  # workers keep the model they fetched (event protocols)
    eval_points: int
    aggregator_static: Statics = ()
    pre_aggregator: str = ""  # "" for none
    pre_aggregator_static: Statics = ()
    attack_static: Statics = ()


@pytree
class LearnKnobs:
    """The numbers of one run's learner, by family; a change never recompiles."""

    problem: dict[str, jax.Array]
    compressor: dict[str, jax.Array]
    decay: jax.Array  # of the error memory
    aggregator: dict[str, jax.Array]
    attack: dict[str, jax.Array]
    optimizer: dict[str, jax.Array]
    inner: dict[str, jax.Array]
    workers: jax.Array  # int32; slots beyond are padding
    ticks: jax.Array  # int32; ticks of this run
    pre_aggregator: dict[str, jax.Array] = field(default_factory=dict)
