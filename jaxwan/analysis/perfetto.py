"""Spans as a trace for ui.perfetto.dev and chrome://tracing (Trace Event Format, JSON)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from jaxwan.analysis.spans import UPDATE, WASTED, of_workers

FLEET = 1  # the process that everything belongs to
SERVER_ROW = 0


def _microseconds(seconds: pd.Series) -> list[int]:
    return [round(value * 1e6) for value in seconds]


def _named(tid: int, name: str) -> list[dict[str, Any]]:
    """Return the events that name a row and keep it at its place."""
    place = {"ph": "M", "pid": FLEET, "tid": tid}
    return [
        place | {"name": "thread_name", "args": {"name": name}},
        place | {"name": "thread_sort_index", "args": {"sort_index": tid}},
    ]


def _name(kind: str, note: str) -> str:
    """Name a span so that work thrown away has a colour of its own."""
    wasted = [word for word in note.split(", ") if word in WASTED]
    return f"{kind} ({wasted[0]})" if wasted else kind


def _facts(row: Any) -> dict[str, Any]:
    told = {"cycle": row.cycle, "staleness": row.staleness, "bytes": row.bytes, "note": row.note}
    return {
        name: value if isinstance(value, str) else int(value)
        for name, value in told.items() if not pd.isna(value) and value != ""
    }  # fmt: skip


def trace_events(frame: pd.DataFrame, title: str = "fleet") -> list[dict[str, Any]]:
    """Return the events of a frame of spans; times in whole microseconds.

    Raises:
        ValueError: for a frame without spans.
    """
    spans = of_workers(frame)
    updates = frame[frame["kind"] == UPDATE]
    rows = {worker: tid for tid, worker in enumerate(spans["worker"].unique(), SERVER_ROW + 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": FLEET, "tid": 0, "name": "process_name", "args": {"name": title}},
        *_named(SERVER_ROW, "server updates"),
    ]
    for worker, tid in rows.items():
        events += _named(tid, str(worker))
    begins, ends = _microseconds(spans["start_s"]), _microseconds(spans["end_s"])
    for row, begin, end in zip(spans.itertuples(), begins, ends, strict=True):
        events.append({
            "ph": "X", "pid": FLEET, "tid": rows[row.worker], "cat": row.kind,
            "name": _name(str(row.kind), str(row.note)), "ts": begin, "dur": end - begin,
            "args": _facts(row),
        })  # fmt: skip
    for row, at in zip(updates.itertuples(), _microseconds(updates["start_s"]), strict=True):
        facts = {"version": int(row.cycle), "note": row.note}  # type: ignore[arg-type]
        events.append({
            "ph": "i", "s": "t", "pid": FLEET, "tid": SERVER_ROW, "cat": UPDATE,
            "name": "update", "ts": at, "args": facts,
        })  # fmt: skip
    return events


def write_trace(
    frame: pd.DataFrame, path: str | os.PathLike[str], title: str = "fleet"
) -> Path:
    """Write a frame of spans as a trace that ui.perfetto.dev opens.

    Raises:
        ValueError: for a frame without spans.
    """
    target = Path(path)
    whole = {"traceEvents": trace_events(frame, title), "displayTimeUnit": "ms"}
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False)
    target.write_text(text.replace('{"ph"', '\n{"ph"'), encoding="utf-8")
    return target
