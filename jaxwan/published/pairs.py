"""Paired figures of a sweep: what every judge needs. NumPy and pandas only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxwan.published.claim import Finding
from jaxwan.stats.intervals import Interval, paired_difference
from jaxwan.stats.paired import geometric_ratio


def runs(frame: pd.DataFrame, **settings: Any) -> pd.DataFrame:
    """Return the runs with these settings, by seed; `strategy__backup` is the column with a dot.

    A setting that is absent in a run (the knob of another strategy) matches nothing.

    Raises:
        ValueError: when no run is left, or a seed has several.
    """
    kept = frame
    for name, value in settings.items():
        column = kept[name.replace("__", ".")]
        near = isinstance(value, float)
        same = np.isclose(column.astype(float), value, rtol=1e-6) if near else column == value
        kept = kept[same]
    kept = kept.set_index("seed").sort_index()
    if kept.empty or kept.index.has_duplicates:
        raise ValueError(f"{settings} leave {len(kept)} runs of {kept.index.nunique()} seeds")
    return kept


def finding(what: str, found: Interval, bound: float, above: bool) -> Finding:
    """Make a finding of an interval."""
    return Finding(what, float(found.mean), float(found.low), float(found.high), bound, above)


def ratio(
    what: str, a: pd.Series, b: pd.Series, bound: float = 1.0, above: bool = False
) -> Finding:
    """Find the geometric mean of a / b over the seeds; NaN, thus no finding, where one is NaN."""
    a, b = a.align(b, join="inner")
    return finding(what, geometric_ratio(a, b), bound, above)


def difference(
    what: str, a: pd.Series, b: pd.Series, bound: float = 0.0, above: bool = False
) -> Finding:
    """Find the mean of a - b over the seeds; NaN, thus no finding, where a value is not finite."""
    a, b = a.align(b, join="inner")
    found = paired_difference(a, b)
    whole = int(found.n) == len(a)
    return finding(what, found if whole else Interval(np.nan, np.nan, np.nan, 0), bound, above)


def loss_at(curves: pd.DataFrame, chosen: pd.DataFrame, time_s: float) -> pd.Series:
    """Return by seed the loss at a moment, linear between evaluations; `chosen` are `runs`.

    After its last evaluation a run keeps its last loss.
    """
    by_run = dict(tuple(curves.groupby("run_id", sort=False)))
    found = {
        seed: float(np.interp(time_s, by_run[run]["time_s"], by_run[run]["loss"]))
        for seed, run in chosen["run_id"].items()
    }
    return pd.Series(found, dtype=float)


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the runs by seed: the first quarter of the seeds to tune on, the rest to judge on."""
    seeds = np.unique(frame["seed"])
    tuning = frame["seed"].isin(seeds[: max(len(seeds) // 4, 1)])
    return frame[tuning], frame[~tuning]


def tuned(frame: pd.DataFrame, metric: str, over: Sequence[str]) -> dict[str, Any]:
    """Return the values of the columns `over` with the smallest median `metric` in these runs.

    What is missing or not finite (never reached, diverged) counts as infinite.
    """
    values = frame[metric].astype(float)
    worst = values.where(np.isfinite(values), np.inf)
    medians = worst.groupby([frame[name] for name in over]).median()
    best = medians.idxmin()
    return dict(zip(over, best if isinstance(best, tuple) else (best,), strict=True))
