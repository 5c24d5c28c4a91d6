"""Every member of every learning family keeps its contract; closed forms stand beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.contracts import DIM, contract_form, host, other
from helpers.members import aggregate, defaults, fixed

from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS, trim_count
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
aggregators = pytest.mark.parametrize("name", AGGREGATORS)
attacks = pytest.mark.parametrize("name", ATTACKS)
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
            return ATTACKS[name].corrupt(knobs, *inputs, partial(jnp.mean, axis=0))

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
    knobs = defaults(FAMILIES[kind][name].knobs)
    found = batched(knobs, *inputs)
    for index in range(RUNS):
        close(row(found, index), single(knobs, *row(inputs, index)))
    close(row(found, 0), call(knobs, *row(inputs, 0)))


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


# Aggregators


Plain = Mapping[str, float]


def trimmed_twin(knobs: Plain, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    cut = int(knobs["trim_ratio"] * len(rows) + 1e-4)
    return np.sort(rows, axis=0)[cut : len(rows) - cut].mean(axis=0)


def best_first(knobs: Plain, rows: np.ndarray) -> np.ndarray:
    """Order the rows by the sum of squared distances to their n − f − 2 nearest."""
    near, scores = max(len(rows) - int(knobs["f"]) - 2, 1), []
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0)
        scores.append(np.sort(np.square(others - row).sum(axis=1))[:near].sum())
    return np.argsort(scores, kind="stable")


def krum_twin(knobs: Plain, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    return rows[best_first(knobs, rows)[0]]


def multi_krum_twin(knobs: Plain, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    m = int(knobs["m"]) or max(len(rows) - int(knobs["f"]), 1)
    return rows[best_first(knobs, rows)[:m]].mean(axis=0)


def weiszfeld_twin(knobs: Plain, rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    centre = np.median(rows, axis=0)
    wide = np.sort(np.linalg.norm(rows - centre, axis=1))[(len(rows) - 1) // 2]
    for t in range(8):
        away = np.linalg.norm(rows - centre, axis=1)
        pull = w / np.maximum(away, max(knobs["nu"], wide / 4**t))
        centre = pull @ rows / pull.sum()
    return centre


TWINS: dict[str, Callable[[Plain, np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": lambda knobs, rows, w: np.average(rows, axis=0, weights=w),
    "median": lambda knobs, rows, w: np.median(rows, axis=0),
    "trimmed_mean": trimmed_twin,
    "krum": krum_twin,
    "multi_krum": multi_krum_twin,
    "geometric_median": weiszfeld_twin,
}


def drawn(name: str, draw: np.random.Generator, slots: int) -> dict[str, float]:
    """Draw a member's knobs: half the time those against some attackers, else any."""
    aggregator = AGGREGATORS[name]
    if draw.uniform() < 0.5:
        set_against = aggregator.against(int(draw.integers((slots + 1) // 2)), slots)
        return {**host(defaults(aggregator.knobs)), **set_against}
    return {
        knob: float(draw.integers(slots + 1))
        if isinstance(facts.default, int)
        else draw.uniform(facts.low, facts.high)
        for knob, facts in aggregator.knobs.items()
    }


@aggregators
def test_aggregators_match_numpy_on_random_cases(name: str) -> None:
    aggregator, draw = AGGREGATORS[name], np.random.default_rng(21)
    program = jax.jit(jax.vmap(partial(aggregate, name)))
    for slots in (1, 2, 5, 16, 70):
        cases = 40
        rows = draw.normal(size=(cases, slots, 5)).astype(np.float32)
        rows[::4] = np.round(rows[::4])
        rows[1::4, slots // 2] = rows[1::4, 0]
        w = draw.uniform(0.1, 2, (cases, slots)) * (draw.uniform(size=(cases, slots)) < 0.7)
        w[:, 0] = 1
        rolls = [drawn(name, draw, slots) for _ in range(cases)]
        knobs = {knob: np.float32([roll[knob] for roll in rolls]) for knob in aggregator.knobs}
        w = w.astype(np.float32)
        poisoned = np.where(w[:, :, None] > 0, rows, np.nan)
        poisoned[::3] = rows[::3]
        found = program(knobs, poisoned, w)
        for i in range(cases):
            here, own = rows[i, w[i] > 0].astype(np.float64), {k: v[i] for k, v in knobs.items()}
            wanted = TWINS[name](own, here, w[i, w[i] > 0])
            np.testing.assert_allclose(found[i], wanted, rtol=1e-5, atol=1e-5)


@aggregators
def test_nobody_alive_gives_zeros_and_one_is_the_identity(name: str) -> None:
    aggregator = AGGREGATORS[name]
    knobs, updates = defaults(aggregator.knobs), normals(0, SLOTS, 4).at[1].set(jnp.nan)
    nobody = aggregate(name, knobs, updates, jnp.zeros(SLOTS))
    np.testing.assert_array_equal(nobody, np.zeros(4))
    alone = jnp.zeros(SLOTS).at[3].set(0.37)
    np.testing.assert_array_equal(aggregate(name, knobs, updates, alone), updates[3])


@aggregators
def test_is_mean_tells_the_truth(name: str) -> None:
    aggregator = AGGREGATORS[name]
    knobs, static = defaults(aggregator.knobs), fixed(aggregator.static)
    program = jax.jit(partial(aggregate, name))
    for slots in (1, 2, 3, 5, 9, 10, 16):
        updates = normals(slots, slots, 50)
        found = program(knobs, updates, jnp.ones(slots))
        same = np.allclose(found, updates.mean(axis=0), rtol=1e-4, atol=1e-5)
        assert same == aggregator.is_mean({**host(knobs), **static}, slots)
    assert aggregator.needs({**host(knobs), **static}) >= 1


@aggregators
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
def test_robust_aggregators_shrug_off_two_of_seven(name: str, poison: float) -> None:
    """A geometric median strays by 2(1 − a)/(1 − 2a) radii at most (Minsker 2015, lemma 2.1)."""
    aggregator, honest = AGGREGATORS[name], normals(8, SLOTS, 30)
    knobs = {**host(defaults(aggregator.knobs)), **aggregator.against(2, SLOTS)}
    traced = {knob: jnp.float32(value) for knob, value in knobs.items()}
    found = aggregate(name, traced, honest.at[jnp.array([1, 5])].set(poison), jnp.ones(SLOTS))
    others = np.delete(np.asarray(honest), [1, 5], axis=0)
    centre = others.mean(axis=0)
    radius = np.linalg.norm(others - centre, axis=1).max()
    near = np.linalg.norm(np.asarray(found, np.float64) - centre) <= 10 / 3 * radius
    assert near == aggregator.robust


def test_trim_count_survives_float_rounding() -> None:
    for slots in range(1, 200):
        for cut in range((slots - 1) // 2 + 1):
            assert trim_count(cut / slots, slots) == cut
    traced = jax.jit(trim_count)
    assert int(traced(jnp.float32(2 / 7), jnp.int32(7))) == 2
    assert int(traced(jnp.float32(0.4999), jnp.int32(1))) == 0


# Attacks


@attacks
def test_an_empty_mask_changes_nothing_and_a_mask_only_its_rows(name: str) -> None:
    attack, updates = ATTACKS[name], normals(6, SLOTS, DIM).at[0, 0].set(-0.0)
    knobs, weights = defaults(attack.knobs), jnp.ones(SLOTS)
    corrupt = jax.jit(attack.corrupt)
    mask = np.zeros(SLOTS, bool)
    bits = np.asarray(updates).view(np.int32)
    found = np.asarray(corrupt(knobs, jax.random.key(0), updates, mask, weights))
    np.testing.assert_array_equal(found.view(np.int32), bits)
    mask[[2, 5]] = True
    found = np.asarray(corrupt(knobs, jax.random.key(0), updates, mask, weights)).view(np.int32)
    np.testing.assert_array_equal((found != bits).any(axis=1), mask)
    again = np.asarray(corrupt(knobs, jax.random.key(1), updates, mask, weights)).view(np.int32)
    assert (again != found).any() == attack.random


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
