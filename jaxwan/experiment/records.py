"""Records of outages: CSV with one outage a line, `worker,down_s,up_s`."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jaxwan.experiment.errors import InputError, shown, unknown_name

COLUMNS = ("worker", "down_s", "up_s")
LATEST_S = 1e9  # within the clock's range
MOST_INTERVALS = 100_000  # of one file


class Outage(NamedTuple):
    """One line of a record."""

    line: int
    worker: str
    down_s: float
    up_s: float  # inf = for good


def seconds(line: int, column: str, text: str) -> float:
    """Return one cell as seconds; only the end of an outage may be inf.

    Raises:
        InputError: for anything but a number from zero on.
    """
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"line {line}: {column}: expected a number, got {shown(text)}") from None
    endless = math.isinf(value) and column == "up_s"
    if not (0 <= value <= LATEST_S or (endless and value > 0)):
        raise InputError(f"line {line}: {column}: {text} is not allowed (allowed: 0 to 1e9)")
    return value


def outage(line: int, cells: list[str]) -> Outage:
    """Return the outage of one line."""
    if len(cells) != len(COLUMNS):
        raise InputError(f"line {line}: expected {len(COLUMNS)} cells, got {len(cells)}")
    worker, *times = (cell.strip() for cell in cells)
    if not worker:
        raise InputError(f"line {line}: worker is empty")
    pairs = zip(COLUMNS[1:], times, strict=True)
    down_s, up_s = (seconds(line, column, text) for column, text in pairs)
    if not up_s > down_s:
        raise InputError(f"line {line}: up_s: {up_s:g} is not after down_s = {down_s:g}")
    return Outage(line, worker, down_s, up_s)


def check_order(outages: Sequence[Outage]) -> None:
    """Refuse outages of one worker that overlap or stand in the wrong order."""
    before: dict[str, Outage] = {}
    for own in outages:
        last = before.get(own.worker)
        if last is not None and own.down_s < last.up_s:
            order = "starts before" if own.down_s < last.down_s else "overlaps"
            raise InputError(
                f"line {own.line}: down_s: {own.down_s:g} of worker {shown(own.worker)} {order} "
                f"the outage on line {last.line}, {last.down_s:g} to {last.up_s:g} "
                f"(allowed: >= {last.up_s:g})"
            )
        before[own.worker] = own


def read_header(cells: Sequence[str]) -> None:
    """Refuse any header but the one there is."""
    names = [cell.strip() for cell in cells]
    for name in names:
        if name not in COLUMNS:
            raise unknown_name("column", name, COLUMNS, "line 1")
    if tuple(names) != COLUMNS:
        raise InputError(f"line 1: expected the header {','.join(COLUMNS)}, got {','.join(names)}")


@lru_cache(maxsize=64)
def _read(path: Path, stamp: tuple[int, int]) -> tuple[Outage, ...]:
    """Read one file; `stamp` is its time and size, so that a change is seen."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(error)) from None
    lines = [cells for cells in csv.reader(text.splitlines(), skipinitialspace=True)]
    if not lines:
        raise InputError(f"the file is empty; expected the header {','.join(COLUMNS)}")
    read_header(lines[0])
    found = tuple(outage(line, cells) for line, cells in enumerate(lines[1:], 2) if cells)
    if not found:
        raise InputError("the file has no outages")
    if len(found) > MOST_INTERVALS:
        raise InputError(f"{len(found)} outages are more than {MOST_INTERVALS}")
    check_order(found)
    return found


def read_record(name: str) -> tuple[Outage, ...]:
    """Read recorded outages from CSV.

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


def by_worker(
    outages: Sequence[Outage], workers: Sequence[str]
) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Return (down_s, up_s) of each worker; a record names it, or gives its number from 0 on.

    Raises:
        InputError: for a worker that is not there.
    """
    numbers = {name: number for number, name in enumerate(workers)}
    numbers |= {str(n): n for n in range(len(workers)) if str(n) not in numbers}
    found: list[list[Outage]] = [[] for _ in workers]
    for own in outages:
        if own.worker not in numbers:
            names = [*workers, f"0 to {len(workers) - 1}"]
            raise unknown_name("worker", own.worker, names, f"line {own.line}")
        found[numbers[own.worker]].append(own)
    for mine in found:
        check_order([one._replace(worker=workers[numbers[one.worker]]) for one in mine])
    return tuple(tuple((one.down_s, one.up_s) for one in mine) for mine in found)
