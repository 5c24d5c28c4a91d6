"""Fleets: the workers of a challenge or of the user's own file (CSV or TOML)."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from jaxwan.experiment.errors import InputError, shown
from jaxwan.experiment.prices import DEVICE_NAMES, PROVIDER_NAMES
from jaxwan.experiment.schema import Range, Settings

REQUIRED = ("region", "speed", "up_bps", "down_bps", "delay_s", "loss", "jitter_s", "online")
OPTIONAL = ("name", "device", "attacker", "provider")
TEXTS = ("name", "region", "device", "provider")
SWITCHES = ("online", "attacker")
WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

Bandwidth = Annotated[float, Range(0.0, open_low=True)]
Delay = Annotated[float, Range(0.0, 1e6)]
Loss = Annotated[float, Range(0.0, 1.0, open_high=True)]
Speed = Annotated[float, Range(0.0, 1e6, open_low=True)]
Device = Literal[DEVICE_NAMES]  # type: ignore[valid-type]
Operator = Literal[PROVIDER_NAMES]  # type: ignore[valid-type]
Switch = Annotated[bool, Strict()]


class WorkerEntry(Settings):
    """One worker, or `count` equal ones. Link fields replace those of its network."""

    name: str | None = None
    network: str | None = Field(default=None, description="a network's name or file")
    speed: Speed | None = Field(
        default=None, description="relative to the reference; the device's unless told"
    )
    bandwidth_bps: Bandwidth | None = Field(default=None, description="both directions, bit/s")
    up_bps: Bandwidth | None = None
    down_bps: Bandwidth | None = None
    delay_s: Delay | None = Field(default=None, description="one way, seconds")
    loss: Loss | None = None
    jitter_s: Delay | None = Field(default=None, description="standard deviation of the delay")
    region: str | None = None
    device: Device | None = None
    provider: Operator | None = Field(default=None, description="whose egress prices apply; aws")
    online: Switch = Field(default=True, description="online at time 0")
    attacker: Switch = False
    count: Annotated[int, Range(1, 1_000_000)] = 1

    @model_validator(mode="after")
    def has_a_link(self) -> WorkerEntry:
        own = self.bandwidth_bps or (self.up_bps and self.down_bps)
        if self.network is None and not own:
            raise InputError("a worker needs a network, a bandwidth_bps or up_bps and down_bps")
        return self


def duplicates(names: list[str | None]) -> list[str]:
    """Return the names that stand more than once."""
    return [name for name, times in Counter(names).items() if name is not None and times > 1]


def cell(column: str, text: str) -> Any:
    """Return one CSV cell as the value its column holds."""
    if column in TEXTS:
        return text
    if column in SWITCHES:
        if text.lower() not in WORDS:
            raise InputError(f"expected true or false, got {shown(text)}", column)
        return WORDS[text.lower()]
    try:
        return float(text)
    except ValueError:
        raise InputError(f"expected a number, got {shown(text)}", column) from None


def entry(line: int, row: dict[str, Any]) -> WorkerEntry:
    """Return the worker of one CSV line."""
    if None in row or None in row.values():
        raise InputError(f"line {line}: the number of cells differs from the header's")
    cells = {column: text.strip() for column, text in row.items() if text.strip()}
    missing = [column for column in REQUIRED if column not in cells]
    if missing:
        raise InputError(f"line {line}: {missing[0]} is empty")
    try:
        return WorkerEntry(**{column: cell(column, text) for column, text in cells.items()})
    except InputError as error:
        raise InputError(f"line {line}: {error}") from None


def check_header(columns: list[str]) -> None:
    """Refuse a header that lacks a column or has one that means nothing."""
    missing = [column for column in REQUIRED if column not in columns]
    if missing:
        raise InputError(f"missing column {missing[0]!r} (needed: {', '.join(REQUIRED)})")
    extra = [column for column in columns if column not in (*REQUIRED, *OPTIONAL)]
    if extra:
        raise InputError(f"unknown column {extra[0]!r} (optional: {', '.join(OPTIONAL)})")


def check_names(lines: list[int], workers: list[WorkerEntry]) -> None:
    """Refuse two workers of one name, saying on which lines they stand."""
    for name in duplicates([worker.name for worker in workers]):
        where = [
            str(line) for line, worker in zip(lines, workers, strict=True) if worker.name == name
        ]
        raise InputError(f"duplicate worker {name!r} on lines {', '.join(where)}")


def read_csv(path: Path) -> list[WorkerEntry]:
    """Read a fleet from CSV, one worker a line.

    Raises:
        InputError: for a missing column, a wrong cell or two workers of one name.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        check_header([column.strip() for column in reader.fieldnames or []])
        reader.fieldnames = [column.strip() for column in reader.fieldnames or []]
        rows = [(reader.line_num, row) for row in reader]
    if not rows:
        raise InputError("the fleet has no workers")
    workers = [entry(line, row) for line, row in rows]
    check_names([line for line, _ in rows], workers)
    return workers
