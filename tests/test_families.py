"""Every member of every learning family keeps its contract; closed forms stand beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.members import defaults, fixed

from jaxwan.core.families import Knob
from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS, Compressor, Form, topk_count
from jaxwan.learning.feedback import compress_with_memory, init_memory
from jaxwan.learning.optimizers import OPTIMIZERS, make

DIM, SLOTS, RUNS = 203, 7, 3
LAYOUT = ((17, 11), (11,), (5, 1))  # of DIM entries
FAMILIES = {
    "compressor": COMPRESSORS,
    "aggregator": AGGREGATORS,
    "pre_aggregator": PRE_AGGREGATORS,
    "attack": ATTACKS,
    "optimizer": OPTIMIZERS,
}
compressors = pytest.mark.parametrize("name", COMPRESSORS)
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)
everyone = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, family in FAMILIES.items() for name in family]
)


class Case(NamedTuple):
    """A member as one function of knobs and batched inputs."""

    call: Callable[..., Any]
    inputs: tuple[Any, ...]  # every leaf [run, ...]


def form(name: str, layout: Any = LAYOUT) -> Form:
    return Form(layout, fixed(COMPRESSORS[name].static))


def host(knobs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in knobs.items()}


def other(knob: Knob) -> jax.Array:
    """Return an allowed value that is not the default."""
    assert knob.default is not None
    low = knob.low + (1e-6 if knob.open_low else 0.0)
    return jnp.float32(low if knob.default != low else (knob.low + knob.high) / 2)


def normals(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def case(kind: str, name: str) -> Case:
    keys = jax.random.split(jax.random.key(0), RUNS)
    updates, weights = normals(1, RUNS, SLOTS, DIM), jnp.ones((RUNS, SLOTS)).at[:, 2].set(0)
    if kind == "compressor":
        memory = init_memory(COMPRESSORS[name], "plain", form(name))
        memory = jax.tree.map(lambda leaf: jnp.zeros((RUNS, *leaf.shape), leaf.dtype), memory)

        def call(knobs: Any, *inputs: Any) -> Any:
            decay = jnp.float32(0.9)
            return compress_with_memory(
                COMPRESSORS[name], "plain", form(name), decay, knobs, *inputs
            )

        return Case(call, (memory, keys, updates[:, 0]))
    if kind == "aggregator":
        rule = AGGREGATORS[name]
        kept = rule.init(fixed(rule.static), DIM)
        kept = jax.tree.map(lambda leaf: jnp.zeros((RUNS, *leaf.shape), leaf.dtype), kept)
        merge = partial(rule.apply, fixed(rule.static))
        return Case(merge, (kept, keys, updates, weights))
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


def row(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], tree)


def close(found: Any, wanted: Any) -> None:
    """Compare trees: same structure, dtypes and shapes, values to 1e-5."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def finite(tree: Any) -> bool:
    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(tree))


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
    call, inputs = case(kind, name)
    knobs = defaults(FAMILIES[kind][name].knobs)
    batched = jax.jit(jax.vmap(call, (None, *(0 for _ in inputs))))(knobs, *inputs)
    for index in range(RUNS):
        close(row(batched, index), jax.jit(call)(knobs, *row(inputs, index)))
    close(jax.jit(call)(knobs, *row(inputs, 0)), call(knobs, *row(inputs, 0)))


@everyone
def test_changing_a_knob_does_not_retrace(kind: str, name: str) -> None:
    call, inputs = case(kind, name)
    traces = 0

    def counted(*args: Any) -> Any:
        nonlocal traces
        traces += 1
        return call(*args)

    program, member = jax.jit(counted), FAMILIES[kind][name]
    knobs = defaults(member.knobs)
    before = program(knobs, *row(inputs, 0))
    for knob, facts in member.knobs.items():
        after = program({**knobs, knob: other(facts)}, *row(inputs, 0))
        assert finite(after) == getattr(member, "finite", True)
    assert traces == 1
    assert finite(before) == getattr(member, "finite", True)


@everyone
@pytest.mark.parametrize("value", [0.0, 1.0, -1e30, 1e-40])
def test_finite_and_same_structure_on_ties_and_extremes(kind: str, name: str, value: float) -> None:
    call, inputs = case(kind, name)
    knobs = defaults(FAMILIES[kind][name].knobs)
    if kind == "optimizer":
        value = max(value, -1e15)  # optax squares gradients in float32
    filled = jax.tree.map(
        lambda leaf: leaf * 0 + value if leaf.dtype == jnp.float32 else leaf, row(inputs, 0)
    )
    found = jax.jit(call)(knobs, *filled)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found)
    assert shapes == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), jax.eval_shape(call, knobs, *row(inputs, 0))
    )
    assert finite(found) == getattr(FAMILIES[kind][name], "finite", True)


# Compressors


def packable() -> dict[str, np.ndarray]:
    plain = np.random.default_rng(5).normal(size=DIM).astype(np.float32)
    return {
        "plain": plain,
        "ties": np.round(plain),
        "zeros": np.zeros(DIM, np.float32),
        "sparse": np.where(plain > 2, plain, 0).astype(np.float32),
        "huge": plain * np.float32(1e37),
        "tiny": plain * np.float32(1e-37),
    }


