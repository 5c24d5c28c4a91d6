"""Summaries as tables: for people by rich, for programs as records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.axis import thinned
from jaxwan.analysis.humane import duration, duration_spread, number, percent, rate, spread
from jaxwan.columns import IDENTITY, records, varying

Row = Mapping[Any, Any]
Figure = tuple[str, str]  # the estimate, and below it how sure it is

_WHERE = ("scenario", "challenge", "network")
_HEADLINE = ("scenario", "challenge", "strategy", "compressor")
_USUAL = {"compressor": "none", "attack": "none", "aggregator": "mean"}
_ROOMY = 96  # columns of a terminal that leave space between the figures
_LABEL = 26  # columns for the configuration, before figures are left out to gain them
_EXPENDABLE = ("staleness_mean", "rejection_rate", "time_s")  # in this order, where it is narrow


class Cell(NamedTuple):
    """One column of the summary table: where it comes from and how it reads."""

    header: str
    metric: str
    render: Callable[[Row, str], Figure]


class Line(NamedTuple):
    """One configuration: where it runs, the settings that tell it apart, and its figures."""

    place: str
    settings: list[str]
    repeated: bool  # the place is that of the line above
    figures: list[Figure]


class SummaryTable(NamedTuple):
    """A summary that fits its terminal: it closes its gaps, then leaves out lesser figures."""

    title: str | None
    cells: list[Cell]
    lines: list[Line]
    notes: list[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render at the width there is."""
        gap = 2 if options.max_width >= _ROOMY else 1
        shown, room = self._fitting(options.max_width, gap)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, gap - 1, 0, 0), pad_edge=False)
        table.show_edge = False
        table.add_column("configuration", overflow="fold", max_width=room)
        for place in shown:
            table.add_column(self.cells[place].header, justify="right", no_wrap=True)
        for index, line in enumerate(self.lines):
            if index and not line.repeated and line.place:
                table.add_section()
            table.add_row(_label(line, room), *(_figure(*line.figures[i]) for i in shown))
        if self.title:
            yield Text(self.title, style="bold")
        yield table
        gone = [self.cells[i].metric for i in range(len(self.cells)) if i not in shown]
        notes = [*self.notes, f"no room for {', '.join(gone)}"] if gone else self.notes
        if notes:
            yield Text("\n" + "\n".join(notes), style="dim")

    def _fitting(self, width: int, gap: int) -> tuple[list[int], int]:
        """Choose the figures to show, by position, and the columns left for the label."""
        wanted = min(_LABEL, max((len(_one_line(line)) for line in self.lines), default=0))
        pieces = [piece for line in self.lines for piece in (line.place, *line.settings)]
        wanted = max([wanted, *(len(piece) for piece in pieces)])
        shown = list(range(len(self.cells)))
        for metric in ("", *_EXPENDABLE):
            shown = [i for i in shown if self.cells[i].metric != metric]
            room = width - sum(self._width(i) + gap for i in shown)
            if room >= wanted:
                break
        return shown, max(room, 8)

    def _width(self, place: int) -> int:
        figures = [text for line in self.lines for text in line.figures[place]]
        return max(map(len, [*self.cells[place].header.split("\n"), *figures]))


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


def _loss(row: Row, metric: str) -> Figure:
    diverged = row.get("diverged_mean", 0.0)
    if not diverged > 0:
        return _plain(row, metric)
    median = row[f"{metric}_q50"]
    return ("diverges" if math.isinf(median) else number(median)), f"{percent(diverged)} div."


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
    Cell("final\nloss", "loss_final", _loss),
    Cell("to target", "time_to_target_s", _to_target),
)
_NOTES = {
    "time_to_target_s": "to target: median over all runs; – where under half got there",
    "loss_final": "div.: share of runs that diverge; the loss above it is the median",
}


