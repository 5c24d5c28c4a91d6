"""Verdict sentences: a choice, how much it gains, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxwan.analysis.humane import number, percent
from jaxwan.analysis.outcomes import TO_TARGET, WORKED
from jaxwan.analysis.wording import metric_title
from jaxwan.stats.intervals import Interval

_GAINS = {  # metric -> what a winner does, and the comparative it does it by
    "time_to_target_s": ("reaches the target", "sooner"),
    "time_s": ("ends", "sooner"),
    "cost_usd": ("costs", "less"),
    "energy_j": ("takes", "less energy"),
    "bytes_sent": ("sends", "less"),
    "bytes_received": ("receives", "less"),
    "memory_peak_bytes": ("needs", "less memory"),
    "loss_final": ("ends at a loss that is", "lower"),
    "loss_best": ("gets to a loss that is", "lower"),
    "samples_per_s": ("trains", "faster"),
    "steps_per_s": ("updates", "faster"),
}
_TIMES_FROM = 1.3  # ratios from here on are told as factors, smaller ones in percent


def gain(metric: str, larger: bool) -> tuple[str, str]:
    """Return the verb and the comparative of doing better by a metric."""
    usual = f"has a {metric.removesuffix('_s').replace('_', ' ')} that is"
    return _GAINS.get(metric, (usual, "higher" if larger else "lower"))


def sureness(confidence: float) -> str:
    """Write a confidence, rounded down so that none is promised that is not there."""
    if confidence > 0.999:
        return "more than 99.9 %"
    digits = 1 if confidence >= 0.99 else 0
    scale = 100 * 10**digits
    return percent(math.floor(confidence * scale + 1e-9) / scale, digits)


def share(value: float) -> str:
    """Write a share, rounded up, with at most one decimal."""
    tenths = math.ceil(value * 1000 - 1e-6) / 10
    return f"{tenths:g} %"


def factor(ratio: Interval, confidence: float) -> tuple[str, str]:
    """Write a ratio, as a factor or as the percent above 1, and its interval."""
    sides = [float(ratio.mean), float(ratio.low), float(ratio.high)]
    if sides[0] >= _TIMES_FROM:
        wide = sides[2] - sides[1] > 0.05 * sides[0] and sides[0] < 10
        center, low, high = _apart(sides, 2 if wide else 3)
        return f"{center}×", f"{percent(confidence)} interval {low}–{high}"
    center, low, high = _apart([100 * (side - 1) for side in sides], 2)
    return f"{center} %", f"{percent(confidence)} interval {low} to {high} %"


def times(lead: Interval) -> tuple[str, str, str]:
    """Write a ratio and its bounds, with as many digits as it takes to tell them apart."""
    return _apart([float(side) for side in (lead.mean, lead.low, lead.high)], 3)


def _apart(sides: Sequence[float], least: int) -> tuple[str, str, str]:
    mean, low, high = sides
    digits = next((n for n in range(least, 5) if number(low, n) != number(high, n)), 5)
    digits = least if low == high else digits
    return number(mean, digits), number(low, digits), number(high, digits)


def missing(metric: str) -> str:
    """Say that no run has a number."""
    if metric == TO_TARGET:
        return "no configuration reaches the target"
    if metric in WORKED:
        return "no configuration gets anything accepted"
    return f"no configuration has a {metric_title(metric)}"


def verdict(
    winner: str | None,
    metric: str,
    *,
    larger: bool = False,
    runner_up: str | None = None,
    ratio: Interval | None = None,
    confidence: float = 0.95,
    sure: float = math.nan,
    margin: float = 0.05,
    tied: Sequence[str] = (),
    among: str = "in the sweep",
    unknown: str | None = None,
) -> str:
    """Say in one sentence what to use, what it gains, and how sure it is.

    `ratio` says how many times better the winner is than the runner-up; `sure` is the confidence
    that nothing else is better by more than `margin`; `tied` are the others that the seeds cannot
    tell from the winner; `unknown` says who was not watched for long enough. Without a winner no
    run has a number; without a runner-up there was nothing to choose.
    """
    if winner is None:
        return f"{missing(metric).capitalize()} {among}."
    if runner_up is None:
        return f"There is nothing to choose {among}: {winner} is the only configuration."
    verb, more = gain(metric, larger)
    parts = []
    if ratio is not None and math.isfinite(float(ratio.mean)):
        much, interval = factor(ratio, confidence)
        parts.append(f"it {verb} {much} {more} than {runner_up} ({interval})")
    else:
        parts.append(f"it is ahead of {runner_up}")
    if list(tied) == [runner_up]:
        parts[0] += ", a tie"
    elif tied:
        parts[0] += (
            f", though {len(tied)} others tie with it"
            if len(tied) > 1
            else (f", though {tied[0]} ties with it")
        )
    if unknown:
        parts.append(f"what else may be better is not known: {unknown}")
    elif sure >= 0.5:
        parts.append(
            f"with {sureness(sure)} confidence nothing else {among} is better by more than "
            f"{share(margin)}"
        )
    else:
        parts.append(f"it takes more seeds to rule out that something is better by {share(margin)}")
    return f"Use {winner}: {parts[0]}, and {parts[1]}."
