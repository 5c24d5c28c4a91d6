"""The report as one picture: the verdict, the losses or the throughput, the trade, the tornado."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxwan.analysis.humane import duration_unit
from jaxwan.analysis.plots import line_of, save
from jaxwan.analysis.report.breakdown import Point, numbers, or_dash, pareto_points
from jaxwan.analysis.report.figures import COLORS
from jaxwan.analysis.report.matter import Matter, learned, targets_matter, verdict
from jaxwan.analysis.tornado_plot import draw_tornado, drawable
from jaxwan.stats.intervals import mean_interval

_DASHES = ("-", "--", ":", "-.")
_MOST = 12


def report_picture(matter: Matter, path: str | os.PathLike[str]) -> Path:
    """Draw the first place's curves, trade and throughput, and the settings' effects, as a PNG."""
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    effects = drawable(matter.effects).head(8)
    axes = figure.subplots(2, 2)
    place = matter.places[0]
    points = pareto_points(matter).get(place, [])
    _draw_losses(axes[0, 0], matter, place)
    _draw_throughput(axes[0, 1], matter, place)
    _draw_trade(axes[1, 0], matter, points)
    if effects.empty:
        axes[1, 1].remove()
    else:
        draw_tornado(axes[1, 1], effects)
        axes[1, 1].set_title("what to spend on", loc="left", fontsize=10, fontweight="bold")
    head = textwrap.fill(matter.question, 130) if matter.question else f"Results of {matter.source}"
    lines = [textwrap.fill(line, 130) for line in verdict(matter).split("\n")]
    return save(figure, path, "\n".join([head, *lines, ""]))


def _titled(axis: Axes, title: str, place: str) -> None:
    axis.set_title(" · ".join(filter(None, [title, place])), loc="left", fontsize=10,
                   fontweight="bold")  # fmt: skip
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#e5e5e5", lw=0.6)
    axis.set_axisbelow(True)


def _color(matter: Matter, label: str) -> dict[str, Any]:
    at = matter.ranking.index(label)
    return {"color": COLORS[at % len(COLORS)], "ls": _DASHES[at // 2 % len(_DASHES)]}


def _draw_losses(axis: Axes, matter: Matter, place: str) -> None:
    if not learned(matter):
        axis.remove()
        return
    points = {run: part for run, part in matter.curves.groupby("run_id", sort=False)}
    runs = matter.frame[matter.frame["_place"] == place]
    lines = []
    for label in matter.top:
        line = line_of(label, runs[runs["_label"] == label], points)
        if line is not None:
            lines.append((label, line))
    length, unit = duration_unit(max((line.times[-1] for _, line in lines), default=1.0))
    for label, line in lines:
        look = _color(matter, label)
        axis.plot(line.times / length, line.center.mean, lw=1.7, label=line.label, **look)
        low, high = np.asarray(line.center.low), np.asarray(line.center.high)
        axis.fill_between(line.times / length, low, high, color=look["color"], alpha=0.22, lw=0)
    axis.set_xlabel(f"simulated time ({unit})")
    axis.set_ylabel("held-out loss")
    axis.set_xlim(left=0)
    _titled(axis, "loss against time", place)
    axis.legend(frameon=False, fontsize=7.5)


def _draw_throughput(axis: Axes, matter: Matter, place: str) -> None:
    runs = matter.frame[matter.frame["_place"] == place]
    labels = [label for label in matter.ranking if (runs["_label"] == label).any()][:_MOST]
    means = [mean_interval(runs.loc[runs["_label"] == name, "throughput_ratio"]) for name in labels]
    at = np.arange(len(labels))
    halves = np.nan_to_num([float(mean.high - mean.mean) for mean in means])
    axis.errorbar([float(mean.mean) for mean in means], at, xerr=halves, fmt="o", color=COLORS[0])
    names = [textwrap.shorten(name, 38, placeholder="…") for name in labels]
    axis.set_yticks(at, names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.set_xlabel("share of the free network's throughput")
    _titled(axis, "throughput", place)


def _draw_trade(axis: Axes, matter: Matter, points: list[Point]) -> None:
    if not points:
        axis.remove()
        return
    length, unit = duration_unit(max(point.time_s for point in points))
    orders = numbers(points)
    for at, (order, point) in enumerate(zip(orders, points, strict=True)):
        color = _color(matter, point.label)["color"]
        if not point.best:
            axis.scatter(point.time_s / length, point.cost_usd, s=28, color=color, alpha=0.6)
            continue
        name = textwrap.shorten(point.label, 44, placeholder="…")
        axis.scatter(point.time_s / length, point.cost_usd, s=70, color=color,
                     edgecolors="#222222", label=f"{order}  {name} ({or_dash(point.loss)})")
        if order in orders[:at]:  # lies on one that is named
            continue
        axis.annotate(str(order), (point.time_s / length, point.cost_usd),
                      xytext=(6, 3 if order % 2 else -9), textcoords="offset points",
                      fontsize=8.5)  # fmt: skip
    axis.legend(frameon=False, fontsize=7.5)
    axis.set_xlabel(f"{'time to target' if targets_matter(matter) else 'time'} ({unit}, median)")
    axis.set_ylabel("cost (USD, mean)")
    axis.margins(x=0.1, y=0.15)
    _titled(axis, "time and cost (final loss)", matter.places[0])
