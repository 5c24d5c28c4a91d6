"""Run chunks: the world first, then the learner on the ticks it made, in one compiled program.

This is the only place that calls `jit`. Inside a program the world of all runs and of their
carefree twins advances side by side (its state is small, so wide is fast) and leaves its ticks;
the learner then trains block after block on them (its state is large, so a block is as wide as
the cache allows). That the world never waits for a gradient makes timing-only and learning runs
agree tick by tick.

A chunk of fixed shape is the unit of work. A program holds one chunk per local device, mapped by
`shard_map`, so a chunk's rows do not depend on how many devices there are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxwan.core import keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree
from jaxwan.core.tick import Tick
from jaxwan.learning.learner import Curve, Task, evaluation_ticks, learn
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.run import carefree, run_worlds
from jaxwan.world.state import Moment, Outcome
from jaxwan.world.transport import TRANSPORTS, Path, handshake_s
from jaxwan.world.watch import Spells, spells_of, watch_world


@pytree
class Plan:
    """The static half of a program; `learn` is None in timing-only runs."""

    world: WorldPlan
    learn: LearnPlan | None
    block: int  # runs trained side by side
    points: int  # evaluation points after the first


@pytree
class Knobs:
    """The traced half of a program `[run, ...]`."""

    world: WorldKnobs
    learn: LearnKnobs | None


class Output(NamedTuple):
    """What a chunk leaves, `[run, ...]`."""

    outcome: Outcome
    free_accepted: jax.Array  # of the carefree twin
    free_now: Instant
    curve_version: jax.Array  # int32 [run, point]
    curve_now: Instant  # [run, point]
    curve: Curve | None  # [run, point]
    floor: jax.Array | None


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def sample_transfers(
    transport: str, samples: int, connect: bool, key: jax.Array, bits: jax.Array, path: Path
) -> jax.Array:
    """Draw the seconds `[samples]` that a payload takes over a path, under `key [2]`."""
    member = TRANSPORTS[transport]
    prepared = member.prepare(path)
    words = keys.words(key, samples)
    opening_s = handshake_s(words, path) if connect else 0.0
    start = jnp.int32(0)
    return opening_s + jax.vmap(lambda word: member.transfer_s(word, bits, path, prepared, start))(
        words
    )


@functools.partial(jax.jit, static_argnums=0)
def _called(call: Callable[..., Any], *arguments: Any) -> Any:
    return call(*arguments)


def once(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a hashable function of arrays and return NumPy arrays that may be written to.

    It is compiled once per function, compared by value, and shapes; that is what a cell of a
    notebook waits for, and only the first time.
    """
    return jax.tree.map(np.array, _called(call, *arguments))


traces: list[Plan] = []  # one entry per trace of a program, for those who count compilations


def _by_run(moments: Moment, runs: int) -> Moment:
    """Keep the runs, drop their twins, and put the run before the tick."""
    return jax.tree.map(lambda x: jnp.moveaxis(x[:, :runs], 0, 1), moments)


def _at_marks(moments: Moment, marks: jax.Array) -> tuple[jax.Array, Instant]:
    """Return version and instant after so many ticks `[run, point]`; zero before the first."""

    def pick(column: jax.Array) -> jax.Array:
        found = jnp.take_along_axis(column, jnp.maximum(marks - 1, 0), axis=1)
        return jnp.where(marks > 0, found, 0)

    return pick(moments.version), jax.tree.map(pick, moments.now)


def _learn_in_blocks(
    plan: Plan, knobs: LearnKnobs, seeds: jax.Array, task: Task, ticks: Tick
) -> tuple[Curve, jax.Array]:
    """Train block after block of runs."""
    assert plan.learn is not None
    learn_plan = plan.learn
    problem = PROBLEMS[learn_plan.problem]
    blocks = seeds.shape[0] // plan.block

    def fold(x: jax.Array) -> jax.Array:
        return x.reshape(blocks, plan.block, *x.shape[1:])

    def one(block: tuple[LearnKnobs, jax.Array, Tick]) -> Curve:
        knobs, seeds, ticks = block
        return learn(learn_plan, knobs, task, jax.vmap(keys.run_key)(seeds), ticks)

    curve = jax.lax.map(one, jax.tree.map(fold, (knobs, seeds, ticks)))
    static = dict(learn_plan.problem_static)
    floor = jax.vmap(lambda own: problem.floor(static, own, task), axis_size=seeds.shape[0])(
        knobs.problem
    )
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), curve), floor


def program(plan: Plan, knobs: Knobs, seeds: jax.Array, task: Task) -> Output:
    """Simulate one chunk of runs; `seeds [run]`, knobs `[run, ...]`."""
    traces.append(plan)
    runs = seeds.shape[0]
    both = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b]), knobs.world, carefree(knobs.world)
    )
    moments, outcome = run_worlds(plan.world, both, jnp.concatenate([seeds, seeds]))
    moments = _by_run(moments, runs)
    version, now = _at_marks(moments, evaluation_ticks(plan.points, knobs.world.ticks))
    curve, floor = None, None
    if plan.learn is not None:
        assert knobs.learn is not None
        curve, floor = _learn_in_blocks(plan, knobs.learn, seeds, task, moments.tick)
    return Output(
        outcome=jax.tree.map(lambda x: x[:runs], outcome),
        free_accepted=outcome.totals.accepted[runs:],
        free_now=jax.tree.map(lambda x: x[runs:], outcome.now),
        curve_version=version,
        curve_now=now,
        curve=curve,
        floor=floor,
    )


