"""Results: one row per run, the curves, and what they say about each configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxwan.analysis.censored import censored_summary
from jaxwan.analysis.outcomes import LOSSES, check_metric
from jaxwan.columns import (
    COLUMNS,
    CURVE_COLUMNS,
    identity_columns,
    plain_json,
    records,
    swept_columns,
    typed,
)
from jaxwan.rounds import joined, round_folders
from jaxwan.stats.intervals import mean_interval, quantiles, wilson_interval
from jaxwan.store import Store

DEFAULT_METRICS = (
    "throughput_ratio",
    "rejection_rate",
    "staleness_mean",
    "time_s",
    "loss_final",
    "time_to_target_s",
    "success",
)
_KEYS = ("config_id", "config_index", "seed")
_ENDS = ("status", "reached", "time_s")  # of a run
LEARNED = tuple(name for name, column in COLUMNS.items() 
                if (column.group, column.dtype) == ("learning", "float64"))  # fmt: skip
_QUANTILES = {"q05": 0.05, "q50": 0.5, "q95": 0.95}


class Results:
    """Runs side by side: `frame` has one row per run, `curves` one row per run and point."""

    def __init__(
        self,
        frame: pd.DataFrame,
        curves: pd.DataFrame | None = None,
        question: str = "",
        warnings: Sequence[str] = (),
        tally: tuple[int, int] | None = None,
    ) -> None:
        self.frame = frame
        self.curves = _no_curves() if curves is None or curves.empty else curves
        self.question = question
        self.warnings = tuple(warnings)
        self.tally = tally  # runs that wanted a loss curve, and those that were trained for one

    @classmethod
    def load(
        cls, directory: str | os.PathLike[str], columns: Sequence[str] | None = None
    ) -> Results:
        """Read a store; a sweep that is not complete says so in `warnings`.

        With `columns` only those of the frame are read, and no curves: a million runs of a few
        columns take some hundred megabytes, of all columns some gigabytes.

        Raises:
            ValueError: when the folder holds no store or a damaged part.
        """
        wanted = None if columns is None else list(columns)
        keyed = None if wanted is None else [*wanted, *_KEYS]
        rounds = [cls.load(each, keyed) for each in round_folders(directory)]
        if rounds:
            both = joined([each.frame for each in rounds], [each.curves for each in rounds])
            told = dict.fromkeys(note for each in rounds for note in each.warnings)
            kept = list(both[0]) if wanted is None else [name for name in wanted if name in both[0]]
            return cls(both[0][kept], both[1], rounds[0].question, list(told))
        store = Store(directory)
        frame, curves = store.load(wanted, curves=wanted is None)
        return cls(frame, curves, store.manifest.get("question", ""), notes_of(store))

    @classmethod
    def load_for(cls, directory: str | os.PathLike[str], metric: str) -> Results:
        """Read what a decision by a metric needs: it, the settings, and how runs ended.

        Raises:
            ValueError: when the folder holds no store or a damaged part, or no such metric.
        """
        stores = [Store(each) for each in round_folders(directory) or [Path(directory)]]
        names = list(dict.fromkeys(name for store in stores for name in store.columns()))
        settings = identity_columns(pd.DataFrame(columns=names))
        results = cls.load(directory, list(dict.fromkeys([*_KEYS, *settings, *_ENDS, metric])))
        try:
            check_metric(results.frame, metric, settings)
        except ValueError:
            if not len(results):
                return results
            first = next(store.rows(name) for store in stores for name in store.stored()[:1])
            if metric in LEARNED and metric in first:
                learned = bool(first["loss_final"].notna().any())
                raise ValueError(valueless(metric, learned)) from None
            check_metric(first, metric, settings)  # it has all columns: all metrics are named
            raise
        return results

    @property
    def swept(self) -> list[str]:
        """List the columns the sweep added to the standard ones."""
        return swept_columns(self.frame)

    def summary(
        self, metrics: Sequence[str] | None = None, confidence: float = 0.95
    ) -> pd.DataFrame:
        """Reduce the runs of each configuration to means, intervals and quantiles.

        One row per `config_id`, in order of first appearance: identity, `n`, then per metric
        `_mean _lo _hi _q05 _q50 _q95`. Flags get Wilson's interval and no quantiles. Asking for
        `time_to_target_s` gives `reached_*` and quantiles in which a run that never got there
        counts as infinite, since a mean over those that did would mislead, and the columns of
        `jaxwan.analysis.censored` (Kaplan–Meier median, restricted mean); asking for a loss gives
        `diverged_*` in the same way, and a mean that is infinite once a run diverges.

        Raises:
            ValueError: when a metric is no numeric column of the frame.
        """
        names = known_metrics(self.frame, metrics)
        identity = identity_columns(self.frame)
        timed = "time_to_target_s" in names and len(self.frame)
        censored = censored_summary(self.frame, confidence) if timed else {}
        rows = [
            summary_row(runs, identity, names, confidence) | censored.get(str(config_id), {})
            for config_id, runs in self.frame.groupby("config_id", sort=False)
        ]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["config_id", *identity, "n"])

    def success_reasons(self) -> pd.DataFrame:
        """Count, per configuration, the runs that failed each criterion."""
        one_each = self.frame[["config_id", "failed_criteria"]].copy()
        one_each["failed_criteria"] = one_each["failed_criteria"].fillna("").str.split(",")
        one_each = one_each.explode("failed_criteria", ignore_index=True)
        one_each["failed_criteria"] = one_each["failed_criteria"].str.strip()
        counts = pd.crosstab(one_each["config_id"], one_each["failed_criteria"])
        order = self.frame["config_id"].unique()
        return counts.drop(columns="", errors="ignore").reindex(order)

    def compare(self, by: str, metric: str, confidence: float = 0.95) -> pd.DataFrame:
        """Compare the levels of one setting pair by pair on the same seeds."""
        from jaxwan.analysis.compare import compare

        return compare(self.frame, by, metric, confidence)

    def plot(self, path: str | os.PathLike[str]) -> Path:
        """Draw loss against time, or throughput where nothing was learned, as a PNG.

        A number swept over many values is drawn as the horizontal axis instead.
        """
        from jaxwan.analysis.axis import long_axis
        from jaxwan.analysis.plots import loss_versus_time
        from jaxwan.analysis.response_plot import response_curves

        over = long_axis(self.frame) if len(self.frame) else None
        if over is not None:
            return response_curves(self.frame, over, path, title=self.question)
        return loss_versus_time(self.curves, self.frame, path, title=self.question)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write every run to `path`: .parquet and .csv hold the frame, .json the summary too.

        Raises:
            ValueError: when the ending is none of the three.
        """
        writers = {".parquet": self.to_parquet, ".csv": self.to_csv, ".json": self.to_json}
        target = Path(path)
        if target.suffix not in writers:
            raise ValueError(f"cannot save as {target.name!r}: use {', '.join(writers)}")
        return writers[target.suffix](target)

    def to_parquet(self, path: str | os.PathLike[str]) -> Path:
        """Write the frame as Parquet."""
        self.frame.to_parquet(_ready(path), index=False)
        return Path(path)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the frame as CSV; a per-worker list becomes a JSON array in its cell."""
        lists = [str(name) for name in self.frame if _is_list(str(name))]
        cells = {name: self.frame[name].map(_json_cell) for name in lists}
        self.frame.assign(**cells).to_csv(_ready(path), index=False, lineterminator="\n")
        return Path(path)

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write question, warnings, summary and runs as one JSON object; NaN and inf are null."""
        document = {
            "question": self.question,
            "warnings": list(self.warnings),
            "summary": records(self.summary()),
            "runs": records(self.frame),
        }
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        _ready(path).write_text(text, encoding="utf-8")
        return Path(path)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        configs = self.frame["config_id"].nunique() if "config_id" in self.frame else 0
        points = f", {len(self.curves)} curve points" if len(self.curves) else ", timing only"
        question = f": {self.question}" if self.question else ""
        return f"Results({len(self.frame)} runs of {configs} configurations{points}{question})"


