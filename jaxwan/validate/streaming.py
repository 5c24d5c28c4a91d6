"""Bandwidth for a compute utilization: the formula beside two published tables."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxwan.analysis.plots import COLORS
from jaxwan.utilization import TABLE_TRAFFIC, Training, first_reaching, utilization
from jaxwan.validate.check import Check

TITLE = "Compute utilization of streaming DiLoCo"
TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99)
GRID_BPS = np.logspace(-1, 3, 50) * 1e9
ONE_BILLION = Training(1e9, 24, 0.1, traffic=TABLE_TRAFFIC)
DILOCO = ONE_BILLION._replace(local_steps=100)
STREAMING = DILOCO._replace(fragments=8)
OVERLAPPED = STREAMING._replace(overlap_steps=1)


class Row(NamedTuple):
    """One line of a published table: Gbit/s for each of TARGETS."""

    name: str
    training: Training
    published_gbps: tuple[float, ...]


TABLE_4 = (
    Row("data-parallel", ONE_BILLION, (86.8, 152.6, 184.2, 222.3, 569.0)),
    Row("DiLoCo", DILOCO, (1.4, 6.2, 13.3, 23.3, 86.8)),
    Row("streaming", STREAMING, (1.4, 5.2, 9.1, 16.0, 28.1)),
    Row("streaming, overlap", OVERLAPPED, (1.4, 4.3, 6.2, 9.1, 11.0)),
    Row("streaming, overlap, FP4", OVERLAPPED._replace(bits=4), (0.4, 0.9, 1.7, 2.0, 3.0)),
)
# Charles et al. 2025, Table 6; layers as the architectures' own papers give them
_LARGER = {
    "Chinchilla 10B": (
        Training(10e9, 48, 0.8, traffic=TABLE_TRAFFIC),
        {
            1: (104.8, 184.2, 222.3, 222.3, 390.7), 10: (16.0, 49.4, 86.8, 152.6, 222.3),
            50: (3.0, 11.0, 23.3, 41.0, 126.5), 100: (1.4, 6.2, 13.3, 23.3, 86.8),
            300: (0.5, 2.0, 4.3, 9.1, 41.0),
        },
    ),
    "Llama 3 405B": (
        Training(405e9, 126, 26.0, traffic=TABLE_TRAFFIC),
        {
            1: (126.5, 222.3, 268.3, 323.8, 323.8), 10: (19.3, 72.0, 126.5, 184.2, 268.3),
            50: (3.6, 13.3, 28.1, 59.6, 184.2), 100: (2.0, 7.5, 16.0, 33.9, 126.5),
            300: (0.7, 3.0, 6.2, 13.3, 59.6),
        },
    ),
    "DeepSeek-V3 671B": (
        Training(671e9, 61, 20.0, traffic=TABLE_TRAFFIC),
        {
            1: (323.8, 569.0, 686.6, 686.6, 1000.0), 10: (49.4, 152.6, 268.3, 390.7, 686.6),
            50: (7.5, 33.9, 72.0, 126.5, 390.7), 100: (4.3, 16.0, 41.0, 72.0, 268.3),
            300: (1.7, 6.2, 13.3, 28.1, 126.5),
        },
    ),
}  # fmt: skip
TABLE_6 = tuple(
    Row(f"{name}, H = {steps}", training._replace(local_steps=steps), published)
    for name, (training, rows) in _LARGER.items()
    for steps, published in rows.items()
)


def cell_of(gbps: float) -> int:
    """Return the place of a published, rounded bandwidth on the grid."""
    return int(np.argmin(np.abs(GRID_BPS / 1e9 - gbps)))


def cells_off(rows: tuple[Row, ...]) -> np.ndarray:
    """Return how many grid cells the formula is above the published value `[row, target]`."""
    return np.array([
        [first_reaching(row.training, target, GRID_BPS) - cell_of(gbps)
         for target, gbps in zip(TARGETS, row.published_gbps, strict=True)]
        for row in rows
    ])  # fmt: skip


def checks() -> list[Check]:
    """Compare grid cells with both tables; the second was not used to find the model."""
    own, larger = cells_off(TABLE_4), cells_off(TABLE_6)
    source = "Douillard et al. 2025, Table 4, 1B rows"
    other = "Charles et al. 2025, Table 6, 10B to 671B"
    return [
        Check("bandwidth in another grid cell", source, own.size, int(np.sum(own != 0)), 2,
              "cells of 25"),
        Check("farthest from its grid cell", source, own.size, int(np.abs(own).max()), 1,
              "cells"),
        Check("unseen models: median distance from the cell", other, larger.size,
              float(np.median(np.abs(larger))), 1, "cells"),
        Check("unseen models: more than one cell away", other, larger.size,
              int(np.sum(np.abs(larger) > 1)), 3, "cells of 75"),
    ]  # fmt: skip


def figure(path: Path) -> None:
    """Draw utilization against bandwidth: lines by formula, points as published."""
    drawing = Figure(figsize=(7.2, 4.2), layout="constrained")
    axis = drawing.subplots()
    fine = np.geomspace(GRID_BPS[0], GRID_BPS[-1], 400)
    for color, row in zip(COLORS, TABLE_4, strict=False):
        axis.plot(fine / 1e9, utilization(row.training, fine), color=color, lw=1.5, label=row.name)
        axis.plot(row.published_gbps, TARGETS, "o", color=color, ms=5)
    axis.set_xscale("log")
    axis.set_xticks([0.1, 1, 10, 100, 1000], ["0.1", "1", "10", "100", "1000"])
    axis.set_xlabel("bandwidth (Gbit/s); points: Douillard et al. 2025, Table 4, on their grid")
    axis.set_ylabel("compute utilization")
    axis.set_title("Streaming DiLoCo, 1B parameters", loc="left", fontsize=10, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(True, color="#e5e5e5", lw=0.6)
    axis.legend(frameon=False, fontsize=8, loc="lower right")
    FigureCanvasAgg(drawing)
    drawing.savefig(path, dpi=110)
