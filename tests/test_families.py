"""Every member of every learning family keeps its contract; closed forms stand beside."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.contracts import DIM, contract_form, other
from helpers.members import defaults, fixed

from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.feedback import compress_with_memory, init_memory
from jaxwan.learning.optimizers import OPTIMIZERS, make

SLOTS = 7
EXTREMES = (0.0, 1.0, -1e30, 1e-40)
RUNS = len(EXTREMES)
FAMILIES = {
    "compressor": COMPRESSORS,
    "aggregator": AGGREGATORS,
    "pre_aggregator": PRE_AGGREGATORS,
    "attack": ATTACKS,
    "optimizer": OPTIMIZERS,
}
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)
everyone = pytest.mark.parametrize(  # by member, so that its tests share their programs
    ("kind", "name"),
    [(kind, name) for kind, family in FAMILIES.items() for name in family],
    scope="module",
)


class Case(NamedTuple):
    """A member as one function of knobs and batched inputs."""

    call: Callable[..., Any]
    inputs: tuple[Any, ...]  # every leaf [run, ...]
    keeps: bool = False  # takes a memory first and returns it last


class Programs(NamedTuple):
    """A member compiled once for one run and once for all, with the traces of the former."""

    case: Case
    single: Callable[..., Any]
    batched: Callable[..., Any]
    traces: list[int]


def normals(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def empty(memory: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros((RUNS, *leaf.shape), leaf.dtype), memory)


def case(kind: str, name: str) -> Case:
    keys = jax.random.split(jax.random.key(0), RUNS)
    updates, weights = normals(1, RUNS, SLOTS, DIM), jnp.ones((RUNS, SLOTS)).at[:, 2].set(0)
    if kind == "compressor":
        member, form = COMPRESSORS[name], contract_form(name)

        def call(knobs: Any, *inputs: Any) -> Any:
            decay = jnp.float32(0.9)
            return compress_with_memory(member, "plain", form, decay, knobs, *inputs)

        memory = empty(init_memory(member, "plain", form))
        return Case(call, (memory, keys, updates[:, 0]), keeps=True)
    if kind == "aggregator":
        rule = AGGREGATORS[name]
        merge, memory = partial(rule.apply, fixed(rule.static)), rule.init(fixed(rule.static), DIM)
        return Case(merge, (empty(memory), keys, updates, weights), keeps=True)
    if kind == "pre_aggregator":
        before = PRE_AGGREGATORS[name]
        return Case(partial(before.apply, fixed(before.static)), (keys, updates, weights))
    if kind == "attack":
        attacker = jnp.zeros((RUNS, SLOTS), bool).at[:, 4].set(True)

        def corrupt(knobs: Any, *inputs: Any) -> Any:
            settings = knobs | fixed(ATTACKS[name].static)
            return ATTACKS[name].corrupt(settings, *inputs, partial(jnp.mean, axis=0))

        return Case(corrupt, (keys, updates, attacker, weights))

    def step(knobs: Any, params: jax.Array, grads: jax.Array) -> Any:
        rule = make(name, knobs)
        moved, state = rule.update(grads, rule.init(params), params)
        return rule.update(grads, state, optax.apply_updates(params, moved))

    return Case(step, (updates[:, 0], updates[:, 1]))


@cache
def programs(kind: str, name: str) -> Programs:
    """Compile nothing yet: `jit` does so at the first call, and every test calls the same two."""
    here, traces = case(kind, name), [0]

    def counted(*args: Any) -> Any:
        traces[0] += 1
        return here.call(*args)

    axes = (None, *(0 for _ in here.inputs))
    return Programs(here, jax.jit(counted), jax.jit(jax.vmap(here.call, axes)), traces)


def row(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def kinds(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def close(found: Any, wanted: Any) -> None:
    """Compare trees: same structure, dtypes and shapes, values to 1e-5."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def harm(inputs: Any, sent: Any) -> float:
    """Return how far the mean of what is sent lies from that of the honest who are present."""
    updates, attacker, weights = map(np.asarray, inputs[1:])
    honest = updates[~attacker & (weights > 0)].astype(np.float64)
    made = np.asarray(sent, np.float64).mean(axis=0)
    return float(np.linalg.norm(made - honest.mean(axis=0)))


