"""Paired comparisons under common random numbers: ratios, shares, p-values, censored times.

Everywhere `a` and `b` are `[pair]`: two treatments of the same seeds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxwan.stats.intervals import Floats, Interval, mean_interval, tail_of


def geometric_ratio(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate the geometric mean of a / b by Student's t interval of the logarithms.

    NaN unless all are positive: a ratio of values that may be zero has no such mean.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not np.all((a > 0) & (b > 0)):
        return Interval(np.nan, np.nan, np.nan, len(a))
    logs = mean_interval(np.log(a) - np.log(b), confidence)
    return Interval(np.exp(logs.mean), np.exp(logs.low), np.exp(logs.high), logs.n)


def mean_ratio(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate mean a / mean b of pairs, by Student's t of the log ratio linearized (delta method).

    NaN where either mean is not above zero, or there are fewer than two pairs.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    n = len(a)
    if n < 2 or not (a.mean() > 0 and b.mean() > 0):
        return Interval(np.nan, np.nan, np.nan, n)
    value = a.mean() / b.mean()
    error = np.std(a / a.mean() - b / b.mean(), ddof=1) / np.sqrt(n)
    factor = np.exp(special.stdtrit(n - 1, 1 - tail_of(confidence)) * error)
    return Interval(value, value / factor, value * factor, n)


def t_test(differences: ArrayLike) -> float:
    """Return the two-sided p-value of mean zero; NaN below two pairs.

    Differences without any spread are certain: 1 where they are zero, else 0.
    """
    d = np.asarray(differences, np.float64)
    if len(d) < 2:
        return np.nan
    error = d.std(ddof=1) / np.sqrt(len(d))
    if error == 0:
        return float(d[0] == 0)
    return float(2 * special.stdtr(len(d) - 1, -abs(d.mean() / error)))


def sign_test(a: ArrayLike, b: ArrayLike) -> float:
    """Return McNemar's exact two-sided p-value of two flags; NaN below two pairs."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if len(a) < 2:
        return np.nan
    up, down = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    return min(1.0, 2 * float(special.bdtr(min(up, down), up + down, 0.5)))


def share_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate P(a) − P(b) of paired flags; the bounds add half a pair to each outcome.

    Agresti and Min 2005, Simple improved confidence intervals for comparing matched proportions.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    n = len(a)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    up, down, total = np.sum(a & ~b) + 0.5, np.sum(b & ~a) + 0.5, n + 2
    center = (up - down) / total
    error = np.sqrt(up + down - (up - down) ** 2 / total) / total
    half = special.ndtri((1 + confidence) / 2) * error
    low, high = max(center - half, -1.0), min(center + half, 1.0)
    return Interval(a.mean() - b.mean(), low, high, n)


def share_tail(up: ArrayLike, down: ArrayLike, n: ArrayLike, margin: ArrayLike) -> Floats:
    """Return the one-sided p-value of P(a) − P(b) ≥ margin for paired flags, margin above −1.

    `up` counts the pairs in which only a holds, `down` those in which only b does. Tango's score
    (1998, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design): the spread is that under the margin, so pairs that never differ are no
    proof that they never will; without a margin it is McNemar's. 1 where n is zero.
    """
    up, down, n, margin = (np.asarray(each, np.float64) for each in (up, down, n, margin))
    linear = -up - down + (2 * n - up + down) * margin
    room = margin * (1 - margin)
    root = np.sqrt(np.maximum(linear**2 + 8 * n * down * room, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        only_b = np.maximum(root - linear, 0.0) / (4 * n)
        error = np.sqrt(np.maximum(n * (2 * only_b + room), 0.0))
        score = np.where(error > 0, (n * margin - (up - down)) / error, 0.0)
    below = np.where((error == 0) & (margin >= 1), np.inf, score)
    return np.asarray(np.where(n > 0, special.ndtr(-below), 1.0))


def share_bound(up: ArrayLike, down: ArrayLike, n: ArrayLike, tail: float) -> Floats:
    """Return the upper bound of P(a) − P(b) at a one-sided tail: where `share_tail` falls to it."""
    up, down, n = (np.asarray(each, np.float64) for each in (up, down, n))
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(n > 0, (up - down) / n, 1.0)
    high = np.ones_like(low)
    for _ in range(32):
        middle = (low + high) / 2
        open_yet = share_tail(up, down, n, middle) > tail
        low, high = np.where(open_yet, middle, low), np.where(open_yet, high, middle)
    return high


def variance_reduction(a: ArrayLike, b: ArrayLike) -> float:
    """Return (var a + var b) / var(a − b): how many unpaired pairs one pair is worth.

    Infinite where the difference does not vary though the values do; NaN where nothing varies.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(a) < 2:
        return np.nan
    apart, paired = a.var(ddof=1) + b.var(ddof=1), (a - b).var(ddof=1)
    if paired == 0:
        return np.inf if apart > 0 else np.nan
    return float(apart / paired)


def holm(p: ArrayLike) -> Floats:
    """Return Holm's adjusted p-values (Holm 1979); NaN stays NaN and does not count."""
    p = np.asarray(p, np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(~np.isnan(p))]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1.0)
    return adjusted


class Capped(NamedTuple):
    """Two censored times, each capped at one horizon until which all of them are known."""

    a: Floats
    b: Floats
    horizon: float


def restrict(a: ArrayLike, b: ArrayLike, watched_a: ArrayLike, watched_b: ArrayLike) -> Capped:
    """Cap times at the longest horizon that censoring allows.

    An unreached time is NaN or infinite, and `watched` says how long one waited for it, infinite
    where waiting longer would not have helped. The horizon is the shortest such wait, so that
    min(time, horizon) is known of every run; without censoring it is the longest time and caps
    nothing.
    """
    times = np.concatenate([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    watched = np.concatenate([np.asarray(watched_a, np.float64), np.asarray(watched_b, np.float64)])
    reached = np.isfinite(times)
    if not len(times):
        return Capped(times, times, np.nan)
    cut = ~reached & np.isfinite(watched)
    longest = times[reached].max(initial=0.0) if reached.any() else np.nan
    horizon = float(watched[cut].min() if cut.any() else longest)
    capped = np.minimum(np.where(reached, times, np.inf), horizon)
    half = len(capped) // 2
    return Capped(capped[:half], capped[half:], horizon)
