"""Censored times: Kaplan–Meier curves, their quantiles, and restricted means.

A run reaches its target at `times` (NaN or infinite: not while it was watched) and was watched for
`watched`; each run has its own watch. Censoring must say nothing about the time: a run is not
watched less because it is slow. Where that is doubtful, restrict to the shortest watch of an
unreached run: up to there nothing is censored and nothing is assumed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from jaxwan.stats.intervals import Floats, Interval, tail_of


class Curve(NamedTuple):
    """A Kaplan–Meier curve: what it is from each time of an event on."""

    time: Floats  # [event], rising
    survival: Floats  # share not there yet
    greenwood: Floats  # Σ d / (Y (Y − d)); the variance of the curve over its square
    at_risk: Floats
    events: Floats
    seen: Floats  # [run], how long each was on its way, rising
    n: int


class _Seen(NamedTuple):
    """Samples in the order of their times along axis 0, events before censorings."""

    time: Floats  # [run, column], capped at the horizon
    event: Floats  # 1 where the run got there
    at_risk: Floats  # runs still watched just before
    group: np.ndarray  # last place of those that share the time
    order: np.ndarray


def observed(times: ArrayLike, watched: ArrayLike) -> tuple[Floats, np.ndarray]:
    """Return how long each run was seen, and whether it got there.

    Raises:
        ValueError: for times or watches that are negative, watches that are NaN, or two shapes.
    """
    times, watched = np.asarray(times, np.float64), np.asarray(watched, np.float64)
    if times.shape != watched.shape:
        raise ValueError(f"times and watches need one shape, got {times.shape}, {watched.shape}")
    if np.any(np.isnan(watched)) or np.any(watched < 0) or np.any(times < 0):
        raise ValueError("times and watches must be zero or more, and every watch known")
    there = np.where(np.isnan(times), np.inf, times)
    hit = np.isfinite(there) & (there <= watched)
    return np.where(hit, there, watched), hit


def kaplan_meier(times: ArrayLike, watched: ArrayLike) -> Curve:
    """Estimate the share of runs not there yet, as a function of time (Kaplan and Meier 1958)."""
    seen, hit = observed(times, watched)
    at = np.unique(seen[hit])
    ordered, hits = np.sort(seen), np.sort(seen[hit])
    at_risk = len(seen) - np.searchsorted(ordered, at, "left")
    events = np.searchsorted(hits, at, "right") - np.searchsorted(hits, at, "left")
    with np.errstate(divide="ignore"):
        greenwood = np.cumsum(events / (at_risk * (at_risk - events).astype(np.float64)))
    survival = np.cumprod(1 - events / at_risk)
    counts = at_risk.astype(np.float64), events.astype(np.float64)
    return Curve(at, survival.astype(np.float64), greenwood, *counts, ordered, len(seen))


def survival_quantile(curve: Curve, q: float, confidence: float = 0.95) -> Interval:
    """Return the time by which a share q got there; estimate and high bound may be infinite.

    Brookmeyer and Crowley 1982: all times that a test of "the share is q here" would not reject,
    with the log(−log) transform of the curve. Infinite: not known to happen while one watched. The
    low bound is no later than the watch of enough runs to say so: as many as would not all be on
    their way if a share q got there, but with the tail's probability.
    """
    z = special.ndtri(1 - tail_of(confidence))
    if curve.n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    low, high = _band(curve, z)
    level = (1 - q) * (1 + 1e-12)
    return Interval(
        _first(curve, curve.survival <= level),
        min(_first(curve, low <= level), _watched(curve, q, tail_of(confidence))),
        _first(curve, high <= level),
        curve.n,
    )


def _band(curve: Curve, z: float) -> tuple[Floats, Floats]:
    """Return the pointwise bounds of a curve by the log(−log) transform."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(curve.survival)
        error = z * np.sqrt(curve.greenwood) / np.abs(logs)
        low, high = curve.survival ** np.exp(error), curve.survival ** np.exp(-error)
    gone = curve.survival <= 0
    before = np.concatenate([[1.0], high])[:-1]  # at zero the transform has no bound
    return np.where(gone, 0.0, low), np.where(gone, before, high)


def _first(curve: Curve, holds: np.ndarray) -> float:
    return float(curve.time[np.argmax(holds)]) if holds.any() else np.inf


def _watched(curve: Curve, q: float, tail: float) -> float:
    """Return the time until which enough runs were watched to bound a quantile from below.

    If a share q had got there, all of m runs would be on their way with probability (1 − q)^m.
    """
    enough = max(math.ceil(math.log(tail) / math.log1p(-q)), 1) if 0 < q < 1 else 1
    long = float(curve.seen[-enough]) if curve.n >= enough else 0.0
    return max(long, float(curve.time[-1]) if len(curve.time) else 0.0)


