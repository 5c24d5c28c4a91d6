"""Pictures of results, drawn with matplotlib's objects: no display, no global state."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from jaxwan.analysis.humane import duration_unit
from jaxwan.analysis.tables import setting_names
from jaxwan.columns import identity_columns, varying
from jaxwan.stats.intervals import Interval, mean_interval, quantile_interval, quantiles

COLORS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f3c8d", "#4d4d4d",
)  # fmt: skip
DASHES = ("-", "--", ":", "-.")
_POINTS = 160
_MOST_BANDS = 6  # more configurations than this in a panel would bury each other
_LOG_FROM = 8.0  # span of the mean curves that a linear axis would flatten
_CEILING = 3.0  # times the initial loss; above it a panel shows that a run explodes, not how far


def loss_versus_time(
    curves: pd.DataFrame,
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    title: str = "",
) -> Path:
    """Draw held-out loss against simulated time, one panel per scenario and challenge.

    Lines are means over seeds on a common time grid, the band the 95 % t interval, the lighter
    band the 5–95 % quantiles. A configuration with runs that diverge gets medians, and its panel
    ends at three times the initial loss. Where nothing was learned, draw throughput ratios.

    Raises:
        ValueError: when there is no run to draw.
    """
    if frame.empty:
        raise ValueError("no runs to plot")
    curves = curves[np.isfinite(curves["time_s"])]
    if not curves["loss"].notna().any():
        return throughput_bars(frame, path, title)
    panels = _panels(frame)
    across = min(math.ceil(math.sqrt(len(panels))), 3)
    down = -(-len(panels) // across)
    figure = Figure(figsize=(max(4.4 * across, 6.4), 3.5 * down + 0.4), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    points = {run: part for run, part in curves.groupby("run_id", sort=False)}
    for axis, (name, runs) in zip(axes, panels, strict=False):
        _draw_losses(axis, runs, points)
        axis.set_title(name, loc="left", fontsize=10, fontweight="bold")
    for axis in axes[len(panels) :]:
        axis.remove()
    return save(figure, path, title)


def throughput_bars(frame: pd.DataFrame, path: str | os.PathLike[str], title: str = "") -> Path:
    """Draw the mean throughput ratio of each configuration with its 95 % interval."""
    panels = _panels(frame)
    counts = [runs["config_id"].nunique() for _, runs in panels]
    height = sum(0.32 * count + 0.7 for count in counts) + 0.5
    figure = Figure(figsize=(7.2, max(height, 2.2)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=counts).ravel()
    for axis, (name, runs) in zip(axes, panels, strict=True):
        _draw_bars(axis, runs)
        axis.set_title(name, loc="left", fontsize=10, fontweight="bold")
    axes[-1].set_xlabel("throughput ratio (share of the free network's; mean and 95 % interval)")
    return save(figure, path, title)


def _panels(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    keys = [name for name in ("scenario", "challenge") if name in frame]
    split = varying(frame, keys) or keys[-1:]
    if not split:
        return [("", frame)]
    return [
        (" · ".join(str(part) for part in group), runs)
        for group, runs in frame.groupby(split, sort=False, dropna=False)
    ]


def _labels(runs: pd.DataFrame) -> dict[Any, str]:
    """Name each configuration by what tells it apart within its panel."""
    first = runs.drop_duplicates("config_id")
    names = varying(first, identity_columns(first))
    names = names or [name for name in ("strategy", "compressor") if name in first]
    rows = first.to_dict("records")
    return {row["config_id"]: setting_names(row, names) or str(row["config_id"]) for row in rows}


class Line(NamedTuple):
    """One configuration's curve on its time grid."""

    label: str
    times: np.ndarray  # [time]
    losses: np.ndarray  # [run, time]
    center: Interval  # [time]


def line_of(label: str, runs: pd.DataFrame, points: dict[Any, pd.DataFrame]) -> Line | None:
    """Put the runs of a configuration on one grid; None where they left no curve."""
    parts = [points[run] for run in runs["run_id"] if run in points]
    if not parts:
        return None
    diverged = _diverged(runs, points)
    times, losses = _on_common_times(parts, np.inf if diverged else np.nan)
    if not diverged:
        return Line(label, times, losses, mean_interval(losses))
    label = f"{label} (median; {diverged} of {len(parts)} diverge)"
    return Line(label, times, losses, quantile_interval(losses, 0.5))


def _draw_losses(axis: Axes, runs: pd.DataFrame, points: dict[Any, pd.DataFrame]) -> None:
    labels = _labels(runs)
    groups = runs.groupby("config_id", sort=False)
    found = [line_of(labels[config], mine, points) for config, mine in groups]
    lines = [line for line in found if line]
    length, unit = duration_unit(max((line.times[-1] for line in lines), default=1.0))
    ceiling = _CEILING * _initial_loss(lines)
    for place, line in enumerate(lines):
        _draw_line(axis, line, place, length, len(lines) <= _MOST_BANDS, ceiling)
    _scale_losses(axis, [line.center.mean for line in lines], runs, ceiling)
    axis.set_xlabel(f"simulated time ({unit})")
    axis.set_ylabel("held-out loss")
    axis.set_xlim(left=0)
    _tidy(axis)


