"""Run chunks: the world first, then the learner on the ticks it made, each a compiled program.

This is the only place that calls `jit`. The worlds of the runs, then those of their carefree twins,
advance in blocks side by side and leave their ticks; the learner trains block after block on them
(its state is large, so a block is as wide as the cache allows). That the world
never waits for a gradient makes timing-only and learning runs agree tick by tick, and lets runs
with equal ticks share one learner: who is to be trained is chosen in between, on the host.

A chunk of fixed shape is the unit of work. A program holds one chunk per local device, mapped by
`shard_map`, so a chunk's rows do not depend on how many devices there are.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxwan.core import keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree, row
from jaxwan.core.tick import Tick, tick_room
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


class Timed(NamedTuple):
    """What the worlds of a chunk leave, `[run, ...]`."""

    outcome: Outcome
    free_accepted: jax.Array  # of the carefree twin
    free_now: Instant
    curve_version: jax.Array  # int32 [run, point]
    curve_now: Instant  # [run, point]
    ticks: Tick | None  # [run, tick, slot], where somebody learns from them


class Trained(NamedTuple):
    """What the learners of a chunk leave, `[run, ...]`."""

    curve: Curve  # [run, point]
    floor: jax.Array


class Output(NamedTuple):
    """What runs leave, NumPy `[run, ...]`: a world's end, and the curve of its learner if any."""

    outcome: Outcome
    free_accepted: Any
    free_now: Instant
    curve_version: Any
    curve_now: Instant
    curve: Curve | None
    floor: Any


def joined(timed: Timed, trained: Trained | None) -> Output:
    """Put a learner's curve beside the clock of the world it belongs to."""
    curve, floor = trained or (None, None)
    return Output(*timed[:-1], curve, floor)


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


TASKS = 16  # kept for the next program that learns the same
WORLDS = 256  # side by side; a block takes as many turns of a loop as its unluckiest world
traces: list[WorldPlan | LearnPlan] = []  # one entry per trace, for those who count compilations


def _at_marks(moments: Moment, marks: jax.Array) -> tuple[jax.Array, Instant]:
    """Return version and instant after so many ticks `[run, point]`; zero before the first."""

    def pick(column: jax.Array) -> jax.Array:
        found = jnp.take_along_axis(column, jnp.maximum(marks - 1, 0), axis=1)
        return jnp.where(marks > 0, found, 0)

    return pick(moments.version), jax.tree.map(pick, moments.now)


def time_runs(
    plan: WorldPlan, points: int, keep: bool, knobs: WorldKnobs, seeds: jax.Array
) -> Timed:
    """Run one chunk of worlds and their twins; `seeds [run]`, knobs `[run, ...]`.

    `points` evaluation points follow the first; `keep` keeps the ticks for a learner.
    """
    traces.append(plan)
    runs = seeds.shape[0]
    width = min(runs, WORLDS)

    def fold(x: jax.Array) -> jax.Array:
        return x.reshape(-1, width, *x.shape[1:])

    def one(block: tuple[WorldKnobs, jax.Array]) -> tuple[Moment, Outcome]:
        moments, outcome = run_worlds(plan, *block)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), moments), outcome

    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), knobs, carefree(knobs))
    folded = jax.tree.map(fold, (both, jnp.concatenate([seeds, seeds])))
    done = jax.lax.map(one, folded)
    moments, outcome = jax.tree.map(lambda x: x.reshape(2 * runs, *x.shape[2:]), done)
    moments = jax.tree.map(lambda x: x[:runs], moments)
    version, now = _at_marks(moments, evaluation_ticks(points, knobs.ticks))
    return Timed(
        outcome=jax.tree.map(lambda x: x[:runs], outcome),
        free_accepted=outcome.totals.accepted[runs:],
        free_now=jax.tree.map(lambda x: x[runs:], outcome.now),
        curve_version=version,
        curve_now=now,
        ticks=moments.tick if keep else None,
    )


