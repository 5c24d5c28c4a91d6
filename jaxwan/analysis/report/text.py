"""The report as text, for a terminal, a log or a mail."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from jaxwan.analysis.humane import duration, number
from jaxwan.analysis.report import provenance
from jaxwan.analysis.report.breakdown import pareto_points
from jaxwan.analysis.report.matter import Matter, censored, verdict
from jaxwan.analysis.sensitivity import render_sensitivity
from jaxwan.analysis.tables import render_summary

WIDTH = 100
_MOST = 24


def report_text(matter: Matter, width: int = WIDTH) -> str:
    """Return the report as plain text of so many columns."""
    console = Console(file=io.StringIO(), width=width, record=True, highlight=False)
    for part in _parts(matter):
        console.print(part)
        console.print()
    lines = [line.rstrip() for line in console.export_text().rstrip().split("\n")]
    return "\n".join(lines) + "\n"


def _parts(matter: Matter) -> list[Any]:
    plain = matter.summary.drop(columns=["_place", "_label"])
    parts: list[Any] = [Text(matter.question or f"Results of {matter.source}"),
                        Text(verdict(matter))]  # fmt: skip
    parts += [Text(f"warning: {warning}") for warning in matter.warnings]
    if len(matter.choices) > 1 and matter.decides:
        lines = [f"{place}: {choice.verdict.sentence}" for place, choice in matter.choices.items()]
        parts.append(_titled("Decision", lines))
    parts.append(Group(Text("Results"), render_summary(plain)))
    trades = [
        f"{place + ': ' if place else ''}{point.label}: {duration(point.time_s)}, "
        f"{number(point.cost_usd)} USD, loss {number(point.loss)}"
        for place, points in pareto_points(matter).items() for point in points if point.best
    ]  # fmt: skip
    if trades:
        parts.append(_titled("Not beaten in time, cost and loss together", trades))
    if not matter.effects.empty:
        parts.append(render_sensitivity(matter.effects))
    parts.append(_titled("What is missing", _missing(matter)))
    facts = [f"{name}: {text}" for name, text in provenance.facts(matter).items()]
    command = provenance.command(matter)
    parts.append(_titled("How to reproduce", [*facts, *([command] if command else [])]))
    return parts


def _titled(title: str, lines: list[str]) -> Text:
    shown = lines[:_MOST]
    more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return Text("\n".join([title, *(f"  {line}" for line in [*shown, *more])]))


def _missing(matter: Matter) -> list[str]:
    lines = []
    for entry in censored(matter):
        said = []
        if entry["reached"] is not None and entry["reached"] < entry["runs"]:
            said.append(f"{entry['reached']} of {entry['runs']} reach the target")
        for counts in (entry["ended"], entry["criteria"]):
            said += [f"{name} {count}" for name, count in counts.items()]
        name = " · ".join(filter(None, [entry["place"], entry["label"]]))
        lines.append(f"{name}: {', '.join(said)}")
    return lines or ["nothing: every run is whole and meets its criteria"]
