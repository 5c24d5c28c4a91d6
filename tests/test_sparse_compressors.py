"""Chunked, momentum and low-rank compressors against closed forms and NumPy twins."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dct, idct

from jaxwan.learning.compressors import COMPRESSORS, Form, Layout
from jaxwan.learning.feedback import compress_with_memory, init_memory

STEPS = 6
MATRIX = ((12, 9),)


def form(name: str, layout: Layout, **static: Any) -> Form:
    facts = {key: fact.default for key, fact in COMPRESSORS[name].static.items()}
    return Form(layout, facts | static)


@cache
def program(name: str, layout: Layout, static: Any, feedback: str) -> Any:
    """Return the jitted `(decay, knobs, updates [step, dim]) -> sent [step, dim]`."""
    compressor, shape = COMPRESSORS[name], Form(layout, dict(static))

    def whole(decay: jax.Array, knobs: Any, updates: jax.Array) -> jax.Array:
        def step(memory: Any, update: jax.Array) -> Any:
            return compress_with_memory(
                compressor, feedback, shape, decay, knobs, memory, jax.random.key(0), update
            )[::-1]

        return jax.lax.scan(step, init_memory(compressor, feedback, shape), updates)[1]

    return jax.jit(whole)


def steps(
    name: str, shape: Form, updates: Any, feedback: str = "", decay: float = 1.0, **knobs: float
) -> np.ndarray:
    """Return what is sent for each of the updates `[step, dim]`, in turn."""
    known = COMPRESSORS[name].knobs
    told = {key: jnp.float32(knobs.get(key, fact.default)) for key, fact in known.items()}
    run = program(name, shape.layout, tuple(shape.static.items()), feedback)
    return np.asarray(run(jnp.float32(decay), told, jnp.asarray(updates, jnp.float32)))


def normals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def top(values: np.ndarray, count: int) -> np.ndarray:
    """Mark the largest magnitudes, ties by lowest index."""
    kept = np.zeros(len(values), bool)
    kept[np.argsort(-np.abs(values), kind="stable")[:count]] = True
    return kept


def by_chunk(rule: Callable[[np.ndarray], np.ndarray], values: np.ndarray, chunk: int) -> Any:
    return np.concatenate([rule(values[at : at + chunk]) for at in range(0, len(values), chunk)])


def share(ratio: float, length: int) -> int:
    return max(1, round(ratio * length))


@pytest.mark.parametrize("ratio", [1e-6, 0.1, 0.5, 1.0])
def test_chunk_topk_keeps_exactly_k_of_every_chunk(ratio: float) -> None:
    shape = form("chunk_topk", ((50, 2), (3,)), chunk=20)
    updates = np.stack([normals(1, 103), np.round(normals(2, 103)), np.ones(103)])
    for update, sent in zip(updates, steps("chunk_topk", shape, updates, ratio=ratio), strict=True):
        kept = by_chunk(lambda own: top(own, share(ratio, len(own))), update, 20)
        np.testing.assert_array_equal(sent, np.where(kept, update, 0))
    wire = COMPRESSORS["chunk_topk"].wire(shape, {"ratio": ratio})
    whole, tail = share(ratio, 20), share(ratio, 3)
    assert wire.values == 5 * whole + tail
    assert wire.bits == 32 * wire.values + 5 * min(5 * whole, 20) + min(2 * tail, 3)


def test_a_chunk_no_smaller_than_the_update_is_topk() -> None:
    update = normals(3, 1, 203)
    found = steps("chunk_topk", form("chunk_topk", ((203,),)), update, ratio=0.1)
    np.testing.assert_array_equal(found, steps("topk", Form(((203,),)), update, ratio=0.1))


def test_sparseloco_matches_its_twin_under_decayed_feedback() -> None:
    updates, ratio, error = normals(4, STEPS, 103), 0.3, np.zeros(103)
    decay = COMPRESSORS["sparseloco"].decay
    assert decay == 0.95

    def two_bits(values: np.ndarray) -> np.ndarray:
        kept, size = top(values, share(ratio, len(values))), np.abs(values)
        high = kept & (size > size[kept].mean())
        low = kept & ~high
        level = np.where(high, size[high].mean() if high.any() else 0, size[low].mean())
        return np.where(kept, np.sign(values) * level, 0)

    shape = form("sparseloco", ((103,),), chunk=20)
    found = steps("sparseloco", shape, updates, "plain", decay, ratio=ratio)
    for update, sent in zip(updates, found, strict=True):
        wanted = by_chunk(two_bits, decay * error + update, 20)
        np.testing.assert_allclose(sent, wanted, rtol=1e-5, atol=1e-6)
        error = decay * error + update - wanted
    wire = COMPRESSORS["sparseloco"].wire(shape, {"ratio": ratio})
    assert wire.bits == (2 * (5 * 6 + 1)) + (5 * 20 + 2) + 6 * 64


@pytest.mark.parametrize("clip", [0.0, 7.0])
def test_dgc_matches_its_twin(clip: float) -> None:
    updates, momentum = normals(5, STEPS, 50), 0.9
    velocity = waiting = np.zeros(50)
    lengths = np.linalg.norm(updates, axis=1)
    assert lengths.min() < 7 < lengths.max()
    found = steps("dgc", Form(((50,),)), updates, ratio=0.1, momentum=momentum, clip=clip)
    for update, sent in zip(updates, found, strict=True):
        short = min(1.0, clip / np.linalg.norm(update)) if clip else 1.0
        velocity = momentum * velocity + short * update
        waiting = waiting + velocity
        kept = top(waiting, 5)
        np.testing.assert_allclose(sent, np.where(kept, waiting, 0), rtol=1e-5, atol=1e-6)
        velocity, waiting = np.where(kept, 0, velocity), np.where(kept, 0, waiting)


def test_dgc_that_sends_everything_has_nothing_to_remember() -> None:
    updates = normals(6, STEPS, 50)
    found = steps("dgc", Form(((50,),)), updates, ratio=1.0)
    np.testing.assert_array_equal(found, updates)  # momentum is masked where it was sent


@pytest.mark.parametrize("chunk", [16, 5])
def test_demo_matches_its_twin(chunk: int) -> None:
    updates, decay, ratio = normals(7, STEPS, 53), 0.99, 0.2
    momentum = np.zeros(53)

    def largest_waves(values: np.ndarray) -> np.ndarray:
        waves = dct(values, norm="ortho")
        return idct(np.where(top(waves, share(ratio, len(values))), waves, 0), norm="ortho")

    shape = form("demo", ((8, 6), (5,)), chunk=chunk)
    found = steps("demo", shape, updates, ratio=ratio, momentum=decay)
    for update, sent in zip(updates, found, strict=True):
        momentum = decay * momentum + update
        tensors = momentum[:48], momentum[48:]
        wanted = np.concatenate([by_chunk(largest_waves, own, chunk) for own in tensors])
        np.testing.assert_allclose(sent, wanted, rtol=1e-5, atol=1e-5)
        momentum = momentum - wanted


def test_powersgd_charges_two_thin_factors_a_matrix() -> None:
    wire = COMPRESSORS["powersgd"].wire
    for rank in (1, 2, 4):
        shape = form("powersgd", ((64, 32), (32,), (100, 10), (2, 2)), rank=rank)
        assert wire(shape, {}).bytes == 4 * (rank * (64 + 32) + 32 + rank * (100 + 10) + 4)
    full = form("powersgd", ((8, 8),), rank=4)  # 4·4·16 bytes are no fewer than the 4·64 as it is
    assert wire(full, {}).bytes == 4 * 64


def test_powersgd_sends_a_matrix_of_its_rank_exactly() -> None:
    draw = np.random.default_rng(8)
    matrix = (draw.normal(size=(12, 2)) @ draw.normal(size=(2, 9))).astype(np.float32)
    found = steps("powersgd", form("powersgd", MATRIX, rank=2), np.tile(matrix.ravel(), (60, 1)))[
        :3
    ]
    for sent in found:
        np.testing.assert_allclose(sent, matrix.ravel(), atol=2e-6 * np.abs(matrix).max())


def test_powersgd_finds_the_best_approximation_of_a_matrix_it_sees_again() -> None:
    matrix = normals(9, 12, 9)
    left, sizes, right = np.linalg.svd(matrix.astype(np.float64))
    found = steps("powersgd", form("powersgd", MATRIX, rank=2), np.tile(matrix.ravel(), (60, 1)))
    lost = np.linalg.norm(np.asarray(found) - matrix.ravel(), axis=1)
    best = np.linalg.norm(sizes[2:])
    assert lost[0] > 1.02 * best
    assert np.all(np.diff(lost) < 1e-5 * best)  # a power step never loses
    np.testing.assert_allclose(lost[-1], best, rtol=1e-4)
    wanted = (left[:, :2] * sizes[:2]) @ right[:2]
    np.testing.assert_allclose(found[-1], wanted.ravel(), atol=0.02)


def test_powersgd_gains_rank_again_after_a_poor_update() -> None:
    updates = np.stack([np.zeros(108), np.ones(108), normals(10, 108)])
    sent = np.asarray(steps("powersgd", form("powersgd", MATRIX, rank=3), updates))
    ranks = [np.linalg.matrix_rank(own.reshape(12, 9), tol=1e-4) for own in sent]
    assert ranks == [0, 1, 3]
