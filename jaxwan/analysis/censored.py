"""Times that not every run reached, summarized: Kaplan–Meier median and restricted mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from jaxwan.analysis.outcomes import TO_TARGET, watched_times
from jaxwan.analysis.places import by_place, is_given
from jaxwan.columns import identity_columns, varying
from jaxwan.stats.intervals import Interval
from jaxwan.stats.survival import kaplan_meier, observed, restricted_mean, survival_quantile


def censored_summary(frame: pd.DataFrame, confidence: float = 0.95) -> dict[str, dict[str, Any]]:
    """Return, per `config_id`, columns about the time to the target that respect censoring.

    `_km50 _km50_lo _km50_hi` is the Kaplan–Meier median, infinite where it was not seen;
    `_restricted _restricted_lo _restricted_hi` is the mean of min(time, `_horizon`), where the
    horizon is the same for all configurations of a place (task, challenge, network, …): the
    longest time until which each of them is known.
    """
    given = [name for name in varying(frame, identity_columns(frame)) if is_given(name)]
    found: dict[str, dict[str, Any]] = {}
    for _, place in by_place(frame, given):
        runs = {str(name): watched_times(own) for name, own in place.groupby("config_id")}
        horizon = common_horizon(list(runs.values()))
        for name, (times, watched) in runs.items():
            median = survival_quantile(kaplan_meier(times, watched), 0.5, confidence)
            mean = restricted_mean(times, watched, horizon, confidence)
            found[name] = _named("km50", median) | _named("restricted", mean)
            found[name][f"{TO_TARGET}_horizon"] = horizon
    return found


def common_horizon(runs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the longest time until which every configuration's curve is known.

    That is the longest watch of the one watched least, among those with runs on their way at the
    end of it; where there are none, the longest time of any run. NaN without runs.
    """
    ends, longest = [], [np.nan]
    for times, watched in runs:
        seen, hit = observed(times, watched)
        longest.append(float(np.max(seen[np.isfinite(seen)], initial=0.0)))
        if len(seen) and np.any(~hit & (seen == seen.max())) and np.isfinite(seen.max()):
            ends.append(float(seen.max()))
    return min(ends) if ends else max(longest[1:], default=np.nan)


def _named(name: str, found: Interval) -> dict[str, float]:
    sides = zip(("", "_lo", "_hi"), (found.mean, found.low, found.high), strict=True)
    return {f"{TO_TARGET}_{name}{side}": float(value) for side, value in sides}
