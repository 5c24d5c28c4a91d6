"""A picture of a phase diagram: regions in colours, hatched where the winner is not sure."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from jaxwan.analysis.humane import percent
from jaxwan.analysis.phase import Phase, axis_text, axis_title
from jaxwan.analysis.plots import save
from jaxwan.analysis.wording import metric_title

FILLS = (
    "#4e89b8", "#e8a35c", "#62ad8e", "#c98bb0", "#e6d06b", "#8cc6e7", "#9b7cb6", "#9a9a9a",
)  # fmt: skip
_BLANK = "#f1f1f1"
_HATCH = "////"
_WIDE = 6.0  # ratio of ends from which on an axis is logarithmic
_NAMES = 12  # tick labels an axis has room for


class Mark(NamedTuple):
    """A place to point out, in the units of the columns."""

    name: str
    x: float
    y: float


def plot_phase(
    found: Phase, path: str | os.PathLike[str], title: str = "", marks: Sequence[Mark] = ()
) -> Path:
    """Draw a map as PNG: a cell has the winner's colour, and stripes of a tied rival's.

    `marks` inside the axes are drawn as named dots, such as well-known networks.
    """
    figure = Figure(figsize=(9.2, 5.4), layout="constrained")
    axis = figure.subplots()
    x, y = (np.asarray(values, np.float64) for values in (found.columns, found.rows))
    across, up = _edges(x), _edges(y)
    fills = {label: FILLS[place % len(FILLS)] for place, label in enumerate(found.present())}
    for row, column in found.cells:
        corner = (across[column], up[row])
        size = (across[column + 1] - across[column], up[row + 1] - up[row])
        _draw_cell(axis, corner, size, found.winner(row, column), found.rival(row, column), fills)
    _draw_borders(axis, found, across, up)
    _finish(axis, found, across, up)
    _point_out(axis, marks, across, up)
    _legend(figure, found, fills)
    return save(figure, path, title)


def _edges(values: np.ndarray) -> np.ndarray:
    """Put cell borders half way between values, on the scale the axis has."""
    scaled = np.log(values) if _is_log(values) else values
    if len(scaled) == 1:
        half = np.array([0.5 if _is_log(values) or not scaled[0] else abs(scaled[0]) / 2])
        inner, gaps = np.empty(0), np.concatenate([half, half]) * 2
    else:
        inner, gaps = (scaled[1:] + scaled[:-1]) / 2, np.diff(scaled)
    ends = np.concatenate([[scaled[0] - gaps[0] / 2], inner, [scaled[-1] + gaps[-1] / 2]])
    return np.exp(ends) if _is_log(values) else ends


def _is_log(values: np.ndarray) -> bool:
    return bool(values[0] > 0 and values[-1] >= _WIDE * values[0])


def _draw_cell(
    axis: Axes, corner: tuple[float, float], size: tuple[float, float], winner: str, rival: str,
    fills: dict[str, str],
) -> None:  # fmt: skip
    face = fills[winner] if winner else _BLANK
    axis.add_patch(Rectangle(corner, *size, facecolor=face, lw=0))
    if rival:
        stripes = Rectangle(corner, *size, fill=False, hatch=_HATCH, lw=0, edgecolor=fills[rival])
        axis.add_patch(stripes)
    if not winner:
        axis.add_patch(Rectangle(corner, *size, fill=False, hatch="...", lw=0, edgecolor="#b5b5b5"))
    axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", lw=0.7))


def _draw_borders(axis: Axes, found: Phase, across: np.ndarray, up: np.ndarray) -> None:
    """Draw a line between neighbours that have different winners."""
    line = {"color": "#2b2b2b", "lw": 1.6, "solid_capstyle": "round"}
    for row, column in found.cells:
        own = found.winner(row, column)
        if (row, column + 1) in found.cells and found.winner(row, column + 1) != own:
            axis.plot([across[column + 1]] * 2, up[row : row + 2], **line)  # type: ignore[arg-type]
        if (row + 1, column) in found.cells and found.winner(row + 1, column) != own:
            axis.plot(across[column : column + 2], [up[row + 1]] * 2, **line)  # type: ignore[arg-type]


def _finish(axis: Axes, found: Phase, across: np.ndarray, up: np.ndarray) -> None:
    axis.set_xscale("log" if _is_log(np.asarray(found.columns, np.float64)) else "linear")
    axis.set_yscale("log" if _is_log(np.asarray(found.rows, np.float64)) else "linear")
    for values, name, side in (
        (found.columns, found.x, axis.xaxis), (found.rows, found.y, axis.yaxis),
    ):  # fmt: skip
        step = -(-len(values) // _NAMES)
        texts = [axis_text(name, value) for value in values[::step]]
        texts = [text.replace(" ", "\n") for text in texts] if side is axis.xaxis else texts
        side.set_ticks(values[::step], texts)
        side.set_ticks([], minor=True)
        side.set_label_text(axis_title(name), fontsize=11)
        side.set_tick_params(length=0, labelsize=9)
    axis.set_xlim(across[0], across[-1])
    axis.set_ylim(up[0], up[-1])
    axis.spines[:].set_visible(False)


def _point_out(axis: Axes, marks: Sequence[Mark], across: np.ndarray, up: np.ndarray) -> None:
    halo = [withStroke(linewidth=3, foreground="white")]
    for mark in marks:
        if across[0] < mark.x < across[-1] and up[0] < mark.y < up[-1]:
            axis.plot(mark.x, mark.y, "o", ms=6, mfc="white", mec="#1a1a1a", mew=1.6, zorder=5)
            right = mark.x > across[-2] if len(across) > 2 else False
            axis.annotate(
                mark.name, (mark.x, mark.y), xytext=(-8 if right else 8, 0),
                textcoords="offset points", ha="right" if right else "left", va="center",
                fontsize=9, color="#1a1a1a", path_effects=halo, zorder=6,
            )  # fmt: skip


def _legend(figure: Figure, found: Phase, fills: dict[str, str]) -> None:
    handles = [
        Patch(facecolor=color, edgecolor="white", label=textwrap.fill(label, 30))
        for label, color in fills.items()
    ]
    if any(cell.verdict.tied for cell in found.cells.values()):
        told = f"stripes of a tied rival:\nnot apart at {percent(found.confidence)}"
        handles.append(Patch(facecolor="white", edgecolor="#777777", hatch=_HATCH, label=told))
    if any(cell.verdict.winner is None for cell in found.cells.values()):
        told = "nobody reaches the target" if found.metric == "time_to_target_s" else "no value"
        handles.append(Patch(facecolor=_BLANK, edgecolor="#b5b5b5", hatch="...", label=told))
    legend = figure.legend(
        handles=handles, loc="outside right upper", frameon=False, fontsize=9.5,
        handlelength=1.6, handleheight=1.3, labelspacing=0.9,
        title=f"best {metric_title(found.metric)}", title_fontsize=10, alignment="left",
    )  # fmt: skip
    legend.get_title().set_fontweight("bold")
