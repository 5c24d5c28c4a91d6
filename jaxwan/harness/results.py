"""The result of one classic experiment: every figure is a mean over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import spread
from jaxwan.columns import plain_json, records, typed
from jaxwan.stats.intervals import Interval, mean_interval, wilson_interval


class Figure(NamedTuple):
    """Where a classic metric comes from: the column of a run, and what it is multiplied by."""

    column: str
    scale: float = 1.0


METRICS = {
    "steps_per_second": Figure("steps_per_s"),
    "samples_per_second": Figure("samples_per_s"),
    "throughput_ratio": Figure("throughput_ratio"),
    "total_steps": Figure("steps"),
    "total_time_s": Figure("time_s"),
    "total_bytes_sent": Figure("bytes_sent"),
    "total_bytes_received": Figure("bytes_received"),
    "total_gradients_submitted": Figure("submitted"),
    "total_gradients_accepted": Figure("accepted"),
    "total_gradients_rejected": Figure("rejected"),
    "total_gradients_lost": Figure("lost"),
    "rejection_rate": Figure("rejection_rate"),
    "average_staleness": Figure("staleness_mean"),
    "total_compression_ratio": Figure("compression_ratio"),
    "bandwidth_saved_percent": Figure("bytes_saved_ratio", 100.0),
    "total_failures": Figure("failures"),
    "active_workers": Figure("active_workers_mean"),
    "final_loss": Figure("loss_final"),
    "final_accuracy": Figure("accuracy_final"),
}
FAILURES = ("crash", "transient", "slowdown", "byzantine", "partition", "churn")


@dataclass(frozen=True)
class Metrics:
    """Means over the seeds of one experiment; a loss is infinite once a run diverges."""

    steps_per_second: float
    samples_per_second: float
    throughput_ratio: float
    total_steps: float
    total_time_s: float
    total_bytes_sent: float
    total_bytes_received: float
    total_gradients_submitted: float
    total_gradients_accepted: float
    total_gradients_rejected: float
    total_gradients_lost: float
    rejection_rate: float
    average_staleness: float
    total_compression_ratio: float
    bandwidth_saved_percent: float
    total_failures: float
    active_workers: float
    final_loss: float
    final_accuracy: float
    failures_by_type: dict[str, float]
    worker_acceptance_rates: dict[str, float]


def per_seed(runs: pd.DataFrame, name: str) -> np.ndarray:
    """Return a classic metric of each run; NaN where it has none, infinite losses if it diverged.

    Raises:
        ValueError: for a name that is no metric.
    """
    if name not in METRICS:
        raise ValueError(f"no metric {name!r} (there are: {', '.join(METRICS)})")
    column, scale = METRICS[name]
    values = runs[column].to_numpy(np.float64) * scale
    if name == "final_loss":
        return np.where(runs["status"].str.contains("diverged"), np.inf, values)
    return values


def interval_of(values: np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the t interval of a mean; an infinite value makes the mean infinite."""
    found = mean_interval(values, confidence)
    if np.isinf(values).any():
        return Interval(math.inf, math.nan, math.nan, found.n)
    return plain(found)


def plain(found: Interval) -> Interval:
    """Return the interval in Python's own numbers."""
    return Interval(float(found.mean), float(found.low), float(found.high), int(found.n))


