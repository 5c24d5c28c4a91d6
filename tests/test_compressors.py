"""Every compressor keeps its contract: its bytes are real, its traits true, its memory exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.contracts import DIM, contract_form, host
from helpers.members import defaults

from jaxwan.learning.compressors import COMPRESSORS, Compressor, topk_count
from jaxwan.learning.feedback import FEEDBACKS, compress_with_memory, init_memory

SCALES, DRAWS, DECAY = 240, 400, 0.5
compressors = pytest.mark.parametrize("name", COMPRESSORS, scope="module")  # one table for all


class Table(NamedTuple):
    """All that a compressor is asked for, in one compiled call; `packed` rows come first.

    The packed rows share one key; the last `DRAWS` rows are one update under keys of their own.
    """

    program: Callable[..., Any]  # (knobs, memory, keys, updates) -> (sent, memory), all [row, ...]
    knobs: list[dict[str, float]]  # of each packed row
    arguments: tuple[Any, Any, Any, np.ndarray]
    sent: np.ndarray  # [row, DIM]
    memory: Any

    @property
    def updates(self) -> np.ndarray:
        return self.arguments[3]


def packable() -> np.ndarray:
    """Return plain entries, ties, zeros, few entries, huge ones and tiny ones: [kind, DIM]."""
    plain = np.random.default_rng(5).normal(size=DIM).astype(np.float32)
    few = np.where(plain > 2, plain, np.float32(0))
    with np.errstate(under="ignore"):
        tiny = plain * np.float32(1e-37)
    return np.stack([plain, np.round(plain), 0 * plain, few, plain * np.float32(1e37), tiny])


def ladder(compressor: Compressor) -> list[dict[str, float]]:
    """Return the default knobs and each knob along its range."""
    usual = host(defaults(compressor.knobs))
    return [usual] + [
        {**usual, knob: float(value)}
        for knob, facts in compressor.knobs.items()
        for value in (facts.low + 1e-6, facts.high, facts.high / 3, facts.high / 40)
    ]


def scaled(seed: int) -> np.ndarray:
    """Return normal updates [SCALES, DIM] of all sizes between 1e-6 and 1e6."""
    draw = np.random.default_rng(seed)
    sizes = 10 ** draw.uniform(-6, 6, (SCALES, 1))
    return (draw.normal(size=(SCALES, DIM)) * sizes).astype(np.float32)


@cache
def table(name: str) -> Table:
    compressor, form = COMPRESSORS[name], contract_form(name)
    steps, kinds = ladder(compressor), packable()
    packed = [step for step in steps for _ in kinds] + [steps[0]] * SCALES
    same = np.random.default_rng(2).normal(size=(1, DIM)).astype(np.float32)
    updates = np.concatenate([*(kinds for _ in steps), scaled(14), same.repeat(DRAWS, axis=0)])
    rows = packed + [steps[0]] * DRAWS
    knobs = {knob: np.float32([row[knob] for row in rows]) for knob in compressor.knobs}
    keys = jnp.concatenate([
        jnp.stack([jax.random.key(1)] * len(packed)), jax.random.split(jax.random.key(3), DRAWS),
    ])  # fmt: skip
    memory = jax.tree.map(
        lambda leaf: np.zeros((len(rows), *leaf.shape), leaf.dtype),
        init_memory(compressor, "plain", form),
    )
    call = partial(compress_with_memory, compressor, "plain", form, jnp.float32(DECAY))
    program = jax.jit(jax.vmap(call))
    sent, after = program(knobs, memory, keys, updates)
    return Table(program, packed, (knobs, memory, keys, updates), np.asarray(sent), after)


@compressors
def test_claimed_bytes_are_real_and_the_decoder_exact(name: str) -> None:
    compressor, form, asked = COMPRESSORS[name], contract_form(name), table(name)
    key = jax.random.key(1)
    for knobs, sent in zip(asked.knobs, asked.sent, strict=False):
        blob, wire = compressor.pack(form, knobs, key, sent), compressor.wire(form, knobs)
        assert len(blob) == wire.bytes == -(-wire.bits // 8)
        assert 0 <= wire.bits <= 32 * DIM + max(wire.side_bits, 0)
        found = compressor.unpack(form, knobs, blob)
        if compressor.exact:
            np.testing.assert_array_equal(found, sent)
        else:
            np.testing.assert_allclose(found, sent, rtol=0, atol=1e-5 * np.abs(sent).max())


@compressors
def test_traits_hold(name: str) -> None:
    compressor, asked = COMPRESSORS[name], table(name)
    update = asked.updates[-1].astype(np.float64)
    error = asked.sent[-DRAWS:] - update
    if compressor.unbiased:
        looks = np.random.default_rng(4).choice([-1.0, 1.0], (DIM, 40))
        looks[:, 0], looks[:, 1] = np.sign(update), np.sign(update) * np.linspace(-1, 1, DIM)
        seen = error @ looks
        spread = seen.std(axis=0, ddof=1) / np.sqrt(DRAWS)
        assert np.all(np.abs(seen.mean(axis=0)) <= 4 * spread + 1e-12)
    else:
        assert np.abs(error.mean(axis=0)).max() > 0
    if compressor.contractive:
        assert np.square(error).sum(axis=1).mean() < np.square(update).sum()


@compressors
def test_memory_starts_at_zero_and_holds_exactly_what_was_not_sent(name: str) -> None:
    own = COMPRESSORS[name].init(contract_form(name))
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(own))
    asked = table(name)
    knobs, _, keys, updates = asked.arguments
    memory, sent, before = asked.memory, asked.sent, np.zeros_like(updates)
    for turn in range(3):
        wanted = updates[-DRAWS:] + DECAY * before[-DRAWS:]
        left = np.asarray(memory[0])
        size = 1e-6 * max(np.abs(wanted).max(), np.abs(sent[-DRAWS:]).max())
        np.testing.assert_allclose(left[-DRAWS:], wanted - sent[-DRAWS:], rtol=1e-5, atol=size)
        before, updates = left, np.roll(asked.updates, turn + 1, axis=1)
        found, memory = asked.program(knobs, memory, keys, updates)
        sent = np.asarray(found)


@pytest.mark.parametrize("feedback", FEEDBACKS)
@pytest.mark.parametrize("name", ["natural", "signum"])
def test_feedback_sends_the_corrected_update_and_keeps_the_own_memory(
    name: str, feedback: str
) -> None:
    compressor, form = COMPRESSORS[name], contract_form(name)
    knobs, decay = defaults(compressor.knobs), jnp.float32(DECAY)
    step = jax.jit(partial(compress_with_memory, compressor, feedback, form, decay, knobs))
    alone = jax.jit(partial(compressor.apply, form, knobs))
    memory, own = init_memory(compressor, feedback, form), compressor.init(form)
    error = np.zeros(DIM, np.float32)
    for index in range(3):
        update, key = scaled(index)[0], jax.random.key(index)
        sent, memory = step(memory, key, update)
        wanted = {"": update, "plain": update + DECAY * error, "ef21": update - error}[feedback]
        part, own = alone(own, key, wanted.astype(np.float32))
        error = {"": error, "plain": wanted - part, "ef21": error + part}[feedback]
        told = error if feedback == "ef21" else part
        size = 1e-6 * np.abs(told).max()
        np.testing.assert_allclose(sent, told, rtol=1e-5, atol=size)
        for kept, leaf in zip(jax.tree.leaves(memory[1]), jax.tree.leaves(own), strict=True):
            np.testing.assert_allclose(kept, leaf, rtol=1e-5, atol=1e-6 * np.abs(leaf).max())
        if feedback:
            np.testing.assert_allclose(memory[0], error, rtol=1e-5, atol=size)
        else:
            assert jax.tree.leaves(memory[0]) == []


def test_topk_counts_agree_on_host_and_device() -> None:
    draw = np.random.default_rng(0)
    ratios = np.array([*draw.uniform(size=200), 1e-9, 0.01, 0.1, 1 / 3, 0.5, 1.0])
    traced = jax.jit(topk_count, static_argnums=1)
    for dim in (1, 2, 7, 100, 1024, 79510, 12_345_678):
        on_host = [topk_count(float(ratio), dim) for ratio in ratios]
        np.testing.assert_array_equal(traced(jnp.float32(ratios), dim), on_host)
        assert topk_count(0.01, dim) == max(1, round(0.01 * dim))
        assert topk_count(1.0, dim) == dim
