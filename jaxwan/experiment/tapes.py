"""Recorded bandwidth: CSV with one piece of constant rate a line, `time_s,bandwidth_bps`.

A third column, `worker`, gives workers records of their own. Times start at 0; a record lasts as
long again as its last step, rounded up to whole seconds, unless told, and then starts anew.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from jaxwan.experiment.errors import InputError, shown, unknown_name
from jaxwan.experiment.resolved import Tape

COLUMNS = ("time_s", "bandwidth_bps")
WORKER = "worker"
LATEST_S, MOST_BPS = 1e8, 1e15
MOST_PIECES = 20_000  # of one file
EVERYBODY = ""


class Piece(NamedTuple):
    """One line of a record."""

    line: int
    worker: str
    time_s: float
    bandwidth_bps: float


def _number(line: int, column: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"line {line}: {column}: expected a number, got {shown(text)}") from None
    if not 0 <= value <= most:
        raise InputError(f"line {line}: {column}: {text} is not allowed (allowed: 0 to {most:g})")
    return value


def _piece(line: int, names: Sequence[str], cells: Sequence[str]) -> Piece:
    if len(cells) != len(names):
        raise InputError(f"line {line}: expected {len(names)} cells, got {len(cells)}")
    own = dict(zip(names, (cell.strip() for cell in cells), strict=True))
    if own.get(WORKER) == "":
        raise InputError(f"line {line}: worker is empty")
    return Piece(
        line, own.get(WORKER, EVERYBODY), _number(line, "time_s", own["time_s"], LATEST_S),
        _number(line, "bandwidth_bps", own["bandwidth_bps"], MOST_BPS),
    )  # fmt: skip


def check_order(pieces: Sequence[Piece]) -> None:
    """Refuse a record that does not start at zero or whose times do not rise."""
    whose = f" of worker {shown(pieces[0].worker)}" if pieces[0].worker else ""
    if pieces[0].time_s != 0:
        raise InputError(
            f"line {pieces[0].line}: time_s: the record{whose} starts at {pieces[0].time_s:g} "
            "(allowed: 0)"
        )
    for last, own in pairwise(pieces):
        if own.time_s <= last.time_s:
            order = "is again" if own.time_s == last.time_s else "comes before"
            raise InputError(
                f"line {own.line}: time_s: {own.time_s:g}{whose} {order} that of line {last.line} "
                f"(allowed: > {last.time_s:g})"
            )
    if all(piece.bandwidth_bps == 0 for piece in pieces):
        raise InputError(f"line {pieces[0].line}: bandwidth_bps: the record{whose} is always 0 "
                         "(allowed: above 0 somewhere)")  # fmt: skip


def read_header(cells: Sequence[str]) -> list[str]:
    """Return the columns: the two there must be, and perhaps the workers'."""
    names = [cell.strip() for cell in cells]
    for name in names:
        if name not in (*COLUMNS, WORKER):
            raise unknown_name("column", name, (*COLUMNS, WORKER), "line 1")
    if sorted(set(names) - {WORKER}) != sorted(COLUMNS) or len(set(names)) < len(names):
        wanted = ",".join(COLUMNS)
        raise InputError(f"line 1: expected the header {wanted} or {wanted},{WORKER}, got "
                         f"{','.join(names)}")  # fmt: skip
    return names


@lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, int]) -> dict[str, tuple[Piece, ...]]:
    """Read one file; `stamp` is its time and size, so that a change is seen."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(error)) from None
    lines = list(csv.reader(text.splitlines(), skipinitialspace=True))
    if not lines:
        raise InputError(f"the file is empty; expected the header {','.join(COLUMNS)}")
    names = read_header(lines[0])
    found: dict[str, list[Piece]] = {}
    for line, cells in enumerate(lines[1:], 2):
        if cells:
            own = _piece(line, names, cells)
            found.setdefault(own.worker, []).append(own)
    if not found:
        raise InputError("the record has no lines")
    count = sum(map(len, found.values()))
    if count > MOST_PIECES:
        raise InputError(f"{count} lines are more than {MOST_PIECES}")
    for pieces in found.values():
        check_order(pieces)
    return {worker: tuple(pieces) for worker, pieces in found.items()}


def read_tape(name: str) -> dict[str, tuple[Piece, ...]]:
    """Read recorded bandwidth from CSV: the pieces of each worker, or of EVERYBODY.

    Raises:
        InputError: naming the file, the line and what is wrong there.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError(f"no such file: {name}")
    facts = path.stat()
    try:
        return _read(path, (facts.st_mtime_ns, facts.st_size))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _tape(pieces: Sequence[Piece], period_s: int | None) -> Tape:
    times = [piece.time_s for piece in pieces]
    step_s = times[-1] - times[-2] if len(times) > 1 else 1.0
    if period_s is None:
        period_s = math.ceil(times[-1] + step_s)
    if period_s <= times[-1]:
        raise InputError(
            f"period_s: {period_s} is not after the last time_s, {times[-1]:g} on line "
            f"{pieces[-1].line} (allowed: > {times[-1]:g})"
        )
    return Tape(tuple(times), tuple(piece.bandwidth_bps for piece in pieces), period_s)


def tapes_of(
    record: dict[str, tuple[Piece, ...]], workers: Sequence[str], period_s: int | None
) -> tuple[tuple[Tape, ...], tuple[int, ...]]:
    """Return the records and the number of each worker's, -1 for none.

    A record names its worker, or gives its number from 0 on.

    Raises:
        InputError: for a worker that is not there, or is there twice.
    """
    tapes = tuple(_tape(pieces, period_s) for pieces in record.values())
    if EVERYBODY in record:
        return tapes, (0,) * len(workers)
    numbers = {name: number for number, name in enumerate(workers)}
    numbers |= {str(n): n for n in range(len(workers)) if str(n) not in numbers}
    own = [-1] * len(workers)
    for place, (worker, pieces) in enumerate(record.items()):
        if worker not in numbers:
            names = [*workers, f"0 to {len(workers) - 1}"]
            raise unknown_name("worker", worker, names, f"line {pieces[0].line}")
        if own[numbers[worker]] >= 0:
            name = workers[numbers[worker]]
            raise InputError(f"line {pieces[0].line}: worker: {shown(worker)} is {shown(name)}, "
                             "who has a record already")  # fmt: skip
        own[numbers[worker]] = place
    return tapes, tuple(own)