def render_summary(summary: pd.DataFrame, title: str | None = None) -> SummaryTable:
    """Lay a summary out as a table: what tells rows apart on the left, what they share below.

    Each figure has its interval under it, at the confidence the summary was made with.
    """
    identity = _identity(summary)
    summary, thinning = thinned(summary, identity)
    differing = varying(summary, identity) if len(summary) > 1 else _given(_HEADLINE, identity)
    cells = shown_cells(summary)
    rows = summary.to_dict("records")
    lines: list[Line] = []
    for row, (place, settings) in zip(rows, _labels(rows, differing), strict=True):
        repeated = bool(lines) and place == lines[-1].place
        figures = [cell.render(row, cell.metric) for cell in cells]
        lines.append(Line(place, settings, repeated, figures))
    notes = _notes(summary, identity, differing, cells) + ([thinning] if thinning else [])
    return SummaryTable(title, cells, lines, notes)


def render_reasons(counts: pd.DataFrame, summary: pd.DataFrame) -> Text | None:
    """Say in one line per configuration which criteria its runs failed, or None if none did.

    `counts` holds the runs that failed each criterion, indexed like the summary's `config_id`.
    """
    summary, _ = thinned(summary, _identity(summary))
    rows = summary.to_dict("records")
    differing = varying(summary, _identity(summary)) if len(rows) > 1 else []
    lines = []
    for row, (place, settings) in zip(rows, _labels(rows, differing, brief=True), strict=True):
        failed = counts.loc[row["config_id"]]
        why = [f"{name} {count}" for name, count in failed.items() if count]
        if why:
            label = " · ".join(filter(None, [place, *settings])) if len(rows) > 1 else ""
            lines.append((label, " · ".join(why), row["n"]))
    if not lines:
        return None
    each = {n for _, _, n in lines}
    text = Text("runs that fail a criterion", style="bold")
    text.append(f", of {each.pop()} each\n" if len(each) == 1 else "\n", style="not bold")
    longest = max(len(label) for label, _, _ in lines)
    for label, reasons, _ in lines:
        text.append(f"{label:{longest}}  {reasons}\n".lstrip(), style="not bold")
    text.rstrip()
    return text


