"""One run as spans of time: what each worker does from the start to the end, without a gap.

A frame of spans has the columns COLUMNS, one row per stretch in which a worker does one thing, and
one row of no length for each update of the server. Spans of one worker never overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

KINDS = ("download", "compute", "upload", "exchange", "wait", "outage", "partition")
UPDATE = "update"  # an instant of the server
SERVER = "server"
WASTED = ("lost", "rejected", "cancelled")  # fates of a cycle that changes no model
COLUMNS = ("worker", "kind", "start_s", "end_s", "cycle", "note", "staleness", "bytes")
NOBODYS = -1  # in place of a cycle, a staleness or a number of bytes that there is not


class Interval(NamedTuple):
    """One stretch of time and what is to be said about it."""

    kind: str
    start_s: float
    end_s: float
    cycle: int = NOBODYS
    note: str = ""
    staleness: int = NOBODYS
    bytes: int = NOBODYS


def paint(layers: Sequence[Sequence[Interval]], end_s: float) -> list[Interval]:
    """Cover `[0, end_s]` with intervals, later layers over earlier ones; return what is seen.

    A stretch that nothing covers is a wait of no cycle.
    """
    items = [Interval("wait", 0.0, end_s), *(item for layer in layers for item in layer)]
    starts = np.clip([item.start_s for item in items], 0.0, end_s)
    stops = np.clip([item.end_s for item in items], 0.0, end_s)
    bounds = np.unique(np.concatenate([starts, stops]))
    first, last = np.searchsorted(bounds, starts), np.searchsorted(bounds, stops)
    owner = np.zeros(len(bounds) - 1, np.int64)
    for number, (low, high) in enumerate(zip(first, last, strict=True)):
        owner[low:high] = number
    if not len(owner):
        return []
    cuts = np.flatnonzero(np.diff(owner)) + 1
    lows, highs = np.r_[0, cuts], np.r_[cuts, len(owner)]
    return [
        items[owner[low]]._replace(start_s=float(bounds[low]), end_s=float(bounds[high]))
        for low, high in zip(lows, highs, strict=True)
    ]


def span_frame(
    lanes: dict[str, list[Interval]], updates: Sequence[Interval] = ()
) -> pd.DataFrame:
    """Return the frame of all workers' spans, in the order of the fleet, the updates last."""
    rows = [(worker, *item) for worker, items in lanes.items() for item in items]
    rows += [(SERVER, *item) for item in updates]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for name in ("cycle", "staleness", "bytes"):
        values = frame[name].astype("Int64")
        frame[name] = values.mask(values == NOBODYS)
    return frame.astype({"start_s": float, "end_s": float})


def of_workers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the workers' spans.

    Raises:
        ValueError: where a column is missing or there is no span.
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise ValueError(f"no frame of spans: {', '.join(missing)} missing")
    spans = frame[frame["kind"] != UPDATE]
    if spans.empty:
        raise ValueError("no spans to draw")
    return spans


def noted(notes: pd.Series, word: str) -> pd.Series:
    """Tell which notes hold a word."""
    return notes.str.split(", ").map(lambda words: word in words).astype(bool)


def tally(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one record a worker: seconds of each kind, cycles begun, and those wasted."""
    records = []
    for worker, spans in of_workers(frame).groupby("worker", sort=False):
        seconds = (spans["end_s"] - spans["start_s"]).groupby(spans["kind"]).sum()
        record: dict[str, Any] = {"worker": worker}
        record |= {f"{kind}_s": float(seconds.get(kind, 0.0)) for kind in KINDS}
        record["cycles"] = int(spans["cycle"].nunique())
        for fate in WASTED:
            record[fate] = int(spans.loc[noted(spans["note"], fate), "cycle"].nunique())
        records.append(record)
    return records
