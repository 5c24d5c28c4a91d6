"""A picture of a comparison: one dot and interval per level and place."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from jaxwan.analysis.compare import is_duration, place_labels
from jaxwan.analysis.humane import duration_unit
from jaxwan.analysis.plots import COLORS, save

_SIGNIFICANT = 0.05
_WIDE = 8.0  # span of ratios from which on even steps would crowd the small ones


def plot_comparison(table: pd.DataFrame, path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw ratios on a log axis, or differences where some ratio is undefined, as a PNG.

    A hollow dot is not significant at 5 % after Holm's correction.

    Raises:
        ValueError: when there is nothing to draw.
    """
    if table.empty:
        raise ValueError("no comparison to plot")
    ratios = bool(np.isfinite(table[["ratio", "ratio_lo", "ratio_hi"]]).all(axis=None))
    figure = Figure(figsize=(7.4, 1.3 + 0.42 * len(table)), layout="constrained")
    axis = figure.subplots()
    _draw(axis, table, "ratio" if ratios else "difference")
    metric, bases = table["metric"].iloc[0], table["baseline"].unique()
    base = bases[0] if len(bases) == 1 else "baseline"
    return save(figure, path, title or f"{metric} against {base}")


def _draw(axis: Axes, table: pd.DataFrame, figure: str) -> None:
    length, unit = _scale(table, figure)
    values = table[figure].to_numpy(np.float64) / length
    low, high = (table[f"{figure}_{side}"].to_numpy(np.float64) / length for side in ("lo", "hi"))
    sure = (table["p_holm"] < _SIGNIFICANT).to_numpy(bool)
    for row, (value, left, right) in enumerate(zip(values, low, high, strict=True)):
        axis.plot([left, right], [row, row], color=COLORS[0], lw=2, solid_capstyle="round")
        face = COLORS[0] if sure[row] else "white"
        axis.plot(value, row, "o", ms=6.5, mec=COLORS[0], mfc=face, mew=1.5)
    axis.axvline(1.0 if figure == "ratio" else 0.0, color="#4d4d4d", lw=0.9, ls="--", zorder=0)
    axis.set_yticks(range(len(table)), _labels(table))
    axis.set_ylim(len(table) - 0.5, -0.5)
    if figure == "ratio":
        _log_axis(axis)
    confidence = f"{100 * table['confidence'].iloc[0]:g} % interval"
    axis.set_xlabel(f"{figure}{f' ({unit})' if unit else ''}, paired by seed; {confidence}")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.grid(True, axis="x", color="#e5e5e5", lw=0.6)
    axis.set_axisbelow(True)


def _scale(table: pd.DataFrame, figure: str) -> tuple[float, str]:
    if figure == "ratio" or not is_duration(table["metric"].iloc[0]):
        return 1.0, ""
    return duration_unit(float(table["difference"].abs().max()))


def _log_axis(axis: Axes) -> None:
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    wide = high > _WIDE * low
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)) if wide else MaxNLocator(6))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}×"))
    axis.xaxis.set_minor_locator(NullLocator())


def _labels(table: pd.DataFrame) -> list[str]:
    several = table["baseline"].nunique() > 1
    names = [
        f"{level} – {base}" if several else str(level)
        for level, base in zip(table["level"], table["baseline"], strict=True)
    ]
    return [" · ".join(filter(None, pair)) for pair in zip(place_labels(table), names, strict=True)]
