"""Speed of learning on this machine: the learner beside the same mathematics in NumPy.

Both train the noisy quadratic under a barrier: a fresh noisy gradient of every worker, compressed,
with error feedback where the compressor wants it, aggregated, and one step of gradient descent. The
NumPy loop trains one run, all workers of a step in one array; the learner trains a chunk of runs on
each device, as a sweep does, or one run alone. What is compared is run in turns, by the clock on
the wall.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxwan.bench.timing import compiled, line, paces
from jaxwan.core import keys
from jaxwan.core.tick import Tick
from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.learner import Task, learn
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS
from jaxwan.work import block_width

MOST_COPIES = 6.0  # of its input, that a median may take
MEDIAN_SHAPE = (16, 235_146)


class Case(NamedTuple):
    """What is trained."""

    name: str
    compressor: str
    aggregator: str
    target: float  # least multiple of the NumPy loop's speed
    dim: int = 1024
    workers: int = 8
    lr: float = 0.1
    noise: float = 0.1
    ratio: float = 0.01  # of entries that top-k keeps
    trim: float = 0.125  # on each side


CASES = (
    Case("none", "none", "mean", 2.5),
    Case("int8", "int8", "mean", 2.5),
    Case("topk", "topk", "mean", 4.0),
    Case("topk + trimmed_mean", "topk", "trimmed_mean", 4.0),
)


def numpy_run(case: Case, steps: int, seed: int) -> float:
    """Train one run in NumPy and return its exact loss at the end."""
    rng = np.random.default_rng(seed)
    shape, rows = (case.workers, case.dim), np.arange(case.workers)[:, None]
    curvature = 1 / np.arange(1, case.dim + 1, dtype=np.float32)
    model = rng.standard_normal(case.dim, dtype=np.float32)
    error = np.zeros(shape, np.float32)
    dropped = case.dim - max(round(case.ratio * case.dim), 1)
    trim = int(case.trim * case.workers + 1e-4)
    for _ in range(steps):
        update = rng.standard_normal(shape, dtype=np.float32)
        update *= np.float32(case.noise)
        update += curvature * model
        if case.compressor == "int8":
            scale = np.abs(update).max(axis=1, keepdims=True) / np.float32(127)
            update = np.rint(update / scale) * scale
        if case.compressor == "topk":
            update += error
            kept = np.argpartition(np.abs(update), dropped, axis=1)[:, dropped:]
            sent = np.zeros_like(update)
            sent[rows, kept] = update[rows, kept]
            error, update = update - sent, sent
        if case.aggregator == "trimmed_mean":
            update = np.sort(update, axis=0)[trim : case.workers - trim]
        model -= np.float32(case.lr) * update.mean(axis=0)
    return float(0.5 * np.sum(curvature * model**2))


def plan_of(case: Case) -> LearnPlan:
    """Return the learner's plan of the same training."""
    return LearnPlan(
        problem="quadratic", problem_static=(("dim", case.dim),),
        compressor=case.compressor, compressor_static=(),
        feedback="plain" if COMPRESSORS[case.compressor].feedback else "",
        aggregator=case.aggregator, attack="", optimizer="sgd", optimizer_static=(), inner="",
        inner_static=(), local_steps=1, workers=case.workers, slots=case.workers, stale=False,
        eval_points=1,
    )  # fmt: skip


def knobs_of(case: Case, steps: int) -> LearnKnobs:
    """Return the numbers of one run, NumPy."""
    own = {"ratio": case.ratio, "trim_ratio": case.trim}
    compressor, aggregator = (
        {name: np.float32(own[name]) for name in member.knobs}
        for member in (COMPRESSORS[case.compressor], AGGREGATORS[case.aggregator])
    )
    problem = {"stiffness": 1.0, "power": 1.0, "noise": case.noise, "batch": 1.0,
               "spread": 0.0}  # fmt: skip
    fields: dict[str, Any] = dict(
        problem={name: np.float32(value) for name, value in problem.items()},
        compressor=compressor, decay=np.float32(1), aggregator=aggregator, attack={},
        optimizer={"lr": np.float32(case.lr)}, inner={}, workers=np.int32(case.workers),
        ticks=np.int32(steps),
    )  # fmt: skip
    return LearnKnobs(**fields)


def barrier(case: Case, steps: int) -> Tick:
    """Return the ticks `[tick, slot]` of a run in which everybody always takes part."""
    shape = (steps, case.workers)
    every = np.ones(shape, np.float32)
    nobody = np.zeros(shape, bool)
    fields: dict[str, Any] = dict(
        worker=np.broadcast_to(np.arange(case.workers, dtype=np.int32), shape),
        cycle=np.broadcast_to(np.arange(steps, dtype=np.int32)[:, None], shape),
        base_age=np.zeros(shape, np.int32), weight=every, steps=every, attacker=nobody,
        fresh=nobody, fetched=~nobody,
    )  # fmt: skip
    return Tick(**fields)


