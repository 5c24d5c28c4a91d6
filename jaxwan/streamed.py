"""Streamed results: what a folder of millions of runs says, read part by part."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxwan.analysis.censored import censored_summary
from jaxwan.analysis.outcomes import TO_TARGET
from jaxwan.columns import IDENTITY, identity_columns, swept_columns, uniform
from jaxwan.results import DEFAULT_METRICS, Results, known_metrics, notes_of, summary_row
from jaxwan.store import Store

DRAWN = (
    "config_id", "run_id", "seed", "status", "reached", "time_s", "throughput_ratio",
    "loss_initial", "loss_final", "loss_floor", "time_to_target_s",
)  # fmt: skip


WATCHED = ("reached", "status", "time_s", "loss_initial", "time_to_target_s")


class _Overview(NamedTuple):
    summary: pd.DataFrame
    reasons: pd.DataFrame


class StoredResults:
    """What `Results` says of a folder, without holding all its runs: a few parts at a time."""

    def __init__(
        self, directory: str | os.PathLike[str], tally: tuple[int, int] | None = None
    ) -> None:
        """Open a folder; a sweep that is not complete says so in `warnings`.

        Raises:
            ValueError: when the folder holds no store.
        """
        self.store = Store(directory)
        self.question = str(self.store.manifest.get("question", ""))
        self.warnings = tuple(notes_of(self.store))
        self.tally = tally  # runs that wanted a loss curve, and those that were trained for one

    def summary(
        self, metrics: Sequence[str] | None = None, confidence: float = 0.95
    ) -> pd.DataFrame:
        """Reduce the runs of each configuration as `Results.summary` does.

        Raises:
            ValueError: for a metric that is no numeric column, or a damaged part.
        """
        if metrics is None and confidence == 0.95:
            return self._overview.summary
        return self._reduced(metrics, confidence).summary

    def success_reasons(self) -> pd.DataFrame:
        """Count, per configuration, the runs that failed each criterion."""
        return self._overview.reasons

    @cached_property
    def _overview(self) -> _Overview:
        return self._reduced(None, 0.95)

    def _reduced(self, metrics: Sequence[str] | None, confidence: float) -> _Overview:
        """Go once through all runs, configuration by configuration."""
        every = self.store.columns()
        header = pd.DataFrame(columns=every)
        identity = identity_columns(header)
        wanted = DEFAULT_METRICS if metrics is None else metrics
        needed = [*identity, *wanted, *WATCHED, "failed_criteria"]
        kept: list[pd.DataFrame] = []
        rows: list[tuple[int, dict[str, Any]]] = []
        failed: dict[str, Counter[str]] = {}
        for runs in self.store.configurations(needed):
            names = known_metrics(runs, metrics)
            row = summary_row(runs, identity, names, confidence)
            rows.append((int(runs["config_index"].iloc[0]), row))
            failed[row["config_id"]] = _failures(runs["failed_criteria"])
            if TO_TARGET in names and runs["loss_initial"].notna().any():
                kept.append(runs.drop(columns="failed_criteria"))
        rows.sort(key=_place)
        if not rows:
            empty = pd.DataFrame(columns=["config_id", *identity, "n"])
            return _Overview(empty, pd.DataFrame(index=pd.Index([], name="config_id")))
        censored = censored_summary(pd.concat(kept), confidence) if kept else {}
        summary = pd.DataFrame([row | censored.get(row["config_id"], {}) for _, row in rows])
        for name in swept_columns(header):
            summary[name] = uniform(summary[name])
        return _Overview(summary, _counted(failed, list(summary["config_id"])))

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw the picture of `Results.plot` from the columns it needs.

        Raises:
            ValueError: where there is nothing to draw, or a part is damaged.
        """
        swept = swept_columns(pd.DataFrame(columns=self.store.columns()))
        frame, curves = self.store.load([*DRAWN, *IDENTITY, *swept])
        return Results(frame, curves, self.question).plot(path)


def _place(row: tuple[int, dict[str, Any]]) -> int:
    return row[0]


def _failures(criteria: pd.Series) -> Counter[str]:
    """Count the criteria that runs failed."""
    counts: Counter[str] = Counter()
    for text, runs in criteria.fillna("").value_counts().items():
        for name in filter(None, (part.strip() for part in str(text).split(","))):
            counts[name] += int(runs)
    return counts


def _counted(failed: dict[str, Counter[str]], order: list[str]) -> pd.DataFrame:
    names = sorted(set().union(*failed.values()))
    table = [[failed[config][name] for name in names] for config in order]
    index = pd.Index(order, name="config_id")
    return pd.DataFrame(table, index=index, columns=pd.Index(names, name="failed_criteria"))
