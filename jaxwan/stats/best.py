"""The best of several means under common random numbers: bounds, probabilities, regrets.

Everywhere `values` are `[configuration, seed]`, smaller is better, and NaN is a seed that a
configuration did not run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from jaxwan.stats.intervals import Floats
from jaxwan.stats.paired import share_bound, share_tail


class Gaps(NamedTuple):
    """How much better each configuration is than the winner, on the seeds both have `[k]`."""

    mean: Floats  # above zero: better
    error: Floats  # standard error
    n: np.ndarray
    up: np.ndarray | None = None  # of flags: seeds in which it alone does well
    down: np.ndarray | None = None  # seeds in which the winner alone does


def gaps(
    values: Floats, winner: int, hopeful: Floats | None = None, flags: bool = False
) -> Gaps:
    """Return the paired differences of the winner to each configuration.

    `hopeful` are the least that the values of the others may be, where those are not known; `flags`
    says that values are 0 or 1 (or −1), whose spread over a few seeds says little of their error.
    """
    gap = values[winner] - (values if hopeful is None else hopeful)
    gap[winner] = 0.0 * values[winner]
    n = np.count_nonzero(~np.isnan(gap), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(gap, axis=1) / n
        error = np.sqrt(np.nansum((gap - mean[:, None]) ** 2, axis=1) / (n - 1) / n)
    if not flags:
        return Gaps(mean, error, n)
    return Gaps(mean, error, n, np.sum(gap > 0, axis=1), np.sum(gap < 0, axis=1))


def better_at_most(found: Gaps, winner: int, confidence: float, looks: int = 1) -> Floats:
    """Bound how much better than the winner each configuration is, all at once `[k]`.

    Multiple comparisons with the best (Hsu 1984), paired, by Bonferroni: the bounds of the truly
    best one's lead over each other hold together with this confidence, at each of several looks, so
    whichever is chosen, the largest bound is a bound of its regret. Student's t, of flags Tango's
    score (`share_bound`). NaN where fewer than two seeds are shared.
    """
    k = len(found.mean)
    tail = (1 - confidence) / (max(k - 1, 1) * looks)
    if found.up is None or found.down is None:
        reach = special.stdtrit(np.maximum(found.n - 1, 1), 1 - tail)
        with np.errstate(invalid="ignore"):
            bound = found.mean + reach * found.error
    else:
        bound = share_bound(found.up, found.down, found.n, tail)
    bound = np.where(found.n >= 2, bound, np.nan)
    bound[winner] = 0.0
    return bound


def surely_within(found: Gaps, winner: int, margin: float) -> float:
    """Return the confidence with which nothing is better than the winner by more than `margin`.

    The confidence at which the largest bound of `better_at_most` is the margin, or more: the sum
    of the tails is taken one by one (Bonferroni, as the probability of good selection of Branke,
    Chick and Schmidt 2007). Values without any spread are taken to be certain, flags are not. Zero
    where the seeds say nothing.
    """
    wrong = 0.0
    for j in range(len(found.mean)):
        if j == winner:
            continue
        if found.n[j] < 2:
            return 0.0
        short = margin - found.mean[j]
        if found.up is not None and found.down is not None:
            wrong += float(share_tail(found.up[j], found.down[j], found.n[j], margin))
        elif found.error[j] > 0:
            wrong += float(special.stdtr(found.n[j] - 1, -short / found.error[j]))
        else:
            wrong += float(short < 0)
    return max(0.0, 1.0 - wrong)


def not_watched(better: Floats, least: Floats, margin: float) -> np.ndarray:
    """Tell who may be as good, or better by a margin, for what was not watched alone `[k]`.

    `better` are bounds from the hopeful values, `least` those from what runs count as.
    """
    return ((least < 0) & (better >= 0)) | ((least <= margin) & (better > margin))


def probability_best(values: Floats, draws: int = 20_000, seed: int = 0) -> Floats:
    """Return the posterior probability of each configuration to have the best mean `[k]`.

    Normal posterior of the means under a flat prior, with the covariance that shared seeds give
    them. Ties are shared. NaN where a configuration has fewer than two seeds.
    """
    k = len(values)
    there = (~np.isnan(values)).astype(np.float64)
    n = there.sum(axis=1)
    if np.any(n < 2):
        return np.full(k, np.nan)
    mean = np.nansum(values, axis=1) / n
    center = np.where(there > 0, values - mean[:, None], 0.0)
    both = there @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.where(both > 1, (center @ center.T) / (both - 1), 0.0)
    error = spread * both / np.outer(n, n)
    scale, axes = np.linalg.eigh(error)
    scale = np.where(scale > 1e-12 * scale.max(initial=0.0), scale, 0.0)  # else rounding
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((draws, k)) * np.sqrt(scale)
    drawn = mean + noise @ axes.T
    return least_shares(drawn)


def least_shares(drawn: Floats) -> Floats:
    """Return in what share of `drawn [draw, k]` each is the least `[k]`; ties are shared."""
    finite = np.abs(drawn[np.isfinite(drawn)])
    room = 1e-12 * finite.max(initial=0.0)
    least = drawn <= drawn.min(axis=1, keepdims=True) + room
    return np.asarray((least / least.sum(axis=1, keepdims=True)).mean(axis=0))


class Robust(NamedTuple):
    """Three ways to judge settings over rows one does not choose `[setting]`, smaller is better."""

    mean: Floats  # over rows and seeds
    worst_decile: Floats  # mean of the worst tenth of all runs
    regret: Floats  # largest, over rows, of mean over the row's best mean, less 1


def robust(values: Floats, weights: Floats | None = None) -> Robust:
    """Judge `values [setting, row, seed]`; `weights [seed]` count the seeds, once each if None.

    The worst decile takes every row as equally likely and a tenth of the weight exactly. Regret is
    relative to the size of the row's best mean, infinite where that is zero and one's own is not.
    """
    weight = np.ones(values.shape[2]) if weights is None else weights
    rows = values @ weight / weight.sum()
    least = rows.min(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(rows == least, 0.0, (rows - least) / np.abs(least))
    return Robust(rows.mean(axis=1), _worst(values, weight), excess.max(axis=1))


def _worst(values: Floats, weight: Floats, share: float = 0.1) -> Floats:
    flat = values.reshape(len(values), -1)
    mass = np.tile(weight, values.shape[1]) / (weight.sum() * values.shape[1])
    order = np.argsort(-flat, axis=1, kind="stable")
    taken = np.cumsum(mass[order], axis=1)
    part = np.clip(share - (taken - mass[order]), 0.0, mass[order])
    return np.asarray(np.sum(np.take_along_axis(flat, order, axis=1) * part, axis=1) / share)
