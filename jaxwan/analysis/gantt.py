"""A Gantt chart of one run: a bar per worker, a colour per thing it does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from jaxwan.analysis.humane import duration, duration_unit, percent
from jaxwan.analysis.plots import save
from jaxwan.analysis.spans import KINDS, UPDATE, WASTED, noted, of_workers

FILL = {
    "download": "#56b4e9", "compute": "#0072b2", "upload": "#e69f00", "exchange": "#e69f00",
    "wait": "#e4e4e4", "outage": "#333333", "partition": "#cc79a7",
}  # fmt: skip
PALE = {"download": "#c4e3f6", "compute": "#9fc6e0", "upload": "#f6d999", "exchange": "#f6d999"}
MARKS = {"lost": "X", "rejected": "v", "cancelled": "s"}
SLOWED = "slowed"
_HALF = 0.38  # of a bar's height
_CYCLES = 14  # in the window, if nobody says otherwise
_MOST_LINES = 80  # updates in a window that still get a line each


class Window(NamedTuple):
    """The stretch of time that is drawn, seconds."""

    start_s: float
    end_s: float


def usual_window(frame: pd.DataFrame) -> Window:
    """Choose a stretch of about fourteen cycles, from the start unless only later things go wrong.

    Where something goes wrong in the run and nothing within the first stretch, the stretch begins
    two cycles before the first trouble.
    """
    spans = of_workers(frame)
    end_s = float(spans["end_s"].max())
    begins = spans[spans["cycle"].notna()].groupby(["worker", "cycle"], sort=False)["start_s"].min()
    lasts = begins.groupby(level="worker", sort=False).diff().dropna()
    cycle_s = float(lasts.median()) if len(lasts) else end_s
    length = min(max(_CYCLES * cycle_s, 1e-6), end_s)
    wrong = spans["kind"].isin(("outage", "partition"))
    for fate in WASTED:
        wrong |= noted(spans["note"], fate)
    first = float(spans.loc[wrong, "start_s"].min()) if wrong.any() else 0.0
    start = 0.0 if first < 0.8 * length else first - 2 * cycle_s
    start = max(min(start, end_s - length), 0.0)
    return Window(start, start + length)


def gantt(
    frame: pd.DataFrame,
    path: str | os.PathLike[str],
    window: Window | None = None,
    title: str = "",
) -> Path:
    """Draw a window of a frame of spans as a PNG; the usual window unless one is given.

    Raises:
        ValueError: for a frame without spans, or a window that is empty or past the end.
    """
    spans = of_workers(frame)
    shown, whole_s = window or usual_window(frame), float(spans["end_s"].max())
    if not 0 <= shown.start_s < min(shown.end_s, whole_s):
        raise ValueError(
            f"no time between {shown.start_s:g} s and {shown.end_s:g} s of a run of {whole_s:g} s"
        )
    shown = Window(shown.start_s, min(shown.end_s, whole_s))
    workers = list(spans["worker"].unique())
    figure = Figure(figsize=(11.0, min(1.7 + 0.3 * len(workers), 24.0)), layout="constrained")
    axis = figure.add_subplot()
    legend = _draw(axis, frame, workers, shown)
    _finish(axis, frame, workers, shown, whole_s)
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False,
                  fontsize=8, handlelength=1.4, columnspacing=1.3)  # fmt: skip
    return save(figure, path, title)


def _within(spans: pd.DataFrame, shown: Window) -> pd.DataFrame:
    return spans[(spans["end_s"] > shown.start_s) & (spans["start_s"] < shown.end_s)]


def _bars(
    axis: Axes, spans: pd.DataFrame, rows: dict[str, int], shown: Window, **look: str
) -> None:
    """Draw spans as one collection of rectangles."""
    left = np.maximum(spans["start_s"].to_numpy(np.float64), shown.start_s)
    right = np.minimum(spans["end_s"].to_numpy(np.float64), shown.end_s)
    low = spans["worker"].map(rows).to_numpy(np.float64) - _HALF
    high = low + 2 * _HALF
    corners = [(left, low), (right, low), (right, high), (left, high)]
    boxes = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    axis.add_collection(PolyCollection(list(boxes), linewidths=0.0, **look))  # type: ignore[arg-type]


def _draw(axis: Axes, frame: pd.DataFrame, workers: list[str], shown: Window) -> list[Artist]:
    """Draw all spans in the window; return what the legend has to explain."""
    rows = {worker: place for place, worker in enumerate(workers)}
    spans = _within(of_workers(frame), shown)
    wasted = pd.Series(False, spans.index)
    for fate in WASTED:
        wasted |= noted(spans["note"], fate)
    legend: list[Artist] = []
    for kind in KINDS:
        mine = spans["kind"] == kind
        if mine.any():
            _bars(axis, spans[mine & ~wasted], rows, shown, facecolors=FILL[kind])
            _bars(axis, spans[mine & wasted], rows, shown, facecolors=PALE.get(kind, FILL[kind]))
            legend.append(Patch(facecolor=FILL[kind], label=kind))
    slow = spans[noted(spans["note"], SLOWED) & (spans["kind"] == "compute")]
    if len(slow):
        _bars(axis, slow, rows, shown, facecolors="none", edgecolors="white", hatch="////")
        legend.append(Patch(facecolor=FILL["compute"], edgecolor="white", hatch="////", lw=0,
                            label="slowed"))  # fmt: skip
    if wasted.any():
        legend.append(Patch(facecolor=PALE["compute"], label="thrown away"))
    return legend + _marks(axis, spans, rows, shown) + _updates(axis, frame, shown)


def _marks(
    axis: Axes, spans: pd.DataFrame, rows: dict[str, int], shown: Window
) -> list[Artist]:
    """Mark where the work of a cycle was thrown away."""
    legend: list[Artist] = []
    for fate, shape in MARKS.items():
        own = spans[noted(spans["note"], fate)]
        if own.empty:
            continue
        ends = own.groupby(["worker", "cycle"], sort=False)["end_s"].max().reset_index()
        ends = ends[ends["end_s"] <= shown.end_s]
        axis.scatter(ends["end_s"], ends["worker"].map(rows), marker=shape, s=34, c="white",
                     edgecolors="#222222", linewidths=0.9, zorder=4)  # fmt: skip
        legend.append(Line2D([], [], ls="", marker=shape, ms=6, mfc="white", mec="#222222",
                             label=fate))  # fmt: skip
    return legend


def _updates(axis: Axes, frame: pd.DataFrame, shown: Window) -> list[Artist]:
    """Draw the server's updates as ticks above the bars, and as lines where there are few."""
    at = frame.loc[frame["kind"] == UPDATE, "start_s"].to_numpy(np.float64)
    at = at[(at >= shown.start_s) & (at <= shown.end_s)]
    if not len(at):
        return []
    axis.plot(at, np.full(len(at), -1.0), ls="", marker="v", ms=4.5, color="#009e73",
              clip_on=False, zorder=5)  # fmt: skip
    if len(at) <= _MOST_LINES:
        for each in at:
            axis.axvline(each, color="#009e73", lw=0.7, alpha=0.55, zorder=3)
    return [Line2D([], [], ls="", marker="v", ms=5, color="#009e73", label="server update")]