def use_all_cores() -> None:
    """Show JAX one CPU device per core, if its backends have not started yet."""
    cores = core_count()
    if jax.config.jax_num_cpu_devices <= 0 and cores > 1:  # type: ignore[attr-defined]
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError:
            return


def core_count() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.local_devices()[:devices]), ("device",))


def device_count() -> int:
    """Return the number of local devices, so the most chunks in a program."""
    return jax.local_device_count()


def _per_device(plan: Plan, knobs: Knobs, seeds: jax.Array, task: Task) -> Output:
    """Run one chunk per device; knobs and seeds `[device, run, ...]`."""

    def one(knobs: Knobs, seeds: jax.Array, task: Task) -> Output:
        out = program(plan, jax.tree.map(lambda x: x[0], knobs), seeds[0], task)
        return jax.tree.map(lambda x: x[None], out)

    split, whole = PartitionSpec("device"), PartitionSpec()
    mapped = jax.shard_map(
        one, mesh=_mesh(seeds.shape[0]), in_specs=(split, split, whole), out_specs=split,
        check_vma=False,
    )  # fmt: skip
    return mapped(knobs, seeds, task)


class Compiled(NamedTuple):
    """A compiled program for one chunk per device."""

    plan: Plan
    run: Any
    task: Task

    def __call__(self, knobs: Knobs, seeds: Any) -> Output:
        """Start one chunk per device; returns before the work is done."""
        split = NamedSharding(_mesh(len(seeds)), PartitionSpec("device"))
        return self.run(*jax.device_put((knobs, seeds), split), self.task)


def make_task(plan: LearnPlan, devices: int = 1) -> Task:
    """Return the arrays that all runs of a learning plan share, on that many devices."""
    problem = PROBLEMS[plan.problem]
    static = dict(plan.problem_static)
    task = jax.jit(lambda: problem.make_task(static))()
    return jax.device_put(task, NamedSharding(_mesh(devices), PartitionSpec()))


_jitted = jax.jit(_per_device, static_argnums=0)
_worlds = jax.jit(run_worlds, static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def _ends(plan: WorldPlan, knobs: WorldKnobs, seeds: jax.Array) -> Outcome:
    return run_worlds(plan, knobs, seeds)[1]


def world_ends(plan: WorldPlan, knobs: WorldKnobs, seeds: Any) -> Outcome:
    """Run worlds alone on one device and return how they ended, NumPy `[run, ...]`."""
    return jax.tree.map(np.asarray, _ends(plan, knobs, jnp.asarray(seeds, jnp.uint32)))


def worlds(plan: WorldPlan, knobs: WorldKnobs, seeds: Any) -> tuple[Moment, Outcome]:
    """Run worlds alone on one device and keep every tick, NumPy: `[tick, run, ...]`, `[run, ...]`.

    For looking into runs one by one; sweeps go through `compiled`.
    """
    return jax.tree.map(np.asarray, _worlds(plan, knobs, jnp.asarray(seeds, jnp.uint32)))


_watched = jax.jit(watch_world, static_argnums=0)
_spells = jax.jit(spells_of, static_argnums=(0, 1))


def watch(plan: WorldPlan, knobs: WorldKnobs, seed: int) -> tuple[Moment, Outcome]:
    """Run one world whose ticks tell what the workers lived through, NumPy `[tick, ...]`."""
    return jax.tree.map(np.asarray, _watched(plan, knobs, np.uint32(seed)))


def world_spells(plan: WorldPlan, room: int, knobs: WorldKnobs, seed: int) -> Spells:
    """Return the first `room` outages and episodes of one world's workers, NumPy."""
    return jax.tree.map(np.asarray, _spells(plan, room, knobs, np.uint32(seed)))


def lower(plan: Plan, knobs: Knobs, seeds: Any, task: Task) -> Any:
    """Trace a program for knobs and seeds of these shapes `[device, run, ...]`."""
    split = NamedSharding(_mesh(len(seeds)), PartitionSpec("device"))

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=split)

    knobs, seeds = jax.tree.map(shape, (knobs, seeds))
    return _jitted.lower(plan, knobs, seeds, task)


def compiler_options() -> dict[str, Any]:
    """Return how XLA is to compile a program of one chunk per device.

    On CPU devices of one core each, XLA would still cut every loop in two for its pool of threads,
    and handing over the half of a loop of a few microseconds takes as long as the loop. Vectors of
    512 bits are a preference, without effect where the processor has none.
    """
    if jax.default_backend() != "cpu":
        return {}
    wide = {"xla_cpu_prefer_vector_width": 512}
    whole = {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}
    return wide | (whole if device_count() > 1 else {})


_compiled: dict[Any, Compiled] = {}


def compiled(plan: Plan, knobs: Knobs, seeds: Any) -> Compiled:
    """Return the program for inputs of these shapes, compiled once in the life of a process."""
    leaves, tree = jax.tree.flatten((knobs, seeds))
    key = (plan, tree, tuple((np.shape(x), np.dtype(x.dtype).name) for x in leaves))
    if key not in _compiled:
        task = make_task(plan.learn, len(seeds)) if plan.learn else {}
        lowered = lower(plan, knobs, seeds, task)
        _compiled[key] = Compiled(plan, lowered.compile(compiler_options()), task)
    return _compiled[key]
