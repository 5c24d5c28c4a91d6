"""Passing settings: the cheapest setting that meets a challenge's success criteria, and how surely.

A setting passes where the lower end of the Wilson interval of its share of successful runs is at
least 90 % at the confidence: all of 64 runs, say (94 %), or 63 of them (92 %), but not 62.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import number, percent
from jaxwan.columns import records
from jaxwan.decide.race import Tell
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import config_id, is_barrier
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.rounds import steps_between
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.stats.intervals import wilson_interval
from jaxwan.sweep import plan_job, run_in_memory

SHARE = 0.9  # of the runs that must surely succeed
SEEDS = 64  # fresh ones, on which what was found is checked
TRIES = 3  # settings of a place that are checked, cheapest first
SPARE = 1.25  # cycles beyond those of min_steps updates: some are late, lost or rejected
MOST_STEPS = 100_000


class Passing(NamedTuple):
    """One row a challenge and scenario: what passes most cheaply, or what comes closest."""

    table: pd.DataFrame
    settings: int  # tried at each place
    runs: int
    confidence: float
    share: float

    def records(self) -> list[dict[str, Any]]:
        """Return JSON-ready rows."""
        return records(self.table)


def long_enough(resolved: Resolved) -> Resolved:
    """Return an experiment whose runs are long enough for as many updates as the criteria ask."""
    count, per_update = len(resolved.workers), steps_between(resolved)
    updates = resolved.criteria.min_steps * SPARE
    if not is_barrier(resolved):
        updates *= resolved.buffer / count
    steps = min(max(resolved.steps, math.ceil(updates * per_update)), MOST_STEPS)
    return replace(resolved, steps=steps)


def setting_of(resolved: Resolved) -> str:
    """Name a setting as one would write it."""
    strategy, compressor = resolved.strategy, resolved.compressor
    words = [strategy.kind.replace("_", " ")]
    if "local_steps" in strategy.static:
        words.append(f"H={strategy.static['local_steps']}")
    if strategy.knobs.get("max_staleness") is not None:
        words.append(f"staleness {strategy.knobs['max_staleness']:g}")
    ratio = compressor.knobs.get("ratio")
    return ", ".join([" ".join(words), compressor.kind + (f" {ratio:g}" if ratio else "")])


def passing(
    source: str | os.PathLike[str], confidence: float = 0.95, share: float = SHARE,
    seeds: int = SEEDS, tell: Tell | None = None,
) -> Passing:  # fmt: skip
    """Search a sweep for the cheapest setting that passes at each scenario and challenge.

    Every setting runs on the sweep's seeds, at least as long as the criteria's updates take; the
    cheapest ones whose runs all succeeded are run again on fresh seeds, which alone count. The
    cost is that of such a run. The recommended settings run beside them on the same seeds.

    Raises:
        InputError: for a bad sweep or number.
    """
    if not 0 < confidence < 1 or not 0 < share < 1 or seeds < 2:
        raise InputError("confidence and share lie strictly between 0 and 1, seeds are at least 2")
    sweep = Sweep.from_toml(Path(source))
    found = [long_enough(one) for one in sweep.resolve()[0]]
    if tell:
        tell(f"searching {len(found):,} settings")
    first = successes(found, list(sweep.seeds))
    ranked = _ranked(found, first)
    fresh = [max(sweep.seeds) + 1 + seed for seed in range(seeds)]
    usual = _recommended(sweep, found)
    tried = [one for own in ranked.values() for one in own[:TRIES]]
    if tell:
        tell(f"checking {len(tried)} settings on {seeds} fresh seeds")
    second = successes([*tried, *usual.values()], fresh)
    rows = [
        _row(place, own[:TRIES], usual[place], second, seeds, confidence, share)
        for place, own in ranked.items()
    ]
    runs = len(found) * len(sweep.seeds) + len(second) * seeds
    return Passing(pd.DataFrame(rows), len(found) // len(ranked), runs, confidence, share)


def successes(found: Sequence[Resolved], seeds: list[int]) -> pd.DataFrame:
    """Return of each configuration: successes, mean cost and throughput, the criterion missed."""
    own = {config_id(one): one for one in found}
    runs = run_in_memory(plan_job(list(own.values()), seeds))[0]
    groups = runs.groupby("config_id", sort=False)
    missed = runs.assign(failed=runs["failed_criteria"].str.split(",").str[0])
    usual = missed[~missed["success"]].groupby("config_id")["failed"].agg(_commonest)
    return groups.agg(
        success=("success", "sum"), n=("success", "size"), cost=("cost_usd", "mean"),
        ratio=("throughput_ratio", "mean"), rejected=("rejection_rate", "mean"),
    ).join(usual.rename("failed"))  # fmt: skip


def _commonest(names: pd.Series) -> str:
    return str(names.mode().iloc[0])


def _ranked(
    found: list[Resolved], first: pd.DataFrame
) -> dict[tuple[str, str], list[Resolved]]:
    """Return each place's settings: most successes first, the cheapest of them first."""
    good, cost = first["success"].to_dict(), first["cost"].to_dict()
    places: dict[tuple[str, str], list[Resolved]] = {}
    for one in found:
        places.setdefault((one.challenge, one.scenario.name), []).append(one)
    for own in places.values():
        own.sort(key=lambda one: (-good[config_id(one)], cost[config_id(one)]))
    return places


