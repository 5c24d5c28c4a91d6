"""Choose among configurations that ran on the same seeds: the best one, and who is tied with it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.compare import LOSSES, TO_TARGET, is_duration
from jaxwan.analysis.humane import number, percent
from jaxwan.analysis.wording import is_better_high, metric_text, metric_title
from jaxwan.stats.intervals import Interval, mean_interval, quantiles
from jaxwan.stats.paired import geometric_ratio, share_difference

_MOSTLY = 0.5  # share from which on the best is above a rival that never has a value
_WORKED = ("samples_per_s", "steps_per_s", "throughput_ratio")  # 0: nothing was accepted at all


class Rival(NamedTuple):
    """One configuration: what it attains, and how it stands against the best."""

    label: str
    value: float  # median time to target over all runs, or the mean; inf or NaN: none
    share: float  # of its runs that have a value
    lead: Interval  # how many times better the best is, paired; NaN where values are not positive
    tied: bool


class Choice(NamedTuple):
    """The outcome for one place."""

    metric: str
    confidence: float
    best: str | None  # None where no configuration attains anything
    rivals: tuple[Rival, ...]  # the best first

    @property
    def tied(self) -> tuple[str, ...]:
        """Name the configurations that are statistically tied with the best."""
        return tuple(rival.label for rival in self.rivals[1:] if rival.tied)

    @property
    def sentence(self) -> str:
        """Say the outcome in one sentence."""
        return _sentence(self)


def choose(runs: pd.DataFrame, labels: pd.Series, metric: str, confidence: float = 0.95) -> Choice:
    """Find the best configuration by one metric, and those the seeds cannot tell from it.

    A run that never reaches the target, or diverges, counts as worst of all. The best has the best
    median time to target, or mean; runs without a value settle means. A rival is tied unless its
    paired ratio to the best (difference, where not all are positive) has an interval that shows
    the best ahead, or it has a value in significantly fewer runs, or in none where most of the
    best's have one; the confidence is Bonferroni's, over all rivals. `labels` tells the
    configurations apart and needs one run a seed each.

    Raises:
        ValueError: when `labels` does not tell the configurations apart.
    """
    values = _table(runs, labels, metric)
    names = list(dict.fromkeys(labels))
    scores = {name: _score(values[name].to_numpy(np.float64), metric) for name in names}
    order = sorted(names, key=scores.__getitem__)
    shares = {name: float(np.isfinite(values[name]).mean()) for name in names}
    best = order[0] if order and shares[order[0]] > 0 else None
    strict = 1 - (1 - confidence) / max(len(names) - 1, 1)
    rivals = []
    for name in order:
        value = _value(values[name].to_numpy(np.float64), metric)
        lead, tied = Interval(np.nan, np.nan, np.nan, 0), name == best
        if best is not None and name != best:
            lead, tied = _against(values[name], values[best], metric, strict)
        rivals.append(Rival(name, value, shares[name], lead, tied))
    return Choice(metric, confidence, best, tuple(rivals))


def values_of(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """Return the metric of each run; NaN where it has none.

    That is: a target never reached, a loss that diverged, a speed at which nothing was accepted.
    """
    values = runs[metric].to_numpy(np.float64, na_value=np.nan)
    if metric == TO_TARGET and "reached" in runs:
        values = np.where(runs["reached"].to_numpy(bool), values, np.nan)
    if metric in LOSSES and "status" in runs:
        values = np.where(runs["status"].str.contains("diverged"), np.nan, values)
    if metric in _WORKED:
        values = np.where(values > 0, values, np.nan)
    return values


def _table(runs: pd.DataFrame, labels: pd.Series, metric: str) -> pd.DataFrame:
    """Return values `[seed, label]`; NaN where a run has none."""
    keys = pd.DataFrame({"seed": runs["seed"].to_numpy(), "label": labels.to_numpy()})
    if keys.duplicated().any():
        raise ValueError(
            "several runs have one seed and the same name: name the setting that tells them apart"
        )
    table = keys.assign(value=values_of(runs, metric))
    return table.pivot(index="seed", columns="label", values="value")


def _value(values: np.ndarray, metric: str) -> float:
    if metric == TO_TARGET:
        return float(quantiles(np.where(np.isfinite(values), values, np.inf), 0.5))
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _score(values: np.ndarray, metric: str) -> tuple[float, float, float]:
    """Order configurations: smaller is better."""
    missing = 1 - float(np.isfinite(values).mean())
    value = _value(values, metric)
    value = -value if is_better_high(metric) else value
    value = np.inf if np.isnan(value) else value
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else np.inf
    return (value, missing, mean) if metric == TO_TARGET else (round(missing, 3), value, mean)


def _against(
    rival: pd.Series, best: pd.Series, metric: str, confidence: float
) -> tuple[Interval, bool]:
    """Return how far the best is ahead of a rival, and whether the two are tied."""
    a, b = rival.to_numpy(np.float64), best.to_numpy(np.float64)
    has_a, has_b = np.isfinite(a), np.isfinite(b)
    never = not has_a.any() and has_b.mean() >= _MOSTLY
    rarer = never or float(share_difference(has_a, has_b, confidence).high) < 0
    both = has_a & has_b
    over, under = (b[both], a[both]) if is_better_high(metric) else (a[both], b[both])
    lead = geometric_ratio(over, under, confidence)
    known = len(over) >= 2
    if known and np.isfinite(lead.mean):
        return lead, not (bool(lead.low > 1) or rarer)
    gap = mean_interval(over - under, confidence)
    return lead, not ((known and bool(gap.low > 0)) or rarer)


def _sentence(choice: Choice) -> str:
    title = metric_title(choice.metric)
    if choice.best is None:
        return "No configuration reaches the target." if choice.metric == TO_TARGET else (
            f"No configuration has a {title}."
        )  # fmt: skip
    best, others = choice.rivals[0], choice.rivals[1:]
    value = metric_text(choice.metric, best.value)
    if choice.metric == TO_TARGET:
        text = f"it reaches the target in {value} (median; {percent(best.share)} of runs get there)"
    else:
        text = f"{title} {value}"
    text = f"use {best.label}: {text}" if others else text
    if not others:
        return text + "."
    tied = choice.tied
    if tied:
        rest = len(others) - len(tied)
        shown = "; ".join(tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
        ahead = f", and ahead of the other {rest}" if rest else ""
        return f"{text}; statistically tied with {shown}{ahead}."
    return f"{text}; {_ahead(choice.metric, others[0], choice.confidence)}."


def _ahead(metric: str, second: Rival, confidence: float) -> str:
    lead = second.lead
    if not np.isfinite(lead.low) or lead.low <= 1:
        return f"ahead of all others, {second.label} next ({percent(confidence)} confidence)"
    word = "sooner" if is_duration(metric) else "better"
    return (
        f"{times(lead)[0]}× {word} than the next, {second.label} "
        f"({percent(confidence)} interval over all rivals {' to '.join(times(lead)[1:])})"
    )


def times(lead: Interval) -> tuple[str, str, str]:
    """Write a ratio and its bounds, with as many digits as it takes to tell them apart."""
    sides = [float(side) for side in (lead.mean, lead.low, lead.high)]
    digits = next((n for n in (3, 4) if number(sides[1], n) != number(sides[2], n)), 5)
    mean, low, high = (number(side, digits) for side in sides)
    return mean, low, high