def restricted_mean(
    times: ArrayLike, watched: ArrayLike, horizon: ArrayLike | None = None, confidence: float = 0.95
) -> Interval:
    """Estimate the mean of min(time, horizon) along axis 0, whatever was censored before.

    The area under the Kaplan–Meier curve up to the horizon; its variance is Greenwood's,
    Σ A² d / (Y (Y − d)) with A the area right of the event, times n/(n−1), with Student's t at
    n − 1 (Klein and Moeschberger 2003, section 4.5). Without censoring this is the mean
    of the capped times and its t interval. The horizon is a number or one per column, by default
    the longest time known of each column; NaN where it lies beyond that and runs are still on
    their way.
    """
    tail = tail_of(confidence)
    seen = _in_order(times, watched, horizon)
    n = len(seen.time)
    area, mean = _areas(seen)
    beyond = seen.at_risk - seen.event
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(area > 0, area**2 * seen.event / (seen.at_risk * beyond), 0.0)
        error = np.sqrt(terms.sum(axis=0) * n / (n - 1))
        half = special.stdtrit(max(n - 1, 1), 1 - tail) * error
        rest = np.shape(times)[1:]
        mean, low, high = (each.reshape(rest) for each in (mean, mean - half, mean + half))
    return Interval(mean, low, high, n)


def influences(times: ArrayLike, watched: ArrayLike, horizon: ArrayLike | None = None) -> Floats:
    """Return what each run adds to the restricted mean: their mean square over n is its variance.

    The martingale form of the curve's influence function (Andersen, Hansen and Klein 2004 call it
    a pseudo-observation less the estimate), with Y − d at an event, which makes that variance
    Greenwood's; without censoring it is min(time, horizon) less its mean.
    """
    seen = _in_order(times, watched, horizon)
    n = len(seen.time)
    area, _ = _areas(seen)
    at_risk = _of_ties(seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(area > 0, area * seen.event * n / _beyond(seen, at_risk), 0.0)
    drift = np.cumsum(own / at_risk, axis=0)
    found = np.take_along_axis(drift, seen.group, axis=0) - own
    out = np.empty_like(found)
    np.put_along_axis(out, seen.order, found, axis=0)
    return out.reshape(np.shape(times))


def restricted_difference(
    a: ArrayLike,
    b: ArrayLike,
    watched_a: ArrayLike,
    watched_b: ArrayLike,
    horizon: ArrayLike,
    confidence: float = 0.95,
) -> Interval:
    """Estimate the difference of two restricted means of paired runs, a − b, along axis 0.

    Its variance is that of the paired difference of the influences, so that shared luck cancels
    although either side may be censored.
    """
    tail = tail_of(confidence)
    gap = influences(a, watched_a, horizon) - influences(b, watched_b, horizon)
    n = len(gap)
    mean_a = restricted_mean(a, watched_a, horizon).mean
    mean = mean_a - restricted_mean(b, watched_b, horizon).mean
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(np.sum((gap - gap.mean(axis=0)) ** 2, axis=0) / (n - 1) / n)
        half = special.stdtrit(max(n - 1, 1), 1 - tail) * error
    return Interval(mean, mean - half, mean + half, n)


def _in_order(times: ArrayLike, watched: ArrayLike, horizon: ArrayLike | None) -> _Seen:
    time, hit = observed(times, watched)
    n = len(time)
    time, hit = time.reshape(n, -1), hit.reshape(n, -1)
    longest = np.where(np.isfinite(time), time, 0.0).max(axis=0, initial=0.0)
    cap = longest if horizon is None else np.ravel(np.asarray(horizon, np.float64))
    end = time.max(axis=0, initial=0.0)
    unknown = (cap > end) & np.any(~hit & (time == end), axis=0)
    cap = np.where(unknown, np.nan, np.broadcast_to(cap, longest.shape))
    event = np.where(time > cap, False, hit)
    time = np.minimum(time, cap)
    order = np.lexsort((~event, time), axis=0)
    time, event = (np.take_along_axis(each, order, axis=0) for each in (time, event))
    at_risk = np.broadcast_to((n - np.arange(n, dtype=np.float64))[:, None], time.shape)
    places = np.broadcast_to(np.arange(n)[:, None], time.shape)
    last = np.ones(time.shape, bool)
    last[:-1] = time[1:] != time[:-1]
    group = np.where(last, places, n)[::-1]
    group = np.minimum(np.minimum.accumulate(group, axis=0)[::-1], n - 1)
    return _Seen(time, event.astype(np.float64), at_risk, group, order)


def _areas(seen: _Seen) -> tuple[Floats, Floats]:
    """Return the area right of each time `[run, column]`, and the whole area `[column]`."""
    survival = np.cumprod(1 - seen.event / seen.at_risk, axis=0)
    steps = np.diff(seen.time, axis=0, append=seen.time[-1:]) * survival
    area = np.cumsum(steps[::-1], axis=0)[::-1]
    return area, area[0] + seen.time[0] if len(area) else np.full(seen.time.shape[1:], np.nan)


def _of_ties(seen: _Seen) -> Floats:
    """Return how many were watched just before each time, ties counted together."""
    first = np.ones(seen.time.shape, bool)
    first[1:] = seen.time[1:] != seen.time[:-1]
    places = np.broadcast_to(np.arange(len(seen.time))[:, None], seen.time.shape)
    start = np.maximum.accumulate(np.where(first, places, 0), axis=0)
    return len(seen.time) - start.astype(np.float64)


def _beyond(seen: _Seen, at_risk: Floats) -> Floats:
    """Return how many were still watched, and not there, just after the events of each time."""
    so_far = np.cumsum(seen.event, axis=0)
    until = np.take_along_axis(so_far, seen.group, axis=0)
    start = len(seen.time) - at_risk.astype(np.int64)
    before = np.take_along_axis(so_far - seen.event, start, axis=0)
    return np.asarray(at_risk - (until - before))
