"""The table of passing settings as text: how a setting is written, and what the nearest misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxwan.analysis.humane import number, percent
from jaxwan.experiment.resolved import Resolved

HEADER = (
    "challenge", "scenario", "cheapest that passes", "success", "throughput", "cost", "final loss",
    "recommended", "success", "throughput", "cost", "final loss",
)  # fmt: skip


def setting_of(resolved: Resolved) -> str:
    """Name a setting as one would write it."""
    strategy, compressor = resolved.strategy, resolved.compressor
    words = [strategy.kind.replace("_", " ")]
    if "local_steps" in strategy.static:
        words.append(f"H={strategy.static['local_steps']}")
    if strategy.knobs.get("max_staleness") is not None:
        words.append(f"staleness {strategy.knobs['max_staleness']:g}")
    ratio = compressor.knobs.get("ratio")
    return ", ".join([" ".join(words), compressor.kind + (f" {ratio:g}" if ratio else "")])


def missed(row: dict[str, Any]) -> str:
    """Say which criterion a setting misses most often, and its mean beside what is asked for."""
    reached = {
        "min_throughput_ratio": ("throughput", "throughput_ratio"),
        "min_steps": ("steps", "updates"),
        "max_rejection": ("rejected", "rejection_rate"),
    }
    if row["failed"] not in reached:
        return row["failed"]
    word, name = reached[row["failed"]]
    return f"{word} {number(row[name])} of {number(row[row['failed']])}"


def _loss(row: dict[str, Any], before: str = "") -> str:
    """Write the final loss of the runs that were trained, and how many of them diverged."""
    lost = row[f"{before}diverged"]
    if lost is None:
        return "not checked"
    return number(row[f"{before}loss_final"]) if lost == 0 else f"{percent(lost)} diverge"


def _figures(row: dict[str, Any], before: str = "") -> list[str]:
    names = ("success", "throughput_ratio", "cost_usd")
    success, ratio, cost = (row[before + name] for name in names)
    return [percent(success), number(ratio), f"${number(cost)}", _loss(row, before)]


def cells(row: dict[str, Any]) -> list[str]:
    """Write one row as text, in the order of `HEADER`."""
    mark = "" if row["passes"] else f"none; nearest ({missed(row)}): "
    own = _figures(row)
    own[0] += f" (≥ {100 * row['at_least']:.0f})"
    return [row["challenge"], row["scenario"], mark + row["setting"], *own,
            row["recommended_setting"], *_figures(row, "recommended_")]  # fmt: skip


def page_rows(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table as lines of Markdown."""
    lines = [f"| {' | '.join(HEADER)} |", "|" + "---|" * len(HEADER)]
    return lines + [f"| {' | '.join(cells(row))} |" for row in rows]
