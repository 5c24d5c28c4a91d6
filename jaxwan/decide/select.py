"""Selection: spend seeds on contenders until one of them is surely within δ of the best.

Every configuration starts with the same seeds. At each look the one with the best mean leads, and
another is certified once its paired t bound says it cannot be better than the leader by more than
δ. Only the leader and those not certified get more seeds; when the leader changes, bounds are
recomputed on the seeds both have, and who is no longer certified goes on where it stopped, for
seeds are addresses. It ends when all are certified, or no seeds are left.

Guarantee, for differences that are normal (close at 64 seeds and more). Let i be the truly best.
For each other j and each look size n, let the error be a true difference of i and j outside its
one-sided bound on the first n seeds; each has probability α / ((k − 1) L) for k configurations and
L look sizes, so with probability 1 − α there is none, whatever the rule that chose when to look
and whom to follow. Then the bound on i's lead over whoever leads at the end is true, and it is at
most δ. Correlation between configurations (common random numbers) is free to be anything. The
bound needs no gap of δ between the best and the second, unlike the indifference-zone procedures of
Rinott 1978 and Kim and Nelson 2001; that a certified contender stops is as in LUCB (Kalyanakrishnan
et al. 2012). Flags have Tango's score bound in the place of t's, for which seeds that do not
differ are no proof that none will.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from jaxwan.stats.best import Gaps, better_at_most, gaps, not_watched, surely_within

Floats = NDArray[np.float64]
Sampler = Callable[[list[int], range], Floats]  # configs, seeds -> [(2,) configuration, seed]
Tell = Callable[["Look"], None]
FIRST, MOST, GROWTH = 64, 4096, 2**0.5


class Look(NamedTuple):
    """How far a selection is."""

    leader: int
    open: int  # contenders not certified whom seeds may help
    seeds: int  # spent so far, over all configurations


class Selection(NamedTuple):
    """What the seeds say; configurations are `[k]`."""

    winner: int
    certified: bool  # nothing else is better by more than delta, at the confidence
    delta: float  # in units of the metric
    regret: float  # bound on how much better anything else is, at the confidence
    better: Floats  # bound of each on how much better it is than the winner
    tied: list[int]  # winner included: those that the winner is not surely better than
    unknown: list[int]  # tied or not certified only for what was not watched: no seeds would help
    probability: float  # that the winner is within delta of the best, from below
    spent: NDArray[np.int64]  # seeds of each
    mean: Floats
    values: Floats  # [configuration, seed], NaN where nothing was spent


def look_sizes(first: int = FIRST, most: int = MOST, growth: float = GROWTH) -> list[int]:
    """Return the numbers of seeds at which one looks: rising by `growth`, ending at `most`.

    Raises:
        ValueError: when there are fewer than two first seeds, or fewer at most than first.
    """
    if not 2 <= first <= most or not growth > 1:
        raise ValueError(
            f"expected 2 <= first <= most and growth > 1, got {first}, {most}, {growth:g}"
        )
    sizes = [first]
    while sizes[-1] < most:
        sizes.append(min(most, max(sizes[-1] + 1, round(first * growth ** len(sizes)))))
    return sizes


def select(
    sample: Sampler,
    k: int,
    delta: float,
    confidence: float = 0.95,
    *,
    relative: bool = True,
    larger: bool = False,
    flags: bool | None = None,
    sizes: list[int] | None = None,
    tell: Tell | None = None,
) -> Selection:
    """Choose among k configurations one that is within delta of the best mean.

    `delta` is a share of the leader's mean after the first seeds if `relative`, else in units of
    the metric. `sample` returns finite values `[configuration, seed]`; seeds count from zero and
    are asked for once. Where values are not all known it returns `[2, configuration, seed]`: what
    they count as, and the best that they may be; who could be better only by the latter gets no
    more seeds, and is not certified. `larger` prefers large values. `flags` says that values are 0
    or 1, which is so by itself if the first ones are.

    Raises:
        ValueError: for fewer than two configurations, or a delta or confidence out of range.
    """
    _check(k, delta, confidence)
    looks = look_sizes() if sizes is None else sizes
    sign = -1.0 if larger else 1.0
    table = _Table(sample, k, sign)
    table.extend(range(k), looks[0])
    table.flags = bool(np.isin(table.values, (0, sign)).all()) if flags is None else flags
    width = delta * abs(float(table.means().min())) if relative else delta
    while True:
        leader, hopeful, told = table.lead()
        better = better_at_most(hopeful, leader, confidence, len(looks))
        least = better if told is hopeful else better_at_most(told, leader, confidence, len(looks))
        open_ones = [j for j in range(k) if j != leader and min(better[j], least[j]) > width]
        if tell:
            tell(Look(leader, len(open_ones), int(table.spent.sum())))
        if not open_ones or not table.advance(leader, open_ones, looks):
            break
    sure = surely_within(hopeful, leader, width)
    return _verdict(table, leader, better, least, width, sure)


def _check(k: int, delta: float, confidence: float) -> None:
    if k < 2:
        raise ValueError(f"there is nothing to choose from: {k} configuration")
    if not (math.isfinite(delta) and delta > 0):
        raise ValueError(f"delta must be above zero, got {delta}: no number of seeds splits a tie")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}")


class _Table:
    """Values of what was sampled, smaller is better, and who has how many seeds."""

    def __init__(self, sample: Sampler, k: int, sign: float) -> None:
        self.sample, self.sign = sample, sign
        self.values = self.hopeful = np.empty((k, 0))
        self.flags = self.unsure = False
        self.spent = np.zeros(k, np.int64)

    def extend(self, configs: range | list[int], size: int) -> None:
        """Give each configuration its seeds up to `size`; those that lack the same go together."""
        if size > self.values.shape[1]:
            more = np.full((len(self.values), size - self.values.shape[1]), np.nan)
            self.values = np.concatenate([self.values, more], axis=1)
            self.hopeful = np.concatenate([self.hopeful, more], axis=1)
        for start in np.unique(self.spent[list(configs)]):
            own = [j for j in configs if self.spent[j] == start]
            if start < size:
                found = np.asarray(self.sample(own, range(int(start), size)), np.float64)
                told, hopeful = found if found.ndim == 3 else (found, found)
                self.unsure |= bool(np.any(hopeful != told))
                self.values[own, start:size] = self.sign * told
                self.hopeful[own, start:size] = self.sign * hopeful
                self.spent[own] = size

    def advance(self, leader: int, contenders: list[int], looks: list[int]) -> bool:
        """Give the contenders the next look's seeds, and the leader as many as any of them."""
        wanted = {}
        for j in contenders:
            ahead = [size for size in looks if size > min(self.spent[j], self.spent[leader])]
            if ahead:
                wanted[j] = ahead[0]
        for size in sorted(set(wanted.values())):
            self.extend([leader, *(j for j in wanted if wanted[j] == size)], size)
        return bool(wanted)

    def means(self) -> Floats:
        """Return the mean of each configuration over its seeds."""
        return np.array([row[:n].mean() for row, n in zip(self.values, self.spent, strict=True)])

    def lead(self) -> tuple[int, Gaps, Gaps]:
        """Return the leader, and how much better each may be: at the most hopeful, and as told."""
        leader = int(np.argmin(self.means()))
        told = gaps(self.values, leader, flags=self.flags)
        if not self.unsure:
            return leader, told, told
        return leader, gaps(self.values, leader, self.hopeful, self.flags), told


