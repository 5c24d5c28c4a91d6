"""Problems: synthetic tasks with a known floor, small enough to train thousands of times."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.core.families import member
from jaxwan.learning.problems.cnn import CNN
from jaxwan.learning.problems.mlp import MIXTURE, MLP
from jaxwan.learning.problems.problem import Layout, Problem
from jaxwan.learning.problems.quadratic import QUADRATIC
from jaxwan.learning.problems.resnet import RESNET
from jaxwan.learning.problems.transformer import TRANSFORMER

PROBLEMS: dict[str, Problem] = {
    "quadratic": QUADRATIC,
    "mlp": MLP,
    "mixture": MIXTURE,
    "cnn": CNN,
    "resnet": RESNET,
    "transformer": TRANSFORMER,
}


def with_defaults(kind: str, static: dict[str, Any]) -> dict[str, Any]:
    """Fill the static arguments a problem leaves open."""
    facts = member("problem", PROBLEMS, kind).static
    return {name: fact.default for name, fact in facts.items()} | static


def layout_of(kind: str, **static: Any) -> Layout:
    """Return the tensor shapes of a model."""
    return PROBLEMS[kind].layout(with_defaults(kind, static))


def parameter_count(kind: str, **static: Any) -> int:
    """Return the number of parameters, from the shape of the initial ones, allocating nothing.

    Example:
        >>> parameter_count("mlp", widths=(784, 256, 128, 10))
        235146
    """
    problem, full = PROBLEMS[kind], with_defaults(kind, static)
    key = jnp.zeros(2, jnp.uint32)
    params = jax.eval_shape(lambda key: problem.init(full, problem.make_task(full), key), key)
    return params.shape[0]


__all__ = ["PROBLEMS", "Problem", "layout_of", "parameter_count", "with_defaults"]
