"""Two standard workloads: the learner beside a plain NumPy loop of the same mathematics.

W1: ten workers send one gradient each to a robust aggregator. W2: eight workers take ten local
steps each, and their differences are averaged. Both train an MLP of 79,510 parameters on fresh
batches of 32. What counts is a replicate's round: all workers' gradients, the merge and the step.
The NumPy loop trains one replicate at a time in float32, its matrices by BLAS on all cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan import engine
from jaxwan.bench.timing import judged, line, paces
from jaxwan.bench.trainers import first_of, program_of, trainer
from jaxwan.experiment.spec import Experiment

MANY = 32
BATCH, FEATURES, HIDDEN, CLASSES, MODES = 32, 784, 100, 10, 3
LAYOUT = ((FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,))
TOLERATED = 2  # attackers
UNIT = "replicate-rounds/s"


class Workload(NamedTuple):
    """What is trained, and how much faster than NumPy it must be."""

    name: str
    aggregator: str
    workers: int
    local_steps: int
    target: float | None
    lr: float = 0.1


WORKLOADS = (
    Workload("W1, trimmed mean", "trimmed_mean", 10, 1, 5.0),
    Workload("W1, Krum", "krum", 10, 1, None),
    Workload("W2, ten local steps", "mean", 8, 10, 3.0),
)


def experiment_of(load: Workload, rounds: int) -> Experiment:
    """Return the experiment of so many rounds."""
    rules = {
        "trimmed_mean": {"kind": "trimmed_mean", "trim_ratio": TOLERATED / load.workers},
        "krum": {"kind": "krum", "f": TOLERATED},
        "mean": {"kind": "mean"},
    }
    alone = load.local_steps == 1
    strategy = {
        "kind": "local_sgd", "local_steps": load.local_steps, "outer": "sgd", "outer_lr": 1.0,
    }  # fmt: skip
    settings: dict[str, Any] = dict(
        scenario=str(Path(__file__).with_name("workload.toml")), challenge="baseline",
        workers=load.workers, compressor="none", aggregator=rules[load.aggregator],
        strategy="sync" if alone else strategy, optimizer={"kind": "sgd", "lr": load.lr},
        steps=rounds * load.local_steps, learning={"eval_points": 1},
    )  # fmt: skip
    return Experiment(**settings)


def _cut(flat: np.ndarray) -> list[np.ndarray]:
    """Return views of a flat vector's tensors."""
    stops = np.cumsum([int(np.prod(shape)) for shape in LAYOUT])[:-1]
    pieces = zip(np.split(flat, stops), LAYOUT, strict=True)
    return [piece.reshape(shape) for piece, shape in pieces]


def numpy_gradient(
    params: np.ndarray, x: np.ndarray, label: np.ndarray, gradient: np.ndarray
) -> None:
    """Write the gradient of the mean cross-entropy of a batch into `gradient [dim]`."""
    first, first_bias, last, last_bias = _cut(params)
    into = _cut(gradient)
    hidden = x @ first
    hidden += first_bias
    np.maximum(hidden, 0, out=hidden)
    out = hidden @ last
    out += last_bias
    out -= out.max(axis=1, keepdims=True)
    np.exp(out, out=out)
    out /= out.sum(axis=1, keepdims=True)
    out[np.arange(len(label)), label] -= 1
    out /= len(label)
    np.matmul(hidden.T, out, out=into[2])
    out.sum(axis=0, out=into[3])
    back = out @ last.T
    back *= hidden > 0
    np.matmul(x.T, back, out=into[0])
    back.sum(axis=0, out=into[1])


def numpy_trimmed_mean(updates: np.ndarray) -> np.ndarray:
    """Average each coordinate without its two largest and smallest values."""
    ordered: np.ndarray = np.sort(updates, axis=0)
    return ordered[TOLERATED:-TOLERATED].mean(axis=0)


def numpy_krum(updates: np.ndarray) -> np.ndarray:
    """Return the update of least Krum score; distances from a Gram matrix."""
    squares = np.einsum("sd,sd->s", updates, updates)
    apart = squares[:, None] + squares[None] - 2 * (updates @ updates.T)
    np.fill_diagonal(apart, np.inf)
    near = len(updates) - TOLERATED - 2
    return np.asarray(updates[np.argmin(np.sort(apart, axis=1)[:, :near].sum(axis=1))])


