"""Figures of what is given up: time, cost and loss traded, failures, staleness, and sensitivity."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.axis import Axis
from jaxwan.analysis.humane import duration_unit
from jaxwan.analysis.outcomes import TO_TARGET, values_of
from jaxwan.analysis.report.figures import (
    COLORS,
    ROWS,
    Figure,
    axes,
    faded,
    log_ticks,
    rounded,
    row_height,
    row_layout,
    row_names,
    style,
)
from jaxwan.analysis.report.matter import OWN, Matter, targets_matter
from jaxwan.analysis.tornado_plot import HIGH, LOW, drawable
from jaxwan.analysis.wording import (
    config_labels,
    diverged,
    metric_title,
    setting_text,
    setting_title,
)
from jaxwan.columns import identity_columns
from jaxwan.stats.intervals import mean_interval, quantile_interval

FAILURES = {
    "failures_crash": "crashes", "failures_transient": "outages", "failures_slowdown": "slowdowns",
    "failures_partition": "partitions", "failures_churn": "departures",
    "failures_regional": "regional outages", "failures_replay": "replayed outages",
    "failures_byzantine": "attackers",
}  # fmt: skip


class Point(NamedTuple):
    """A configuration's place in the trade of time, cost and loss; smaller is better."""

    label: str
    time_s: float
    cost_usd: float
    loss: float  # NaN where nothing was learned
    best: bool  # no other is at least as good in all three


def pareto_points(matter: Matter) -> dict[str, list[Point]]:
    """Return, per place, the configurations whose time and cost are known.

    One of which most runs diverged is none to choose, however cheap.
    """
    timed = TO_TARGET if targets_matter(matter) else "time_s"
    found = {}
    for place, here in matter.frame.groupby("_place", sort=False):
        rows = []
        for label, runs in here.groupby("_label", sort=False):
            if diverged(runs).mean() >= 0.5:
                continue
            values = values_of(runs, timed)
            time = float(np.median(np.where(np.isfinite(values), values, np.inf)))
            loss = values_of(runs, "loss_final") if "loss_final" in runs else np.full(1, np.nan)
            mean = float(np.mean(loss)) if np.isfinite(loss).all() else math.nan
            cost = float(runs["cost_usd"].mean()) if "cost_usd" in runs else math.nan
            if math.isfinite(time) and math.isfinite(cost):
                rows.append((str(label), time, cost, mean))
        if rows:
            found[str(place)] = [Point(*row, best=not _beaten(row, rows)) for row in rows]
    return found


def _beaten(row: tuple[Any, ...], rows: list[tuple[Any, ...]]) -> bool:
    own = np.nan_to_num(np.array(row[1:], np.float64), nan=np.inf)
    for other in rows:
        theirs = np.nan_to_num(np.array(other[1:], np.float64), nan=np.inf)
        if (theirs <= own).all() and (theirs < own).any():
            return True
    return False


def pareto(matter: Matter) -> list[Figure]:
    """Draw time against cost, coloured by loss; rings mark what nothing else beats."""
    timed = "time to the target" if targets_matter(matter) else "simulated time"
    found = []
    for place, points in pareto_points(matter).items():
        length, unit = duration_unit(max(point.time_s for point in points))
        wide = [_spans([getattr(p, name) for p in points]) for name in ("time_s", "cost_usd")]
        layout = axes(f"{timed} ({unit}, median)", "cost (USD, mean)", x_log=wide[0],
                      y_log=wide[1])  # fmt: skip
        for axis, sizes in (("xaxis", [p.time_s / length for p in points]),
                            ("yaxis", [p.cost_usd for p in points])):  # fmt: skip
            layout[axis] |= log_ticks(sizes) if layout[axis]["type"] == "log" else {}
            layout[axis] |= _around(sizes) if min(sizes) == max(sizes) else {}
        layout["margin"] |= {"r": 24, "t": 16}
        layout["showlegend"] = False
        marker = _marker(points)
        trace = {
            "type": "scatter", "mode": "markers+text", "marker": marker,
            "x": rounded([point.time_s / length for point in points]),
            "y": rounded([point.cost_usd for point in points]),
            "text": _texts(points),
            "textposition": "top center", "cliponaxis": False,
            "customdata": [[point.label, or_dash(point.loss)] for point in points],
            "hovertemplate": "%{customdata[0]}<br>%{x:.3g} " + unit
            + ", %{y:.3g} USD, loss %{customdata[1]}<extra></extra>",
        }  # fmt: skip
        found.append(Figure(place, [trace], layout, 380))
    return found