def _initial_loss(lines: list[Line]) -> float:
    first = [float(line.center.mean[0]) for line in lines if np.isfinite(line.center.mean[0])]
    return max(first, default=math.inf)


def _draw_line(
    axis: Axes, line: Line, place: int, length: float, sparse: bool, ceiling: float
) -> None:
    def shown(values: np.ndarray) -> np.ndarray:
        return np.clip(values, None, 2 * ceiling)

    x, center = line.times / length, line.center
    color, dashes = COLORS[place % len(COLORS)], DASHES[place // len(COLORS) % len(DASHES)]
    axis.plot(x, shown(center.mean), color=color, ls=dashes, lw=1.6, zorder=3, label=line.label)
    low, high = shown(center.low), shown(center.high)
    axis.fill_between(x, low, high, color=color, alpha=0.3 if sparse else 0.15, lw=0)
    if sparse:
        low, high = shown(quantiles(line.losses, [0.05, 0.95]))
        axis.fill_between(x, low, high, color=color, alpha=0.1, lw=0)


def _scale_losses(
    axis: Axes, centers: list[np.ndarray], runs: pd.DataFrame, ceiling: float
) -> None:
    values = np.concatenate([center[np.isfinite(center)] for center in centers] or [np.ones(1)])
    values = np.minimum(values, ceiling)
    floors = runs["loss_floor"].dropna().unique() if "loss_floor" in runs else np.empty(0)
    if len(values) and values.min() > 0 and values.max() / values.min() > _LOG_FROM:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    if len(floors) == 1 and (axis.get_yscale() == "linear" or floors[0] > 0):
        axis.axhline(floors[0], color="#666666", lw=1, ls=(0, (4, 3)), label="floor of the task")
    if axis.get_ylim()[1] > ceiling:
        axis.set_ylim(top=ceiling)


def _on_common_times(parts: list[pd.DataFrame], exploded: float) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate runs onto one grid `[time]`, `[run, time]`; NaN after a run has ended.

    A loss that is not finite becomes `exploded`.

    The grid ends where nine runs of ten still go on, so that the mean keeps its population.
    """
    ends = np.array([part["time_s"].max() for part in parts])
    grid = np.linspace(0.0, np.quantile(ends, 0.1, method="lower"), _POINTS)
    losses = np.stack([_interpolate(grid, part) for part in parts])
    ended = grid > ends[:, None]
    return grid, np.where(np.isfinite(losses) | ended, losses, exploded)


def _diverged(runs: pd.DataFrame, points: dict[Any, pd.DataFrame]) -> int:
    """Count the runs whose status says so or whose curve ends in no number."""
    told = runs["status"].astype(str).str.contains("diverged")
    ends = [points[run]["loss"].iloc[-1] if run in points else 0.0 for run in runs["run_id"]]
    return int(np.sum(told.to_numpy(bool) | ~np.isfinite(np.asarray(ends, np.float64))))


def _interpolate(grid: np.ndarray, part: pd.DataFrame) -> np.ndarray:
    times, losses = part["time_s"].to_numpy(np.float64), part["loss"].to_numpy(np.float64)
    losses = np.where(np.isfinite(losses), losses, np.nan)
    return np.interp(grid, times, losses, left=np.nan, right=np.nan)


def _draw_bars(axis: Axes, runs: pd.DataFrame) -> None:
    labels = _labels(runs)
    groups = list(runs.groupby("config_id", sort=False))
    means = [mean_interval(mine["throughput_ratio"]) for _, mine in groups]
    centers = np.array([mean.mean for mean in means])
    halves = np.nan_to_num([mean.high - mean.mean for mean in means])
    places = np.arange(len(groups))
    axis.barh(places, centers, xerr=halves, height=0.62, color=COLORS[0], alpha=0.85, capsize=2)
    axis.set_yticks(places, [labels[config] for config, _ in groups])
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    _tidy(axis, legend=False, grid="x")


def _tidy(axis: Axes, legend: bool = True, grid: Literal["both", "x"] = "both") -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, axis=grid, which="major", color="#e5e5e5", lw=0.6)
    axis.set_axisbelow(True)
    handles, labels = axis.get_legend_handles_labels()
    if legend and handles:
        size = 8 if len(labels) <= 8 else 6.5
        columns = 1 if len(labels) <= 8 else 2
        axis.legend(handles, labels, frameon=False, fontsize=size, ncols=columns)


def save(figure: Figure, path: str | os.PathLike[str], title: str = "") -> Path:
    """Write a figure as PNG under its title, making the folder."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, wrap=True)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(target, dpi=110, format="png")
    return target