def losses(
    plan: LearnPlan, knobs: LearnKnobs, ticks: Tick, task: Task, seeds: jax.Array
) -> jax.Array:
    """Train runs block after block, `seeds [block, run]`, on ticks that all share.

    Returns the loss of each at the end.
    """
    width = seeds.shape[1]

    def everywhere(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (width, *jnp.shape(x)))

    def one(own: jax.Array) -> jax.Array:
        shared = jax.tree.map(everywhere, (knobs, ticks))
        return learn(plan, shared[0], task, jax.vmap(keys.run_key)(own), shared[1]).loss[:, -1]

    return jax.lax.map(one, seeds)


class Trainer(NamedTuple):
    """A compiled training: `run(turn)` trains `runs` of them."""

    run: Callable[[int], Any]
    runs: int
    compile_s: float


def trainer(case: Case, steps: int, blocks: int, width: int, devices: list[Any]) -> Trainer:
    """Compile the training of `blocks` of `width` runs on each device."""
    plan, mesh = plan_of(case), Mesh(np.array(devices), ("device",))
    split, whole = PartitionSpec("device"), PartitionSpec()
    mapped = jax.shard_map(
        lambda seeds, knobs, ticks, task: losses(plan, knobs, ticks, task, seeds[0])[None],
        mesh=mesh, in_specs=(split, whole, whole, whole), out_specs=split, check_vma=False,
    )  # fmt: skip
    task = PROBLEMS[plan.problem].make_task(dict(plan.problem_static))
    shared = jax.device_put(
        (knobs_of(case, steps), barrier(case, steps), task), NamedSharding(mesh, whole)
    )
    shape = (len(devices), blocks, width)

    def seeds(turn: int) -> jax.Array:
        own = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) + np.uint32(turn * 10_000)
        return jax.device_put(own, NamedSharding(mesh, split))

    program, compile_s = compiled(mapped, seeds(0), *shared)
    return Trainer(lambda turn: program(seeds(turn), *shared), int(np.prod(shape)), compile_s)


def bench_case(case: Case, steps: int, runs: int) -> list[dict[str, Any]]:
    """Time one case: the NumPy loop, a chunk of runs on every device, and one run."""
    width = min(block_width(plan_of(case)), runs)
    many = trainer(case, steps, runs // width, width, jax.local_devices())
    one = trainer(case, steps, 1, 1, jax.local_devices()[:1])
    work = float(steps * case.workers * case.dim)
    found = paces(
        [partial(numpy_run, case, steps), many.run, one.run], [work, many.runs * work, work]
    )
    ratios = np.median(found[:, 1:] / found[:, :1], axis=0)
    plain, wide, single = np.median(found, axis=0)
    about, unit = f"learning, {case.name}", "worker-parameters/s"
    return [
        line(f"{about}: one run in NumPy", plain, unit),
        line(
            f"{about}: {many.runs} runs", wide, unit,
            ratio=float(ratios[0]), target=case.target, ok=bool(ratios[0] >= case.target),
        ),
        line(f"{about}: one run", single, unit, ratio=float(ratios[1])),
        line(f"{about}: compilation", many.compile_s, "s"),
    ]  # fmt: skip


def bench_median(shape: tuple[int, int]) -> list[dict[str, Any]]:
    """Time the median of workers' updates against a copy of them to memory already at hand."""
    updates = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    target, here = np.empty_like(updates), jnp.asarray(updates)
    weights, key, rule = jnp.ones(shape[0]), jax.random.key(0), AGGREGATORS["median"].apply
    median, _ = compiled(lambda x, w: rule({}, {}, (), key, x, w)[0], here, weights)
    times, amount = 10, 10.0 * updates.size

    def copy(turn: int) -> None:
        for _ in range(times):
            np.copyto(target, updates)

    def middle(turn: int) -> Any:
        return [median(here, weights) for _ in range(times)]

    found = paces([copy, middle], [amount, amount])
    cost = float(np.median(found[:, 0] / found[:, 1]))
    copied, own = np.median(found, axis=0)
    name, unit = f"median of {shape[0]} workers", "worker-parameters/s"
    return [
        line(f"{name}: a copy of its input", copied, unit),
        line(
            f"{name}; ratio: cost against the copy", own, unit,
            ratio=cost, target=MOST_COPIES, ok=cost <= MOST_COPIES,
        ),
    ]  # fmt: skip


def bench_learning(steps: int = 100, runs: int = 32) -> list[dict[str, Any]]:
    """Time learning in the learner and in NumPy, and the median; `runs` on each device."""
    cases = [row for case in CASES for row in bench_case(case, steps, runs)]
    return cases + bench_median(MEDIAN_SHAPE)
