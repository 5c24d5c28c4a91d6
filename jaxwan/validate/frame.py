"""The frame of `jaxwan validate`: collect every module's checks, tell them, draw them.

A module of this package takes part when it is named in MODULES: `checks() -> list[Check]` compares
the model with truths, `TITLE` names its group, and an optional `figure(path: Path)` draws a PNG.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from jaxwan.analysis.humane import number
from jaxwan.validate.check import Check

MODULES = ("tcp", "clouds", "streaming", "measured", "exchanges", "closed_forms", "luck")


class Truths(NamedTuple):
    """One group of checks, as one module made them."""

    name: str
    title: str
    checks: list[Check]
    seconds: float


def modules(names: Iterable[str] = MODULES) -> dict[str, ModuleType]:
    """Import the modules that are there; a name whose module is missing is left out."""
    found = {}
    for name in names:
        place = f"{__package__}.{name}"
        if importlib.util.find_spec(place) is not None:
            found[name] = importlib.import_module(place)
    return found


def collect(
    tell: Callable[[str], None] = lambda title: None, names: Iterable[str] = MODULES
) -> list[Truths]:
    """Run the modules' checks; `tell` hears the title of each group as it starts."""
    groups = []
    for name, module in modules(names).items():
        title = getattr(module, "TITLE", name)
        tell(title)
        began = time.perf_counter()
        groups.append(Truths(name, title, module.checks(), time.perf_counter() - began))
    return groups


def passed(groups: Iterable[Truths]) -> bool:
    """Tell whether every check of every group passed."""
    return all(check.passed for group in groups for check in group.checks)


def draw(folder: Path, names: Iterable[str] = MODULES) -> list[Path]:
    """Let the modules draw their figures as `<module>.png` and return the pictures."""
    pictures = []
    for name, module in modules(names).items():
        if hasattr(module, "figure"):
            path = folder / f"{name}.png"
            folder.mkdir(parents=True, exist_ok=True)
            module.figure(path)
            pictures.append(path)
    return pictures


def records(groups: Iterable[Truths]) -> list[dict[str, Any]]:
    """Return every check as a record; an error that is no number is None."""
    told = []
    for group in groups:
        for check in group.checks:
            facts: dict[str, Any] = {"group": group.name} | check._asdict()
            facts["passed"] = check.passed
            if not math.isfinite(check.error):
                facts["error"] = None
            told.append(facts)
    return told


def figure(value: float) -> str:
    """Write a count plainly and anything else with three digits."""
    return f"{value:.0f}" if value == int(value) and value < 1000 else number(value)


def as_table(group: Truths) -> Table:
    """Return the checks of one group as a table: a verdict a line, a source where it changes."""
    table = Table(
        title=f"{group.title} [dim]({number(group.seconds, 2)} s)[/]", title_justify="left",
        title_style="bold", box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    table.add_column("truth")
    for name in ("n", "error", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit")
    table.add_column("verdict", no_wrap=True, min_width=len("verdict"))
    source = ""
    for check in group.checks:
        if check.source != source:
            source = check.source
            table.add_row(f"[dim italic]{escape(source)}[/]")
        verdict = "[green]ok[/]" if check.passed else "[bold red]MISSED[/]"
        error = figure(check.error) if math.isfinite(check.error) else number(check.error)
        table.add_row(
            escape(check.truth), f"{check.n:,}", error, f"≤ {figure(check.target)}", check.unit,
            verdict,
        )  # fmt: skip
    return table