def _recommended(sweep: Sweep, found: list[Resolved]) -> dict[tuple[str, str], Resolved]:
    """Return each place's recommended setting, its runs as long as its criteria need."""
    usual = {}
    for (own, _), one in zip(sweep.expand(), found, strict=True):
        place = (one.challenge, one.scenario.name)
        if place not in usual:
            plain = Experiment(scenario=own.scenario, challenge=own.challenge, steps=own.steps,
                               timing_only=own.timing_only)  # fmt: skip
            usual[place] = long_enough(resolve(plain))
    return usual


def _row(
    place: tuple[str, str], own: list[Resolved], usual: Resolved, second: pd.DataFrame, seeds: int,
    confidence: float, share: float,
) -> dict[str, Any]:  # fmt: skip
    facts = second.loc[[config_id(one) for one in own]]
    low = wilson_interval(facts["success"].to_numpy(), seeds, confidence).low
    passes = np.asarray(low) >= share
    best = int(np.argmax(passes)) if passes.any() else int(np.argmax(np.asarray(low)))
    base, mine = second.loc[config_id(usual)], facts.iloc[best]
    sides = wilson_interval(float(mine["success"]), seeds, confidence)
    return {
        "challenge": place[0], "scenario": place[1], "passes": bool(passes[best]),
        "setting": setting_of(own[best]), "steps": own[best].steps,
        "success": mine["success"] / seeds, "low": float(sides.low), "high": float(sides.high),
        "cost_usd": mine["cost"], "throughput_ratio": mine["ratio"],
        "rejection_rate": mine["rejected"], "failed": mine["failed"],
        "recommended": setting_of(usual), "recommended_success": base["success"] / seeds,
        "recommended_cost_usd": base["cost"], "recommended_throughput_ratio": base["ratio"],
        "recommended_failed": base["failed"],
    }  # fmt: skip


HEADER = (
    "challenge", "scenario", "cheapest that passes", "success (95 %)", "throughput", "cost",
    "recommended", "success", "throughput", "cost",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    """Write one row as text, in the order of `HEADER`."""
    mark = "" if row["passes"] else f"none; nearest misses {row['failed']}: "
    around = f"{percent(row['success'])} ({100 * row['low']:.0f}–{100 * row['high']:.0f})"
    return [
        row["challenge"], row["scenario"], mark + row["setting"], around,
        number(row["throughput_ratio"]), f"${number(row['cost_usd'])}", row["recommended"],
        percent(row["recommended_success"]), number(row["recommended_throughput_ratio"]),
        f"${number(row['recommended_cost_usd'])}",
    ]  # fmt: skip


def page_rows(found: Passing) -> list[str]:
    """Return the table as lines of Markdown."""
    head = list(HEADER)
    head[3] = f"success ({percent(found.confidence)})"
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return lines + [f"| {' | '.join(cells(row))} |" for row in found.records()]
