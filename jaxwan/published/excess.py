"""What runs lose above the best possible loss, and how such losses compare seed by seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxwan.published.claim import Finding
from jaxwan.stats.intervals import Interval, paired_difference, wilson_interval
from jaxwan.stats.paired import geometric_ratio

LEARNED = 0.5  # of the excess loss at the start that a run which learned has left at most


def excess(runs: pd.DataFrame) -> pd.Series:
    """Return by seed the final loss above the task's floor; infinite where a run diverged.

    Raises:
        ValueError: when two runs have one seed: the selection mixes configurations.
    """
    own = runs.set_index("seed").sort_index()
    if own.index.has_duplicates:
        raise ValueError("the selected runs belong to several configurations")
    above = own["loss_final"] - own["loss_floor"]
    broken = own["status"].str.contains("diverged") | above.isna()
    return above.where(~broken, np.inf)


def select(frame: pd.DataFrame, **settings: Any) -> pd.DataFrame:
    """Return the runs with these settings; two underscores stand for a dot.

    A setting of a member that the sweep leaves at its default is missing, and None asks for that.

    Raises:
        ValueError: when no run has them.
    """
    kept = np.ones(len(frame), bool)
    for name, value in settings.items():
        column = frame[name.replace("__", ".")]
        kept &= (column.isna() if value is None else column == value).to_numpy(bool)
    if not kept.any():
        raise ValueError(f"no runs with {settings}")
    return frame[kept]


def ratio(what: str, runs: pd.DataFrame, base: pd.DataFrame, bound: float, above: bool) -> Finding:
    """Find the ratio of excess losses, seed by seed; NaN, so that nothing holds, if one diverged.

    Raises:
        ValueError: when the two were not run with the same seeds.
    """
    ours, theirs = excess(runs), excess(base)
    if not ours.index.equals(theirs.index):
        raise ValueError(f"{what}: the runs differ in their seeds")
    found = Interval(np.nan, np.nan, np.nan, len(ours))
    if np.all(np.isfinite(ours)) and np.all(np.isfinite(theirs)):
        found = geometric_ratio(ours, theirs)
    return Finding(what, float(found.mean), float(found.low), float(found.high), bound, above)


def gain(what: str, runs: pd.DataFrame, base: pd.DataFrame, bound: float = 0.0) -> Finding:
    """Find by how much the final accuracy of `runs` is above that of `base`, seed by seed."""
    ours, theirs = (part.set_index("seed")["accuracy_final"].sort_index() for part in (runs, base))
    if not ours.index.equals(theirs.index):
        raise ValueError(f"{what}: the runs differ in their seeds")
    found = paired_difference(ours, theirs)
    return Finding(what, float(found.mean), float(found.low), float(found.high), bound, True)


def learned(what: str, runs: pd.DataFrame, bound: float, above: bool) -> Finding:
    """Find the share of the runs that left at most `LEARNED` of their excess loss."""
    at_first = runs.set_index("seed").sort_index()
    left = excess(runs) / (at_first["loss_initial"] - at_first["loss_floor"])
    share = wilson_interval(int((left <= LEARNED).sum()), len(left))
    return Finding(what, float(share.mean), float(share.low), float(share.high), bound, above)