def _verdict(
    table: _Table, leader: int, better: Floats, least: Floats, width: float, sure: float
) -> Selection:
    unseen = not_watched(better, least, width)
    return Selection(
        winner=leader,
        certified=bool(np.all(better <= width)),
        delta=width,
        regret=float(max(better.max(), 0.0)),
        better=better,
        tied=[j for j in range(len(better)) if j == leader or better[j] >= 0],
        unknown=np.flatnonzero(unseen).tolist(),
        probability=sure,
        spent=table.spent,
        mean=table.sign * table.means() + 0.0,
        values=table.sign * table.values + 0.0,
    )


def equal_allocation(sigma: float, delta: float, k: int, confidence: float = 0.95) -> int:
    """Return the seeds of each configuration if all get equally many, for the same guarantee.

    Bechhofer 1954: independent normals of known standard deviation sigma, the best ahead of all
    others by delta at least; n = (h σ/δ)² with h solving ∫ Φ(z + h)^(k−1) φ(z) dz = confidence.
    No equal allocation that must estimate sigma, or guard against any correlation, needs fewer.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    weights = weights / weights.sum()
    low, high = 0.0, 20.0
    for _ in range(60):
        h = (low + high) / 2
        reached = float(weights @ special.ndtr(nodes + h) ** (k - 1)) >= confidence
        low, high = (low, h) if reached else (h, high)
    return math.ceil((high * sigma / delta) ** 2)