@dataclass(frozen=True)
class ExperimentResult:
    """One experiment: its settings, and one row of `runs` per seed."""

    config_snapshot: dict[str, Any]
    runs: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    @property
    def scenario(self) -> str:
        """Return the scenario's name."""
        return str(self.config_snapshot["scenario"])

    @property
    def challenge(self) -> str:
        """Return the challenge's name."""
        return str(self.config_snapshot["challenge"])

    @property
    def success_criteria_met(self) -> bool:
        """Tell whether most of the runs meet every criterion of the challenge."""
        return bool(self.runs["success"].mean() > 0.5)

    @property
    def success_rate(self) -> Interval:
        """Return the share of the runs that meet every criterion, with Wilson's interval."""
        return plain(wilson_interval(self.runs["success"].sum(), len(self.runs)))

    @cached_property
    def failure_reasons(self) -> list[str]:
        """Say, where the criteria are not met, which of them runs fail and by how much."""
        return [] if self.success_criteria_met else _reasons(self)

    @cached_property
    def metrics(self) -> Metrics:
        """Return the means over the seeds."""
        means = {name: float(self.interval(name).mean) for name in METRICS}
        rates = np.array([list(rates) for rates in self.runs["worker_acceptance_rate"]], float)
        known = np.isfinite(rates)
        shares = np.divide(
            np.where(known, rates, 0.0).sum(axis=0), known.sum(axis=0),
            out=np.full(rates.shape[1], np.nan), where=known.any(axis=0),
        )  # fmt: skip
        workers = self.config_snapshot["workers"]
        return Metrics(
            **means,
            failures_by_type={
                kind: float(self.runs[f"failures_{kind}"].mean()) for kind in FAILURES
            },
            worker_acceptance_rates=dict(zip(workers, map(float, shares), strict=True)),
        )

    def interval(self, name: str, confidence: float = 0.95) -> Interval:
        """Return the mean of a metric over the seeds with its t interval.

        Raises:
            ValueError: for a name that is no metric.
        """
        return interval_of(per_seed(self.runs, name), confidence)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it; NaN and infinities are null."""
        bounds = {name: list(self.interval(name)[1:3]) for name in METRICS}
        return {
            "config_snapshot": _plain(self.config_snapshot),
            "success_criteria_met": self.success_criteria_met,
            "failure_reasons": self.failure_reasons,
            "notes": self.notes,
            "metrics": _plain(asdict(self.metrics)),
            "intervals_95": _plain(bounds),
            "runs": records(self.runs),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ExperimentResult:
        """Rebuild a result from its dictionary: the runs say everything else again."""
        runs = typed(pd.DataFrame(document["runs"]))
        return cls(dict(document["config_snapshot"]), runs, list(document.get("notes", [])))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return plain_json(value)


def _reasons(result: ExperimentResult) -> list[str]:
    runs, limits = result.runs, result.config_snapshot
    failed = runs["failed_criteria"].fillna("").str.split(",")
    counts = failed.explode().str.strip().value_counts()
    sentences = {
        "min_steps": _few_steps,
        "max_rejection": lambda own: (
            f"{_mean(own, 'rejection_rate', 100)} % of the gradients are rejected; "
            f"at most {100 * limits['max_rejection']:g} % may be"
        ),
        "min_throughput_ratio": lambda own: (
            f"the throughput is {_mean(own, 'throughput_ratio', 100)} % of that on a free network "
            f"without failures; at least {100 * limits['min_throughput_ratio']:g} % is asked for"
        ),
        "status": lambda own: f"runs end early or diverge ({_states(own)})",
    }
    return [
        f"{say(result)} ({counts[name]} of {len(runs)} runs)"
        for name, say in sentences.items()
        if counts.get(name, 0)
    ]


def _few_steps(result: ExperimentResult) -> str:
    limits = result.config_snapshot
    text = f"{_mean(result, 'total_steps')} optimizer steps; at least {limits['min_steps']} needed"
    if limits["max_steps"] < limits["min_steps"]:
        text += f" (the budget was cut to max_steps={limits['max_steps']})"
    return text


def _states(result: ExperimentResult) -> str:
    return ", ".join(state for state in result.runs["status"].unique() if state != "ok")


def _mean(result: ExperimentResult, name: str, scale: float = 1.0) -> str:
    found = result.interval(name)
    half = scale * (found.high - found.mean)
    if half == 0:
        return f"{scale * found.mean:.4g}"
    return " ".join(filter(None, spread(scale * found.mean, half)))
