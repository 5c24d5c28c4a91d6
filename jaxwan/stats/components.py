"""Variance components: how much of the spread each group of random inputs makes (Sobol').

A pick-freeze design runs every seed under its own inputs (A), under those of another seed (B), and
once per group under A with that group taken from B (AB). Failures, links, stragglers and data are
such groups, since each draws from a stream of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxwan.stats.bootstrap import RESAMPLES, bca_interval
from jaxwan.stats.intervals import Floats, Interval


class Components(NamedTuple):
    """Shares of the variance, by group `[group]`."""

    first: Interval  # what the group explains on its own
    total: Interval  # what remains if all but the group is known
    variance: float


def components(
    a: ArrayLike,
    b: ArrayLike,
    ab: ArrayLike,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Components:
    """Estimate first-order and total Sobol' indices from `a [run]`, `b [run]`, `ab [group, run]`.

    First order by Saltelli et al. 2010 (table 2, row b), V_g = mean b (ab_g − a); total by Jansen
    1999 (row f), mean (a − ab_g)² / 2; both over the variance of a and b together. Values are
    centred first, which leaves the indices and steadies the estimate. Intervals are BCa over the
    runs. First orders add up to 1 where groups do not interact; a total above its first order is
    interaction. NaN where nothing varies.

    Raises:
        ValueError: when the shapes do not fit.
    """
    a, b, ab = (np.asarray(each, np.float64) for each in (a, b, ab))
    if a.ndim != 1 or b.shape != a.shape or ab.ndim != 2 or ab.shape[1:] != a.shape:
        raise ValueError(
            f"expected a [run], b [run] and ab [group, run], got {a.shape}, {b.shape}, {ab.shape}"
        )
    center = np.concatenate([a, b]).mean() if len(a) else 0.0
    groups = len(ab)
    own, other = (np.repeat((each - center)[:, None], groups, axis=1) for each in (a, b))
    mixed = (ab - center).T
    first, total = (
        bca_interval(own, other, mixed, statistic=each, confidence=confidence,
                     resamples=resamples, seed=seed)
        for each in (first_order, total_order)
    )  # fmt: skip
    return Components(first, total, float(np.concatenate([a, b]).var()) if len(a) else np.nan)


def first_order(weights: Floats, a: Floats, b: Floats, ab: Floats) -> Floats:
    """Return the first-order indices `[draw, group]` of weighted runs."""
    return _share(weights, b * (ab - a), a, b)


def total_order(weights: Floats, a: Floats, b: Floats, ab: Floats) -> Floats:
    """Return the total indices `[draw, group]` of weighted runs."""
    return _share(weights, (a - ab) ** 2 / 2, a, b)


def _share(weights: Floats, part: Floats, a: Floats, b: Floats) -> Floats:
    n = weights.sum(axis=1, keepdims=True)
    mean = weights @ (a + b) / (2 * n)
    variance = weights @ (a**2 + b**2) / (2 * n) - mean**2
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (weights @ part) / n / variance
    return np.where(variance > 0, found, np.nan)
