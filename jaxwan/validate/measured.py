"""Measured runs: DiLoCo over shaped TCP, and INTELLECT-1 over the internet; and a wall clock."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxwan.analysis.plots import COLORS
from jaxwan.utilization import HIGH, LOW, all_reduce_time_s, compute_time_s, wall_clock_s
from jaxwan.validate.check import Check
from jaxwan.world.collectives import ring_s

TITLE = "Measured DiLoCo, INTELLECT-1, and the wall clock of Charles et al."


class Shaped(NamedTuple):
    """One shaped rate of the DiLoCo measurement."""

    name: str
    rate_bps: float  # as measured by a bulk transfer
    sync_s: float  # one synchronization, measured
    utilization: dict[int, float]  # by H


GPUS, PAYLOAD_BITS = 4, 30_846_720 * 32.0
STEP_S = 0.026  # 25 to 27 ms measured
FIRST_EXTRA_S = 0.375  # the first synchronization of a run costs .35 to .4 s more
WINDOWS = {1: (90, 90), 8: (140, 17), 32: (140, 4), 128: (180, 1)}  # H: steps, synchronizations
SHAPED = (
    Shaped("1 Gbit/s", 0.9924e9, 1.507, {1: 0.0174, 8: 0.1219, 32: 0.3558, 128: 0.7085}),
    Shaped("5 Gbit/s", 4.969e9, 0.318, {1: 0.0776, 8: 0.3952, 32: 0.6761, 128: 0.8604}),
)


def ring_time_s(shaped: Shaped) -> float:
    """Return the ring's time on the wire; the machines stand in one hall, so without latency."""
    return float(ring_s(PAYLOAD_BITS, GPUS, 0.0, shaped.rate_bps))


def handling_s(shaped: Shaped) -> float:
    """Return what a measured synchronization takes beyond the wire.

    15 ms at 1 Gbit/s and 20 ms at 5: the same at both rates, so it goes with the bytes and not
    with the link, as copies between GPU and host and the addition do (123 MB at 6 to 8 GB/s).
    """
    return shaped.sync_s - ring_time_s(shaped)


def sync_time_s(shaped: Shaped) -> float:
    """Predict a synchronization: the ring at this rate, the handling measured at the other."""
    (other,) = (each for each in SHAPED if each is not shaped)
    return ring_time_s(shaped) + handling_s(other)


def share_computing(local_steps: int, sync_s: float) -> float:
    """Predict the utilization in the measurement's own window, its first synchronization in it."""
    steps, syncs = WINDOWS[local_steps]
    compute_s = steps * STEP_S
    return compute_s / (compute_s + syncs * sync_s + FIRST_EXTRA_S)


def diloco_checks() -> list[Check]:
    """Compare synchronization times and utilizations with the measurement."""
    source = "4 x L40S over shaped TCP, 30.8M fp32 parameters"
    found = []
    for shaped, most in zip(SHAPED, (3.0, 10.0), strict=True):
        error = 100 * abs(sync_time_s(shaped) / shaped.sync_s - 1)
        alone = 100 * abs(ring_time_s(shaped) / shaped.sync_s - 1)
        name = f"DiLoCo synchronization at {shaped.name}"
        found.append(Check(f"{name}, handling from the other rate", source, 1, error, most, "%"))
        found.append(Check(f"{name}, ring alone, nothing fitted", source, 1, alone, most, "%"))
    for shaped in SHAPED:
        sync_s = sync_time_s(shaped)
        errors = [
            100 * abs(share_computing(steps, sync_s) / share - 1)
            for steps, share in shaped.utilization.items()
        ]
        name = f"DiLoCo utilization at {shaped.name}, worst H"
        found.append(Check(name, source, len(errors), max(errors), 10.0, "%"))
    return found


class Setting(NamedTuple):
    """One geography of INTELLECT-1, and the ring that the prediction assumes there."""

    name: str
    all_reduce_s: float  # median, published
    utilization: float  # published
    rate_bps: float
    hop_s: float  # round trip of the slowest hop


# Rates: the report gives 0.5 to 4 Gbit/s between nodes, up to 4 across the USA; so 4 there and 0.5
# where oceans are crossed. Hops: the least slowest round trip of a ring through the regions of
# Yuan et al. 2022: Oregon-Virginia, Ohio-Ireland, Ohio-Tokyo.
INTELLECT = (
    Setting("USA", 103, 0.957, 4e9, 0.067),
    Setting("USA and Europe", 382, 0.856, 0.5e9, 0.077),
    Setting("global", 469, 0.830, 0.5e9, 0.130),
)
COMPUTE_S = 38 * 60.0  # 100 inner steps
NODES, INTELLECT_BITS = 14, 10e9 * 8.0
BUCKETS = 44  # PRIME reduces layer by layer: 42 blocks, embedding, head