def summary_records(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn a summary into JSON-ready records; NaN and inf are null, and `status` says why.

    It is diverged (most runs did), reached (most got to the target), seldom (some did), never, or
    unknown: nothing was learned.
    """
    rows = zip(records(summary), summary.to_dict("records"), strict=True)
    return [record | {"status": _status(row)} for record, row in rows]


def _status(row: Row) -> str:
    if row.get("diverged_mean", 0.0) >= 0.5:
        return "diverged"
    median = row.get("loss_final_q50", math.nan)
    if median != median:
        return "unknown"
    reached = row.get("reached_mean", math.nan)
    return "unknown" if reached != reached else (
        "reached" if reached >= 0.5 else "seldom" if reached > 0 else "never"
    )  # fmt: skip


def _identity(summary: pd.DataFrame) -> list[str]:
    before = list(summary.columns)[: list(summary.columns).index("n")]
    return [name for name in before if name != "config_id"]


def _shown(summary: pd.DataFrame, cell: Cell) -> bool:
    if cell.metric == "time_to_target_s" and "loss_final_mean" in summary:
        return f"{cell.metric}_q50" in summary and bool(summary["reached_mean"].gt(0).any())
    central = f"{cell.metric}_q50" if cell.metric == "time_to_target_s" else f"{cell.metric}_mean"
    return central in summary and bool(summary[central].notna().any())


def shown_cells(summary: pd.DataFrame) -> list[Cell]:
    """Choose the columns a summary has something to say in."""
    return [cell for cell in CELLS if _shown(summary, cell)] + _other_cells(summary)


def _other_cells(summary: pd.DataFrame) -> list[Cell]:
    """Make a column for each metric someone asked for beyond the usual ones."""
    usual = {cell.metric for cell in CELLS} | {"reached", "diverged"}
    names = [str(name).removesuffix("_lo") for name in summary if str(name).endswith("_lo")]
    others = [name for name in names
              if name not in usual and not name.startswith("time_to_target_s_")]  # fmt: skip
    return [Cell(_header(name).replace(" ", "\n"), name, _guess(summary, name)) for name in others]


def _guess(summary: pd.DataFrame, name: str) -> Callable[[Row, str], Figure]:
    if f"{name}_q50" not in summary:
        return _share
    return _time if name.endswith("_s") and not name.endswith("per_s") else _plain


def _notes(
    summary: pd.DataFrame, identity: list[str], differing: list[str], cells: list[Cell]
) -> list[str]:
    if summary.empty:
        return []
    first, runs = summary.iloc[0], summary["n"]
    shared = [name for name in identity if name not in differing and _setting(first[name]) != "–"]
    same = [f"{_header(name)} {_setting(first[name])}" for name in shared]
    alike = f"{runs.min()} run" + "s" * int(runs.min() != 1)
    each = alike if runs.nunique() == 1 else f"{runs.min()} to {runs.max()} runs"
    notes = [" · ".join([f"all: {each}", *same])]
    metrics = {cell.metric for cell in cells}
    if "time_to_target_s" in metrics:
        notes.append(_NOTES["time_to_target_s"])
    elif "reached_mean" in summary and "loss_final" in metrics:
        notes.append("no run reaches the target loss of its task")
    if "loss_final" in metrics and summary.get("diverged_mean", pd.Series([0.0])).gt(0).any():
        notes.append(_NOTES["loss_final"])
    return notes


def setting_names(row: Row, names: list[str]) -> str:
    """Join the settings of a row: family members by name alone, swept numbers with their field."""
    pairs = [(name, _measure(name, row[name])) for name in names]
    return " · ".join(_named(name, setting) for name, setting in pairs if setting != "–")


def _measure(name: str, value: Any) -> str:
    if name.endswith("_bps") and isinstance(value, int | float) and value == value:
        return rate(float(value))
    return _setting(value)


def _named(name: str, setting: str) -> str:
    if setting == "none":
        return f"no {_header(name)}"
    return setting if name in IDENTITY else f"{_header(name).removesuffix(' bps')} {setting}"


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


def _labels(
    rows: Sequence[Row], differing: list[str], brief: bool = False
) -> list[tuple[str, list[str]]]:
    """Give each row its place and its settings.

    What differs among the rows of one place is always said; what differs only between places
    goes unsaid where it is the usual, and altogether if `brief`.
    """
    where = _given(_WHERE, differing)
    places = [setting_names(row, where) for row in rows]
    rest = [name for name in differing if name not in _WHERE]
    inner = {
        name
        for name in rest
        for place in places
        if len({str(row[name]) for row, its in zip(rows, places, strict=True) if its == place}) > 1
    }
    found = []
    for row, place in zip(rows, places, strict=True):
        said = [name for name in rest if name in inner or not (brief or _is_usual(name, row))]
        settings = [text for name in said if (text := setting_names(row, [name]))]
        found.append((place, settings if place or settings else [str(row["config_id"])]))
    return found


def _is_usual(name: str, row: Row) -> bool:
    return _USUAL.get(name) == row[name]


def _one_line(line: Line) -> str:
    return max(line.place, " · ".join(line.settings), key=len)


def _label(line: Line, room: int) -> Text:
    """Write the place above the settings; a place that the line above gave is dim."""
    label = Text(line.place, style="dim" if line.repeated else "")
    if line.place and line.settings:
        label.append("\n")
    return label.append("\n".join(_filled(line.settings, room)), style="bold not dim")


def _filled(pieces: list[str], room: int) -> list[str]:
    """Fill lines with whole pieces, so that none breaks inside."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 3 + len(piece) <= room:
            lines[-1] += f" · {piece}"
        else:
            lines.append(piece)
    return lines


def _figure(estimate: str, certainty: str) -> Text:
    """Dim the uncertainty, so that the eye finds the estimate first."""
    figure = Text(estimate)
    return figure.append(f"\n{certainty}", style="dim") if certainty else figure
