"""Congestion windows of RFC 9438, and links between cloud regions with one flow and with many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from jaxwan.transfers import Link, transfer_time
from jaxwan.validate.check import Check
from jaxwan.world.transports.table import steady_window

TITLE = "RFC 9438 windows and links between cloud regions"

LOSSES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
RFC_RTT_S = 0.1
RFC_WINDOWS = {
    "cubic": (12, 38, 187, 1054, 5926, 33325, 187400),
    "reno": (12, 38, 120, 379, 1200, 3795, 12000),
}
SHOWN_DIGITS = 4  # of the larger windows, in the tables of the RFC

# Skyplane (Jain et al. 2023): mean Gbit/s between AWS regions over bins of the round trip.
SKYPLANE = {
    (0.0, 0.025): 4.71, (0.025, 0.05): 4.58, (0.05, 0.075): 4.36, (0.075, 0.1): 4.13,
    (0.1, 0.15): 3.73, (0.15, 0.2): 3.38, (0.2, 0.25): 2.96, (0.25, 0.35): 2.25,
}  # fmt: skip
STREAMS, PROBE_S, EGRESS_BPS = 64, 5.0, 5e9
CLOUD_LOSS = 1e-5  # assumed between regions of one cloud
CLOUD_WINDOW = 3e6  # bytes a connection, assumed: half of Linux' largest receive buffer of 6 MB

FLOWS = Path(__file__).with_name("data") / "aws_one_flow.csv"
FLOW_BPS, FLOW_WINDOW = 1.1e9, 9.7e6  # one flow between AWS regions: its cap and its window
FLOW_BYTES = 1e12  # long enough that the start does not matter


def rounded(window: float) -> float:
    """Round a window as the tables of the RFC do."""
    digits = SHOWN_DIGITS if window > 1e5 else 12
    return float(f"{round(window):.{digits}g}")


def window_check(algorithm: str) -> Check:
    """Compare the steady windows under random loss with the RFC's, to the segment."""
    losses = np.asarray(LOSSES, np.float32)
    windows = np.asarray(steady_window(algorithm, np.float32(RFC_RTT_S), losses), float)
    off = [abs(rounded(w) - told) for w, told in zip(windows, RFC_WINDOWS[algorithm], strict=True)]
    return Check(f"{algorithm} windows at random loss, RTT 0.1 s", "RFC 9438, tables 1 to 3",
                 len(LOSSES), max(off), 0.0, "segments")  # fmt: skip


def moved_bps(rtt_s: float, seconds: float = PROBE_S) -> float:
    """Return what 64 CUBIC flows move in a probe: each as much as it moves in that median time."""
    link = Link(bandwidth_bps=EGRESS_BPS / STREAMS, delay_s=rtt_s / 2, loss=CLOUD_LOSS,
                transport="cubic", window_bytes=CLOUD_WINDOW)  # fmt: skip
    low, high = 1e4, EGRESS_BPS / STREAMS * seconds / 8
    for _ in range(24):
        middle = (low * high) ** 0.5
        taken_s = float(np.median(transfer_time(0, middle, link, 256)))
        low, high = (middle, high) if taken_s < seconds else (low, middle)
    return STREAMS * low * 8 / seconds


def skyplane_check() -> Check:
    """Compare the bins of the round trip, each by its middle."""
    errors = []
    for (low, high), told in SKYPLANE.items():
        errors.append(moved_bps((low + high) / 2) / 1e9 - told)
    return Check("AWS to AWS, 64 flows for 5 s, by bins of the round trip", "Skyplane, NSDI 2023",
                 len(SKYPLANE), float(np.sqrt(np.mean(np.square(errors)))), 0.15,
                 "Gbit/s rms")  # fmt: skip


def one_flow_check() -> Check:
    """Compare single flows between AWS regions with a window-limited one; three numbers tell."""
    frame = pd.read_csv(FLOWS)
    errors = []
    for rtt_s, told in zip(frame["rtt_s"], frame["bandwidth_bps"], strict=True):
        link = Link(bandwidth_bps=FLOW_BPS, delay_s=float(rtt_s) / 2, transport="cubic",
                    window_bytes=FLOW_WINDOW)  # fmt: skip
        taken_s = np.median(transfer_time(0, FLOW_BYTES, link, 64))
        errors.append(abs(FLOW_BYTES * 8 / taken_s / told - 1))
    return Check("one flow between AWS regions from cap, window and round trip",
                 "Yuan et al. 2022", len(frame), float(np.median(errors)), 0.15,
                 "median relative error")  # fmt: skip


def checks() -> list[Check]:
    """Compare windows and cloud links."""
    return [window_check("cubic"), window_check("reno"), skyplane_check(), one_flow_check()]
