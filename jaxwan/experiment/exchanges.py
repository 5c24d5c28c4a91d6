"""Exchanges: who talks to whom in a round, and the region matrix that says over which links."""

from __future__ import annotations

import csv
import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from jaxwan.core.families import Knob, Static
from jaxwan.experiment.errors import InputError, shown, unknown_name
from jaxwan.experiment.resolved import Choice, Worker

HEADER = ("region_a", "region_b", "rtt_s", "bandwidth_bps")
Pairs = dict[frozenset[str], tuple[float, float]]  # one-way delay in s, bit/s
MATRIX = Static("", "CSV of region_a, region_b, rtt_s, bandwidth_bps that replaces the links")


class Exchange(NamedTuple):
    """A way to bring the updates together; `sums` where payloads are added on their way."""

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    sums: bool
    server: bool = False


EXCHANGES: dict[str, Exchange] = {
    "star": Exchange(
        summary="Every worker sends to one coordinator and downloads what the others sent.",
        paper="Li et al. 2014, Scaling distributed machine learning with the parameter server",
        knobs={
            "ingress_bps": Knob(None, 1.0, 1e15, "the coordinator's own link in, shared by all",
                                optional=True),
            "egress_bps": Knob(None, 1.0, 1e15, "the coordinator's own link out, shared by all",
                               optional=True),
        },
        static={},
        sums=False,
        server=True,
    ),
    "ring": Exchange(
        summary="Reduce-scatter and all-gather around a ring: least traffic, most messages.",
        paper="Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms",
        knobs={}, static={"matrix": MATRIX}, sums=True,
    ),
    "halving_doubling": Exchange(
        summary="Reduce-scatter and all-gather in log2 n rounds: least traffic, few messages.",
        paper="Thakur, Rabenseifner and Gropp 2005; Bruck et al. 1997",
        knobs={}, static={"matrix": MATRIX}, sums=True,
    ),
    "all_gather": Exchange(
        summary="Every whole payload to everybody: for payloads that do not sum.",
        paper="Thakur, Rabenseifner and Gropp 2005, Optimization of collective communication",
        knobs={}, static={"matrix": MATRIX}, sums=False,
    ),
    "gossip": Exchange(
        summary="Every worker swaps payloads with one other.",
        paper="Boyd et al. 2006, Randomized gossip algorithms",
        knobs={}, static={"matrix": MATRIX}, sums=False,
    ),
    "hierarchical": Exchange(
        summary="A ring inside every region, then a ring among the regions.",
        paper="Jia et al. 2018, Highly scalable deep learning training system",
        knobs={
            "region_bps": Knob(1e10, 1.0, 1e15, "link between two workers of one region"),
            "region_delay_s": Knob(1e-4, 0.0, 1e3, "one-way delay inside a region"),
        },
        static={"matrix": MATRIX}, sums=True,
    ),
}  # fmt: skip


def _number(text: str, column: str, line: int, low: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"line {line}: expected a number, got {shown(text)}", column) from None
    if not (math.isfinite(value) and value >= low):
        allowed = f"(allowed: >= {low:g})"
        raise InputError(f"line {line}: {shown(value)} is not allowed {allowed}", column)
    return value


def _pair(row: dict[str, str], line: int) -> tuple[frozenset[str], tuple[float, float]]:
    if None in row or None in row.values():
        raise InputError(f"line {line}: the number of cells differs from the header's")
    ends = [row[name].strip() for name in HEADER[:2]]
    if not all(ends) or ends[0] == ends[1]:
        raise InputError(f"line {line}: expected two different regions, got {shown(ends)}")
    rtt_s = _number(row["rtt_s"], "rtt_s", line, 0.0)
    rate = _number(row["bandwidth_bps"], "bandwidth_bps", line, 1.0)
    return frozenset(ends), (rtt_s / 2, rate)


@lru_cache(maxsize=64)
def _read(path: Path, stamp: int) -> Pairs:
    found: Pairs = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        if sorted(columns) != sorted(HEADER):
            raise InputError(f"the header is {shown(columns)} (expected: {', '.join(HEADER)})")
        reader.fieldnames = columns
        for row in reader:
            pair, link = _pair(row, reader.line_num)
            if found.setdefault(pair, link) != link:
                names = " and ".join(sorted(pair))
                raise InputError(f"line {reader.line_num}: {names} have two different links")
    if not found:
        raise InputError("the matrix has no pairs")
    return found


def read_matrix(name: str) -> Pairs:
    """Read a symmetric matrix of links between regions.

    Raises:
        InputError: for a missing file, a wrong header or cell, or a pair with two links.
    """
    path = Path(name)
    if not path.is_file():
        raise InputError(f"no such file: {shown(name)}")
    try:
        return _read(path, path.stat().st_mtime_ns)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{name}: not a CSV in UTF-8 ({error})") from None


def _between(pairs: Pairs, own: Worker, other: Worker) -> tuple[float, float]:
    """Return the link between two workers; inside a region their own links decide."""
    if own.region == other.region:
        return max(own.delay_s, other.delay_s), min(own.up_bps, other.down_bps)
    pair = frozenset((own.region, other.region))
    if pair not in pairs:
        raise InputError(f"no link between {own.region} and {other.region}")
    return pairs[pair]


def links_of(exchange: Choice, workers: tuple[Worker, ...]) -> list[tuple[float, float]]:
    """Return the one-way delay and rate that each worker's messages of a round meet.

    In a ring that is the link to the next worker of the fleet, elsewhere a worker's worst one.
    Without a matrix two workers meet the larger of their delays and the smaller of their rates.

    Raises:
        InputError: for a region that the matrix does not know.
    """
    name = exchange.static.get("matrix", "")
    pairs = read_matrix(name) if name else None
    known = sorted({name for ends in pairs or () for name in ends})
    for own in workers if pairs else ():
        if own.region not in known:
            raise unknown_name("region", own.region, known)
    found = []
    for place, own in enumerate(workers):
        ring = exchange.kind == "ring"
        others = [workers[(place + 1) % len(workers)]] if ring else list(workers)
        links = [(own.delay_s, min(own.up_bps, own.down_bps))] if len(workers) == 1 else [
            (max(own.delay_s, other.delay_s), min(own.up_bps, other.down_bps)) if pairs is None
            else _between(pairs, own, other)
            for other in others if other is not own
        ]  # fmt: skip
        found.append((max(delay for delay, _ in links), min(rate for _, rate in links)))
    return found
