"""Words for metrics and settings: what they are called, how their values read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxwan.analysis.compare import is_duration
from jaxwan.analysis.humane import duration, number, percent, rate
from jaxwan.analysis.outcomes import TO_TARGET
from jaxwan.analysis.tables import setting_names
from jaxwan.columns import IDENTITY, keyed, varying

_TITLES = {
    TO_TARGET: "time to the target loss",
    "time_s": "simulated time",
    "loss_final": "final loss",
    "loss_best": "best loss",
    "samples_per_s": "samples per second",
    "steps_per_s": "steps per second",
    "throughput_ratio": "share of the free network's throughput",
    "cost_usd": "cost",
    "energy_j": "energy",
    "success": "share of runs that succeed",
}
_SHORT = {"local_steps": "local steps (H)", "mtbf_s": "mean time between failures"}
_PERCENTAGES = ("_rate", "_utilization", "availability")


def usual_metric(frame: pd.DataFrame) -> str:
    """Choose what to decide by: time to target, else final loss, else samples per second.

    Runs that learned and all diverged are to be judged by the loss that none of them has.
    """
    if "reached" in frame and frame["reached"].any():
        return TO_TARGET
    if "loss_final" in frame and (frame["loss_final"].notna().any() or diverged(frame).any()):
        return "loss_final"
    return "samples_per_s" if "samples_per_s" in frame else "time_s"


def diverged(runs: pd.DataFrame) -> np.ndarray:
    """Tell which runs diverged `[run]`."""
    if "status" not in runs:
        return np.zeros(len(runs), bool)
    return runs["status"].astype(str).str.contains("diverged").to_numpy(bool)


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    """Refuse a metric that is no numeric column.

    Raises:
        ValueError: naming those there are.
    """
    numeric = [str(name) for name in frame.select_dtypes(["number", "bool", "boolean"])]
    if metric not in numeric:
        raise ValueError(
            f"no numeric column {metric!r} in the results (there are: {', '.join(numeric)})"
        )


def metric_title(metric: str) -> str:
    """Name a metric in words."""
    return _TITLES.get(metric, metric.replace("_", " ").removesuffix(" s"))


def metric_text(metric: str, value: float) -> str:
    """Write a metric's value with its unit."""
    if is_duration(metric):
        return duration(value)
    if metric.endswith("_bps"):
        return rate(value)
    if metric.endswith(_PERCENTAGES) or metric in ("success", "reached"):
        return percent(value)
    return f"{number(value)} USD" if metric.endswith("_usd") else number(value)


def setting_title(name: str) -> str:
    """Name a setting without its table and unit: `link.bandwidth_bps` is bandwidth."""
    last = name.rpartition(".")[2].removesuffix(" ×")
    for unit in ("_bps", "_s", "_bytes"):
        last = _SHORT.get(last, last.removesuffix(unit))
    owner = name.rpartition(".")[0].rpartition(".")[2]
    said = owner if last in ("ratio", "p", "factor", "share") and owner else ""
    return f"{said} {last.replace('_', ' ')}".strip()


def setting_text(name: str, value: Any) -> str:
    """Write the value of a setting with its unit; "–" where there is none."""
    if value is None or value != value or value == "":
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if name.endswith(" ×"):
        return f"×{value:g}" if value >= 1 else f"÷{1 / value:g}"
    if name.endswith("_bps"):
        return rate(float(value))
    if name.endswith("_s") and value:
        return neat_duration(float(value))
    return f"{value:g}"


def neat_duration(seconds: float) -> str:
    """Write a duration somebody chose, without the zeros of a measured one."""
    text, _, unit = duration(seconds).partition(" ")
    return f"{float(text):g} {unit}" if math.isfinite(seconds) else text


def config_labels(frame: pd.DataFrame, names: list[str]) -> pd.Series:
    """Name each run by the settings among `names` that vary; an empty text where none does."""
    said = varying(frame, names)
    if not said:
        return pd.Series("", index=frame.index)
    keys = keyed(frame, said)
    first = ~keys.duplicated().to_numpy()
    labels = [config_label(row, said) for row in frame.loc[first, said].to_dict("records")]
    return keys.map(dict(zip(keys[first], labels, strict=True)))


def config_label(row: Mapping[Any, Any], said: list[str]) -> str:
    """Name a row by some of its settings; those of a family member stand in brackets behind it."""
    pieces = []
    for name in said:
        owner = name.partition(".")[0]
        if "." in name and owner in said and owner in IDENTITY:
            continue
        if name not in IDENTITY:
            text = setting_text(name, row[name])
            pieces.append("" if text == "–" else f"{_brief(name)} {text}")
            continue
        own = [other for other in said if other.startswith(f"{name}.")]
        knobs = [
            f"{other.partition('.')[2].replace('_', ' ')} {setting_text(other, row[other])}"
            for other in own if setting_text(other, row[other]) != "–"
        ]  # fmt: skip
        inner = f" ({', '.join(knobs)})" if knobs else ""
        pieces.append(f"{setting_names(row, [name])}{inner}")
    return " · ".join(filter(None, pieces))


def _brief(name: str) -> str:
    return setting_title(name).partition(" (")[0]
