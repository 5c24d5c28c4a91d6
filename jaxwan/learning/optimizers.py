"""Optimizers by optax name, with traced hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]

from jaxwan.core.families import Knob, Static, member

Knobs = Mapping[str, Any]
Statics = Mapping[str, Any]


class Optimizer(NamedTuple):
    """An optimizer and its facts; `build(knobs, static)` returns the optax transformation.

    `slots` is the number of model-sized arrays in its state.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    build: Callable[[Knobs, Statics], optax.GradientTransformation]
    slots: int


def sgd(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build plain gradient descent; it has no state."""
    return optax.sgd(knobs["lr"])


def momentum(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build heavy ball (Polyak 1964), or Nesterov's form of it (Sutskever et al. 2013)."""
    return optax.sgd(knobs["lr"], momentum=knobs["momentum"], nesterov=static["nesterov"])


def adam(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build Adam (Kingma and Ba 2015)."""
    return optax.adam(knobs["lr"], b1=knobs["b1"], b2=knobs["b2"], eps=knobs["eps"])


def adamw(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return optax.adamw(
        knobs["lr"],
        b1=knobs["b1"],
        b2=knobs["b2"],
        eps=knobs["eps"],
        weight_decay=knobs["weight_decay"],
    )


def rmsprop(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build RMSProp (Tieleman and Hinton 2012)."""
    return optax.rmsprop(knobs["lr"], decay=knobs["decay"], eps=knobs["eps"])


def adagrad(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build AdaGrad (Duchi et al. 2011)."""
    return optax.adagrad(knobs["lr"], initial_accumulator_value=knobs["initial"], eps=knobs["eps"])


def lion(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build Lion (Chen et al. 2023)."""
    return optax.lion(
        knobs["lr"], b1=knobs["b1"], b2=knobs["b2"], weight_decay=knobs["weight_decay"]
    )


class Delayed(NamedTuple):
    """State of the delayed Nesterov optimizer."""

    velocity: Any
    gathered: Any  # sum of the updates since the last momentum step
    updates: jax.Array  # int32; so far


def delayed_nesterov(knobs: Knobs, static: Statics) -> optax.GradientTransformation:
    """Build Nesterov's momentum that is renewed by the mean of every `delay` updates only.

    Liu et al. 2024, algorithm 3: with g the update, Δ ← Δ + g. Every N-th time m ← β·m + Δ/N, the
    step is lr·((1 − c·N + c)·β·m + g/N), and Δ ← 0; else it is lr·(c·β·m + g/N). c is `spread`/N.
    """
    lr, beta = knobs["lr"], knobs["momentum"]
    share = 1.0 / jnp.asarray(knobs["delay"], jnp.float32)

    def init(params: Any) -> Delayed:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Delayed(zeros, zeros, jnp.int32(0))

    def update(grads: Any, state: Delayed, params: Any = None) -> tuple[Any, Delayed]:
        several = jnp.round(1.0 / share).astype(jnp.int32)
        due = (state.updates + 1) % several == 0
        early = knobs["spread"] * share
        weight = jnp.where(due, 1.0 - knobs["spread"] + early, early)
        gathered = jax.tree.map(jnp.add, state.gathered, grads)
        velocity = jax.tree.map(
            lambda m, sum_: jnp.where(due, beta * m + share * sum_, m), state.velocity, gathered
        )
        step = jax.tree.map(lambda m, g: -lr * (weight * beta * m + share * g), velocity, grads)
        gathered = jax.tree.map(lambda sum_: jnp.where(due, 0.0, sum_), gathered)
        return step, Delayed(velocity, gathered, state.updates + 1)

    return optax.GradientTransformation(init, update)


def make(kind: str, knobs: Knobs, static: Statics | None = None) -> optax.GradientTransformation:
    """Build an optimizer by name; absent knobs and static arguments take their defaults.

    Knobs may be traced scalars.

    Raises:
        ValueError: for an unknown name.
    """
    chosen = member("optimizer", OPTIMIZERS, kind)
    full = {name: knob.default for name, knob in chosen.knobs.items()} | dict(knobs)
    fixed = {name: entry.default for name, entry in chosen.static.items()} | dict(static or {})
    return chosen.build(full, fixed)


def _rate(default: float) -> Knob:
    return Knob(default, 0.0, 1e3, "learning rate")


def _decay(default: float, meaning: str) -> Knob:
    return Knob(default, 0.0, 0.999999, meaning)


def _eps(default: float) -> Knob:
    return Knob(default, 0.0, 1.0, "added to the denominator")


_FIRST = "decay of the mean gradient"
_SECOND = "decay of the mean squared gradient"

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": Optimizer(
        summary="Step against the gradient.",
        paper="Robbins and Monro 1951",
        knobs={"lr": _rate(0.1)},
        static={},
        build=sgd,
        slots=0,
    ),
    "momentum": Optimizer(
        summary="Gradient descent with heavy-ball or Nesterov momentum.",
        paper="Polyak 1964; Sutskever et al. 2013",
        knobs={"lr": _rate(0.1), "momentum": _decay(0.9, "decay of the velocity")},
        static={"nesterov": Static(False, "look ahead along the velocity", (False, True))},
        build=momentum,
        slots=1,
    ),
    "delayed_nesterov": Optimizer(
        summary="Nesterov's momentum, renewed by the mean of every few updates.",
        paper="Liu et al. 2024",
        knobs={
            "lr": _rate(0.7),
            "momentum": _decay(0.9, "decay of the velocity"),
            "delay": Knob(4, 1, 1_000_000, "updates between two renewals of the velocity"),
            "spread": Knob(0.0, 0.0, 1.0, "share of the velocity applied between renewals"),
        },
        static={},
        build=delayed_nesterov,
        slots=2,
    ),
    "adam": Optimizer(
        summary="Scale each entry by its running mean and mean square.",
        paper="Kingma and Ba 2015",
        knobs={
            "lr": _rate(1e-3),
            "b1": _decay(0.9, _FIRST),
            "b2": _decay(0.999, _SECOND),
            "eps": _eps(1e-8),
        },
        static={},
        build=adam,
        slots=2,
    ),
    "adamw": Optimizer(
        summary="Adam with decoupled weight decay.",
        paper="Loshchilov and Hutter 2019",
        knobs={
            "lr": _rate(1e-3),
            "b1": _decay(0.9, _FIRST),
            "b2": _decay(0.999, _SECOND),
            "eps": _eps(1e-8),
            "weight_decay": Knob(1e-4, 0.0, 10.0, "weight decay, times the learning rate"),
        },
        static={},
        build=adamw,
        slots=2,
    ),
    "rmsprop": Optimizer(
        summary="Scale each entry by its running mean square.",
        paper="Tieleman and Hinton 2012",
        knobs={"lr": _rate(1e-3), "decay": _decay(0.9, _SECOND), "eps": _eps(1e-8)},
        static={},
        build=rmsprop,
        slots=1,
    ),
    "adagrad": Optimizer(
        summary="Scale each entry by its summed squares.",
        paper="Duchi et al. 2011",
        knobs={
            "lr": _rate(0.01),
            "initial": Knob(0.1, 0.0, 1e3, "sum of squares to start from"),
            "eps": _eps(1e-7),
        },
        static={},
        build=adagrad,
        slots=1,
    ),
    "lion": Optimizer(
        summary="Step by the sign of an interpolated momentum.",
        paper="Chen et al. 2023",
        knobs={
            "lr": _rate(1e-4),
            "b1": _decay(0.9, "weight of the momentum in the step"),
            "b2": _decay(0.99, _FIRST),
            "weight_decay": Knob(0.0, 0.0, 10.0, "weight decay, times the learning rate"),
        },
        static={},
        build=lion,
        slots=1,
    ),
}
