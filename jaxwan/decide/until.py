"""Adaptive seeds: double the seeds of a configuration until its intervals are narrow enough.

The rule is Chow and Robbins' (1965): stop at the first look at which the estimated half-width is
at most the wanted one. As the wanted width falls, coverage tends to the nominal one (and the number
of seeds to what a known spread would need, up to the doubling). Stopping when an estimate of spread
happens to be small costs coverage at small n: so nothing stops below 64 seeds, and looks are
doublings, of which there are few.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.outcomes import LOSSES, TO_TARGET, watched_times
from jaxwan.decide.race import known_metric
from jaxwan.experiment.errors import InputError
from jaxwan.stats.intervals import Interval, mean_interval, wilson_interval
from jaxwan.stats.survival import kaplan_meier, restricted_mean, survival_quantile

FIRST, MOST = 64, 1024


class Target(NamedTuple):
    """How narrow an interval is to be: its half-width, as a share of the mean if relative."""

    metric: str
    width: float
    relative: bool


class Round(NamedTuple):
    """Runs to be added: which configurations, and which of the seeds in their order."""

    config_ids: list[str]
    start: int
    stop: int


def targets_of(text: str) -> tuple[Target, ...]:
    """Read "time_to_target_s: 5%, loss_final: 0.01".

    Raises:
        InputError: for anything else, naming the nearest metric where one is unknown.
    """
    found = []
    for part in text.split(","):
        metric, _, width = (piece.strip() for piece in part.partition(":"))
        relative = width.endswith("%")
        try:
            value = float(width.removesuffix("%")) / (100 if relative else 1)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise InputError(
                f'expected METRIC: WIDTH, such as "time_to_target_s: 5%" or "loss_final: 0.01", '
                f"got {part.strip()!r}",
                "--until",
            )
        try:
            known_metric(metric)
        except InputError as error:
            raise error.at("--until") from None
        found.append(Target(metric, value, relative))
    return tuple(found)


def interval_of(runs: pd.DataFrame, metric: str, confidence: float = 0.95) -> Interval:
    """Return the interval that decides: Wilson's of a flag, the restricted mean of a censored time.

    A loss has none while a run diverges, a time to target until the median is seen (Kaplan–Meier),
    and no metric where no run has a value.
    """
    if metric == TO_TARGET:
        times, watched = watched_times(runs)
        median = survival_quantile(kaplan_meier(times, watched), 0.5).mean
        if not np.isfinite(median):  # the mean of the watches says nothing of the time
            return Interval(np.inf, np.nan, np.nan, len(times))
        return restricted_mean(times, watched, confidence=confidence)
    if pd.api.types.is_bool_dtype(runs[metric]):
        known = runs[metric].dropna()
        return wilson_interval(int(known.sum()), len(known), confidence)
    values = runs[metric].to_numpy(np.float64, na_value=np.nan)
    if metric in LOSSES and runs["status"].astype(str).str.contains("diverged").any():
        return Interval(np.inf, np.nan, np.nan, len(values))
    return mean_interval(values, confidence)


def half_width(runs: pd.DataFrame, target: Target, confidence: float = 0.95) -> float:
    """Return the half-width of one configuration, in the target's measure; infinite if unknown."""
    found = interval_of(runs, target.metric, confidence)
    half = float(found.high - found.low) / 2
    if target.relative:
        half = half / abs(float(found.mean)) if found.mean else (0.0 if half == 0 else math.inf)
    return half if math.isfinite(half) else math.inf


def widths(
    frame: pd.DataFrame, targets: Sequence[Target], confidence: float = 0.95
) -> pd.DataFrame:
    """Return one row per configuration: `n`, the half-width of each target, and `narrow`."""
    rows = []
    for config_id, runs in frame.groupby("config_id", sort=False):
        own = {each.metric: half_width(runs, each, confidence) for each in targets}
        narrow = all(own[each.metric] <= each.width for each in targets)
        rows.append({"config_id": config_id, "n": len(runs), **own, "narrow": narrow})
    return pd.DataFrame(rows)


def next_round(
    frame: pd.DataFrame | None,
    config_ids: Sequence[str],
    targets: Sequence[Target],
    first: int = FIRST,
    most: int = MOST,
) -> Round | None:
    """Say what to run next, from what was run so far; None where all is narrow or used up.

    First every configuration gets `first` seeds; then those that are not narrow get as many again
    as they have, the ones with fewest first. So it goes on from whatever is there, also from the
    rounds of a wider target.
    """
    if frame is None:
        return Round(list(config_ids), 0, first)
    found = widths(frame, targets)
    waiting = found[(~found["narrow"] | (found["n"] < first)) & (found["n"] < most)]
    if waiting.empty:
        return None
    start = int(waiting["n"].min())
    names = waiting.loc[waiting["n"] == start, "config_id"]
    return Round(list(names), start, min(most, max(2 * start, first)))


def seed_stream(given: Sequence[int]) -> Iterator[int]:
    """Yield the given seeds, then the smallest ones that are not among them."""
    own = set(given)
    yield from given
    yield from (seed for seed in itertools.count() if seed not in own)


def wide_notes(frame: pd.DataFrame, targets: Sequence[Target], names: dict[str, str]) -> list[str]:
    """Say which configurations ran out of seeds before they were narrow."""
    found, notes = widths(frame, targets), []
    for each in targets:
        wide = found[found[each.metric] > each.width]
        if wide.empty:
            continue
        worst = wide.sort_values(each.metric, ascending=False).iloc[0]
        asked, is_now = (_told(each, value) for value in (each.width, float(worst[each.metric])))
        label = names.get(str(worst["config_id"]), str(worst["config_id"]))
        notes.append(
            f"{each.metric} is not known to {asked} of {len(wide)} of {len(found)} configurations; "
            f"widest is {label}: {is_now} at {worst['n']} seeds"
        )
    return notes


def _told(target: Target, value: float) -> str:
    if math.isinf(value):
        return "no interval"
    return f"±{100 * value:.3g} %" if target.relative else f"±{value:.3g}"