def numpy_mean(updates: np.ndarray) -> np.ndarray:
    """Average the updates."""
    return np.asarray(updates.mean(axis=0))


RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "trimmed_mean": numpy_trimmed_mean,
    "krum": numpy_krum,
    "mean": numpy_mean,
}


class Data(NamedTuple):
    """The task in NumPy."""

    centres: np.ndarray  # [class * mode, feature]
    x: np.ndarray  # [held-out sample, feature]
    label: np.ndarray


def data_of(load: Workload) -> Data:
    """Return the learner's own task in NumPy."""
    plan = program_of(experiment_of(load, 1), 1).plan.learn
    assert plan is not None
    task = jax.tree.map(np.asarray, engine.make_task(plan))
    return Data(task["centres"].reshape(CLASSES * MODES, FEATURES), task["x"], task["label"])


def numpy_loss(params: np.ndarray, data: Data) -> float:
    """Return the held-out cross-entropy."""
    first, first_bias, last, last_bias = _cut(params)
    out = np.maximum(data.x @ first + first_bias, 0) @ last + last_bias
    out -= out.max(axis=1, keepdims=True)
    picked = out[np.arange(len(out)), data.label]
    return float(np.mean(np.log(np.exp(out).sum(axis=1)) - picked))


def numpy_run(load: Workload, data: Data, rounds: int, seed: int) -> float:
    """Train one replicate and return its held-out loss at the end."""
    rng = np.random.default_rng(seed)
    params = np.zeros(sum(int(np.prod(shape)) for shape in LAYOUT), np.float32)
    first, _, last, _ = _cut(params)
    first[:] = rng.standard_normal(first.shape, dtype=np.float32) * np.sqrt(2 / FEATURES)
    last[:] = rng.standard_normal(last.shape, dtype=np.float32) / HIDDEN
    updates = np.empty((load.workers, len(params)), np.float32)
    slope, lr = np.empty_like(params), np.float32(load.lr)

    def batch() -> tuple[np.ndarray, np.ndarray]:
        label = rng.integers(0, CLASSES, BATCH)
        x = rng.standard_normal((BATCH, FEATURES), dtype=np.float32)
        x += data.centres[label * MODES + rng.integers(0, MODES, BATCH)]
        return x, label

    def local(update: np.ndarray) -> None:
        own = params.copy()
        for _ in range(load.local_steps):
            numpy_gradient(own, *batch(), slope)
            own -= lr * slope
        np.subtract(params, own, out=update)

    for _ in range(rounds):
        for update in updates:
            if load.local_steps == 1:
                numpy_gradient(params, *batch(), update)
            else:
                local(update)
        step = np.float32(load.lr if load.local_steps == 1 else 1)
        params -= step * RULES[load.aggregator](updates)
    return numpy_loss(params, data)


def bench_workload(load: Workload, rounds: int, runs: int = MANY) -> list[dict[str, Any]]:
    """Time a workload: NumPy, many replicates on all devices, and one."""
    experiment, devices = experiment_of(load, rounds), jax.local_device_count()
    many = trainer(experiment, runs // devices, None, devices)
    one = first_of(many)
    plain = partial(numpy_run, load, data_of(load), rounds)
    amounts = [float(rounds), many.amount, one.amount]
    found = paces([plain, many.run, one.run], amounts, turns=2)
    ratios = np.median(found[:, 1:] / found[:, :1], axis=0)
    slow, wide, single = np.median(found, axis=0)
    about = f"{load.name}: {many.runs} replicates"
    wide_line = (
        line(about, wide, UNIT, ratio=float(ratios[0]))
        if load.target is None
        else judged(about, wide, UNIT, ratios[0], load.target)
    )
    return [
        line(f"{load.name}: one replicate in NumPy", slow, UNIT),
        wide_line,
        line(f"{load.name}: one replicate", single, UNIT, ratio=float(ratios[1])),
        line(f"{load.name}: compilation", many.compile_s, "s"),
    ]


def bench_workloads(rounds: int = 20) -> list[dict[str, Any]]:
    """Time the standard workloads; so many rounds of one gradient, a fifth of ten steps."""
    return [
        row
        for load in WORKLOADS
        for row in bench_workload(load, rounds if load.local_steps == 1 else max(rounds // 5, 1))
    ]
