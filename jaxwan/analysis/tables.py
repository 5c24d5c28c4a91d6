"""Summaries as tables: for people by rich, for programs as records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import duration, duration_spread, number, percent, spread
from jaxwan.columns import IDENTITY, records, varying

Row = Mapping[Any, Any]
Figure = tuple[str, str]  # the estimate, and below it how sure it is

_WHERE = ("scenario", "challenge", "network")
_HEADLINE = ("scenario", "challenge", "strategy", "compressor")
_ROOMY = 96  # columns of a terminal that leave space between the figures


class Cell(NamedTuple):
    """One column of the summary table: where it comes from and how it reads."""

    header: str
    metric: str
    render: Callable[[Row, str], Figure]


class SummaryTable(Table):
    """A table that moves its columns closer together on a narrow terminal."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render with the gap that the width allows."""
        self.padding = (0, 1, 0, 0) if options.max_width >= _ROOMY else 0
        yield from super().__rich_console__(console, options)


def _plain(row: Row, metric: str) -> Figure:
    return spread(row[f"{metric}_mean"], _half(row, metric))


def _time(row: Row, metric: str) -> Figure:
    return duration_spread(row[f"{metric}_mean"], _half(row, metric))


def _percentage(row: Row, metric: str) -> Figure:
    half = _half(row, metric)
    return percent(row[f"{metric}_mean"], 1), f"±{100 * half:.1f}" if math.isfinite(half) else ""


def _share(row: Row, metric: str) -> Figure:
    low, high = (100 * row[f"{metric}_{side}"] for side in ("lo", "hi"))
    return percent(row[f"{metric}_mean"]), f"{low:.0f} – {high:.0f}"


def _to_target(row: Row, metric: str) -> Figure:
    median = row[f"{metric}_q50"]
    time = "–" if math.isinf(median) else duration(median)
    return time, f"by {percent(row['reached_mean'])}" if "reached_mean" in row else ""


def _half(row: Row, metric: str) -> float:
    return row[f"{metric}_hi"] - row[f"{metric}_mean"]


CELLS = (
    Cell("success", "success", _share),
    Cell("through-\nput ratio", "throughput_ratio", _plain),
    Cell("rejected", "rejection_rate", _percentage),
    Cell("stale-\nness", "staleness_mean", _plain),
    Cell("time", "time_s", _time),
    Cell("final\nloss", "loss_final", _plain),
    Cell("to target", "time_to_target_s", _to_target),
)
_TARGET_NOTE = "to target: median over all runs, and the share that got there; – if under half did"


def render_summary(summary: pd.DataFrame, title: str | None = None) -> Table:
    """Lay a summary out as a table: what tells rows apart on the left, what they share below.

    Each figure has its interval under it, at the confidence the summary was made with.
    """
    identity = _identity(summary)
    differing = varying(summary, identity) if len(summary) > 1 else _given(_HEADLINE, identity)
    cells = [cell for cell in CELLS if _shown(summary, cell)] + _other_cells(summary)
    table = SummaryTable(title=title, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.title_justify = table.caption_justify = "left"
    table.title_style, table.caption_style = "bold", "dim"
    table.caption = _caption(summary, identity, differing, cells)
    table.add_column("configuration", overflow="fold", min_width=8)
    for header in ("n", *(cell.header for cell in cells)):
        table.add_column(header, justify="right", no_wrap=True, vertical="top")
    place = ""
    for row in summary.to_dict("records"):
        previous, place = place, setting_names(row, _given(_WHERE, differing))
        rest = setting_names(row, [name for name in differing if name not in _WHERE])
        if previous and place != previous:
            table.add_section()
        label = _label(place, rest, repeated=place == previous, fallback=str(row["config_id"]))
        figures = [_figure(*cell.render(row, cell.metric)) for cell in cells]
        table.add_row(label, str(row["n"]), *figures)
    return table


def summary_records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a summary into JSON-ready records; NaN and inf are null, `reached_*` says which."""
    return records(summary)


def _identity(summary: pd.DataFrame) -> list[str]:
    before = list(summary.columns)[: list(summary.columns).index("n")]
    return [name for name in before if name != "config_id"]


def _shown(summary: pd.DataFrame, cell: Cell) -> bool:
    if cell.metric == "time_to_target_s" and "loss_final_mean" in summary:
        return f"{cell.metric}_q50" in summary and bool(summary["loss_final_mean"].notna().any())
    central = f"{cell.metric}_q50" if cell.metric == "time_to_target_s" else f"{cell.metric}_mean"
    return central in summary and bool(summary[central].notna().any())


def _other_cells(summary: pd.DataFrame) -> list[Cell]:
    """Make a column for each metric someone asked for beyond the usual ones."""
    usual = {cell.metric for cell in CELLS} | {"reached"}
    names = [str(name).removesuffix("_lo") for name in summary if str(name).endswith("_lo")]
    others = [name for name in names if name not in usual]
    return [Cell(_header(name).replace(" ", "\n"), name, _guess(summary, name)) for name in others]


def _guess(summary: pd.DataFrame, name: str) -> Callable[[Row, str], Figure]:
    if f"{name}_q50" not in summary:
        return _share
    return _time if name.endswith("_s") and not name.endswith("per_s") else _plain


def _caption(
    summary: pd.DataFrame, identity: list[str], differing: list[str], cells: list[Cell]
) -> str:
    lines = []
    shared = [f"{_header(n)} {_setting(summary[n].iloc[0])}" for n in identity if len(summary)]
    same = [text for text, name in zip(shared, identity, strict=False) if name not in differing]
    same = [text for text in same if not text.endswith(" –")]
    if same:
        lines.append("all: " + " · ".join(same))
    if any(cell.metric == "time_to_target_s" for cell in cells):
        lines.append(_TARGET_NOTE)
    return "\n".join(["", *lines]) if lines else ""


def setting_names(row: Row, names: list[str]) -> str:
    """Join the settings of a row: family members by name alone, swept numbers with their field."""
    pairs = [(name, _setting(row[name])) for name in names]
    return " · ".join(_named(name, setting) for name, setting in pairs if setting != "–")


def _named(name: str, setting: str) -> str:
    if setting == "none":
        return f"no {_header(name)}"
    return setting if name in IDENTITY else f"{_header(name)} {setting}"


def _given(wanted: tuple[str, ...], names: list[str]) -> list[str]:
    return [name for name in wanted if name in names]


def _header(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")


def _setting(value: Any) -> str:
    if value is None or value == "" or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:g}" if value == float(f"{value:g}") else number(value, 6)
    return str(value)


def _label(place: str, rest: str, repeated: bool, fallback: str) -> Text:
    """Write the place above the settings; a place that the row above gave is dim."""
    if not place and not rest:
        return Text(fallback, style="dim")
    label = Text(place, style="dim" if repeated else "")
    if place and rest:
        label.append("\n")
    return label.append(rest, style="bold not dim")


def _figure(estimate: str, certainty: str) -> Text:
    """Dim the uncertainty, so that the eye finds the estimate first."""
    figure = Text(estimate)
    return figure.append(f"\n{certainty}", style="dim") if certainty else figure
