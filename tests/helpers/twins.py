"""Aggregators and pre-aggregators once more, naively, in float64 NumPy.

`rows` [present, dim] are finite, `w` [present] is positive; knobs are plain numbers.
"""

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

Plain = Mapping[str, float]
Rows = np.ndarray


def squares(rows: Rows) -> np.ndarray:
    return np.square(rows[:, None] - rows[None]).sum(axis=-1)


def trimmed(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    cut = int(knobs["trim_ratio"] * len(rows) + 1e-4)
    return np.sort(rows, axis=0)[cut : len(rows) - cut].mean(axis=0)


def krum_scores(rows: Rows, f: int) -> np.ndarray:
    """Sum each row's squared distances to its n − f − 2 nearest."""
    apart = squares(rows)
    np.fill_diagonal(apart, np.inf)
    near = min(max(len(rows) - f - 2, 1), len(rows) - 1)
    return np.sort(apart, axis=1)[:, :near].sum(axis=1)


def krum(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    return rows[np.argmin(krum_scores(rows, int(knobs["f"])))]


def multi_krum(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    m = int(knobs["m"]) or max(len(rows) - int(knobs["f"]), 1)
    order = np.argsort(krum_scores(rows, int(knobs["f"])), kind="stable")
    return rows[order[:m]].mean(axis=0)


def weiszfeld(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    centre = np.median(rows, axis=0)
    wide = np.sort(np.linalg.norm(rows - centre, axis=1))[(len(rows) - 1) // 2]
    for t in range(8):
        away = np.linalg.norm(rows - centre, axis=1)
        pull = w / np.maximum(away, max(knobs["nu"], wide / 4**t))
        centre = pull @ rows / pull.sum()
    return centre


def nearest_to_median(rows: Rows, m: int) -> Rows:
    ordered = np.sort(rows, axis=0)
    away = np.abs(ordered - np.median(rows, axis=0))
    places = np.argsort(away, axis=0, kind="stable")[:m]
    return np.take_along_axis(ordered, places, axis=0).mean(axis=0)


def around_median(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    return nearest_to_median(rows, max(len(rows) - int(knobs["f"]), 1))


def bulyan(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    f, left, chosen = int(knobs["f"]), list(range(len(rows))), []
    for _ in range(max(len(rows) - 2 * f, 1)):
        chosen.append(left.pop(np.argmin(krum_scores(rows[left], f))))
    return nearest_to_median(rows[chosen], max(len(rows) - 4 * f, 1))


def mda(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    size, apart = max(len(rows) - int(knobs["f"]), 1), squares(rows)
    subsets = [list(kept) for kept in combinations(range(len(rows)), size)]
    best = min(subsets, key=lambda kept: apart[np.ix_(kept, kept)].max())
    return rows[best].mean(axis=0)


def caf(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    share, least, best = np.ones(len(rows)), np.inf, rows.mean(axis=0)
    while share.sum() > max(len(rows) - 2 * int(knobs["f"]), 0) + 1e-4:
        mean = share @ rows / share.sum()
        away = rows - mean
        values, vectors = np.linalg.eigh((away.T * share) @ away / share.sum())
        if values[-1] < least:
            least, best = values[-1], mean
        tau = np.where(share > 0, np.square(away @ vectors[:, -1]), 0)
        share = share * (1 - tau / tau.max()) if tau.max() > 0 else share * 0
        share = np.where(share > 1e-4, share, 0)
    return best


def dnc(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    away = rows - rows.mean(axis=0)
    score = np.square(away @ np.linalg.svd(away)[2][0])
    stay = max(len(rows) - int(knobs["c"] * int(knobs["f"]) + 1e-4), 1)
    return rows[np.argsort(score, kind="stable")[:stay]].mean(axis=0)


def clipped(rows: Rows, radius: float) -> Rows:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows * np.where(norms > radius, radius / np.where(norms > 0, norms, 1), 1)


def centred(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    centre = np.zeros(rows.shape[1])
    for _ in range(int(knobs["iterations"])):
        centre = centre + np.average(clipped(rows - centre, knobs["radius"]), axis=0, weights=w)
    return centre


def norm_clipped(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    middle = np.sort(np.linalg.norm(rows, axis=1))[(len(rows) - 1) // 2]
    return np.average(clipped(rows, knobs["radius"] or middle), axis=0, weights=w)


def average(knobs: Plain, rows: Rows, w: Rows) -> Rows:
    return np.average(rows, axis=0, weights=w)


TWINS: dict[str, Callable[[Plain, Rows, Rows], Rows]] = {
    "mean": average,
    "staleness_mean": average,
    "token_mean": average,
    "median": lambda knobs, rows, w: np.median(rows, axis=0),
    "trimmed_mean": trimmed,
    "mean_around_median": around_median,
    "sign_majority": lambda knobs, rows, w: np.sign(np.sign(rows).sum(axis=0)),
    "krum": krum,
    "multi_krum": multi_krum,
    "geometric_median": weiszfeld,
    "bulyan": bulyan,
    "mda": mda,
    "caf": caf,
    "dnc": dnc,
    "centered_clipping": centred,
    "norm_clipping": norm_clipped,
}


def nnm(knobs: Plain, rows: Rows) -> Rows:
    near, mixed = max(len(rows) - int(knobs["f"]), 1), []
    for i, apart in enumerate(squares(rows)):
        apart[i] = -1
        mixed.append(rows[np.argsort(apart, kind="stable")[:near]].mean(axis=0))
    return np.array(mixed)


def arc(knobs: Plain, rows: Rows) -> Rows:
    n, f = len(rows), min(int(knobs["f"]), len(rows))
    k = min(int(2 * f * (n - f) / n), n - 1)
    return clipped(rows, np.sort(np.linalg.norm(rows, axis=1))[n - 1 - k])


PRE_TWINS: dict[str, Callable[[Plain, Rows], Rows]] = {
    "nnm": nnm,
    "clipping": lambda knobs, rows: clipped(rows, knobs["radius"]),
    "arc": arc,
}


class Cases:
    """Random updates with masks, ties, duplicated rows and NaN in absent slots."""

    def __init__(self, seed: int, count: int, slots: int, dim: int = 5) -> None:
        draw = np.random.default_rng(seed)
        rows = np.round(8 * draw.normal(size=(count, slots, dim))) / 8  # sums of squares are exact
        rows[::4] = np.round(rows[::4])
        rows[1::4, slots // 2] = rows[1::4, 0]
        rows[2::4, slots // 2 :] = rows[2::4, : slots - slots // 2]
        present = np.argsort(draw.uniform(size=(count, slots)), axis=1) < draw.integers(
            1, slots + 1, (count, 1)
        )
        self.draw, self.rows, self.present = draw, rows, present
        self.weights = np.where(present, draw.uniform(0.1, 2, (count, slots)), 0)
        self.weights = self.weights.astype(np.float32)
        self.sent = np.where(present[:, :, None], rows, np.nan).astype(np.float32)
        self.sent[::3] = rows[::3]

    def one(self, index: int) -> tuple[Rows, Rows]:
        """Return the rows and weights that are present in one case."""
        here = self.present[index]
        return self.rows[index, here], self.weights[index, here].astype(np.float64)


SPANS: dict[str, tuple[float, float]] = {
    "radius": (0.3, 6.0), "iterations": (1, 4), "s": (1, 6), "c": (0.0, 1.5), "power": (0.0, 2.0),
}  # fmt: skip


def drawn(member: Any, draw: np.random.Generator, slots: int) -> dict[str, float]:
    """Draw a member's knobs: half the time those against some attackers, else any."""
    usual = {knob: float(facts.default) for knob, facts in member.knobs.items()}
    if draw.uniform() < 0.5:
        told = member.against(int(draw.integers((slots + 1) // 2)), slots)
        return usual | {knob: value for knob, value in told.items() if knob in usual}
    found = {}
    for knob, facts in member.knobs.items():
        whole = isinstance(facts.default, int)
        low, high = SPANS.get(knob, (0, slots) if whole else (facts.low, facts.high))
        found[knob] = float(draw.integers(low, high + 1)) if whole else draw.uniform(low, high)
    return found
