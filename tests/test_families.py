"""Every member of every learning family keeps its contract; closed forms stand beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxwan.core.families import Knob
from jaxwan.learning.aggregators import AGGREGATORS, trim_count
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS, topk_count
from jaxwan.learning.feedback import compress_with_memory, init_memory
from jaxwan.learning.optimizers import OPTIMIZERS, make

DIM, SLOTS, RUNS = 203, 7, 3
FAMILIES = {
    "compressor": COMPRESSORS,
    "aggregator": AGGREGATORS,
    "attack": ATTACKS,
    "optimizer": OPTIMIZERS,
}
compressors = pytest.mark.parametrize("name", COMPRESSORS)
aggregators = pytest.mark.parametrize("name", AGGREGATORS)
attacks = pytest.mark.parametrize("name", ATTACKS)
optimizers = pytest.mark.parametrize("name", OPTIMIZERS)
everyone = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, family in FAMILIES.items() for name in family]
)


class Case(NamedTuple):
    """A member as one function of knobs and batched inputs."""

    call: Callable[..., Any]
    inputs: tuple[Any, ...]  # every leaf [run, ...]


def defaults(knobs: Mapping[str, Knob]) -> dict[str, jax.Array]:
    return {name: jnp.float32(knob.default) for name, knob in knobs.items()}


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
        memory = init_memory(COMPRESSORS[name], True, DIM)
        memory = jax.tree.map(lambda leaf: jnp.zeros((RUNS, *leaf.shape)), memory)

        def call(knobs: Any, *inputs: Any) -> Any:
            decay = jnp.float32(0.9)
            return compress_with_memory(COMPRESSORS[name], True, decay, knobs, *inputs)

        return Case(call, (memory, keys, updates[:, 0]))
    if kind == "aggregator":
        return Case(AGGREGATORS[name].apply, (updates, weights))
    if kind == "attack":
        attacker = jnp.zeros((RUNS, SLOTS), bool).at[:, 4].set(True)
        return Case(ATTACKS[name].corrupt, (keys, updates, attacker, weights))

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
        assert finite(program({**knobs, knob: other(facts)}, *row(inputs, 0)))
    assert traces == 1
    assert finite(before)


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
    assert finite(found)


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


@compressors
@pytest.mark.parametrize("kind", packable())
def test_claimed_bytes_are_real(name: str, kind: str) -> None:
    compressor, update = COMPRESSORS[name], packable()[kind]
    ladders = [host(defaults(compressor.knobs))]
    ladders += [
        {**ladders[0], knob: float(value)}
        for knob, facts in compressor.knobs.items()
        for value in (facts.low + 1e-6, facts.high, facts.high / 3, facts.high / 40)
    ]
    for knobs in ladders:
        traced = {knob: jnp.float32(value) for knob, value in knobs.items()}
        sent, _ = jax.jit(compressor.apply)(traced, compressor.init(DIM), jax.random.key(1), update)
        blob = compressor.pack(knobs, np.asarray(sent))
        wire = compressor.wire(knobs, ((DIM - 3,), (3, 1)))
        assert len(blob) == wire.bytes == -(-wire.bits // 8)
        assert 0 <= wire.bits <= 32 * DIM + max(wire.side_bits, 0)
        np.testing.assert_array_equal(compressor.unpack(knobs, blob, DIM), sent)


@compressors
def test_traits_hold(name: str) -> None:
    compressor, draws = COMPRESSORS[name], 400
    knobs = defaults(compressor.knobs)
    update = normals(2, DIM)
    keys = jax.random.split(jax.random.key(3), draws)
    sent = jax.vmap(lambda key: compressor.apply(knobs, compressor.init(DIM), key, update)[0])(keys)
    error = np.asarray(sent - update[None, :], np.float64)
    if compressor.unbiased:
        spread = error.std(axis=0, ddof=1) / np.sqrt(draws)
        assert np.all(np.abs(error.mean(axis=0)) <= 4.5 * spread + 1e-12)
    else:
        assert np.abs(error.mean(axis=0)).max() > 0
    if compressor.contractive:
        assert np.square(error).sum(axis=1).mean() < np.square(np.asarray(update)).sum()


@compressors
@pytest.mark.parametrize("feedback", [False, True])
def test_memory_holds_exactly_what_was_not_sent(name: str, feedback: bool) -> None:
    compressor, decay = COMPRESSORS[name], jnp.float32(0.5)
    knobs = defaults(compressor.knobs)
    memory, error = init_memory(compressor, feedback, DIM), np.zeros(DIM, np.float32)
    for index in range(3):
        update = normals(index, DIM)
        sent, memory = compress_with_memory(
            compressor, feedback, decay, knobs, memory, jax.random.key(index), update
        )
        wanted = update + 0.5 * error if feedback else update
        alone, _ = compressor.apply(knobs, compressor.init(DIM), jax.random.key(index), wanted)
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


def test_published_wire_sizes() -> None:
    dim, layout = 1_000_000, ((1000, 1000),)
    sizes = {name: COMPRESSORS[name].wire({"ratio": 0.01}, layout).bytes for name in COMPRESSORS}
    assert sizes == {"none": 4 * dim, "fp16": 2 * dim, "int8": dim + 4, "topk": 80_000}
    assert COMPRESSORS["topk"].wire({"ratio": 0.1}, layout).bytes == dim // 8 + 400_000
    assert COMPRESSORS["topk"].wire({"ratio": 0.01}, ((10**9, 30),)).bits == 64 * 300_000_000


@pytest.mark.parametrize(("ratio", "energy"), [(0.1, 0.4393), (0.01, 0.0845), (0.001, 0.0127)])
def test_topk_keeps_the_energy_of_a_gaussian(ratio: float, energy: float) -> None:
    dim, draws = 100_000, 8
    updates = normals(11, draws, dim)
    sent, _ = jax.vmap(COMPRESSORS["topk"].apply, (None, None, None, 0))(
        {"ratio": jnp.float32(ratio)}, (), jax.random.key(0), updates
    )
    kept = np.square(np.asarray(sent, np.float64)).sum(1) / np.square(updates).sum(1)
    assert np.all(np.count_nonzero(sent, axis=1) == round(ratio * dim))
    assert np.all(1 - kept <= 1 - ratio)
    error = kept.std(ddof=1) / np.sqrt(draws)
    assert abs(kept.mean() - energy) < 5.41 * error + 5e-5  # t(7) at 0.1 %, rounding of `energy`


def test_int8_error_is_at_most_half_a_level() -> None:
    update = normals(4, DIM)
    sent, _ = COMPRESSORS["int8"].apply({}, (), jax.random.key(0), update)
    assert jnp.abs(sent - update).max() <= 0.5001 * jnp.abs(update).max() / 127
    assert len(np.unique(sent)) <= 255


@pytest.mark.parametrize("feedback", [False, True])
def test_three_functions_need_error_feedback(feedback: bool) -> None:
    """Beznosikov et al. 2020, example 1: top-1 alone diverges by exactly 1 + 11η/6 a step."""
    a = jnp.array([[-3.0, 2.0, 2.0], [2.0, -3.0, 2.0], [2.0, 2.0, -3.0]])
    eta, topk, knobs = 0.02, COMPRESSORS["topk"], {"ratio": jnp.float32(1 / 3)}

    def send(memory: Any, update: jax.Array) -> Any:
        return compress_with_memory(
            topk, feedback, jnp.float32(1), knobs, memory, jax.random.key(0), update
        )

    @jax.jit
    def step(x: jax.Array, memory: Any) -> Any:
        slopes = 2 * (a @ x)[:, None] * a + 0.5 * x[None, :]
        sent, memory = jax.vmap(send)(memory, eta * slopes)
        return x - jnp.mean(sent, axis=0), memory

    memory = jax.tree.map(lambda leaf: jnp.zeros((3, 3)), init_memory(topk, feedback, 3))
    x = jnp.ones(3)
    for _ in range(600 if feedback else 20):
        x, memory = step(x, memory)
    if feedback:
        assert jnp.abs(x).max() < 0.05
    else:
        np.testing.assert_allclose(x, (1 + 11 * eta / 6) ** 20, rtol=1e-5)


# Aggregators


def numpy_twin(name: str, knobs: dict[str, float], rows: np.ndarray, w: np.ndarray) -> np.ndarray:
    rows, w = rows[w > 0].astype(np.float64), w[w > 0]
    if name == "mean":
        return np.average(rows, axis=0, weights=w)
    if name == "median":
        return np.median(rows, axis=0)
    assert name == "trimmed_mean"
    cut = int(knobs["trim_ratio"] * len(rows) + 1e-4)
    return np.sort(rows, axis=0)[cut : len(rows) - cut].mean(axis=0)


@aggregators
def test_aggregators_match_numpy_on_random_cases(name: str) -> None:
    aggregator, draw = AGGREGATORS[name], np.random.default_rng(21)
    program = jax.jit(jax.vmap(aggregator.apply))
    for slots in (1, 2, 5, 16, 70):
        cases = 40
        rows = draw.normal(size=(cases, slots, 5)).astype(np.float32)
        rows[::4] = np.round(rows[::4])
        rows[1::4, slots // 2] = rows[1::4, 0]
        w = draw.uniform(0.1, 2, (cases, slots)) * (draw.uniform(size=(cases, slots)) < 0.7)
        w[:, 0] = 1
        knobs = {
            knob: draw.uniform(facts.low, facts.high, cases).astype(np.float32)
            for knob, facts in aggregator.knobs.items()
        }
        w = w.astype(np.float32)
        poisoned = np.where(w[:, :, None] > 0, rows, np.nan)
        found = program(knobs, poisoned, w)
        for i in range(cases):
            wanted = numpy_twin(name, {k: float(v[i]) for k, v in knobs.items()}, rows[i], w[i])
            np.testing.assert_allclose(found[i], wanted, rtol=1e-5, atol=1e-5)


@aggregators
def test_nobody_alive_gives_zeros_and_one_is_the_identity(name: str) -> None:
    aggregator = AGGREGATORS[name]
    knobs, updates = defaults(aggregator.knobs), normals(0, SLOTS, 4).at[1].set(jnp.nan)
    np.testing.assert_array_equal(aggregator.apply(knobs, updates, jnp.zeros(SLOTS)), np.zeros(4))
    alone = jnp.zeros(SLOTS).at[3].set(0.37)
    np.testing.assert_array_equal(aggregator.apply(knobs, updates, alone), updates[3])


@aggregators
def test_is_mean_tells_the_truth(name: str) -> None:
    aggregator = AGGREGATORS[name]
    knobs = defaults(aggregator.knobs)
    for slots in (1, 2, 3, 5, 9, 10, 16):
        updates = normals(slots, slots, 50)
        found = aggregator.apply(knobs, updates, jnp.ones(slots))
        same = np.allclose(found, updates.mean(axis=0), rtol=1e-4, atol=1e-5)
        assert same == aggregator.is_mean(host(knobs), slots)
    assert aggregator.needs(host(knobs)) >= 1


@aggregators
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
def test_robust_aggregators_shrug_off_two_of_seven(name: str, poison: float) -> None:
    aggregator, honest = AGGREGATORS[name], normals(8, SLOTS, 30)
    knobs = {knob: jnp.float32(2 / 7) for knob in aggregator.knobs}
    found = aggregator.apply(knobs, honest.at[jnp.array([1, 5])].set(poison), jnp.ones(SLOTS))
    others = np.delete(np.asarray(honest), [1, 5], axis=0)
    inside = (found >= others.min(axis=0)) & (found <= others.max(axis=0))
    assert bool(inside.all()) == aggregator.robust


def test_trim_count_survives_float_rounding() -> None:
    for slots in range(1, 200):
        for cut in range((slots - 1) // 2 + 1):
            assert trim_count(cut / slots, slots) == cut
    traced = jax.jit(trim_count)
    assert int(traced(jnp.float32(2 / 7), jnp.int32(7))) == 2
    assert int(traced(jnp.float32(0.4999), jnp.int32(1))) == 0


@pytest.mark.parametrize(
    ("name", "knobs", "slots", "wanted", "bias"),
    [
        ("mean", {}, 11, 1.0, 0.0),
        ("median", {}, 11, 1.5088, 0.0),
        ("trimmed_mean", {"trim_ratio": 0.1}, 60, 1.0604, 0.01),
        ("trimmed_mean", {"trim_ratio": 0.2}, 60, 1.1447, 0.01),
    ],
)
def test_variance_of_robust_means(
    name: str, knobs: dict[str, float], slots: int, wanted: float, bias: float
) -> None:
    """n·Var on unit Gaussians; `bias` allows for 60 being short of infinity."""
    draws = 100_000
    updates = jax.random.normal(jax.random.key(12), (slots, draws))
    traced = {knob: jnp.float32(value) for knob, value in knobs.items()}
    centre = np.asarray(jax.jit(AGGREGATORS[name].apply)(traced, updates, jnp.ones(slots)))
    found = slots * np.mean(np.square(centre, dtype=np.float64))
    assert abs(found / wanted - 1) < 3 * np.sqrt(2 / draws) + bias


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


def test_sign_flip_sends_the_scaled_opposite() -> None:
    updates, mask = normals(6, SLOTS, 4), jnp.arange(SLOTS) == 2
    found = ATTACKS["sign_flip"].corrupt(
        {"scale": jnp.float32(3)}, jax.random.key(0), updates, mask, jnp.ones(SLOTS)
    )
    np.testing.assert_allclose(found[2], -3 * updates[2])


def test_gaussian_noise_has_the_stated_size() -> None:
    dim, scale = 20_000, 5.0
    updates = normals(6, SLOTS, dim) * 0.3 + 1.0
    found = ATTACKS["gaussian"].corrupt(
        {"scale": jnp.float32(scale)}, jax.random.key(0), updates, jnp.arange(SLOTS) < 2,
        jnp.ones(SLOTS),
    )  # fmt: skip
    ratio = np.square(found[:2]).mean(axis=1) / np.square(updates[:2]).mean(axis=1) / scale**2
    assert np.all(np.abs(ratio - 1) < 3.5 * np.sqrt(2 / dim))
    assert np.all(np.abs(found[:2].mean(axis=1)) < 3.5 * scale * 1.05 / np.sqrt(dim))


def test_two_sign_flippers_of_seven() -> None:
    """The mean keeps (5 − 2s)/7 of the truth; median and trimmed mean stay among the honest."""
    truth, scale = 1.0 + jnp.abs(normals(9, 40)), 10.0
    updates = truth[None, :] + 0.01 * normals(10, SLOTS, 40)
    sent = ATTACKS["sign_flip"].corrupt(
        {"scale": jnp.float32(scale)}, jax.random.key(0), updates,
        jnp.array([True, False, False, True, False, False, False]), jnp.ones(SLOTS),
    )  # fmt: skip
    for aggregator in AGGREGATORS.values():
        knobs = {knob: jnp.float32(2 / 7) for knob in aggregator.knobs}
        share = aggregator.apply(knobs, sent, jnp.ones(SLOTS)) / truth
        wanted = 1.0 if aggregator.robust else (5 - 2 * scale) / 7
        np.testing.assert_allclose(share, wanted, atol=0.2)


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


def test_momentum_is_heavy_ball_or_nesterov() -> None:
    knobs, grad = {"lr": jnp.float32(0.1), "momentum": jnp.float32(0.5)}, jnp.ones(2)
    moves = {}
    for nesterov in (False, True):
        rule = make("momentum", knobs, {"nesterov": nesterov})
        first, state = rule.update(grad, rule.init(grad))
        second, _ = rule.update(grad, state)
        moves[nesterov] = [float(first[0]), float(second[0])]
    np.testing.assert_allclose(moves[False], [-0.1, -0.15], rtol=1e-6)
    np.testing.assert_allclose(moves[True], [-0.15, -0.175], rtol=1e-6)


def test_an_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'adam'"):
        make("adamm", {})