def _marker(points: list[Point]) -> dict[str, Any]:
    losses = [point.loss for point in points]
    marker: dict[str, Any] = {
        "size": [15 if point.best else 10 for point in points],
        "opacity": [1.0 if point.best else 0.8 for point in points],
        "line": {"width": [2.5 if point.best else 0.8 for point in points], "color": "THEME_TEXT"},
        "color": COLORS[0],
    }  # fmt: skip
    if len({f"{loss:.3g}" for loss in losses if math.isfinite(loss)}) > 1:
        marker |= {
            "color": rounded(losses), "colorscale": "Viridis", "reversescale": True,
            "colorbar": {"title": {"text": "final<br>loss"}, "thickness": 10, "outlinewidth": 0},
        }  # fmt: skip
    return marker


def numbers(points: list[Point]) -> list[int]:
    """Number what nothing else beats; equal ones share their number, and the rest have 0."""
    keys = [tuple(f"{value:.4g}" for value in point[1:4]) for point in points]
    order = list(dict.fromkeys(key for key, p in zip(keys, points, strict=True) if p.best))
    return [order.index(key) + 1 if point.best else 0
            for key, point in zip(keys, points, strict=True)]  # fmt: skip


def _texts(points: list[Point]) -> list[str]:
    """Write every number once, or the texts of equal points lie on one another."""
    own = numbers(points)
    return [str(one) if one and one not in own[:place] else "" for place, one in enumerate(own)]


def _around(sizes: list[float]) -> dict[str, Any]:
    """Return an axis from 0 for a single value: left alone, plotly goes one below and above."""
    return {"range": [0, 2 * sizes[0] or 1.0]}


def or_dash(value: float) -> str:
    """Write a loss, or a dash where there is none."""
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _spans(values: list[float]) -> bool:
    return min(values) > 0 and max(values) > 8 * min(values)


def contributions(matter: Matter) -> Figure | None:
    """Draw what became of the contributions: accepted, rejected, destroyed, unfinished."""
    sums = matter.frame.groupby("config_id")[["submitted", "accepted", "rejected", "lost"]].sum()
    rows = _where(matter, (sums["rejected"] > 0) | (sums["lost"] > 0))
    if rows.empty:
        return None
    sums = sums.loc[rows["config_id"]]
    known = sums[["accepted", "rejected", "lost"]].sum(axis=1).to_numpy(np.float64)
    total = np.maximum(np.maximum(known, sums["submitted"].to_numpy(np.float64)), 1.0)
    parts = {
        "accepted": (sums["accepted"], COLORS[0]),
        "rejected as too late or too stale": (sums["rejected"], COLORS[1]),
        "destroyed by failures": (sums["lost"], COLORS[3]),
    }
    rest = np.maximum(total - known, 0)
    shares = [(name, part.to_numpy() / total, color) for name, (part, color) in parts.items()]
    shares.append(("under way at the end", rest / total, COLORS[7]))
    shares = [part for part in shares if part[1].any()]
    return _stacked(row_names(matter, rows), shares, "share of contributions", "%{x:.1%}", ".0%")


def failures(matter: Matter) -> Figure | None:
    """Draw failures of each kind per run, a bar a place."""
    kinds = [name for name in FAILURES if name in matter.frame and matter.frame[name].any()]
    if not kinds:
        return None
    means = matter.frame.groupby("config_id")[kinds].mean()
    rows = _where(matter, means.sum(axis=1) > 0)
    means = means.loc[rows["config_id"]]
    parts = [
        (FAILURES[name], means[name].to_numpy(np.float64), COLORS[place % len(COLORS)])
        for place, name in enumerate(kinds)
    ]
    return _stacked(row_names(matter, rows), parts, "events in a run (mean)", "%{x:.3g}", "")


