"""What the learner carries from tick to tick, and what it is fed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]

from jaxwan.core import keys
from jaxwan.core.tick import Tick
from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.compressors import COMPRESSORS, Form
from jaxwan.learning.feedback import init_memory
from jaxwan.learning.optimizers import make
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS

Task = dict[str, jax.Array]


class Memory(NamedTuple):
    """What a worker keeps from cycle to cycle; a crash wipes it."""

    compressor: Any  # [fragment, ...] where the model is exchanged in fragments
    inner: Any  # state of the local optimizer; () without local steps


class Server(NamedTuple):
    """What the server keeps from update to update, `[fragment, ...]` where there are several."""

    optimizer: Any
    aggregator: Any
    downlink: Any  # error memory of the merged update's compressor


class Model(NamedTuple):
    """Everything one run has learned."""

    params: jax.Array  # [dim]; the server's
    server: Server
    fetched: Any  # [worker, dim]; the model each worker holds; () where that is the server's
    memory: Memory  # [worker, ...]


class Feed(NamedTuple):
    """What the learner is fed: ticks, and the addresses of their data and noise.

    The keys are worked out before the loop: inside it, XLA would work every word of a batch out
    from the run's key anew, which takes ten times as long to compile.
    """

    tick: Tick
    number: jax.Array  # int32; which tick of its run this is
    data: jax.Array  # [..., local step, 2]
    noise: jax.Array  # [..., 2]; of the compressor


class Curve(NamedTuple):
    """Figures at the evaluation points `[point]`."""

    loss: jax.Array  # held-out, without skew
    accuracy: jax.Array
    train_loss: jax.Array  # where data come as to the workers; the same where theirs do not differ


def form_of(plan: LearnPlan, static: Any) -> Form:
    """Return what a compressor knows of its updates; a fragment is one flat tensor."""
    layout = PROBLEMS[plan.problem].layout(dict(plan.problem_static))
    whole = Form(layout, dict(static))
    return whole if plan.fragments == 1 else Form(((part_size(plan, whole.dim),),), dict(static))


def part_size(plan: LearnPlan, dim: int) -> int:
    """Return the entries of one fragment of a model of `dim`; the last one may be padded."""
    return -(-dim // plan.fragments)


def parts(plan: LearnPlan, vector: jax.Array) -> jax.Array:
    """Cut a vector `[dim]` into fragments `[fragment, size]`, padded by zeros."""
    size = part_size(plan, vector.shape[0])
    padding = size * plan.fragments - vector.shape[0]
    return jnp.pad(vector, (0, padding)).reshape(plan.fragments, size)


def whole(parts: jax.Array, dim: int) -> jax.Array:
    """Put fragments `[fragment, size]` together again, `[dim]`."""
    return parts.reshape(-1)[:dim]


def inner_optimizer(plan: LearnPlan, knobs: LearnKnobs) -> optax.GradientTransformation:
    """Return the optimizer of the local steps."""
    return make(plan.inner, knobs.inner, dict(plan.inner_static))


def repeated(tree: Any, count: int) -> Any:
    """Return a tree with each array repeated along a new first axis."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), tree)


def by_fragment(plan: LearnPlan, tree: Any) -> Any:
    """Repeat a state for every fragment, where there are several."""
    return tree if plan.fragments == 1 else repeated(tree, plan.fragments)


def blank(plan: LearnPlan, knobs: LearnKnobs, params: jax.Array) -> Memory:
    """Return the memory of a worker that has just come."""
    inner = inner_optimizer(plan, knobs).init(params) if plan.inner else ()
    compressor = COMPRESSORS[plan.compressor]
    kept = init_memory(compressor, plan.feedback, form_of(plan, plan.compressor_static))
    return Memory(by_fragment(plan, kept), inner)


def first_server(plan: LearnPlan, knobs: LearnKnobs, params: jax.Array) -> Server:
    """Return what the server keeps before the first update."""
    part = params if plan.fragments == 1 else parts(plan, params)[0]
    optimizer = make(plan.optimizer, knobs.optimizer, dict(plan.optimizer_static))
    aggregator = AGGREGATORS[plan.aggregator].init(dict(plan.aggregator_static), part.shape[0])
    downlink: Any = ()
    if plan.downlink:
        form = form_of(plan, plan.downlink_static)
        downlink = init_memory(COMPRESSORS[plan.downlink], "plain", form)
    return by_fragment(plan, Server(optimizer.init(part), aggregator, downlink))


def shard_of(plan: LearnPlan, knobs: LearnKnobs) -> Any:
    """Return what tells of the data of a run's workers, on average; zeros where it is the same."""
    problem, static = PROBLEMS[plan.problem], dict(plan.problem_static)

    def own(worker: jax.Array) -> Any:
        return problem.shard(static, knobs.problem, worker)

    def add(worker: jax.Array, total: Any) -> Any:
        return jax.tree.map(jnp.add, total, own(worker))

    shapes = jax.eval_shape(own, jnp.int32(0))
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    if not plan.apart:
        return zeros
    total = jax.lax.fori_loop(0, knobs.workers, add, zeros)
    return jax.tree.map(lambda sum_: sum_ / knobs.workers.astype(jnp.float32), total)


def begin(plan: LearnPlan, knobs: LearnKnobs, task: Task, key: jax.Array) -> Model:
    """Return the model before the first tick; every worker holds it."""
    problem = PROBLEMS[plan.problem]
    params = problem.init(dict(plan.problem_static), task, keys.stream(key, "init"))
    return Model(
        params=params,
        server=first_server(plan, knobs, params),
        fetched=repeated(params, plan.workers) if plan.holds else (),
        memory=repeated(blank(plan, knobs, params), plan.workers),
    )


def feed(plan: LearnPlan, key: jax.Array, ticks: Tick) -> Feed:
    """Return a run's feed for its ticks `[tick, slot]`; `key [2]`.

    The k-th gradient of a worker has address k, however many steps a cycle has.
    """
    first = ticks.cycle[..., None] * plan.local_steps
    count = first + jnp.arange(plan.local_steps, dtype=jnp.int32)[None, None, :]
    data = keys.address(keys.stream(key, "data"), ticks.worker[..., None], count)
    noise = keys.address(keys.stream(key, "compressor"), ticks.worker, ticks.cycle)
    return Feed(ticks, jnp.arange(ticks.worker.shape[0], dtype=jnp.int32), data, noise)


def write(tree: Any, index: jax.Array, new: Any) -> Any:
    """Write one row of every array in a tree; the index must be in bounds."""

    def one(column: jax.Array, value: jax.Array) -> jax.Array:
        return column.at[index].set(value, mode="promise_in_bounds")

    return jax.tree.map(one, tree, new)


def select(condition: jax.Array, new: Any, old: Any) -> Any:
    """Choose between two trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
