"""Intervals for means, probabilities and quantiles of independent runs, in float64.

Samples lie along axis 0, so a second axis holds several quantities at once. Means count finite
values only; quantiles drop NaN and keep infinities, so that a censored time enters as inf.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its confidence bounds; `n` counts the values it rests on."""

    mean: Any
    low: Any
    high: Any
    n: Any


def tail_of(confidence: float) -> float:
    """Return the probability beyond each bound of a two-sided interval.

    Raises:
        ValueError: for a confidence that is not strictly between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    return (1 - confidence) / 2


def _fractions(q: ArrayLike) -> Floats:
    q = np.asarray(q, np.float64)
    if not np.all((q >= 0) & (q <= 1)):
        raise ValueError(f"quantiles must lie between 0 and 1, got {q.tolist()}")
    return q


def mean_interval(x: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate the mean along axis 0 with Student's t interval.

    NaN and infinities are left out; `n` counts the rest. Bounds are NaN where n < 2.
    """
    tail = tail_of(confidence)
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x)
    n = finite.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = np.where(finite, x, 0.0).sum(axis=0) / n
        squares = np.where(finite, x - mean, 0.0) ** 2
        error = np.sqrt(squares.sum(axis=0) / (n - 1) / n)
        half = special.stdtrit(np.maximum(n - 1, 1), 1 - tail) * error
        return Interval(mean, mean - half, mean + half, n)


def wilson_interval(successes: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate a success probability with Wilson's score interval; NaN where n = 0.

    Raises:
        ValueError: when successes are negative or exceed n.
    """
    z = special.ndtri(1 - tail_of(confidence))
    hits, n = np.asarray(successes, np.float64), np.asarray(n, np.int64)
    if np.any((hits < 0) | (hits > n)):
        raise ValueError(f"successes must lie between 0 and n, got {hits} of {n}")
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / n
        center = (hits + z**2 / 2) / (n + z**2)
        half = z * np.sqrt(share * (1 - share) * n + z**2 / 4) / (n + z**2)
        low = np.where(hits == 0, np.where(n > 0, 0.0, np.nan), center - half)
        high = np.where(hits == n, np.where(n > 0, 1.0, np.nan), center + half)
        return Interval(share, low, high, n)


def _ordered(x: ArrayLike) -> tuple[Floats, NDArray[np.int64]]:
    """Sort along axis 0, NaN last; return the values as `[sample, column]` and the counts."""
    x = np.asarray(x, np.float64)
    x = x.reshape(len(x), math.prod(x.shape[1:]))
    return np.sort(x, axis=0), np.count_nonzero(~np.isnan(x), axis=0)


def _pick(ordered: Floats, rank: NDArray[np.int64]) -> Floats:
    """Take the order statistics at zero-based `rank` `[q, column]`, clipped into the sample."""
    if len(ordered) == 0:
        return np.full(rank.shape, np.nan)
    return np.take_along_axis(ordered, np.clip(rank, 0, len(ordered) - 1), axis=0)


def quantiles(x: ArrayLike, q: ArrayLike) -> Floats:
    """Return the linearly interpolated quantiles along axis 0: `[q]` or `[q, column]`.

    NaN is dropped, infinities are kept: a quantile that reaches into them is infinite.
    """
    q = _fractions(q)
    ordered, n = _ordered(x)
    position = np.ravel(q)[:, None] * np.maximum(n - 1, 0)
    below = np.floor(position).astype(np.int64)
    part = position - below
    low, high = _pick(ordered, below), _pick(ordered, np.ceil(position).astype(np.int64))
    with np.errstate(invalid="ignore"):
        mixed = low + part * (high - low)
    value = np.where((part == 0) | (low == high), low, mixed)
    value = np.where(n > 0, value, np.nan)
    return value.reshape(q.shape + np.shape(x)[1:])


def quantile_interval(x: ArrayLike, q: float, confidence: float = 0.95) -> Interval:
    """Bound one quantile along axis 0 by order statistics, whatever the distribution.

    A bound that lies outside the sample is infinite: too few values to know. NaN where n = 0.
    """
    tail, share = tail_of(confidence), float(_fractions(q))
    ordered, n = _ordered(x)
    low_rank = np.array([[_binomial_quantile(tail, k, share) for k in n]])
    high_rank = np.array([[_binomial_quantile(1 - tail, k, share) + 1 for k in n]])
    low = np.where(low_rank >= 1, _pick(ordered, low_rank - 1), -np.inf)
    high = np.where(high_rank <= n, _pick(ordered, high_rank - 1), np.inf)
    shape = np.shape(x)[1:]
    low, high = (np.where(n > 0, side, np.nan).reshape(shape) for side in (low, high))
    return Interval(quantiles(x, share), low, high, n.reshape(shape))


def _binomial_quantile(probability: float, n: int, share: float) -> int:
    """Return the smallest count whose cumulative probability reaches `probability`."""
    counts = np.arange(n + 1)
    return int(np.argmax(special.bdtr(counts, int(n), share) >= probability))


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Interval:
    """Estimate the mean of a − b over runs that share their seeds (common random numbers).

    Pairs where either side is not finite are left out.

    Raises:
        ValueError: when the shapes differ.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"paired samples need one shape, got {a.shape} and {b.shape}")
    with np.errstate(invalid="ignore"):
        return mean_interval(a - b, confidence)