def alike(member: Any, inputs: Any, found: Any, wanted: Any) -> None:
    """Compare what a member makes of the same inputs; what a search sends, by the harm it does.

    A search wants harm, and any two scales of the same harm serve it alike. And an entry of what
    it sends is a hundred times a mean that may nearly cancel, so it is less sure than the whole.
    """
    if getattr(member, "adaptive", False):
        honest = ~np.asarray(inputs[2])
        close(found[honest], wanted[honest])
        np.testing.assert_allclose(harm(inputs, found), harm(inputs, wanted), rtol=1e-5)
    else:
        close(found, wanted)


def finite(member: Any, tree: Any) -> bool:
    """Say whether all is finite, or need not be: some attackers send NaN."""
    sound = all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))
    return sound or not getattr(member, "finite", True)


@everyone
def test_facts_are_complete(kind: str, name: str) -> None:
    member = FAMILIES[kind][name]
    assert member.summary.endswith(".")
    for knob in member.knobs.values():
        assert knob.low <= knob.default <= knob.high
        assert knob.meaning
    for field in member:
        if callable(field):
            assert field.__name__ != "<lambda>"
            assert field.__doc__


@everyone
def test_jit_equals_eager_and_a_vmapped_row_equals_a_single_run(kind: str, name: str) -> None:
    (call, inputs, _), single, batched, _ = programs(kind, name)
    member = FAMILIES[kind][name]
    knobs = defaults(member.knobs)
    found = batched(knobs, *inputs)
    for index in range(RUNS):
        alike(member, row(inputs, index), row(found, index), single(knobs, *row(inputs, index)))
    alike(member, row(inputs, 0), row(found, 0), call(knobs, *row(inputs, 0)))


@everyone
def test_changing_a_knob_does_not_retrace(kind: str, name: str) -> None:
    (_, inputs, _), single, _, traces = programs(kind, name)
    member, first = FAMILIES[kind][name], row(inputs, 0)
    knobs = defaults(member.knobs)
    assert finite(member, single(knobs, *first))
    for knob, facts in member.knobs.items():
        assert finite(member, single({**knobs, knob: other(facts)}, *first))
    assert traces == [1]


@everyone
def test_finite_and_same_memory_on_ties_and_extremes(kind: str, name: str) -> None:
    (_, inputs, keeps), _, batched, _ = programs(kind, name)
    member, values = FAMILIES[kind][name], np.float32(EXTREMES)
    if kind == "optimizer":
        values = np.maximum(values, -1e15)  # optax squares gradients in float32

    def fill(leaf: jax.Array) -> jax.Array:
        if leaf.dtype != jnp.float32:
            return leaf
        return jnp.broadcast_to(values.reshape(-1, *(1,) * (leaf.ndim - 1)), leaf.shape)

    found = batched(defaults(member.knobs), *jax.tree.map(fill, inputs))
    assert finite(member, found)
    if keeps:
        assert kinds(found[-1]) == kinds(inputs[0])


# Optimizers


@optimizers
def test_optimizers_match_optax_and_count_their_state(name: str) -> None:
    optimizer, params = OPTIMIZERS[name], normals(1, DIM)
    knobs = {knob: facts.default for knob, facts in optimizer.knobs.items()}
    rule = make(name, knobs)
    wide = [leaf for leaf in jax.tree.leaves(rule.init(params)) if leaf.shape == (DIM,)]
    assert len(wide) == optimizer.slots
    slow = jax.jit(lambda k: make(name, k).update(params, rule.init(params), params)[0])
    lr = jnp.float32(knobs["lr"])
    once, twice = slow({"lr": lr}), slow({"lr": 2 * lr})
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    assert jnp.vdot(once, params) < 0


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        make("adamm", {})