def _finish(
    axis: Axes, frame: pd.DataFrame, workers: list[str], shown: Window, whole_s: float
) -> None:
    """Name the rows, the axis and what share of the window each worker computes."""
    count = len(workers)
    every = -(-count // 64)
    axis.set_yticks(range(0, count, every), workers[::every], fontsize=8 if count <= 40 else 6)
    axis.set_ylim(count - 0.4, -1.4)
    axis.set_xlim(shown.start_s, shown.end_s)
    length, unit = duration_unit(shown.end_s)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / length:.6g}")
    ticks = MaxNLocator(8).tick_values(shown.start_s / length, shown.end_s / length)
    places = np.asarray(ticks, np.float64) * length
    within = (places >= shown.start_s) & (places <= shown.end_s * (1 + 1e-9))
    axis.xaxis.set_major_locator(FixedLocator(places[within].tolist()))
    part = shown.end_s - shown.start_s
    of = "" if part >= whole_s else f"; {duration(part)} of the run's {duration(whole_s)}"
    axis.set_xlabel(f"simulated time ({unit}){of}")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    style = {"transform": axis.get_yaxis_transform(), "fontsize": 8, "color": "#555555"}
    axis.text(1.01, -1.0, "computing", va="center", **style)  # type: ignore[arg-type]
    for place, worker in list(enumerate(workers))[::every]:
        share = percent(_share(frame, worker, shown))
        axis.text(1.01, place, share, va="center", **style)  # type: ignore[arg-type]


def _share(frame: pd.DataFrame, worker: str, shown: Window) -> float:
    """Return the share of the window in which a worker computes."""
    own = frame[(frame["worker"] == worker) & (frame["kind"] == "compute")]
    left = own["start_s"].clip(lower=shown.start_s)
    right = own["end_s"].clip(upper=shown.end_s)
    return float((right - left).clip(lower=0).sum() / (shown.end_s - shown.start_s))
