"""Closed forms of the compressors that send every entry with fewer bits."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers.members import compress, defaults, form

from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.compressors.floats import E4M3, E5M2, FP4

DIM, DRAWS = 203, 2000
FORMATS = {
    "fp8_e4m3": (E4M3, ml_dtypes.float8_e4m3fn),
    "fp8_e5m2": (E5M2, ml_dtypes.float8_e5m2),
    "fp4": (FP4["e2m1"], ml_dtypes.float4_e2m1fn),
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("int4", {"chunk": 7, "rounding": "stochastic"}),
    ("int8_chunked", {"chunk": 1}),
    ("int8_chunked", {"chunk": 0, "rounding": "stochastic"}),
    ("qsgd", {"chunk": 50}),
    ("fp4", {"chunk": 1000, "format": "e3m0"}),
    ("terngrad", {}),
]


def normals(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draws(name: str, update: np.ndarray, **settings: Any) -> np.ndarray:
    """Compress one update under many keys: [draw, dim], float64."""
    keys = jax.random.split(jax.random.key(7), DRAWS)
    program = jax.jit(jax.vmap(lambda key: compress(name, update, key, **settings)))
    return np.asarray(program(keys), np.float64)


def assert_unbiased(sent: np.ndarray, update: np.ndarray) -> None:
    """Test the means over random looks at the entries, and the entries together."""
    error = sent - update
    looks = np.random.default_rng(1).choice([-1.0, 1.0], (update.size, 40))
    looks[:, 0] = np.sign(update)
    seen = error @ looks
    assert np.all(np.abs(seen.mean(axis=0)) <= 4 * seen.std(axis=0) / np.sqrt(DRAWS))


def relative_variance(sent: np.ndarray, update: np.ndarray) -> tuple[float, float]:
    """Return E|C(x) − x|² / |x|² and its standard error."""
    share = np.square(sent - update).sum(axis=1) / np.square(update, dtype=np.float64).sum()
    return float(share.mean()), float(share.std() / np.sqrt(DRAWS))


def test_wire_sizes() -> None:
    dim = 1_000_000

    def size(name: str, static: dict[str, Any] | None = None, **knobs: float) -> int:
        usual = {knob: fact.default for knob, fact in COMPRESSORS[name].knobs.items()}
        return COMPRESSORS[name].wire(
            form(name, ((1000, 1000),), **(static or {})), usual | knobs
        ).bytes

    assert size("fp8_e4m3") == size("fp8_e5m2") == dim + 1
    assert size("fp4") == dim // 2 + dim // 32
    assert size("natural") == 9 * dim // 8
    assert size("int8_chunked") == dim + 4 * 3907
    assert size("int8_chunked", {"chunk": 0}) == dim + 4
    assert size("int4") == dim // 2 + 4 * 3907
    assert [size("qsgd", levels=s) for s in (1, 2, 3, 4, 7, 8, 127, 255)] == [
        4 + dim * bits // 8 for bits in (2, 3, 3, 4, 4, 5, 8, 9)
    ]
    assert size("terngrad") == 4 + dim // 5
    assert size("onebit") == dim // 8 + 8
    assert size("signum") == dim // 8


@pytest.mark.parametrize("name", FORMATS)
def test_floats_round_as_ml_dtypes_does_under_the_least_power_of_two(name: str) -> None:
    grid, dtype = FORMATS[name]
    codes = np.arange(1 << (grid.bits - 1), dtype=np.uint8).view(dtype).astype(np.float32)
    sound = np.isfinite(codes)
    np.testing.assert_array_equal(grid.values[sound], codes[sound])
    assert grid.values[sound].max() == grid.top
    middles = (grid.values[sound][:-1] + grid.values[sound][1:]) / 2
    rows = normals(1, 60, DIM) * 10 ** np.random.default_rng(2).uniform(-5, 0, (60, DIM))
    rows[:, : middles.size] = middles[:DIM] * 2.0 ** np.arange(-30, 30)[:, None]
    rows = rows.astype(np.float32)
    static = {"chunk": 0} if name == "fp4" else {}
    sent = jax.jit(jax.vmap(lambda row: compress(name, row, **static)))(rows)
    peak = np.abs(rows).max(axis=1, keepdims=True).astype(np.float64)
    scale = 2 ** np.ceil(np.log2(peak / grid.top))
    wanted = (rows / scale).astype(dtype).astype(np.float64) * scale
    np.testing.assert_array_equal(np.asarray(sent, np.float64), wanted)


def test_e3m0_sends_powers_of_two() -> None:
    powers = [0, *2.0 ** np.arange(-2, 5)]
    np.testing.assert_array_equal(FP4["e3m0"].values, powers)
    update = np.float32([16, 15, 11.9, 0.4, 0.3, 0.13, 0.12, -0.2, -3.1])
    sent = compress("fp4", update, format="e3m0")
    np.testing.assert_array_equal(sent, [16, 16, 8, 0.5, 0.25, 0.25, 0, -0.25, -4])


@pytest.mark.parametrize(("name", "static"), VARIANTS)
def test_other_chunks_and_the_largest_numbers_are_packed_exactly(
    name: str, static: dict[str, Any]
) -> None:
    member, shape = COMPRESSORS[name], form(name, ((DIM,),), **static)
    traced, key = defaults(member.knobs), jax.random.key(1)
    knobs = {knob: float(value) for knob, value in traced.items()}
    program = jax.jit(jax.vmap(partial(member.apply, shape, traced, (), key)))
    rows = normals(3, 50, DIM) * normals(4, 50, DIM)
    rows[-1] = np.float32(3.4e38) * np.sign(rows[-1])
    found = np.asarray(program(rows)[0])
    assert np.all(np.abs(found[-1]) > 1.7e38)
    for sent in found:
        assert np.all(np.isfinite(sent))
        blob = member.pack(shape, knobs, key, sent)
        assert len(blob) == member.wire(shape, knobs).bytes
        np.testing.assert_array_equal(member.unpack(shape, knobs, blob), sent)


@pytest.mark.parametrize(("name", "levels"), [("int8_chunked", 127), ("int4", 7)])
def test_whole_numbers_err_by_half_a_step_or_are_unbiased(name: str, levels: int) -> None:
    update, chunk = normals(5, DIM) * np.float32(10) ** (np.arange(DIM) // 50 - 2), 50
    step = np.array([np.abs(update[i : i + chunk]).max() for i in range(0, DIM, chunk)]) / levels
    step = step.repeat(chunk)[:DIM] * (1 + 2.0**-11)
    sent = compress(name, update, chunk=chunk)
    assert np.all(np.abs(sent - update) <= step / 2 * (1 + 1e-5))
    assert max(len(np.unique(sent[i : i + chunk])) for i in range(0, DIM, chunk)) > 7
    sent = draws(name, update, chunk=chunk, rounding="stochastic")
    assert np.all(np.abs(sent - update) < step)
    for part in range(0, DIM, chunk):
        assert_unbiased(sent[:, part : part + chunk], update[part : part + chunk])


def test_qsgd_is_unbiased_with_bounded_variance() -> None:
    update = normals(6, DIM)
    size = np.linalg.norm(update.astype(np.float64))
    levels = (1, 4, 16, 127)
    keys = jax.random.split(jax.random.key(7), DRAWS)
    send = jax.vmap(lambda key, s: compress("qsgd", update, key, levels=s), (0, None))
    program = jax.jit(send)
    for s in levels:
        sent = np.asarray(program(keys, jnp.float32(s)), np.float64)
        assert_unbiased(sent, update)
        whole = sent * s / size
        np.testing.assert_allclose(whole, np.rint(whole), atol=s * 2.0**-11)
        share, noise = relative_variance(sent, update)
        part = np.abs(update) * s / size % 1
        exact = (part * (1 - part)).sum() / s**2
        assert abs(share - exact) <= 3 * noise + 2.0**-10 * exact
        assert exact < min(DIM / s**2, np.sqrt(DIM) / s)
        assert (sent != 0).sum(axis=1).mean() <= s * (s + np.sqrt(DIM))


def test_natural_rounds_to_neighbouring_powers_with_variance_of_at_most_an_eighth() -> None:
    update = normals(8, DIM)
    update[0], update[1], update[2] = 0, 4 / 3, -0.5
    sent = draws("natural", update)
    below = 2.0 ** np.floor(np.log2(np.abs(np.where(update == 0, 1, update))))
    ratio = np.abs(sent) / below
    assert np.all((ratio == 1) | (ratio == 2) | (update == 0))
    assert np.all(sent[:, 0] == 0)
    assert np.all(sent[:, 2] == -0.5)
    assert_unbiased(sent, update)
    share, noise = relative_variance(sent, update)
    assert share <= 1 / 8 + 3 * noise
    worst, noise = relative_variance(sent[:, 1:2], update[1:2])
    assert abs(worst - 1 / 8) <= 3 * noise


def test_terngrad_sends_each_entry_as_often_as_it_is_large() -> None:
    update = normals(9, DIM)
    keys = jax.random.split(jax.random.key(7), DRAWS)
    send = jax.vmap(lambda key, clip: compress("terngrad", update, key, clip=clip), (0, None))
    program = jax.jit(send)
    for clip, most in ((0.0, np.abs(update).max()), (1.5, 1.5 * update.std())):
        sent = np.asarray(program(keys, jnp.float32(clip)), np.float64)
        np.testing.assert_allclose(np.abs(sent[sent != 0]), most, rtol=1e-5)
        assert np.all(sent * update >= 0)
        chance = np.minimum(np.abs(update) / most, 1)
        noise = np.sqrt(chance * (1 - chance) / DRAWS)
        assert np.all(np.abs((sent != 0).mean(axis=0) - chance) <= 4.5 * noise + 1e-6)
        assert_unbiased(sent, np.clip(update, -most, most))


def test_onebit_is_nearest_of_all_with_one_value_on_each_side() -> None:
    update = normals(10, DIM) + np.float32(0.3)
    sent = np.asarray(compress("onebit", update), np.float64)
    sides = np.stack([update >= 0, update < 0], axis=1).astype(np.float64)
    best = np.linalg.lstsq(sides, update.astype(np.float64), rcond=None)[0]
    np.testing.assert_allclose(sent, sides @ best, rtol=1e-5)
    lost = np.square(sent - update).sum()
    left = np.square(update, dtype=np.float64).sum() - np.square(sent).sum()
    np.testing.assert_allclose(lost, left, rtol=1e-5)


def test_signum_sends_the_sign_of_an_exponential_average() -> None:
    member, shape, key = COMPRESSORS["signum"], form("signum", ((DIM,),)), jax.random.key(0)
    step, memory = jax.jit(partial(member.apply, shape)), member.init(shape)
    average = np.zeros(DIM)
    for turn, beta in enumerate([0.9, 0.9, 0.5, 0.9, 0.0, 0.9]):
        update = normals(20 + turn, DIM)
        sent, memory = step({"beta": jnp.float32(beta)}, memory, key, update)
        average = beta * average + (1 - beta) * update
        clear = np.abs(average) > 1e-6
        assert clear.sum() > DIM - 5
        np.testing.assert_array_equal(np.asarray(sent)[clear], np.sign(average)[clear])
        np.testing.assert_allclose(memory, average, atol=1e-6)
