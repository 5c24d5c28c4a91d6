"""Problems: sizes by shape, exact floors, twins of the networks, gradients, skew, training."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import digamma, logsumexp, polygamma
from scipy.stats import multivariate_normal

from jaxwan.core import keys
from jaxwan.experiment.catalog import scenarios
from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.schema import as_choice
from jaxwan.learning.optimizers import make
from jaxwan.learning.problems import (
    PROBLEMS,
    cnn,
    layout_of,
    markov,
    mixture,
    mlp,
    parameter_count,
    resnet,
    skew,
    transformer,
    with_defaults,
)
from jaxwan.learning.problems.flat import size, split

SMALL: dict[str, dict[str, Any]] = {
    "quadratic": {"dim": 7},
    "mlp": {"widths": (6, 5, 4), "batch": 8, "held_out": 32, "separation": 2.0},
    "mixture": {"widths": (6, 5, 4), "batch": 8, "held_out": 32},
    "cnn": {"side": 8, "channels": (2, 3, 4), "hidden": 5, "classes": 4, "separation": 2.5},
    "resnet": {"side": 6, "channels": 2, "widths": (3, 4), "classes": 4, "separation": 2.5},
    "transformer": {"width": 8, "vocabulary": 12, "topics": 3, "context": 6, "branch": 3},
}
CLASSIFIERS = {"mlp": mlp, "cnn": cnn, "resnet": resnet}
CHEAP_EAGER = ("quadratic", "mlp", "mixture")  # the twins below hold the others' eager outputs
everyone = pytest.mark.parametrize("kind", PROBLEMS)
classifiers = pytest.mark.parametrize("kind", CLASSIFIERS)
SCENARIOS = ("simple", "mixture", "moderate", "large", "very_large", "llm_scale")


@cache
def small(kind: str) -> tuple[Any, dict[str, Any], dict[str, jax.Array], dict[str, jax.Array]]:
    """Return a small member: the problem, its static arguments, its task, its default knobs."""
    problem, static = PROBLEMS[kind], with_defaults(kind, SMALL[kind])
    knobs = {name: jnp.float32(knob.default) for name, knob in problem.knobs.items()}
    return problem, static, jax.jit(lambda: problem.make_task(static))(), knobs


def start(kind: str, seed: int = 0) -> jax.Array:
    problem, static, task, _ = small(kind)
    return problem.init(static, task, keys.run_key(seed))


def choice(name: str, part: str) -> Any:
    family = "optimizer" if part == "optimizer" else "problem"
    return as_choice(getattr(scenarios()[name], part), FAMILIES[family])


@pytest.mark.parametrize(
    ("name", "count", "share"),
    [
        ("simple", 235_146, 0.0),
        ("mixture", 33_605_004, 0.0),
        ("moderate", 636_834, 0.0),
        ("large", 11_689_512, 0.0),
        ("very_large", 102.4e6, 0.005),
        ("llm_scale", 1.037e9, 0.005),
    ],
)
def test_full_models_have_the_published_size(name: str, count: float, share: float) -> None:
    model = choice(name, "model")
    before = time.process_time()
    found = parameter_count(model.kind, **model.static)
    assert time.process_time() - before < 2.0  # allocating a billion normals takes far longer
    assert abs(found - count) <= share * count
    assert size(layout_of(model.kind, **model.static)) == found
    assert choice(name, "proxy").kind == model.kind


@pytest.mark.parametrize(
    ("kind", "static"),
    [
        ("cnn", {"side": 6}),
        ("transformer", {"heads": 3}),
        ("transformer", {"vocabulary": 30}),
        ("transformer", {"branch": 9}),
    ],
)
def test_impossible_shapes_are_refused_before_tracing(kind: str, static: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(static.values())))):
        layout_of(kind, **static)


@everyone
def test_a_vmapped_row_is_a_single_run_and_jit_is_eager(kind: str) -> None:
    problem, static, task, knobs = small(kind)
    params = jnp.stack([start(kind, seed) for seed in range(3)])
    data = jax.vmap(keys.run_key)(jnp.arange(3) + 5)
    workers = jnp.arange(3)

    def both(params: jax.Array, key: jax.Array, worker: jax.Array) -> Any:
        slope = problem.gradient(static, knobs, task, params, key, worker, None)
        shard = problem.shard(static, knobs, worker)
        return slope, problem.evaluate(static, knobs, task, shard, params)

    wide = jax.jit(jax.vmap(both))(params, data, workers)
    single = both if kind in CHEAP_EAGER else jax.jit(both)
    alone = single(params[1], data[1], workers[1])
    assert alone[0].shape == params[1].shape == (size(problem.layout(static)),)
    for a, b in zip(*map(jax.tree.leaves, (wide, alone)), strict=True):
        assert a.dtype == b.dtype == jnp.float32
        np.testing.assert_allclose(a[1], b, rtol=2e-4, atol=2e-5)
    assert np.isfinite(wide[0]).all()
    assert not np.allclose(wide[0][0], wide[0][1])


def batch_loss(kind: str, params: jax.Array, key: jax.Array) -> jax.Array:
    """Return the loss on the very batch that `gradient` draws below `key`."""
    _, static, task, _ = small(kind)
    even = skew.class_weights(jnp.float32(0), jnp.int32(0), static.get("topics", 4))
    if kind == "transformer":
        text, _ = markov.sample(static, task, even, key, static["batch"])
        return transformer.loss(static, params, text)
    module = CLASSIFIERS[kind]
    batch = mixture.sample(module.space(static), task["centres"], even, key, static["batch"])
    chances = jax.nn.log_softmax(module.logits(static, params, batch.x))
    return -jnp.mean(chances[jnp.arange(static["batch"]), batch.label])


@pytest.mark.parametrize("kind", [*CLASSIFIERS, "transformer"])
def test_the_gradient_is_the_slope_of_the_loss(kind: str) -> None:
    problem, static, task, knobs = small(kind)
    params, key, reach = start(kind, 3), keys.run_key(9), 2e-3
    give = jax.jit(lambda p: problem.gradient(static, knobs, task, p, key, jnp.int32(0), None))
    slope = give(params)
    loss = jax.jit(lambda p: batch_loss(kind, p, key))
    draws = np.random.default_rng(0).normal(size=(2, params.shape[0])).astype(np.float32)
    for ahead in (np.asarray(slope), slope + 0.3 * jnp.std(slope) * draws[0]):
        ahead = ahead / np.linalg.norm(ahead)
        found = (loss(params + reach * ahead) - loss(params - reach * ahead)) / (2 * reach)
        assert float(found) == pytest.approx(float(slope @ ahead), rel=0.02)


@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_the_workers_loss_weighs_the_held_out_samples_of_each_class(kind: str) -> None:
    problem, static, task, knobs = small(kind)
    params, skewed = start(kind, 3), knobs | {"skew": jnp.float32(2)}
    text = kind == "transformer"
    count = static["topics"] if text else task["centres"].shape[0]
    look = jax.vmap(problem.evaluate, (None, None, None, 0, None))

    @jax.jit
    def both(workers: jax.Array) -> Any:
        own = jax.vmap(problem.shard, (None, None, 0))(static, skewed, workers)
        shards = jnp.concatenate([jnp.eye(count), own])
        return shards, look(static, knobs, task, shards, params)

    shards, found = both(jnp.arange(2))
    if text:
        chances = jax.jit(partial(transformer.log_likelihood, static))(params, task["text"])
        each = -chances[0].mean(axis=1)
        label = np.asarray(jnp.argsort(task["token"])[task["text"][:, 5]] // (12 // count))
    else:
        label = np.asarray(task["label"])
        chances = jax.nn.log_softmax(mlp.logits(static, params, task["x"]))
        each = -chances[np.arange(len(label)), label]
    each = np.asarray(each, np.float64)
    for shard, own in zip(np.asarray(shards, np.float64), np.asarray(found[2]), strict=True):
        wanted = (shard[label] * each).sum() / max(shard[label].sum(), 1e-30)
        assert own == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert len(set(label)) > 1
    np.testing.assert_allclose(found[0], each.mean(), rtol=1e-4)


@classifiers
def test_the_floor_is_the_cross_entropy_of_the_exact_posterior(kind: str) -> None:
    problem, static, task, knobs = small(kind)
    space = CLASSIFIERS[kind].space(static)
    middle = np.asarray(task["centres"])
    classes, modes, length = middle.shape
    pixels = np.asarray(mixture.expand(space, middle.reshape(-1, length)))
    density = np.stack([multivariate_normal.logpdf(task["x"], mean) for mean in pixels], axis=1)
    density = logsumexp(density.reshape(-1, classes, modes), axis=2)
    posterior = density - logsumexp(density, axis=1, keepdims=True)
    label = np.asarray(task["label"])
    wanted = -posterior[np.arange(len(label)), label].mean()
    assert float(problem.floor(static, knobs, task)) == pytest.approx(wanted, abs=2e-5)
    assert wanted > 0.01


def test_samples_stand_around_every_centre_of_their_class_with_unit_variance() -> None:
    _, static, task, _ = small("mlp")
    count, middle = 12_000, 20 * task["centres"]
    classes, modes, length = middle.shape
    even = jnp.full(classes, 1 / classes)
    batch = mixture.sample(mlp.space(static), middle, even, keys.run_key(8), count)
    gap = np.asarray(batch.x)[:, None] - np.asarray(middle).reshape(1, -1, length)
    nearest = np.argmin((gap**2).sum(axis=2), axis=1)
    assert np.array_equal(nearest // modes, batch.label)
    share, cells = np.bincount(nearest, minlength=classes * modes) / count, classes * modes
    assert np.all(np.abs(share - 1 / cells) < 4 * np.sqrt((1 - 1 / cells) / cells / count))
    noise = gap[np.arange(count), nearest]
    assert abs(noise.mean()) < 3.5 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 3.5 * np.sqrt(2 / noise.size)


def test_the_toy_task_of_asynchronous_local_sgd_is_the_papers() -> None:
    """Four classes of eight centres; a length of 1 at deviation 1/2 is one of 2 at deviation 1.

    The squared lengths of 32 centres of 32 entries average to 4 within 3.5 standard errors,
    4 √(2/32) / √32 each.
    """
    problem = PROBLEMS["mixture"]
    static = with_defaults("mixture", {})
    task = jax.jit(lambda: problem.make_task(static))()
    assert task["centres"].shape == (4, 8, 32)
    lengths = np.sum(np.square(task["centres"]), axis=2)
    assert abs(lengths.mean() - 4) < 3.5 * 4 * np.sqrt(2 / 32) / np.sqrt(32)
    assert static["batch"] == 32
    weights = jax.vmap(partial(skew.class_weights, jnp.float32(problem.knobs["skew"].default)),
                       (0, None))(jnp.arange(4), 4)  # fmt: skip
    np.testing.assert_array_equal(weights, np.full((4, 4), 0.25))


def test_the_basis_is_orthonormal_and_the_centres_are_smooth() -> None:
    basis = mixture.cosines(8, 4)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-6)
    space = mixture.images(16, 1)
    code = np.random.default_rng(1).normal(size=(50, 16)).astype(np.float32)
    image = np.asarray(mixture.expand(space, code))
    np.testing.assert_allclose(mixture.project(space, image), code, atol=1e-5)
    steps = np.diff(image.reshape(50, 16, 16), axis=1)
    assert np.mean(steps**2) < 0.2 * np.mean(image**2)  # 2.0 for white pixels


def transitions(static: dict[str, Any], task: dict[str, Any]) -> np.ndarray:
    """Return the dense table `[token, next token]` that the task describes."""
    count = static["vocabulary"] // static["topics"]
    weight = 2.0 ** -np.arange(static["branch"])
    token, table = np.asarray(task["token"]), np.zeros((static["vocabulary"],) * 2)
    for topic, offsets in enumerate(np.asarray(task["offset"])):
        for word in range(count):
            for offset, chance in zip(offsets, weight / weight.sum(), strict=True):
                follower = topic * count + (word + offset) % count
                table[token[topic * count + word], token[follower]] += chance
    return table


def test_the_language_is_the_chain_whose_entropy_is_the_floor() -> None:
    problem, static, task, knobs = small("transformer")
    table = transitions(static, task)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(table.sum(axis=0), 1.0)
    assert sorted(np.asarray(task["token"])) == list(range(static["vocabulary"]))
    text = np.asarray(task["text"])
    chances = table[text[:, :-1], text[:, 1:]]
    assert chances.min() > 0
    floor = float(problem.floor(static, knobs, task))
    assert floor == pytest.approx(-np.log(chances).mean(), abs=1e-5)

    weights = jnp.full(static["topics"], 1 / static["topics"])
    many, _ = markov.sample(static, task, weights, keys.run_key(1), 4000)
    pairs = np.zeros_like(table)
    np.add.at(pairs, (np.asarray(many[:, :-1]), np.asarray(many[:, 1:])), 1)
    seen = pairs.sum(axis=1, keepdims=True)
    error = np.sqrt(table * (1 - table) / seen)
    assert np.all(np.abs(pairs / seen - table) <= 4.5 * error)


def convolved(x: jax.Array, weight: jax.Array, kernel: int, stride: int = 1) -> jax.Array:
    weight = weight.reshape(kernel, kernel, x.shape[3], -1)
    half = (kernel - 1) // 2
    return jax.lax.conv_general_dilated(
        x, weight, (stride, stride), [(half, half)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def images(static: dict[str, Any], channels: int) -> tuple[jax.Array, jax.Array]:
    shape = (5, static["side"], static["side"], channels)
    x = jnp.asarray(np.random.default_rng(4).normal(size=shape), jnp.float32)
    return x, x.reshape(5, -1)


def test_the_cnn_equals_a_library_convolution() -> None:
    _, static, _, _ = small("cnn")
    params = start("cnn") + 0.1
    x, rows = images(static, 2)
    w1, b1, w2, b2, w3, b3, w4, b4 = split(params, cnn.layout(static))
    for weight, bias in ((w1, b1), (w2, b2)):
        x = convolved(x, weight, 3) + bias[None, None, None]
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = jax.nn.relu(x)
    flat = x.transpose(3, 1, 2, 0).reshape(-1, 5).T
    wanted = jax.nn.relu(flat @ w3 + b3[None]) @ w4 + b4[None]
    np.testing.assert_allclose(cnn.logits(static, params, rows), wanted, rtol=1e-4, atol=1e-5)


def batch_normal(x: Any, scale: Any, bias: Any) -> Any:
    x = np.asarray(x, np.float64)
    centred = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
    return jnp.asarray(centred * np.asarray(scale) + np.asarray(bias), jnp.float32)


@pytest.mark.parametrize("stem", [3, 7])
def test_the_resnet_equals_library_convolutions_and_batch_statistics(stem: int) -> None:
    static = with_defaults("resnet", SMALL["resnet"] | {"stem": stem, "side": 12})
    noise = np.random.default_rng(2).normal(size=parameter_count("resnet", **static))
    params = resnet.init(static, {}, keys.run_key(0)) + 0.1 * jnp.asarray(noise, jnp.float32)
    x, rows = images(static, 2)
    piece = iter(split(params, resnet.layout(static)))

    def layer(x: Any, kernel: int, stride: int = 1) -> Any:
        return batch_normal(convolved(x, next(piece), kernel, stride), next(piece), next(piece))

    x = jax.nn.relu(layer(x, stem, 2 if stem == 7 else 1))
    if stem == 7:
        pads = [(0, 0), (1, 1), (1, 1), (0, 0)]
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    x = jax.nn.relu(layer(jax.nn.relu(layer(x, 3)), 3) + x)
    inner = layer(jax.nn.relu(layer(x, 3, 2)), 3)
    x = jax.nn.relu(inner + layer(x, 1, 2))
    wanted = x.mean(axis=(1, 2)) @ next(piece) + next(piece)[None]
    found = jax.jit(lambda params, rows: resnet.logits(static, params, rows))(params, rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def layer_normal(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * scale + bias


def test_the_decoder_equals_a_plain_one_token_by_token() -> None:
    _, static, task, _ = small("transformer")
    width, heads = static["width"], static["heads"]
    params = start("transformer") + 0.05
    text = np.asarray(task["text"][:2, :-1])
    piece = iter([np.asarray(p, np.float64) for p in split(params, transformer.layout(static))])
    embedding, places, *rest = piece
    s1, c1, wq, bq, wo, bo, s2, c2, wf, bf, wb, bb, s3, c3 = rest
    found = np.asarray(transformer.logits(static, params, text))
    for row, tokens in enumerate(text):
        x = embedding[tokens] + places
        mixed, inner = np.zeros_like(x), layer_normal(x, s1, c1) @ wq + bq
        query, key, value = np.split(inner, 3, axis=1)
        for now in range(len(tokens)):
            for part in np.split(np.arange(width), heads):
                score = key[: now + 1, part] @ query[now, part] / np.sqrt(width // heads)
                mixed[now, part] = np.exp(score - logsumexp(score)) @ value[: now + 1, part]
        x = x + mixed @ wo + bo
        x = x + np.maximum(layer_normal(x, s2, c2) @ wf + bf, 0) @ wb + bb
        wanted = layer_normal(x, s3, c3) @ embedding.T
        np.testing.assert_allclose(found[row], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [0.1, 1.0, 5.0])
def test_gamma_draws_have_the_moments_of_their_logarithm(shape: float) -> None:
    count = 40_000
    draws = np.asarray(skew.log_gammas(keys.run_key(2), jnp.float32(shape), count), np.float64)
    spread = polygamma(1, shape)
    assert abs(draws.mean() - digamma(shape)) < 3.5 * np.sqrt(spread / count)
    fourth = polygamma(3, shape) + 3 * spread**2
    assert abs(draws.var() - spread) < 3.5 * np.sqrt((fourth - spread**2) / count)


def weights_of(strength: float, workers: int, classes: int = 10) -> np.ndarray:
    weigh = jax.jit(jax.vmap(skew.class_weights, (None, 0, None)), static_argnums=2)
    return np.asarray(weigh(jnp.float32(strength), jnp.arange(workers), classes), np.float64)


def test_skew_is_dirichlet_over_workers_and_none_is_even() -> None:
    workers, classes, alpha = 4000, 10, 0.5
    found = weights_of(1 / alpha, workers)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-5)
    variance = (1 / classes) * (1 - 1 / classes) / (classes * alpha + 1)
    assert np.all(np.abs(found.mean(axis=0) - 1 / classes) < 3.5 * np.sqrt(variance / workers))
    assert found.var(axis=0).mean() == pytest.approx(variance, rel=0.1)
    assert np.all(weights_of(0.0, 3) == np.float32(0.1))
    assert weights_of(1e4, 200).max(axis=1).mean() > 0.98


def test_adding_a_worker_changes_nobody_elses_classes() -> None:
    assert np.array_equal(weights_of(3.0, 5)[:4], weights_of(3.0, 4))
    assert not np.allclose(weights_of(3.0, 2)[0], weights_of(3.0, 2)[1])


def test_labels_and_topics_follow_the_workers_weights() -> None:
    _, static, task, _ = small("cnn")
    count, weights = 20_000, weights_of(2.0, 3, 4)[1]
    draw, space = jax.jit(mixture.sample, static_argnums=(0, 4)), cnn.space(static)
    for chances in (np.full(4, 0.25), weights):
        share = jnp.asarray(chances, jnp.float32)
        batch = draw(space, task["centres"], share, keys.run_key(1), count)
        seen = np.bincount(batch.label, minlength=4) / count
        assert np.all(np.abs(seen - chances) < 4 * np.sqrt(chances * (1 - chances) / count) + 1e-6)
    _, static, task, _ = small("transformer")
    only = jnp.asarray([0.0, 1.0, 0.0])
    text, _ = markov.sample(static, task, only, keys.run_key(1), 200)
    assert set(np.asarray(text).ravel()) == set(np.asarray(task["token"])[4:8].tolist())


@pytest.mark.parametrize("kind", [*CLASSIFIERS, "transformer"])
def test_skew_reaches_the_gradient_of_each_worker(kind: str) -> None:
    problem, static, task, knobs = small(kind)
    give = jax.jit(
        lambda strength, worker: problem.gradient(
            static, knobs | {"skew": strength}, task, start(kind), keys.run_key(4), worker
        )
    )
    slope = {(s, w): give(jnp.float32(s), jnp.int32(w)) for s in (0, 5) for w in (0, 1)}
    assert jnp.array_equal(slope[0, 0], slope[0, 1])
    assert not jnp.allclose(slope[5, 0], slope[5, 1])
    assert np.isfinite(give(jnp.float32(1e4), jnp.int32(0))).all()


@pytest.mark.parametrize("name", SCENARIOS)
def test_four_workers_halve_the_excess_loss_but_not_the_floor(name: str) -> None:
    proxy, chosen = choice(name, "proxy"), choice(name, "optimizer")
    problem, static = PROBLEMS[proxy.kind], with_defaults(proxy.kind, proxy.static)
    task = jax.jit(lambda: problem.make_task(static))()
    rule = make(chosen.kind, chosen.knobs, chosen.static)
    knobs = {name: jnp.float32(value) for name, value in proxy.knobs.items()}
    slope = jax.vmap(problem.gradient, (None, None, None, None, 0, 0))

    @jax.jit
    def train(key: jax.Array) -> Any:
        def step(index: jax.Array, carry: Any) -> Any:
            params, state = carry
            data = jax.vmap(lambda worker: keys.address(key, worker, index))(jnp.arange(4))
            slopes = slope(static, knobs, task, params, data, jnp.arange(4))
            move, state = rule.update(jnp.mean(slopes, axis=0), state, params)
            return optax.apply_updates(params, move), state

        first = problem.init(static, task, key)
        last, _ = jax.lax.fori_loop(0, 200, step, (first, rule.init(first)))
        own = problem.shard(static, knobs, jnp.int32(0))
        look = jax.vmap(lambda params: problem.evaluate(static, knobs, task, own, params)[0])
        return look(jnp.stack([first, last]))

    before, after = train(keys.run_key(1))
    floor = problem.floor(static, knobs, task)
    assert floor < after < floor + 0.5 * (before - floor)
    assert after < scenarios()[name].target_loss < before


def test_the_derivative_of_a_cut_is_put_together_in_order():
    """A tensor that is not used has none; under vmap too."""
    shapes = ((2, 3), (), (3,), (4,))
    params = jnp.arange(28, dtype=jnp.float32).reshape(2, 14)

    def total(params):
        first, single, _, last = split(params, shapes)
        return jnp.sum(first**2) + 3 * single + jnp.sum(jnp.arange(4) * last)

    found = jax.vmap(jax.grad(total))(params)
    for row, own in zip(np.asarray(found), np.asarray(params), strict=True):
        np.testing.assert_array_equal(row, [*(2 * own[:6]), 3, 0, 0, 0, 0, 1, 2, 3])