def intellect_all_reduce_s(setting: Setting) -> float:
    """Predict an int8 ring all-reduce, bucket after bucket.

    A message costs a whole round trip because Gloo sends only when the receiver has said that it
    is ready. That PRIME keeps two messages in flight is not credited.
    """
    bucket = ring_s(INTELLECT_BITS / BUCKETS, NODES, setting.hop_s, setting.rate_bps)
    return BUCKETS * float(bucket)


def intellect_checks() -> list[Check]:
    """Compare utilizations and all-reduce times with the report."""
    source = "INTELLECT-1 (Jaghouar et al. 2024), Table 2"
    points = [
        100 * abs(COMPUTE_S / (COMPUTE_S + each.all_reduce_s) - each.utilization)
        for each in INTELLECT
    ]
    name = "INTELLECT-1 utilization from the all-reduce times"
    found = [Check(name, source, len(points), max(points), 0.3, "points")]
    links = f"{source}; 14 nodes, 0.5 to 4 Gbit/s; round trips: Yuan et al. 2022"
    for each in INTELLECT:
        error = 100 * abs(intellect_all_reduce_s(each) / each.all_reduce_s - 1)
        found.append(Check(f"INTELLECT-1 all-reduce, {each.name}", links, 1, error, 25.0, "%"))
    return found


def wall_clock_checks() -> list[Check]:
    """Compare the idealized wall clock with its terms worked out by hand.

    1B parameters, 20B tokens, 10,000 steps on 64 chips of 300 teraflops: 6250 s of computing. Two
    replicas of 32 chips: 2 * 16e9 / 400e9 * 31/32 + 1e-4 = 77.6 ms within, every step; 2 * 16e9 /
    10e9 * 63/64 + 1e-2 = 3.16 s across, every 100 steps: 6250 + 776 + 316 = 7342 s. Data-parallel
    across centres: 6250 + 31,600 = 37,850 s.
    """
    source = "Charles et al. 2025, App. A, by hand"
    compute_s = compute_time_s(1e9, 20e9, 64, 300e12)
    runs = {
        "data-parallel": (wall_clock_s(compute_s, 10_000, 1e9, 64), 37_850.0),
        "one replica, H = 100": (wall_clock_s(compute_s, 10_000, 1e9, 64, 1, 100), 38_166.0),
        "two replicas, H = 100": (wall_clock_s(compute_s, 10_000, 1e9, 64, 2, 100), 7_342.0),
    }
    parts = {
        "computing": (compute_s, 6250.0),
        "all-reduce within": (all_reduce_time_s(1e9, 32, HIGH), 0.0776),
        "all-reduce across": (all_reduce_time_s(1e9, 64, LOW), 3.16),
    }
    errors = [abs(found / wanted - 1) for found, wanted in (runs | parts).values()]
    return [Check("wall clock of six worked cases", source, len(errors), max(errors), 1e-9,
                  "relative")]  # fmt: skip


def checks() -> list[Check]:
    """Compare with everything measured."""
    return [*diloco_checks(), *intellect_checks(), *wall_clock_checks()]


def figure(path: Path) -> None:
    """Draw predicted beside measured: utilization by H, and INTELLECT-1's all-reduce times."""
    drawing = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for color, shaped in zip(COLORS, SHAPED, strict=False):
        steps = list(shaped.utilization)
        shares = [share_computing(each, sync_time_s(shaped)) for each in steps]
        left.plot(steps, shares, color=color, lw=1.5, label=f"{shaped.name}, predicted")
        left.plot(steps, list(shaped.utilization.values()), "o", color=color, label="measured")
    left.set_xscale("log", base=2)
    left.set_xticks(steps, [str(each) for each in steps])
    left.set_xlabel("local steps H")
    left.set_ylabel("compute utilization")
    left.set_title("DiLoCo, 4 x L40S", loc="left", fontsize=10, fontweight="bold")
    places, names = np.arange(len(INTELLECT)), [each.name for each in INTELLECT]
    times = {"published median": [each.all_reduce_s for each in INTELLECT],
             "predicted": [intellect_all_reduce_s(each) for each in INTELLECT]}  # fmt: skip
    for shift, (color, (label, values)) in enumerate(zip(COLORS, times.items(), strict=False)):
        right.bar(places + 0.38 * (shift - 0.5), values, 0.36, color=color, label=label)
    right.set_xticks(places, names)
    right.set_ylabel("all-reduce (s)")
    right.set_title("INTELLECT-1, 10B int8", loc="left", fontsize=10, fontweight="bold")
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, axis="y", color="#e5e5e5", lw=0.6)
        axis.set_axisbelow(True)
        axis.legend(frameon=False, fontsize=8)
    FigureCanvasAgg(drawing)
    drawing.savefig(path, dpi=110)
