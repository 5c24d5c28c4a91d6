"""A tornado chart: bars from what a setting does at its low end to what it does at its high end."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from jaxwan.analysis.humane import percent
from jaxwan.analysis.outcomes import prefers_larger
from jaxwan.analysis.plots import save
from jaxwan.analysis.wording import metric_text, metric_title, setting_title

LOW, HIGH = "#7fb2d6", "#1f5f8b"  # one hue, so that they differ in lightness in print too
_MOST = 16
_WIDE = 6.0


def plot_tornado(table: pd.DataFrame, path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw a table of `sensitivity` as PNG, the largest effect on top.

    Raises:
        ValueError: when no setting has an effect to draw.
    """
    shown = drawable(table)
    if shown.empty:
        raise ValueError("no setting varies alone with runs that have a value: nothing to draw")
    figure = Figure(figsize=(8.4, 1.5 + 0.52 * len(shown)), layout="constrained")
    draw_tornado(figure.subplots(), shown)
    return save(figure, path, title)


def drawable(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the largest effects that are known, all ratios or all differences."""
    known = table[table[["at_low", "at_high"]].notna().all(axis=1)]
    if known.empty:
        return known
    return known[known["is_ratio"] == known["is_ratio"].iloc[0]].head(_MOST)


def draw_tornado(axis: Axes, shown: pd.DataFrame) -> None:
    """Draw bars and whiskers on an axis."""
    ratio = bool(shown["is_ratio"].iloc[0])
    even = 1.0 if ratio else 0.0
    rows = shown.to_dict("records")
    for place, row in enumerate(rows):
        for end, color in (("low", LOW), ("high", HIGH)):
            _bar(axis, place, row, end, color, even)
    metric = str(shown["metric"].iloc[0])
    names = [textwrap.fill(setting_title(str(row["setting"])), 24) for row in rows]
    axis.set_yticks(range(len(rows)), names, fontsize=10)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.axvline(even, color="#333333", lw=1.0, zorder=4)
    if ratio:
        axis.set_xscale("log")
    _scale(axis, shown, metric, ratio)
    base = "the base" if (shown["base"] != "").any() else "the mean of its levels"
    way = "more" if prefers_larger(metric) else "less"
    axis.set_xlabel(
        f"{metric_title(metric)} against {base}; {way} is better\n"
        f"paired by seed, {percent(shown['confidence'].iloc[0])} intervals", fontsize=9,
    )  # fmt: skip
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(True, axis="x", color="#e5e5e5", lw=0.6)
    axis.set_axisbelow(True)


def _bar(axis: Axes, place: int, row: dict[Any, Any], end: str, color: str, even: float) -> None:
    value = row[f"at_{end}"]
    low, high = row[f"at_{end}_lo"], row[f"at_{end}_hi"]
    axis.barh(place, value - even, left=even, height=0.58, color=color, zorder=2)
    if np.isfinite([low, high]).all() and high > low:
        at = place + (-0.1 if end == "low" else 0.1)  # two whiskers on one side stay apart
        axis.plot([low, high], [at, at], color="#1a1a1a", lw=1.2, zorder=5)
    names = [f"at_{side}{bound}" for side in ("low", "high") for bound in ("", "_lo", "_hi")]
    edges = [row[name] for name in names if np.isfinite(row[name])]
    other = row["at_high" if end == "low" else "at_low"]
    right = value > other or (value == other and end == "high")
    axis.annotate(
        textwrap.shorten(str(row[end]), 40, placeholder="…"),
        (max([*edges, even]) if right else min([*edges, even]), place),
        xytext=(5 if right else -5, 0), textcoords="offset points",
        ha="left" if right else "right", va="center", fontsize=8.5, color="#444444",
    )  # fmt: skip


def _scale(axis: Axes, shown: pd.DataFrame, metric: str, ratio: bool) -> None:
    ends = shown[[f"at_{end}{side}" for end in ("low", "high") for side in ("", "_lo", "_hi")]]
    values = ends.to_numpy(np.float64)
    values = values[np.isfinite(values)]
    if ratio:
        spread = max(np.abs(np.log(values)).max(), np.log(1.02))
        low, high = np.exp([-spread * 1.5, spread * 1.5])
        axis.set_xlim(low, high)
        wide = high > _WIDE * low
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if wide else MaxNLocator(6))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        return
    spread = max(np.abs(values).max(), 1e-12)
    axis.set_xlim(-1.5 * spread, 1.5 * spread)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: metric_text(metric, value)))
