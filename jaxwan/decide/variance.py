"""Where the spread comes from: failures, links, stragglers, data, by a pick-freeze design.

Every source of randomness draws from streams of its own, so a run can be repeated with other
failures and all else equal. Six configurations of one experiment make the design: its own luck (A),
other luck throughout (B), and A with one source at a time from B.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxwan.analysis.outcomes import check_metric, outcomes, prefers_larger
from jaxwan.columns import identity_columns, plain_json
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.stats.components import Components, components
from jaxwan.sweep import plan_job, run_in_memory

SOURCES = ("failures", "links", "stragglers", "data")
OTHER = 2**30  # added to the seeds of B; seeds lie below
FEWEST = 32


class Spread(NamedTuple):
    """How far a metric spreads over seeds, and how much of it each of SOURCES makes."""

    metric: str
    mean: float
    deviation: float  # standard
    shares: Components  # [source]
    runs: int
    censored: float  # share of runs without a value, which count as the worst seen


def design(experiment: Experiment) -> list[Experiment]:
    """Return the experiment under A, under B, and under A with one source at a time from B."""
    lucks = [{}, dict.fromkeys(SOURCES, OTHER), *({source: OTHER} for source in SOURCES)]
    return [experiment.replace(luck=luck) for luck in lucks]


def spread(
    experiment: Experiment,
    metric: str = "time_s",
    seeds: int = 256,
    confidence: float = 0.95,
) -> Spread:
    """Say how much of a metric's variance each source of randomness makes.

    Runs six times as many runs as there are seeds. A run without a value (a target never reached)
    counts as the worst value seen.

    Raises:
        InputError: for an unknown metric, fewer than 32 seeds, or settings that do not fit.
    """
    if not FEWEST <= seeds < OTHER:
        raise InputError(f"expected at least {FEWEST} seeds, got {seeds}", "seeds")
    job = plan_job([resolve(each) for each in design(experiment)], range(seeds))
    frame, _ = run_in_memory(job)
    try:
        check_metric(frame, metric, identity_columns(frame))
    except ValueError as error:
        raise InputError(str(error)) from None
    found = outcomes(frame, metric, prefers_larger(metric))
    values = found.values.reshape(2 + len(SOURCES), seeds)
    return Spread(
        metric=metric,
        mean=float(values[:2].mean()),
        deviation=float(values[:2].std(ddof=1)),
        shares=components(values[0], values[1], values[2:], confidence),
        runs=values.size,
        censored=float(np.mean(found.filled)),
    )


def records(found: Spread) -> list[dict[str, Any]]:
    """Return one record per source, the largest total share first; None where nothing varies."""
    sides = {"alone": found.shares.first, "total": found.shares.total}
    table = [
        {"source": source}
        | {
            name + end: plain_json(side[i])
            for name, own in sides.items()
            for end, side in (("", own.mean), ("_lo", own.low), ("_hi", own.high))
        }
        for i, source in enumerate(SOURCES)
    ]
    return sorted(table, key=lambda record: -(record["total"] or 0.0))