def valueless(metric: str, learned: bool) -> str:
    """Say why no run has a value of what only learning gives, and what helps."""
    if not learned:
        return (f"no run has a value of {metric!r}, for nothing was learned (timing_only); use "
                "another metric, such as time_s or throughput_ratio")  # fmt: skip
    if metric == "time_to_target_s":
        return ("no run reached its target, so none has a value of 'time_to_target_s'; use metric "
                "loss_final, or more steps")  # fmt: skip
    return f"no run has a value of {metric!r}; use another metric, such as loss_final"


def notes_of(store: Store) -> list[str]:
    """Return the warnings of a store, and that it is unfinished where it is."""
    notes = list(store.manifest.get("warnings", ()))
    planned, missing = len(store.chunks), len(store.missing())
    if missing:
        held = planned - missing
        notes.append(f"{store.path} holds {held} of {planned} chunks: the sweep is unfinished")
    return notes


def unfinished(directory: str | os.PathLike[str], frame: pd.DataFrame) -> str | None:
    """Say how much of a folder's sweep the runs read from it lack, or None where it is complete.

    Raises:
        ValueError: when the folder holds no store.
    """
    stores = [Store(each) for each in round_folders(directory) or [Path(directory)]]
    if not any(store.missing() for store in stores):
        return None
    chunks = [chunk for store in stores for chunk in store.manifest["chunks"]]
    runs = sum(chunk.get("runs", 0) for chunk in chunks)
    planned = {name for s in stores for name in s.manifest["sweep"].get("configurations", ())}
    lost = planned - set(frame["config_id"])
    without = f", {len(lost):,} of {len(planned):,} configurations missing" if lost else ""
    return (f"{directory} is unfinished: {len(frame):,} of {runs:,} runs{without}; "
            "what is said is about what is there")  # fmt: skip


