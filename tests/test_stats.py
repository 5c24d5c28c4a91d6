"""Intervals: closed forms, coverage, and what missing values do."""

import numpy as np
import pytest

from jaxwan.stats.intervals import (
    mean_interval,
    paired_difference,
    quantile_interval,
    quantiles,
    wilson_interval,
)


def coverage(interval, truth):
    return np.mean((interval.low <= truth) & (truth <= interval.high))


def test_t_interval_matches_the_textbook():
    result = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert result.n == 5
    assert result.mean == pytest.approx(3.0)
    assert result.high - 3.0 == pytest.approx(2.776445105 * np.sqrt(2.5 / 5))


def test_t_interval_covers_at_64_runs():
    x = np.random.default_rng(7).exponential(size=(64, 20_000))
    normal = np.random.default_rng(8).normal(5.0, 2.0, size=(64, 20_000))
    assert 0.93 < coverage(mean_interval(x), 1.0) < 0.97
    assert abs(coverage(mean_interval(normal), 5.0) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 20_000)


@pytest.mark.parametrize("p", [0.1, 0.37, 0.5, 0.9])
def test_wilson_covers_at_64_runs(p):
    hits = np.random.default_rng(3).binomial(64, p, size=20_000)
    assert 0.93 < coverage(wilson_interval(hits, 64), p) < 0.97


def test_wilson_matches_the_closed_form():
    result = wilson_interval([0, 8, 10], 10)
    z2 = 1.959963984540054**2
    np.testing.assert_allclose(result.low, [0, 0.4901624715, 10 / (10 + z2)], rtol=1e-6)
    np.testing.assert_allclose(result.high, [z2 / (10 + z2), 0.9433178485, 1], rtol=1e-6)


def test_wilson_of_nothing_is_unknown_and_impossible_counts_are_refused():
    empty = wilson_interval(0, 0)
    assert np.isnan([empty.mean, empty.low, empty.high]).all()
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson_interval(11, 10)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_confidence_is_checked(confidence):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        mean_interval([1.0, 2.0], confidence)


def test_only_finite_values_count_in_a_mean():
    x = np.array([[1.0, np.nan, np.nan], [3.0, 7.0, np.nan], [np.inf, np.nan, np.nan]])
    result = mean_interval(x)
    np.testing.assert_array_equal(result.n, [2, 1, 0])
    np.testing.assert_array_equal(result.mean, [2.0, 7.0, np.nan])
    assert np.isfinite(result.low[0])
    assert np.isnan(result.low[1:]).all()
    assert np.isnan(result.high[1:]).all()


def test_an_empty_sample_is_unknown():
    assert mean_interval([]).n == 0
    assert np.isnan(mean_interval([]).mean)
    assert np.isnan(quantiles([], 0.5))
    assert np.isnan(quantile_interval([], 0.5).low)


def test_quantiles_agree_with_numpy_and_take_columns():
    x = np.random.default_rng(1).normal(size=(17, 3))
    np.testing.assert_allclose(quantiles(x, [0.05, 0.5, 1]), np.quantile(x, [0.05, 0.5, 1], axis=0))
    assert quantiles(x[:, 0], 0.5) == pytest.approx(np.median(x[:, 0]))


def test_censored_times_make_quantiles_infinite_not_smaller():
    times = [10.0, np.inf, 20.0, np.nan, np.inf, 30.0]
    np.testing.assert_array_equal(quantiles(times, [0, 0.5, 0.6, 1]), [10, 30, np.inf, np.inf])


def test_order_statistics_bound_a_median():
    result = quantile_interval(np.arange(1, 11), 0.5)
    assert (result.low, result.high, result.n) == (2, 9, 10)


def test_too_few_values_leave_a_quantile_unbounded():
    result = quantile_interval([1.0, 2.0, 3.0], 0.95)
    assert result.high == np.inf
    assert np.isfinite(result.low)


def test_quantile_interval_covers_a_skewed_tail():
    x = np.random.default_rng(5).exponential(size=(64, 4000))
    hit = coverage(quantile_interval(x, 0.8), -np.log(0.2))
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / 4000) < hit < 0.985


def test_pairs_cancel_shared_luck():
    rng = np.random.default_rng(2)
    luck = rng.normal(0, 100, size=50)
    a, b = luck + 1 + rng.normal(0, 0.1, 50), luck + rng.normal(0, 0.1, 50)
    result = paired_difference(a, b)
    assert result.low < 1 < result.high
    assert result.high - result.low < 0.2
    assert paired_difference([1, np.nan, 3, 5], [0, 1, np.inf, 2]).n == 2
    with pytest.raises(ValueError, match="one shape"):
        paired_difference([1, 2], [1])
