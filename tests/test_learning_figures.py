"""Published figures and closed forms of the learning families."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.members import aggregate, compress, corrupt, form

from jaxwan.learning.aggregators import AGGREGATORS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.feedback import compress_with_memory, init_memory
from jaxwan.learning.optimizers import make

DIM, SLOTS = 203, 7


def normals(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_published_wire_sizes() -> None:
    dim, layout = 1_000_000, ((1000, 1000),)
    def size(name: str, layout: Any = layout, **knobs: float) -> int:
        return COMPRESSORS[name].wire(form(name, layout), knobs).bytes

    wanted = {
        "none": 4 * dim, "fp16": 2 * dim, "bf16": 2 * dim, "int8": dim + 4, "sign": dim // 8 + 4,
        "topk": 80_000, "randk": 40_004,
    }  # fmt: skip
    assert {name: size(name, ratio=0.01) for name in wanted} == wanted
    assert size("sign", ((3, 3),)) == 2 + 4
    assert size("topk", ratio=0.1) == dim // 8 + 400_000
    assert size("topk", ((10**9, 30),), ratio=0.01) == 8 * 300_000_000


@pytest.mark.parametrize(("ratio", "energy"), [(0.1, 0.4393), (0.01, 0.0845), (0.001, 0.0127)])
def test_topk_keeps_the_energy_of_a_gaussian(ratio: float, energy: float) -> None:
    dim, draws = 100_000, 8
    updates = normals(11, draws, dim)
    sent = jax.vmap(lambda update: compress("topk", update, ratio=ratio))(updates)
    kept = np.square(np.asarray(sent, np.float64)).sum(1) / np.square(updates).sum(1)
    assert np.all(np.count_nonzero(sent, axis=1) == round(ratio * dim))
    assert np.all(1 - kept <= 1 - ratio)
    error = kept.std(ddof=1) / np.sqrt(draws)
    assert abs(kept.mean() - energy) < 5.41 * error + 5e-5  # t(7) at 0.1 %, rounding of `energy`


@pytest.mark.parametrize(("ratio", "count"), [(0.01, 3), (0.25, 75), (1.0, 300)])
def test_randk_keeps_exactly_k_with_variance_d_over_k_less_one(ratio: float, count: int) -> None:
    dim, draws = 300, 4000
    update, lucks = normals(13, dim), jax.random.split(jax.random.key(2), draws)
    sent = jax.jit(jax.vmap(lambda key: compress("randk", update, key, ratio=ratio)))(lucks)
    kept = np.asarray(sent) != 0
    assert np.all(kept.sum(axis=1) == count)
    error = np.square(np.asarray(sent - update[None, :], np.float64)).sum(axis=1)
    relative = error / np.square(np.asarray(update, np.float64)).sum()
    spread = relative.std(ddof=1) / np.sqrt(draws)
    assert abs(relative.mean() - (dim / count - 1)) <= 3 * spread + 1e-12
    chance = count / dim
    noise = np.sqrt(chance * (1 - chance) / draws)
    assert np.all(np.abs(kept.mean(axis=0) - chance) <= 4.5 * noise + 1e-12)
    pairs = (kept[:, :-1] & kept[:, 1:]).mean(axis=0).mean()
    both = chance * (count - 1) / (dim - 1)
    assert abs(pairs - both) <= 4 * np.sqrt(both / draws / (dim - 1)) + 1e-12


def test_scaled_sign_keeps_two_over_pi_of_a_gaussian() -> None:
    dim, draws = 2_000, 400
    updates = normals(15, draws, dim)
    sent = jax.vmap(lambda update: compress("sign", update))(updates)
    energy = np.square(np.asarray(updates, np.float64)).sum(axis=1)
    lost = np.square(np.asarray(sent - updates, np.float64)).sum(axis=1)
    kept = 1 - lost / energy
    bias = 1 / dim  # E|x|_1^2 = 2d(d-1)/pi + d, and the ratio's own, below 2/dim together
    assert abs(kept.mean() - 2 / np.pi) <= 3 * kept.std(ddof=1) / np.sqrt(draws) + bias
    assert np.all(np.sign(sent) == np.sign(updates))
    mean = np.abs(np.asarray(updates, np.float64)).mean(axis=1)
    np.testing.assert_allclose(np.abs(sent).max(axis=1), mean, rtol=1e-5)


def test_bfloat16_rounds_to_nearest_even_and_saturates() -> None:
    import ml_dtypes

    update = jnp.concatenate([normals(16, 2000) * 1e3, jnp.float32([1 + 2**-8, 1 + 3 * 2**-8])])
    program = jax.jit(lambda update: compress("bf16", update))
    sent = program(update)
    wanted = np.asarray(update).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(sent, wanted)
    huge = jnp.float32([3.4028e38, -3.4028e38, 1e-30])
    sent = program(huge)
    np.testing.assert_allclose(sent, huge, rtol=2**-8)


def test_float16_rounds_to_nearest_even_down_to_its_subnormals() -> None:
    scale = 10.0 ** np.random.default_rng(18).uniform(-9, 6, 4000)
    update = jnp.asarray(normals(17, 4000) * scale, jnp.float32)
    ties = jnp.float32([1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25, 2**-14, 2**-14 - 2**-25])
    update = jnp.concatenate([update, ties, -ties])
    sent = jax.jit(lambda update: compress("fp16", update))(update)
    wanted = np.clip(update, -65504, 65504).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(sent, wanted)


def test_int8_error_is_at_most_half_a_level() -> None:
    update = normals(4, DIM)
    sent = compress("int8", update)
    assert jnp.abs(sent - update).max() <= 0.5001 * jnp.abs(update).max() / 127
    assert len(np.unique(sent)) <= 255


@pytest.mark.parametrize("feedback", ["", "plain", "ef21"])
def test_three_functions_need_error_feedback(feedback: str) -> None:
    """Beznosikov et al. 2020, example 1: top-1 alone diverges by exactly 1 + 11η/6 a step."""
    a = jnp.array([[-3.0, 2.0, 2.0], [2.0, -3.0, 2.0], [2.0, 2.0, -3.0]])
    eta, topk, knobs = 0.02, COMPRESSORS["topk"], {"ratio": jnp.float32(1 / 3)}
    shape = form("topk", ((3,),))

    def send(memory: Any, update: jax.Array) -> Any:
        return compress_with_memory(
            topk, feedback, shape, jnp.float32(1), knobs, memory, jax.random.key(0), update
        )

    @jax.jit
    def step(x: jax.Array, memory: Any) -> Any:
        slopes = 2 * (a @ x)[:, None] * a + 0.5 * x[None, :]
        sent, memory = jax.vmap(send)(memory, eta * slopes)
        return x - jnp.mean(sent, axis=0), memory

    memory = jax.tree.map(lambda leaf: jnp.zeros((3, 3)), init_memory(topk, feedback, shape))
    x = jnp.ones(3)
    for _ in range(600 if feedback else 20):
        x, memory = step(x, memory)
    if feedback:
        assert jnp.abs(x).max() < 0.05
    else:
        np.testing.assert_allclose(x, (1 + 11 * eta / 6) ** 20, rtol=1e-5)


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
    centre = np.asarray(jax.jit(partial(aggregate, name))(traced, updates, jnp.ones(slots)))
    found = slots * np.mean(np.square(centre, dtype=np.float64))
    assert abs(found / wanted - 1) < 3 * np.sqrt(2 / draws) + bias


def test_sign_flip_sends_the_scaled_opposite() -> None:
    updates, mask = normals(6, SLOTS, 4), jnp.arange(SLOTS) == 2
    found = corrupt("sign_flip", {"scale": jnp.float32(3)}, updates, mask)
    np.testing.assert_allclose(found[2], -3 * updates[2])


def test_gaussian_noise_has_the_stated_size() -> None:
    dim, scale = 20_000, 5.0
    updates = normals(6, SLOTS, dim) * 0.3 + 1.0
    found = corrupt("gaussian", {"scale": jnp.float32(scale)}, updates, jnp.arange(SLOTS) < 2)
    ratio = np.square(found[:2]).mean(axis=1) / np.square(updates[:2]).mean(axis=1) / scale**2
    assert np.all(np.abs(ratio - 1) < 3.5 * np.sqrt(2 / dim))
    assert np.all(np.abs(found[:2].mean(axis=1)) < 3.5 * scale * 1.05 / np.sqrt(dim))


def test_two_sign_flippers_of_seven() -> None:
    """The mean keeps (5 − 2s)/7 of the truth, the wrong way; robust ones stay with the honest.

    Those that clip count all updates alike, so they keep 3/7 of the truth or of their radius.
    """
    truth, scale = 1.0 + jnp.abs(normals(9, 40)), 4.0
    updates = truth[None, :] + 0.01 * normals(10, SLOTS, 40)
    flippers = jnp.array([True, False, False, True, False, False, False])
    sent = corrupt("sign_flip", {"scale": jnp.float32(scale)}, updates, flippers)
    radius = AGGREGATORS["centered_clipping"].knobs["radius"].default
    clipped = {
        "norm_clipping": 3 / 7 * truth,
        "centered_clipping": 3 / 7 * radius * truth / jnp.linalg.norm(truth),
        "sign_majority": jnp.sign(truth),
    }
    for name, aggregator in AGGREGATORS.items():
        usual = {knob: facts.default for knob, facts in aggregator.knobs.items()}
        told = {**usual, **aggregator.against(2, SLOTS)}
        knobs = {k: v if k in aggregator.static else jnp.float32(v) for k, v in told.items()}
        wanted = clipped.get(name, truth if aggregator.robust else (5 - 2 * scale) / 7 * truth)
        found = jax.jit(lambda: aggregate(name, knobs, sent, jnp.ones(SLOTS)))()  # noqa: B023
        np.testing.assert_allclose(found / truth, wanted / truth, atol=0.05, err_msg=name)


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
