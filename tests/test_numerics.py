"""Selection and small sorts against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxwan.core import keys, numerics

DIM = 300


def magnitudes() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(7)
    plain = np.abs(draw.normal(size=DIM)).astype(np.float32)
    infinite = plain.copy()
    infinite[[3, 50, 51]] = np.inf
    return {
        "plain": plain,
        "ties": np.round(plain, 1),
        "constant": np.full(DIM, 2.5, np.float32),
        "zeros": np.zeros(DIM, np.float32),
        "mostly zero": np.where(plain > 1.5, plain, 0).astype(np.float32),
        "infinite": infinite,
        "wide": np.geomspace(1e-44, 3e38, DIM).astype(np.float32),
        "one ulp apart": (np.int32(1 << 29) + draw.permutation(DIM).astype(np.int32)).view("f4"),
    }


def largest_first(x: np.ndarray) -> np.ndarray:
    return np.argsort(-x.view(np.int32).astype(np.int64), kind="stable")


@pytest.mark.parametrize("name", magnitudes())
def test_selection_matches_numpy(name: str) -> None:
    x = magnitudes()[name]
    order = largest_first(x)
    ks = np.array([1, 2, 5, 50, 51, 150, DIM - 1, DIM])
    found = jax.jit(jax.vmap(numerics.kth_largest, (None, 0)))(x, ks)
    masks = np.asarray(jax.jit(jax.vmap(numerics.keep_largest_mask, (None, 0)))(x, ks))
    np.testing.assert_array_equal(found, x[order[ks - 1]])
    for k, mask in zip(ks, masks, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(order[:k]))


@pytest.mark.parametrize("dim", [1, 2, 63, 64, 65, 4097])
def test_selection_at_awkward_sizes(dim: int) -> None:
    x = np.round(np.random.default_rng(dim).exponential(size=dim), 2).astype(np.float32)
    select, kth = jax.jit(numerics.keep_largest_mask), jax.jit(numerics.kth_largest)
    for k in {1, (dim + 1) // 2, dim}:
        np.testing.assert_array_equal(np.flatnonzero(select(x, k)), np.sort(largest_first(x)[:k]))
        assert kth(x, k) == np.sort(x)[-k]


def test_int16_counts_do_not_overflow() -> None:
    dim = numerics.LANES * numerics.INT16_MAX + 1
    assert jax.jit(numerics.keep_largest_mask)(jnp.ones(dim), dim - 1).sum() == dim - 1
    assert jax.jit(numerics.kth_largest)(jnp.ones(dim), dim) == 1


def test_nan_counts_as_the_largest() -> None:
    x = jnp.array([1.0, jnp.nan, jnp.inf, 2.0])
    np.testing.assert_array_equal(numerics.keep_largest_mask(x, 1), [False, True, False, False])
    np.testing.assert_array_equal(numerics.keep_largest_mask(x, 2), [False, True, True, False])


@pytest.mark.parametrize("rows", range(1, 20))
def test_network_sorts_every_zero_one_input(rows: int) -> None:
    """A network that sorts all 0/1 inputs sorts everything (Knuth, 5.3.4, theorem Z)."""
    draw = np.random.default_rng(rows)
    bits = np.arange(2**rows) if rows <= 12 else draw.integers(2**rows, size=4096)
    x = ((bits[None, :] >> np.arange(rows)[:, None]) & 1).astype(np.float32)
    ordered = list(x)
    for low, high in numerics.exchanges(rows):
        a, b = ordered[low], ordered[high]
        ordered[low], ordered[high] = np.minimum(a, b), np.maximum(a, b)
    np.testing.assert_array_equal(np.stack(ordered), np.sort(x, axis=0))


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 17])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_small_matches_numpy(rows: int, axis: int) -> None:
    x = np.random.default_rng(rows).normal(size=(3, rows, 4)).astype(np.float32)
    x[0, 0, 0], x[1, -1, 2], x[2, rows // 2, 3] = np.inf, -np.inf, x[2, 0, 3]
    x = np.moveaxis(x, 1, axis)
    np.testing.assert_array_equal(
        jax.jit(numerics.sort_small, static_argnums=1)(x, axis), np.sort(x, axis=axis)
    )


@pytest.mark.parametrize("rows", [5, 17, 70])
def test_nan_sorts_as_infinity_and_spoils_nothing_else(rows: int) -> None:
    x = np.random.default_rng(1).normal(size=(rows, 6)).astype(np.float32)
    x[2] = np.nan
    wanted = np.sort(np.where(np.isnan(x), np.inf, x), axis=0)
    np.testing.assert_array_equal(numerics.sort_small(jnp.asarray(x)), wanted)
    np.testing.assert_array_equal(jnp.stack(numerics.sorted_rows(jnp.asarray(x))), wanted)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_masked_mean_matches_numpy(axis: int) -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(4, 5, 6)).astype(np.float32)
    weights = draw.uniform(size=x.shape[axis]).astype(np.float32)
    weights[1] = 0
    wanted = np.average(x, axis=axis, weights=weights)
    found = numerics.masked_mean(jnp.asarray(x), jnp.asarray(weights), axis)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_masked_mean_ignores_absent_nan_and_empty_sets() -> None:
    x = jnp.array([[1.0, 2.0], [jnp.nan, jnp.inf], [3e38, 3e38]])
    np.testing.assert_allclose(numerics.masked_mean(x, jnp.array([1.0, 0.0, 0.0])), [1, 2])
    np.testing.assert_array_equal(numerics.masked_mean(x, jnp.zeros(3)), [0, 0])
    huge = numerics.masked_mean(jnp.full((8, 2), 3e38), jnp.ones(8))
    np.testing.assert_allclose(huge, [3e38, 3e38], rtol=1e-6)


def test_random_mask_takes_the_largest_words_and_follows_its_key() -> None:
    dim, counts = 77, np.array([1, 10, 76, 77])
    key = keys.run_key(5)
    found = jax.jit(jax.vmap(numerics.random_mask, (None, None, 0)), static_argnums=1)(
        key, dim, counts
    )
    order = np.argsort(-(np.asarray(keys.words(key, dim)) >> 1).astype(np.int64), kind="stable")
    for mask, count in zip(np.asarray(found), counts, strict=True):
        np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(order[:count]))
    elsewhere = jax.jit(numerics.random_mask, static_argnums=1)(keys.run_key(6), dim, 10)
    assert (elsewhere != found[1]).any()