def decoded(compressor: Compressor, found: np.ndarray, sent: Any) -> None:
    """Compare what the decoder made of a message with what was sent."""
    if compressor.exact:
        np.testing.assert_array_equal(found, sent)
    else:
        np.testing.assert_allclose(found, sent, rtol=0, atol=1e-5 * float(np.abs(sent).max()))


@compressors
@pytest.mark.parametrize("kind", packable())
def test_claimed_bytes_are_real(name: str, kind: str) -> None:
    compressor, update, key = COMPRESSORS[name], packable()[kind], jax.random.key(1)
    ladders = [host(defaults(compressor.knobs))]
    ladders += [
        {**ladders[0], knob: float(value)}
        for knob, facts in compressor.knobs.items()
        for value in (facts.low + 1e-6, facts.high, facts.high / 3, facts.high / 40)
    ]
    for knobs in ladders:
        traced = {knob: jnp.float32(value) for knob, value in knobs.items()}
        sent, _ = jax.jit(partial(compressor.apply, form(name)))(
            traced, compressor.init(form(name)), key, update
        )
        blob = compressor.pack(form(name), knobs, key, np.asarray(sent))
        wire = compressor.wire(form(name), knobs)
        assert len(blob) == wire.bytes == -(-wire.bits // 8)
        assert 0 <= wire.bits <= 32 * DIM + max(wire.side_bits, 0)
        decoded(compressor, compressor.unpack(form(name), knobs, blob), sent)


@compressors
def test_the_decoder_is_exact_at_every_scale(name: str) -> None:
    compressor, updates, key = COMPRESSORS[name], normals(14, 1000, 9), jax.random.key(1)
    knobs = defaults(compressor.knobs)
    small = form(name, ((3, 3),))
    sent, _ = jax.jit(jax.vmap(partial(compressor.apply, small), (None, None, None, 0)))(
        knobs, compressor.init(small), key, updates
    )
    for row_sent in np.asarray(sent):
        blob = compressor.pack(small, host(knobs), key, row_sent)
        decoded(compressor, compressor.unpack(small, host(knobs), blob), row_sent)


@compressors
def test_traits_hold(name: str) -> None:
    compressor, draws = COMPRESSORS[name], 400
    knobs = defaults(compressor.knobs)
    update = normals(2, DIM)
    keys = jax.random.split(jax.random.key(3), draws)
    shape = form(name)
    sent = jax.vmap(
        lambda key: compressor.apply(shape, knobs, compressor.init(shape), key, update)[0]
    )(keys)
    error = np.asarray(sent - update[None, :], np.float64)
    if compressor.unbiased:
        looks = np.random.default_rng(4).choice([-1.0, 1.0], (DIM, 40))
        looks[:, 0], looks[:, 1] = np.sign(update), np.sign(update) * np.linspace(-1, 1, DIM)
        seen = error @ looks
        spread = seen.std(axis=0, ddof=1) / np.sqrt(draws)
        assert np.all(np.abs(seen.mean(axis=0)) <= 4 * spread + 1e-12)
    else:
        assert np.abs(error.mean(axis=0)).max() > 0
    if compressor.contractive:
        assert np.square(error).sum(axis=1).mean() < np.square(np.asarray(update)).sum()


@compressors
@pytest.mark.parametrize("feedback", ["", "plain"])
def test_memory_holds_exactly_what_was_not_sent(name: str, feedback: str) -> None:
    compressor, decay = COMPRESSORS[name], jnp.float32(0.5)
    knobs = defaults(compressor.knobs)
    memory = init_memory(compressor, feedback, form(name))
    own, error = compressor.init(form(name)), np.zeros(DIM, np.float32)
    for index in range(3):
        update = normals(index, DIM)
        sent, memory = compress_with_memory(
            compressor, feedback, form(name), decay, knobs, memory, jax.random.key(index), update
        )
        wanted = update + 0.5 * error if feedback else update
        alone, own = compressor.apply(form(name), knobs, own, jax.random.key(index), wanted)
        np.testing.assert_allclose(sent, alone, rtol=1e-6, atol=1e-7)
        error = np.asarray(wanted - alone)
        if feedback:
            np.testing.assert_allclose(memory[0], error, rtol=1e-5, atol=1e-6)
        else:
            assert jax.tree.leaves(memory[0]) == []


def test_topk_counts_agree_on_host_and_device() -> None:
    draw = np.random.default_rng(0)
    ratios = [*draw.uniform(size=200), 1e-9, 0.01, 0.1, 1 / 3, 0.5, 1.0]
    for dim in (1, 2, 7, 100, 1024, 79510, 12_345_678):
        traced = jax.jit(topk_count, static_argnums=1)
        for ratio in ratios:
            assert int(traced(jnp.float32(ratio), dim)) == topk_count(ratio, dim)
        assert topk_count(0.01, dim) == max(1, round(0.01 * dim))
        assert topk_count(1.0, dim) == dim


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
