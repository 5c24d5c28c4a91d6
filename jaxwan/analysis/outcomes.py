"""Outcomes: one number per run that a decision may rest on, whatever happened to the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxwan.core.families import nearest

TO_TARGET = "time_to_target_s"
LOSSES = ("loss_final", "loss_best")
LARGER = {
    "steps_per_s", "samples_per_s", "throughput_ratio", "compute_utilization", "goodput_bps",
    "link_utilization", "compression_ratio", "bytes_saved_ratio", "accepted", "steps", "rounds",
    "active_workers_mean", "availability", "accuracy_final", "accuracy_best", "reached",
    "memory_fits", "success",
}  # fmt: skip
WORKED = ("samples_per_s", "steps_per_s", "throughput_ratio")  # 0: nothing was accepted at all
_GONE = ("diverged", "no_workers")  # ways a run ends that will never reach a target


class Outcomes(NamedTuple):
    """The metric of each run `[run]`, finite, and how many runs had to be told a number."""

    values: np.ndarray
    filled: np.ndarray  # bool
    hopeful: np.ndarray  # the least that each may be: one on its way may arrive when its watch ends


def prefers_larger(metric: str) -> bool:
    """Tell whether more of a metric is better."""
    return metric in LARGER


def check_metric(frame: pd.DataFrame, metric: str, settings: Sequence[str]) -> None:
    """Refuse a metric that is no numeric result.

    Raises:
        ValueError: naming the nearest one and all there are.
    """
    numeric = frame.select_dtypes(["number", "bool", "boolean"]).columns
    hidden = {*settings, "seed", "config_index"}
    known = [str(name) for name in numeric if name not in hidden and frame[name].notna().any()]
    if metric in known:
        return
    if metric in frame and metric not in hidden and frame[metric].isna().all():
        raise ValueError(f"no run has a value of {metric!r} (with values: {', '.join(known)})")
    hint = nearest(metric, known)
    meant = f"; did you mean {hint!r}?" if hint else ""
    raise ValueError(f"no metric {metric!r} in the results{meant} (there are: {', '.join(known)})")


def values_of(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """Return the metric of each run; NaN where it has none.

    That is: a target never reached, a loss that diverged, a speed at which nothing was accepted.
    """
    values = runs[metric].to_numpy(np.float64, na_value=np.nan)
    if metric == TO_TARGET and "reached" in runs:
        values = np.where(runs["reached"].to_numpy(bool), values, np.nan)
    if metric in LOSSES and "status" in runs:
        values = np.where(runs["status"].str.contains("diverged"), np.nan, values)
    if metric in WORKED:
        values = np.where(values > 0, values, np.nan)
    return values


def outcomes(runs: pd.DataFrame, metric: str, larger: bool, bound: float | None = None) -> Outcomes:
    """Return the metric of each run of one place, with a number for every run.

    A run that never reached the target counts as the longest that any run of the place was
    watched; one at whose speed nothing was accepted as zero; one without a finite value, or a
    diverged one's loss, as the worst finite value of the place. `bound` is that number if it is
    known from before. NaN where nothing is finite. `hopeful` differs from the values in times to a
    target only: a run that is still on its way counts as its own watch there.
    """
    values = values_of(runs, metric)
    known = np.isfinite(values)
    if bound is None:
        bound = worst_value(runs, metric, values[known], larger)
    if metric == TO_TARGET:
        known &= values <= bound
    told = np.where(known, values, bound)
    if metric != TO_TARGET or larger:
        return Outcomes(told, ~known, told)
    times, watched = watched_times(runs)
    own = np.where(np.isfinite(times), times, watched)
    return Outcomes(told, ~known, np.minimum(told, own))


def worst_value(runs: pd.DataFrame, metric: str, known: np.ndarray, larger: bool) -> float:
    """Return what a run counts as that has no number: longest watch, zero speed or worst value."""
    if metric in WORKED and larger:
        return 0.0
    if metric == TO_TARGET and "time_s" in runs:
        watched = runs["time_s"].to_numpy(np.float64)
        return float(np.nanmax(np.concatenate([watched, known])))
    if not len(known):
        return np.nan
    return float(known.min() if larger else known.max())


def watched_times(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return when each run reached its target, NaN if it did not, and how long it was watched.

    A run that diverged, or whose workers all went, will never get there however long one waits.
    """
    times = runs[TO_TARGET].to_numpy(np.float64, na_value=np.nan)
    if "reached" in runs:
        times = np.where(runs["reached"].to_numpy(bool), times, np.nan)
    if "time_s" not in runs:
        return times, np.where(np.isfinite(times), times, np.inf)
    watched = np.nan_to_num(runs["time_s"].to_numpy(np.float64), nan=0.0)
    if "status" in runs:
        gone = runs["status"].astype(str).str.contains("|".join(_GONE)).to_numpy(bool)
        watched = np.where(gone & ~np.isfinite(times), np.inf, watched)
    return times, np.maximum(watched, np.nan_to_num(times, nan=0.0))
