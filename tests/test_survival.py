"""Censored times, the bootstrap and variance components: closed forms and textbook figures."""

import numpy as np
import pytest
from scipy import stats

from jaxwan.stats.bootstrap import (
    bca_interval,
    quantile_statistic,
    resample_weights,
    weighted_mean,
    weighted_ratio,
)
from jaxwan.stats.components import components
from jaxwan.stats.intervals import mean_interval
from jaxwan.stats.paired import mean_ratio
from jaxwan.stats.survival import (
    influences,
    kaplan_meier,
    restricted_difference,
    restricted_mean,
    survival_quantile,
)

# Freireich et al. 1963, 6-MP arm, as in every textbook: weeks in remission, + censored
WEEKS = [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
RELAPSED = np.arange(21) < 9
TIMES = np.where(RELAPSED, WEEKS, np.nan)
WATCHED = np.where(RELAPSED, 99.0, WEEKS)


def test_kaplan_meier_of_the_textbook():
    curve = kaplan_meier(TIMES, WATCHED)
    np.testing.assert_array_equal(curve.time, [6, 7, 10, 13, 16, 22, 23])
    expected = [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    np.testing.assert_allclose(curve.survival, expected, atol=5e-5)
    error = curve.survival * np.sqrt(curve.greenwood)
    np.testing.assert_allclose(error[[0, 2, 6]], [0.0764, 0.0963, 0.1346], atol=5e-5)
    np.testing.assert_array_equal(curve.at_risk, [21, 17, 15, 12, 11, 7, 6])


def test_median_and_its_bounds_agree_with_scipy_and_the_textbook():
    found = survival_quantile(kaplan_meier(TIMES, WATCHED), 0.5)
    assert (found.mean, found.low, found.high) == (23, 13, np.inf)
    censored = stats.CensoredData.right_censored(WEEKS, ~RELAPSED)
    curve = stats.ecdf(censored).sf
    band = curve.confidence_interval(method="log-log")
    low = band.low.quantiles[np.argmax(band.low.probabilities <= 0.5)]
    assert found.low == low


def test_quantiles_without_censoring_are_order_statistics():
    x = np.arange(1.0, 65)
    curve = kaplan_meier(x, np.full(64, np.inf))
    assert survival_quantile(curve, 0.5).mean == 32
    found = survival_quantile(curve, 0.5)
    assert 22 <= found.low <= 27
    assert 38 <= found.high <= 43
    assert survival_quantile(kaplan_meier([np.nan] * 3, [5.0] * 3), 0.5).mean == np.inf


def test_a_median_nobody_saw_is_later_than_the_watch_and_no_more():
    few = survival_quantile(kaplan_meier([np.nan] * 8, [5.0] * 8), 0.5)
    assert few[:3] == (np.inf, 5.0, np.inf)
    one = survival_quantile(kaplan_meier([3.0, *[np.nan] * 63], [5.0] * 64), 0.5)
    assert one[:3] == (np.inf, 5.0, np.inf)
    uneven = survival_quantile(kaplan_meier([np.nan] * 8, np.arange(1.0, 9)), 0.5)
    assert uneven.low == 3  # six were watched until then
    assert survival_quantile(kaplan_meier([np.nan] * 3, [5.0] * 3), 0.5).low == 0
    gone = survival_quantile(kaplan_meier([np.nan] * 8, [np.inf] * 8), 0.5)
    assert gone.low == np.inf  # these never will


def test_restricted_mean_without_censoring_is_the_mean_of_capped_times():
    x = np.random.default_rng(1).exponential(size=(40, 3))
    for horizon in (0.7, 99.0):
        found = restricted_mean(x, np.full_like(x, 99.0), horizon)
        expected = mean_interval(np.minimum(x, horizon))
        np.testing.assert_allclose(found[:3], expected[:3])
        capped = np.minimum(x, horizon)
        np.testing.assert_allclose(
            influences(x, np.full_like(x, 99.0), horizon), capped - capped.mean(0), atol=1e-12
        )


def test_restricted_mean_of_the_textbook():
    found = restricted_mean(TIMES, WATCHED, 35.0)
    curve = kaplan_meier(TIMES, WATCHED)
    edges = np.concatenate([[0], curve.time, [35]])
    assert found.mean == pytest.approx(np.diff(edges) @ np.concatenate([[1], curve.survival]))
    assert found.mean == pytest.approx(23.287, abs=1e-3)
    assert (found.high - found.mean) / stats.t.ppf(0.975, 20) == pytest.approx(
        2.827 * np.sqrt(21 / 20), abs=1e-3
    )


def test_ties_and_the_order_of_runs_do_not_matter():
    rng = np.random.default_rng(2)
    x, w = rng.integers(1, 6, 30).astype(float), rng.integers(1, 8, 30).astype(float)
    order = rng.permutation(30)
    once, again = restricted_mean(x, w, 4.0), restricted_mean(x[order], w[order], 4.0)
    np.testing.assert_allclose(once[:3], again[:3])
    np.testing.assert_allclose(influences(x, w, 4.0)[order], influences(x[order], w[order], 4.0))
    square = np.sum(influences(x, w, 4.0) ** 2) / 30**2
    half = (once.high - once.mean) / stats.t.ppf(0.975, 29)
    assert square * 30 / 29 == pytest.approx(half**2)  # Greenwood's variance, both ways


def test_a_horizon_beyond_what_was_seen_is_unknown_unless_all_got_there():
    assert np.isnan(restricted_mean([1.0, np.nan], [9.0, 2.0], 3.0).mean)
    assert restricted_mean([1.0, 2.0], [9.0, 9.0], 3.0).mean == 1.5
    assert restricted_mean([1.0, np.nan], [9.0, np.inf], 3.0).mean == 2.0


def test_pairs_cancel_shared_luck_though_censored():
    rng = np.random.default_rng(3)
    luck = rng.exponential(10, 200)
    a, b = luck + 1 + rng.normal(0, 0.1, 200).clip(-0.5), luck + 0.5
    watched = np.where(rng.random(200) < 0.2, rng.uniform(2, 20, 200), 60.0)
    found = restricted_difference(a, b, watched, watched, 20.0)
    alone = restricted_mean(a, watched, 20.0)
    assert 0.2 < found.low < found.high < 0.6
    assert found.high - found.low < (alone.high - alone.low) / 8


def test_unknown_or_negative_watches_are_refused():
    with pytest.raises(ValueError, match="every watch known"):
        restricted_mean([1.0], [np.nan])
    with pytest.raises(ValueError, match="one shape"):
        kaplan_meier([1.0, 2.0], [3.0])


def test_bca_agrees_with_scipy():
    x = np.random.default_rng(4).exponential(size=200)
    theirs = stats.bootstrap((x,), np.mean, n_resamples=20_000, method="BCa", rng=1)
    ours = bca_interval(x, resamples=20_000)
    width = ours.high - ours.low
    assert ours.mean == pytest.approx(x.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.03 * width)


def test_bca_takes_columns_ratios_and_quantiles():
    rng = np.random.default_rng(5)
    a, b = rng.normal(6, 1, (80, 2)), rng.normal(3, 0.2, (80, 2))
    both = bca_interval(a, b, statistic=weighted_ratio)
    for column in range(2):
        one = bca_interval(a[:, column], b[:, column], statistic=weighted_ratio)
        np.testing.assert_allclose([side[column] for side in both[:3]], [*one[:3]])
        linear = mean_ratio(a[:, column], b[:, column])
        np.testing.assert_allclose(one[:3], linear[:3], atol=0.05 * (one.high - one.low))
    median = bca_interval(np.arange(1.0, 100), statistic=quantile_statistic(0.5))
    assert (median.mean, median.low < 45, median.high > 55) == (50, True, True)


def test_bca_of_constants_and_of_too_few():
    assert bca_interval(np.full(9, 4.0))[:3] == (4.0, 4.0, 4.0)
    assert np.isnan(bca_interval([4.0]).low)
    assert bca_interval([4.0]).mean == 4.0
    assert np.isnan(bca_interval([]).mean)
    assert np.isnan(bca_interval([1.0, np.nan, 2.0]).low)
    with pytest.raises(ValueError, match="one shape"):
        bca_interval([1.0, 2.0], [1.0], statistic=weighted_ratio)


def test_resamples_draw_every_run_equally_often():
    weights = resample_weights(50, 2000)
    assert (weights.sum(axis=1) == 50).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 / np.sqrt(2000))
    np.testing.assert_array_equal(weights, resample_weights(50, 2000))
    assert (weighted_mean(weights, np.ones((50, 1))) == 1).all()


def ishigami(x):
    """Return a function of three uniforms whose indices are known (Ishigami and Homma 1990)."""
    return np.sin(x[0]) + 7 * np.sin(x[1]) ** 2 + 0.1 * x[2] ** 4 * np.sin(x[0])


def test_components_of_a_known_function():
    a, b = np.random.default_rng(6).uniform(-np.pi, np.pi, (2, 3, 2048))
    mixed = [ishigami(np.where(np.arange(3)[:, None] == g, b, a)) for g in range(3)]
    found = components(ishigami(a), ishigami(b), np.array(mixed) + 0, resamples=400)
    first, total = [0.3139, 0.4424, 0.0], [0.5576, 0.4424, 0.2437]
    for estimate, truth in ((found.first, first), (found.total, total)):
        error = (estimate.high - estimate.low) / 3.92
        assert (np.abs(estimate.mean - truth) < 3.5 * error).all()
        assert (error < 0.04).all()
    assert found.variance == pytest.approx(13.845, rel=0.05)


def test_components_of_nothing_and_of_wrong_shapes():
    still = components(np.ones(8), np.ones(8), np.ones((2, 8)), resamples=50)
    assert np.isnan(still.first.mean).all()
    with pytest.raises(ValueError, match=r"ab \[group, run\]"):
        components(np.ones(8), np.ones(8), np.ones(8))
