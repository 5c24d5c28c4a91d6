"""A picture over a long axis: what a swept number does to each configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from jaxwan.analysis.axis import Axis
from jaxwan.analysis.humane import duration_unit, rate
from jaxwan.analysis.plots import COLORS, DASHES, save
from jaxwan.analysis.tables import setting_names
from jaxwan.columns import identity_columns, varying
from jaxwan.stats.intervals import Interval, mean_interval, quantile_interval

_WIDE = 30.0  # ratio of ends from which on an axis is logarithmic


_MARKS = {
    1e-3: "1 ms", 1e-2: "10 ms", 0.1: "0.1 s", 1.0: "1 s", 10.0: "10 s", 60.0: "1 min",
    600.0: "10 min", 3600.0: "1 h", 36e3: "10 h", 864e2: "1 d", 864e3: "10 d", 864e4: "100 d",
    864e5: "1000 d",
}  # fmt: skip


class _Panel(NamedTuple):
    metric: str
    title: str


class _Curve(NamedTuple):
    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


_LEARNED = (_Panel("time_to_target_s", "median time to the target loss"),
            _Panel("loss_final", "median final loss"))  # fmt: skip
_TIMED = (_Panel("throughput_ratio", "mean share of the free network's throughput"),
          _Panel("time_s", "mean simulated time"))  # fmt: skip


def response_curves(
    frame: pd.DataFrame, over: Axis, path: str | os.PathLike[str], title: str = ""
) -> Path:
    """Draw two metrics against a swept number, one line with its 95 % interval per other setting.

    Runs that never reach the target count as infinite: their line ends where half do not.
    """
    learned = frame["loss_final"].notna().any() and frame["reached"].any()
    panels = _LEARNED if learned else _TIMED
    figure = Figure(figsize=(10.4, 4.1), layout="constrained")
    axes = figure.subplots(1, len(panels))
    names = [name for name in varying(frame, identity_columns(frame)) if name != over.name]
    parts = list(frame.groupby(names, sort=False, dropna=False)) if names else [((), frame)]
    labels = [setting_names(runs.iloc[0].to_dict(), names) or "all" for _, runs in parts]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, over, [_curve(panel, over, runs) for _, runs in parts], labels)
    axes[0].legend(frameon=False, fontsize=8)
    return save(figure, path, title)


def _center(panel: _Panel, runs: pd.DataFrame) -> Interval:
    values = runs[panel.metric].to_numpy(np.float64)
    if panel.title.startswith("mean"):
        return mean_interval(values)
    return quantile_interval(np.where(np.isnan(values), np.inf, values), 0.5)


def _curve(panel: _Panel, over: Axis, runs: pd.DataFrame) -> _Curve:
    groups = list(runs.groupby(over.name, sort=True))
    centers = [_center(panel, mine) for _, mine in groups]
    sides = (
        np.array([np.nan if np.isinf(each := float(getattr(c, side))) else each for c in centers])
        for side in ("mean", "low", "high")
    )
    return _Curve(np.array([value for value, _ in groups], np.float64), *sides)


def _draw(
    axis: Axes, panel: _Panel, over: Axis, curves: list[_Curve], labels: list[str]
) -> None:
    known = np.concatenate([curve.middle[np.isfinite(curve.middle)] for curve in curves])
    far = bool(len(known)) and known.min() > 0 and known.max() > _WIDE * known.min()
    length, unit = 1.0, ""
    if panel.metric.endswith("_s") and len(known):
        if far:
            unit = "log scale"
        else:
            length, unit = duration_unit(float(known.mean()))
    for place, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        color = COLORS[place % len(COLORS)]
        dashes = DASHES[place // len(COLORS) % len(DASHES)]
        axis.plot(curve.x, curve.middle / length, color=color, ls=dashes, lw=1.7, label=label)
        axis.fill_between(
            curve.x, curve.low / length, curve.high / length, color=color, alpha=0.25, lw=0
        )
    if far:
        axis.set_yscale("log")
        if panel.metric.endswith("_s"):
            axis.yaxis.set_major_locator(FixedLocator(list(_MARKS)))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(lambda value, _: _MARKS.get(value, ""))
    axis.set_title(panel.title + (f" ({unit})" if unit else ""), loc="left", fontsize=10)
    _finish(axis, over)


def _finish(axis: Axes, over: Axis) -> None:
    if over.values[0] > 0 and over.values[-1] > _WIDE * over.values[0]:
        axis.set_xscale("log")
    axis.set_xlabel(over.name)
    if over.name.endswith("_bps"):
        axis.xaxis.set_major_formatter(lambda value, _: rate(value))
        axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, which="major", color="#e5e5e5", lw=0.6)
    axis.set_axisbelow(True)