def known_metrics(frame: pd.DataFrame, metrics: Sequence[str] | None) -> list[str]:
    """Return the metrics to reduce: those asked for, or the usual ones that there are.

    Raises:
        ValueError: when one that was asked for is no numeric column of the frame.
    """
    wanted = DEFAULT_METRICS if metrics is None else metrics
    numeric = set(frame.select_dtypes(["number", "bool", "boolean"]).columns)
    strange = [name for name in wanted if name not in numeric]
    if strange and metrics is not None:
        known = ", ".join(name for name in frame if name in numeric)
        raise ValueError(f"no numeric column {strange[0]!r} in the results (there are: {known})")
    return [name for name in wanted if name in numeric]


def summary_row(
    runs: pd.DataFrame, identity: list[str], metrics: list[str], confidence: float
) -> dict[str, Any]:
    """Reduce the runs of one configuration to one row of a summary."""
    own = {name: runs[name].iloc[0] if name in runs else np.nan for name in identity}
    row = {"config_id": runs["config_id"].iloc[0], **own, "n": len(runs)}
    for name in metrics:
        row |= _reduce(runs, name, confidence)
    return row


def _reduce(runs: pd.DataFrame, name: str, confidence: float) -> dict[str, Any]:
    if name == "time_to_target_s":
        return _reduce_censored(runs, name, confidence)
    if name in LOSSES and "status" in runs:
        return _reduce_loss(runs, name, confidence)
    if pd.api.types.is_bool_dtype(runs[name]):
        known = runs[name].dropna()
        share = wilson_interval(known.sum(), len(known), confidence)
        return {f"{name}_mean": share.mean, f"{name}_lo": share.low, f"{name}_hi": share.high}
    return _reduce_numbers(name, runs[name].to_numpy(np.float64), confidence)


def _reduce_numbers(name: str, values: np.ndarray, confidence: float) -> dict[str, Any]:
    mean = mean_interval(values, confidence)
    bounds = {f"{name}_mean": mean.mean, f"{name}_lo": mean.low, f"{name}_hi": mean.high}
    return bounds | _named_quantiles(name, values)


def _reduce_loss(runs: pd.DataFrame, name: str, confidence: float) -> dict[str, Any]:
    diverged = runs["status"].str.contains("diverged")
    values = np.where(diverged, np.inf, runs[name])
    found = _reduce_numbers(name, values, confidence)
    if diverged.any():
        found |= {f"{name}_mean": np.inf, f"{name}_lo": np.nan, f"{name}_hi": np.nan}
    return found | _reduce(pd.DataFrame({"diverged": diverged}), "diverged", confidence)


def _reduce_censored(runs: pd.DataFrame, name: str, confidence: float) -> dict[str, Any]:
    reached = runs["reached"] if "reached" in runs else runs[name].notna()
    times = np.where(reached, runs[name], np.inf)
    frame = pd.DataFrame({"reached": np.asarray(reached, bool)})
    return _reduce(frame, "reached", confidence) | _named_quantiles(name, times)


def _named_quantiles(name: str, values: np.ndarray) -> dict[str, Any]:
    found = quantiles(values, list(_QUANTILES.values()))
    return {f"{name}_{suffix}": value for suffix, value in zip(_QUANTILES, found, strict=True)}


def _no_curves() -> pd.DataFrame:
    return typed(pd.DataFrame({name: [] for name in CURVE_COLUMNS}), CURVE_COLUMNS)


def _is_list(name: str) -> bool:
    return name in COLUMNS and COLUMNS[name].dtype == "list<float>"


def _json_cell(value: Any) -> str:
    return json.dumps(plain_json(value))


def _ready(path: str | os.PathLike[str]) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)
