"""The figures of a report as plotly's plain values; the page adds the theme's colours."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import duration_unit, number
from jaxwan.analysis.plots import Line, line_of
from jaxwan.analysis.report.matter import Matter
from jaxwan.stats.intervals import Interval, mean_interval

COLORS = (
    "#3b8bc4", "#e07b39", "#2fa37c", "#c779b0", "#d0a215", "#5bb8e8", "#9a6fc0", "#8a8f98",
)  # fmt: skip
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
GLYPHS = "●■◆▲✚✖★▼"  # the symbols as text
ROWS = 24  # configurations a bar chart has room for
_LOG_FROM = 8.0
_CEILING = 3.0  # times the initial loss; above it a run explodes, how far does not matter
_ROW = 26  # pixels


class Figure(NamedTuple):
    """One drawing: its title stands in the page, not in the drawing."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    wide: bool = False  # takes the page's width


def rounded(values: Any) -> list[float | None]:
    """Keep five digits of each value, which is more than a screen shows; None where not finite."""
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def style(matter: Matter, label: str) -> tuple[str, str, str]:
    """Return the colour, dash and symbol of a configuration, the same in every figure."""
    place = matter.ranking.index(label)
    return (COLORS[place % len(COLORS)], DASHES[place // 2 % len(DASHES)],
            SYMBOLS[place % len(SYMBOLS)])  # fmt: skip


def line_swatch(matter: Matter, label: str) -> str:
    """Draw the line of a configuration for a legend in the page."""
    color, dash, _ = style(matter, label)
    gaps = {"solid": "none", "dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4"}[dash]
    return (
        f"<svg width=34 height=10 aria-hidden=true><line x1=1 y1=5 x2=33 y2=5 stroke={color} "
        f'stroke-width=3 stroke-dasharray="{gaps}"></line></svg>'
    )


def dot_swatch(matter: Matter, label: str) -> str:
    """Draw the dot of a configuration for a legend in the page."""
    color, _, symbol = style(matter, label)
    return f'<span style="color:{color}" aria-hidden=true>{GLYPHS[SYMBOLS.index(symbol)]}</span>'


def losses(matter: Matter) -> list[Figure]:
    """Draw loss against time, one figure a place: means with 95 % bands over seeds."""
    curves = matter.curves[np.isfinite(matter.curves["time_s"].to_numpy(np.float64))]
    points = {run: part for run, part in curves.groupby("run_id", sort=False)}
    found = []
    for place, runs in matter.frame.groupby("_place", sort=False):
        lines = []
        for label in matter.top:
            mine = runs[runs["_label"] == label]
            line = line_of(label, mine, points) if len(mine) else None
            if line is not None:
                lines.append((label, line))
        if lines:
            found.append(_loss_figure(matter, str(place), runs, lines))
    return found


def _loss_figure(
    matter: Matter, place: str, runs: pd.DataFrame, lines: list[tuple[str, Line]]
) -> Figure:
    length, unit = duration_unit(max(line.times[-1] for _, line in lines))
    ceiling = _CEILING * max((float(line.losses[:, 0].mean()) for _, line in lines), default=1.0)
    data = []
    for label, line in lines:
        data += _banded(matter, label, line, length, ceiling)
    centers = np.concatenate([np.asarray(line.center.mean, np.float64) for _, line in lines])
    centers = np.minimum(centers[np.isfinite(centers)], ceiling)
    log = bool(len(centers) and centers.min() > 0 and centers.max() > _LOG_FROM * centers.min())
    layout = axes(f"simulated time ({unit})", "held-out loss", y_log=log)
    floors = runs["loss_floor"].dropna().unique() if "loss_floor" in runs else np.empty(0)
    if len(floors) == 1 and (floors[0] > 0 or not log):
        layout["shapes"] = [{
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": float(floors[0]),
            "y1": float(floors[0]), "line": {"width": 1, "dash": "dash", "color": "#888888"},
        }]  # fmt: skip
        layout["annotations"] = [{
            "xref": "paper", "x": 1, "y": math.log10(floors[0]) if log else float(floors[0]),
            "xanchor": "right", "yanchor": "bottom", "showarrow": False, "font": {"size": 11},
            "text": "floor of the task",
        }]  # fmt: skip
    layout["yaxis"] |= log_ticks(centers) if log else {}
    layout["showlegend"] = False  # the section has one for all
    return Figure(place, data, layout, 340)


def _banded(
    matter: Matter, label: str, line: Line, length: float, ceiling: float
) -> list[dict[str, Any]]:
    color, dash, _ = style(matter, label)
    keep = slice(None, None, 2)
    x = line.times[keep] / length
    middle, low, high = (
        np.minimum(np.asarray(side, np.float64)[keep], ceiling)
        for side in (line.center.mean, line.center.low, line.center.high)
    )
    known = np.isfinite(low) & np.isfinite(high)
    band = {
        "type": "scatter", "mode": "lines", "line": {"width": 0}, "fill": "toself",
        "fillcolor": faded(color, 0.22), "hoverinfo": "skip", "showlegend": False,
        "legendgroup": label, "x": rounded([*x[known], *x[known][::-1]]),
        "y": rounded([*low[known], *high[known][::-1]]),
    }  # fmt: skip
    trace = {
        "type": "scatter", "mode": "lines", "line": {"color": color, "width": 2, "dash": dash},
        "name": line.label, "legendgroup": label, "x": rounded(x), "y": rounded(middle),
        "hovertemplate": "%{y:.3g} at %{x:.3g}<extra>%{fullData.name}</extra>",
    }  # fmt: skip
    return [band, trace] if known.any() else [trace]


def faded(color: str, alpha: float) -> str:
    """Return a hexadecimal colour with transparency."""
    red, green, blue = (int(color[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def axes(x: str, y: str = "", *, x_log: bool = False, y_log: bool = False) -> dict[str, Any]:
    """Return a layout with two named axes."""
    return {
        "xaxis": {"title": {"text": x}, "type": "log" if x_log else "linear", "automargin": True},
        "yaxis": {"title": {"text": y}, "type": "log" if y_log else "linear", "automargin": True},
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48}, "hovermode": "closest",
    }  # fmt: skip


def log_ticks(values: Any) -> dict[str, Any]:
    """Return ticks at 1, 2 and 5 of every decade, or at 1 alone where those are many."""
    known = [float(value) for value in values if value > 0 and math.isfinite(value)]
    if not known:
        return {}
    first, last = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    steps = (1, 2, 5) if last - first < 4 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return {"tickvals": ticks, "ticktext": [number(tick) if not 0.001 <= tick < 1e6 else
                                            f"{tick:g}" for tick in ticks]}  # fmt: skip


def row_layout(x: str, names: list[str], **more: Any) -> dict[str, Any]:
    """Return a layout with one row a name, the first on top; the page wraps long names."""
    layout = axes(x) | more
    layout["yaxis"] = {
        "tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names,
        "range": [len(names) - 0.5, -0.5], "automargin": True, "zeroline": False,
        "showgrid": False, "ticks": "",
    }  # fmt: skip
    return layout


def row_height(rows: int) -> int:
    """Return the pixels a figure of so many rows needs."""
    return 120 + _ROW * rows


def row_names(matter: Matter, rows: pd.DataFrame) -> list[str]:
    """Name rows by place and configuration, leaving out what all share."""
    several = len(matter.ranking) > 1
    return [
        ": ".join(filter(None, [place, label if several or not place else ""]))
        for place, label in zip(rows["_place"], rows["_label"], strict=True)
    ]


def throughput(matter: Matter) -> Figure | None:
    """Draw the throughput ratio: a row a place, a dot and interval a configuration."""
    frame = matter.frame
    if "throughput_ratio" not in frame or not frame["throughput_ratio"].notna().any():
        return None
    crossed = len(matter.places) > 1
    names = matter.places if crossed else matter.ranking[:ROWS]
    labels = matter.top if crossed else matter.ranking[:ROWS]
    data = []
    for index, label in enumerate(labels):
        mine = frame[frame["_label"] == label]
        groups = [(place, runs) for place, runs in mine.groupby("_place", sort=False)]
        at = [names.index(str(place)) if crossed else index for place, _ in groups]
        nudge = (index - (len(labels) - 1) / 2) * 0.7 / len(labels) if crossed else 0.0
        means = [mean_interval(runs["throughput_ratio"]) for _, runs in groups]
        data.append(_dots(matter, label, [row + nudge for row in at], means, crossed))
    tall = max(_ROW, 9 * len(labels)) if crossed else _ROW
    layout = row_layout("throughput against a free network without failures", names)
    layout["xaxis"] |= {"rangemode": "tozero", "tickformat": ".0%"}
    layout["showlegend"] = False  # the section has one
    layout["margin"] |= {"t": 10}
    return Figure("", data, layout, 110 + tall * len(names))


def _dots(
    matter: Matter, label: str, rows: list[float], means: list[Interval], named: bool
) -> dict[str, Any]:
    color, _, symbol = style(matter, label) if named else (COLORS[0], "", "circle")
    return {
        "type": "scatter", "mode": "markers", "name": label, "y": rows,
        "x": rounded([float(mean.mean) for mean in means]),
        "marker": {"color": color, "symbol": symbol, "size": 9},
        "error_x": {
            "type": "data", "array": rounded([float(m.high - m.mean) for m in means]),
            "color": color, "thickness": 1.5, "width": 0,
        },
        "hovertemplate": "%{x:.1%}<extra>%{fullData.name}</extra>",
    }  # fmt: skip