def _where(matter: Matter, something: pd.Series) -> pd.DataFrame:
    """Return the summary's rows where there is something to draw, the best of every place."""
    rows = matter.summary[matter.summary["config_id"].map(something)]
    return matter._replace(summary=rows).shown(ROWS)


def _stacked(
    names: list[str], parts: list[tuple[str, np.ndarray, str]], title: str, hover: str, ticks: str
) -> Figure:
    data = [
        {"type": "bar", "orientation": "h", "name": name, "x": rounded(values),
         "y": list(range(len(names))), "marker": {"color": color}, "width": 0.66,
         "hovertemplate": f"{name}: {hover}<extra></extra>"}
        for name, values, color in parts
    ]  # fmt: skip
    layout = row_layout(title, names, barmode="stack")
    layout["xaxis"] |= {"tickformat": ticks, "rangemode": "tozero"}
    layout["legend"] = {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom",
                        "traceorder": "normal"}  # fmt: skip
    layout["showlegend"] = True  # of a single part too: it is named nowhere else
    return Figure("", data, layout, row_height(len(names)) + 20, wide=True)


def staleness(matter: Matter) -> Figure | None:
    """Draw the mean staleness as a dot and the largest as the end of a line."""
    if "staleness_max" not in matter.frame or not (matter.frame["staleness_max"] > 0).any():
        return None
    means = matter.frame.groupby("config_id")[["staleness_mean", "staleness_max"]].mean()
    rows = _where(matter, means["staleness_max"] > 0)
    means = means.loc[rows["config_id"]]
    names, most = row_names(matter, rows), means["staleness_max"].to_numpy(np.float64)
    middle = means["staleness_mean"].to_numpy(np.float64)
    at = list(range(len(names)))
    line = {
        "type": "scatter", "mode": "markers", "name": "largest", "x": rounded(most), "y": at,
        "marker": {"symbol": "line-ns-open", "size": 12, "color": COLORS[1], "line": {"width": 2}},
        "error_x": {"type": "data", "symmetric": False, "array": [0] * len(at),
                    "arrayminus": rounded(most - middle), "thickness": 1.5, "width": 0,
                    "color": faded(COLORS[1], 0.6)},
        "hovertemplate": "largest %{x:.3g}<extra></extra>",
    }  # fmt: skip
    dots = {
        "type": "scatter", "mode": "markers", "name": "mean", "x": rounded(middle), "y": at,
        "marker": {"size": 10, "color": COLORS[0]},
        "hovertemplate": "mean %{x:.3g}<extra></extra>",
    }  # fmt: skip
    layout = row_layout("versions between fetch and merge", names)
    layout["xaxis"] |= {"rangemode": "tozero"}
    layout["legend"] = {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"}
    return Figure("", [line, dots], layout, row_height(len(names)) + 10, wide=True)


def tornado(matter: Matter) -> Figure | None:
    """Draw what each setting does, from its low end to its high one, the largest on top."""
    shown = drawable(matter.effects)
    if shown.empty:
        return None
    ratio = bool(shown["is_ratio"].iloc[0])
    rows = shown.to_dict("records")
    data = []
    for end, color in (("low", LOW), ("high", HIGH)):
        sides = np.array([[row[f"at_{end}{s}"] for s in ("", "_lo", "_hi")] for row in rows])
        sides = np.log2(sides) if ratio else sides
        data.append({
            "type": "bar", "orientation": "h", "name": f"{end} end", "x": rounded(sides[:, 0]),
            "y": list(range(len(rows))), "marker": {"color": color}, "width": 0.6,
            "error_x": {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
                        "array": rounded(np.nan_to_num(sides[:, 2] - sides[:, 0])),
                        "arrayminus": rounded(np.nan_to_num(sides[:, 0] - sides[:, 1])),
                        "color": "THEME_TEXT"},
            "customdata": [[str(row[end]), _times(row, end, ratio)] for row in rows],
            "hovertemplate": "%{customdata[0]}: %{customdata[1]}<extra></extra>",
        })  # fmt: skip
    names = [f"{setting_title(str(r['setting']))}: {r['low']} → {r['high']}" for r in rows]
    layout = row_layout(f"{metric_title(matter.metric)}, against the mean of the setting's levels",
                        names, barmode="overlay")  # fmt: skip
    layout["xaxis"] |= {"zeroline": True}
    if ratio:
        largest = max(1.0, float(shown[["at_low", "at_high"]].map(math.log2).abs().max().max()))
        step = max(1, math.ceil(largest / 4))
        ticks = list(range(-step * math.ceil(largest / step), step * math.ceil(largest / step) + 1,
                           step))  # fmt: skip
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": [_power(tick) for tick in ticks]}
    layout["legend"] = {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"}
    return Figure("", data, layout, 130 + 44 * len(rows))


def _times(row: dict[Any, Any], end: str, ratio: bool) -> str:
    value = row[f"at_{end}"]
    return f"×{value:.3g}" if ratio else f"{value:+.3g}"


def _power(exponent: int) -> str:
    return f"×{2**exponent}" if exponent >= 0 else f"÷{2**-exponent}"


def responses(matter: Matter) -> list[Figure]:
    """Draw the metric against a number swept over many values; none where there is no such."""
    axis = matter.axis
    if axis is None or axis.name not in matter.frame:
        return []

    names = [name for name in identity_columns(matter.frame) if name not in (axis.name, *OWN)]
    labels = config_labels(matter.frame, names)
    data = []
    for place, (label, runs) in enumerate(matter.frame.groupby(labels, sort=False)):
        if place < len(COLORS):
            data += _response(matter, axis, str(label) or "all", runs, place)
    wide = bool(axis.values[0] > 0 and axis.values[-1] > 8 * axis.values[0])
    unit = " (s)" if matter.metric.endswith("_s") else ""
    known = [value for trace in data for value in trace["y"] if value is not None]
    tall = bool(known) and _spans(known)
    layout = axes(axis.name, f"{metric_title(matter.metric)}{unit}", x_log=wide, y_log=tall)
    layout["yaxis"] |= log_ticks(known) if tall else {}
    if wide:
        ends = np.log10([axis.values[0], axis.values[-1]])
        ticks = [10.0**power for power in range(math.ceil(ends[0]), math.floor(ends[1]) + 1)]
        ticks = ticks if len(ticks) > 1 else log_ticks(axis.values)["tickvals"]
        texts = [setting_text(axis.name, tick) for tick in ticks]
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": texts,
                            "range": ends.tolist()}
    layout["legend"] = {"orientation": "h", "y": 1.02, "x": 0, "yanchor": "bottom"}
    return [Figure("", data, layout, 430)]


def _response(
    matter: Matter, axis: Axis, label: str, runs: pd.DataFrame, place: int
) -> list[dict[str, Any]]:
    groups = list(runs.groupby(axis.name, sort=True))
    values = [values_of(mine, matter.metric) for _, mine in groups]
    if matter.metric == TO_TARGET:
        infinite = [np.where(np.isfinite(each), each, np.inf) for each in values]
        centers = [quantile_interval(each, 0.5, matter.confidence) for each in infinite]
    else:
        centers = [mean_interval(each, matter.confidence) for each in values]
    x = np.array([value for value, _ in groups], np.float64)
    middle, low, high = (
        np.array([float(getattr(center, side)) for center in centers])
        for side in ("mean", "low", "high")
    )
    known = np.isfinite(low) & np.isfinite(high)
    color = COLORS[place]
    return [
        {"type": "scatter", "mode": "lines", "line": {"width": 0}, "fill": "toself",
         "fillcolor": faded(color, 0.22), "hoverinfo": "skip", "showlegend": False,
         "legendgroup": label, "x": rounded([*x[known], *x[known][::-1]]),
         "y": rounded([*low[known], *high[known][::-1]])},
        {"type": "scatter", "mode": "lines", "line": {"color": color, "width": 2}, "name": label,
         "legendgroup": label, "x": rounded(x), "y": rounded(middle),
         "hovertemplate": "%{y:.3g} at %{x:.3g}<extra>%{fullData.name}</extra>"},
    ]  # fmt: skip


__all__ = ["contributions", "failures", "numbers", "or_dash", "pareto", "pareto_points",
           "responses", "staleness", "style", "tornado"]  # fmt: skip