def train_runs(
    plan: LearnPlan, block: int, knobs: LearnKnobs, seeds: jax.Array, count: jax.Array,
    ticks: Tick, task: Task,
) -> Trained:  # fmt: skip
    """Train the first `count` runs of a chunk, block after block; the rest stays zero.

    `seeds [run]`, knobs `[run, ...]`, ticks `[run, tick, slot]`; a block begun is trained whole.
    """
    traces.append(plan)
    seeds = seeds if knobs.luck is None else seeds + knobs.luck
    runs, points = seeds.shape[0], plan.eval_points + 1
    problem, static = PROBLEMS[plan.problem], dict(plan.problem_static)

    def fold(x: jax.Array) -> jax.Array:
        return x.reshape(runs // block, block, *x.shape[1:])

    folded = jax.tree.map(fold, (knobs, seeds, ticks))

    def one(index: jax.Array, done: Curve) -> Curve:
        own, seeds, ticks = row(folded, index)
        curve = learn(plan, own, task, jax.vmap(keys.run_key)(seeds), ticks)
        return jax.tree.map(lambda all_, new: all_.at[index].set(new), done, curve)

    none = jnp.zeros((runs // block, block, points), jnp.float32)
    used = (count + (block - 1)) // block
    curve = jax.lax.fori_loop(0, used, one, Curve(none, none, none))
    floor = jax.vmap(lambda own: problem.floor(static, own, task), axis_size=runs)(knobs.problem)
    return Trained(jax.tree.map(lambda x: x.reshape(runs, points), curve), floor)


@functools.cache
def _mesh(devices: int) -> Mesh:
    return Mesh(np.array(jax.local_devices()[:devices]), ("device",))


def device_count() -> int:
    """Return the number of local devices, so the most chunks in a program."""
    return jax.local_device_count()


def _split(call: Callable[..., Any], devices: int, shared: int) -> Callable[..., Any]:
    """Map a function of one chunk over devices: arguments `[device, ...]`, the last few shared."""

    def one(*arguments: Any) -> Any:
        cut = len(arguments) - shared
        own = jax.tree.map(lambda x: x[0], arguments[:cut])
        return jax.tree.map(lambda x: x[None], call(*own, *arguments[cut:]))

    def mapped(*arguments: Any) -> Any:
        cut = len(arguments) - shared
        specs = (PartitionSpec("device"),) * cut + (PartitionSpec(),) * shared
        return jax.shard_map(
            one, mesh=_mesh(devices), in_specs=specs, out_specs=PartitionSpec("device"),
            check_vma=False,
        )(*arguments)  # fmt: skip

    return mapped


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _time_chunks(
    plan: WorldPlan, points: int, keep: bool, knobs: WorldKnobs, seeds: jax.Array
) -> Timed:
    call = functools.partial(time_runs, plan, points, keep)
    return _split(call, seeds.shape[0], 0)(knobs, seeds)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train_chunks(
    plan: LearnPlan, block: int, knobs: LearnKnobs, seeds: jax.Array, count: jax.Array,
    ticks: Tick, task: Task,
) -> Trained:  # fmt: skip
    call = functools.partial(train_runs, plan, block)
    return _split(call, seeds.shape[0], 1)(knobs, seeds, count, ticks, task)


class Compiled(NamedTuple):
    """A compiled program for one chunk per device, and the arrays that its runs share."""

    run: Any
    devices: int
    shared: tuple[Any, ...] = ()

    def __call__(self, *arguments: Any) -> Any:
        """Start one chunk per device, arguments `[device, ...]`; returns before it is done."""
        split = NamedSharding(_mesh(self.devices), PartitionSpec("device"))
        return self.run(*jax.device_put(arguments, split), *self.shared)


@functools.lru_cache(maxsize=TASKS)
def _task(problem: str, static: tuple[tuple[str, Any], ...]) -> Task:
    return jax.jit(lambda: PROBLEMS[problem].make_task(dict(static)))()


def make_task(plan: LearnPlan, devices: int = 1) -> Task:
    """Return the arrays that all runs of a learning plan share, on that many devices."""
    task = _task(plan.problem, plan.problem_static)
    return jax.device_put(task, NamedSharding(_mesh(devices), PartitionSpec()))


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


def compiler_options() -> dict[str, Any]:
    """Return how XLA is to compile a program of one chunk per device.

    On CPU devices of one core each, XLA would still cut every loop in two for its pool of threads,
    and handing over the half of a loop of a few microseconds takes as long as the loop; where there
    is but one device it is left so too, for the rows to be the same. Vectors of 512 bits are a
    preference, without effect where the processor has none.
    """
    if jax.default_backend() != "cpu":
        return {}
    wide = {"xla_cpu_prefer_vector_width": 512}
    return wide | {"xla_disable_hlo_passes": "cpu-parallel-task-assigner"}


_compiled: dict[Any, Future[Compiled]] = {}
_compiling = threading.Lock()


def _once_in_a_process(key: Any, make: Callable[[], Compiled]) -> Compiled:
    """Return what was made under a key; who comes second waits for the first."""
    with _compiling:
        future = _compiled.get(key)
        first = future is None
        if future is None:
            future = _compiled[key] = Future()
    if first:
        try:
            future.set_result(make())
        except BaseException as error:
            _compiled.pop(key, None)
            future.set_exception(error)
    return future.result()


def _shapes(arguments: Any, devices: int) -> Any:
    split = NamedSharding(_mesh(devices), PartitionSpec("device"))
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=split), arguments
    )


def _key(static: Any, arguments: Any) -> Any:
    leaves, tree = jax.tree.flatten(arguments)
    return (static, tree, tuple((np.shape(x), np.dtype(x.dtype).name) for x in leaves))


def world_program(plan: Plan, knobs: WorldKnobs, seeds: Any) -> Compiled:
    """Return the worlds' program for inputs of these shapes `[device, run, ...]`."""
    static, devices = (plan.world, plan.points, plan.learn is not None), len(seeds)

    def make() -> Compiled:
        lowered = _time_chunks.lower(*static, *_shapes((knobs, seeds), devices))
        return Compiled(lowered.compile(compiler_options()), devices)

    return _once_in_a_process(_key(static, (knobs, seeds)), make)


def learner_program(plan: Plan, knobs: LearnKnobs, seeds: Any) -> Compiled:
    """Return the learners' program for inputs of these shapes `[device, run, ...]`."""
    assert plan.learn is not None
    static, devices = (plan.learn, plan.block), len(seeds)
    count = np.zeros(devices, np.int32)
    room = (*np.shape(seeds), plan.world.ticks, plan.world.slots)
    arguments = (knobs, seeds, count, tick_room(room))

    def make() -> Compiled:
        assert plan.learn is not None
        task = make_task(plan.learn, devices)
        lowered = _train_chunks.lower(*static, *_shapes(arguments, devices), task)
        return Compiled(lowered.compile(compiler_options()), devices, (task,))

    return _once_in_a_process(_key(static, arguments), make)
