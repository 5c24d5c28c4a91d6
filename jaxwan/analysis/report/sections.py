"""The sections of the page: each is a title and HTML, and the figures that stand in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

import pandas as pd

from jaxwan.analysis.best import Judged
from jaxwan.analysis.best_table import measured
from jaxwan.analysis.humane import duration, number, percent
from jaxwan.analysis.outcomes import prefers_larger
from jaxwan.analysis.report import breakdown, figures, provenance
from jaxwan.analysis.report.figures import Figure
from jaxwan.analysis.report.matter import Matter, censored, learned, targets_matter
from jaxwan.analysis.sensitivity import effect_words
from jaxwan.analysis.tables import Cell, shown_cells
from jaxwan.analysis.verdict import times
from jaxwan.analysis.wording import metric_title, setting_title
from jaxwan.columns import COLUMNS

SHORT = 16  # configurations up to which the table stands whole
BEST = 12  # of more, so many stand above the fold
PANELS = 4  # figures of one kind above the fold


class Section(NamedTuple):
    """One part of the page; without body and figures it is left out."""

    name: str
    title: str
    body: str  # HTML, the figures stand where it says {figures}
    figures: list[Figure]


def sections(matter: Matter) -> list[Section]:
    """Return what there is to tell, in order; what has no data is left out."""
    found = [
        _verdicts(matter), _table(matter), _responses(matter), _losses(matter),
        _throughput(matter), _trade(matter), _breakdown(matter), _sensitivity(matter),
        _censored(matter), _reproduce(matter),
    ]  # fmt: skip
    return [section for section in found if section.body or section.figures]


def _verdicts(matter: Matter) -> Section:
    rows = [
        [escape(place), *_choice_cells(choice, matter.metric)]
        for place, choice in matter.choices.items()
    ]
    title = metric_title(matter.metric)
    heads = ["where", "best", f"mean {title}", "the next is worse by", "tied with it"]
    if len(matter.choices) == 1:
        heads, rows = heads[1:], [row[1:] for row in rows]
    way = "more" if prefers_larger(matter.metric) else "less"
    told = (
        f"<p class=note>Decided by the mean {escape(title)} ({way} is better) as "
        "<code>jaxwan best</code> does. A configuration is tied where the seeds do not show the "
        f"best ahead, at {percent(matter.confidence)} confidence for all of them at once. "
        f"{escape('; '.join(matter.notes))}.</p>"
    )
    body = html_table(heads, rows) + told if matter.decides else ""
    return Section("decision", "Decision", body, [])


def _choice_cells(choice: Judged, metric: str) -> list[str]:
    found = choice.verdict
    if found.winner is None:
        return ["–", "–", "–", ""]
    value, around = measured(choice.rows.iloc[0].to_dict(), metric)
    value = escape(value) + "".join(f"<small>{escape(line)}</small>" for line in around.split("\n"))
    if found.runner_up is None:
        return [f"{escape(found.winner)}<small>nothing else ran</small>", value, "–", ""]
    ahead = "–"
    if math.isfinite(found.ratio.mean):
        mean, low, high = times(found.ratio)
        ahead = f"×{mean}<small>{low} to {high}</small>"
    tied = "".join(f"<li>{escape(label)}" for label in found.tied[:6])
    more = f"<li>and {len(found.tied) - 6} more" if len(found.tied) > 6 else ""
    ties = f"<ul>{tied}{more}</ul>" if tied else ""
    return [f"<b>{escape(found.winner)}</b>", value, ahead, ties]


def _table(matter: Matter) -> Section:
    cells = shown_cells(matter.summary.drop(columns=["_place", "_label"]))
    whole = matter.summary
    if len(whole) <= SHORT:
        return Section("results", "Results", _results(matter, whole, cells), [])
    each = max(BEST // len(matter.places), 1)
    body = f"<p class=note>The best {each} of every place.</p>" if len(matter.places) > 1 else (
        f"<p class=note>The best {BEST} of {len(whole)}.</p>"
    )  # fmt: skip
    body += _results(matter, matter.shown(BEST), cells)
    body += f"<details><summary>All {len(whole)} configurations</summary>"
    return Section("results", "Results", f"{body}{_results(matter, whole, cells)}</details>", [])


def _results(matter: Matter, rows: pd.DataFrame, cells: list[Cell]) -> str:
    several = len(matter.places) > 1
    heads = [*(["where"] if several else []), "configuration", "runs"]
    heads += [cell.header.replace("-\n", "").replace("\n", " ") for cell in cells]
    body = []
    for row in rows.to_dict("records"):
        line = [escape(row["_place"])] if several else []
        line += [f"<b>{escape(row['_label'])}</b>", f"{row['n']:,}"]
        body.append([*line, *(_figure_cell(row, cell) for cell in cells)])
    note = (
        "<p class=note>Means with 95 % intervals below; time to target and a loss that diverges: "
        "medians over all runs, with the share that gets there (diverges). "
        "Press a heading to sort.</p>"
    )
    return html_table(heads, body, sortable=True) + note


def _figure_cell(row: dict[Any, Any], cell: Cell) -> str:
    estimate, certainty = cell.render(row, cell.metric)
    key = row.get(f"{cell.metric}_q50" if cell.metric == "time_to_target_s" else
                  f"{cell.metric}_mean", math.nan)  # fmt: skip
    key = float(key) if key == key else math.inf
    small = f"<small>{escape(certainty)}</small>" if certainty else ""
    return f"<!--{key:.9g}-->{escape(estimate)}{small}"


def html_table(heads: list[str], rows: list[list[str]], sortable: bool = False) -> str:
    """Write a table; a cell may begin with a comment that holds its key for sorting."""
    head = "".join(
        f"<th scope=col{' class=text' if name in _TEXTS else ''}>{escape(name)}" for name in heads
    )
    lines = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            key, rest = "", cell
            if cell.startswith("<!--"):
                number_text, rest = cell[4:].split("-->", 1)
                key = f' data-key="{number_text}"'
            kind = " class=text" if heads[index] in _TEXTS else ""
            cells.append(f"<td{kind}{key}>{rest}</td>")
        lines.append("<tr>" + "".join(cells))
    kind = " class=sortable" if sortable else ""
    return f"<div class=wide><table{kind}><thead><tr>{head}<tbody>{''.join(lines)}</table></div>"


_TEXTS = (
    "where", "configuration", "best", "tied with it", "setting", "from", "to", "ended early",
    "criteria not met", "column", "meaning",
)  # fmt: skip


def _responses(matter: Matter) -> Section:
    drawn = breakdown.responses(matter)
    name = setting_title(matter.axis.name) if matter.axis else ""
    return Section("response", f"Response to {name}", "{figures}" if drawn else "", drawn)


def _losses(matter: Matter) -> Section:
    if not learned(matter) or matter.axis is not None:
        return Section("loss", "Loss against time", "", [])
    drawn = figures.losses(matter)
    legend = _legend(matter, figures.line_swatch)
    note = (
        "<p class=note>Means over seeds with 95 % bands; medians where runs diverge. A line ends "
        f"where a tenth of its runs has ended.{_left_out(matter)}</p>"
    )
    return Section("loss", "Loss against time", legend + "{figures}" + note if drawn else "", drawn)


def _legend(matter: Matter, swatch: Callable[[Matter, str], str]) -> str:
    """Write one legend for all the figures of a section."""
    items = "".join(f"<li>{swatch(matter, name)}{escape(name)}" for name in matter.top)
    return f"<ul class=legend>{items}</ul>"


def _left_out(matter: Matter) -> str:
    gone = len(matter.ranking) - len(matter.top)
    return f" The best {len(matter.top)} of {len(matter.ranking)} configurations." if gone else ""


def _throughput(matter: Matter) -> Section:
    drawn = figures.throughput(matter)
    title = "Throughput by challenge" if len(matter.places) > 1 else "Throughput"
    note = f"<p class=note>Means with 95 % intervals.{_left_out(matter)}</p>"
    legend = _legend(matter, figures.dot_swatch) if len(matter.places) > 1 else ""
    return Section("throughput", title, legend + "{figures}" + note if drawn else "",
                   [drawn] if drawn else [])  # fmt: skip


def _trade(matter: Matter) -> Section:
    drawn = breakdown.pareto(matter)
    if not drawn:
        return Section("trade", "", "", [])
    heads = ["where", "", "configuration", "time", "cost (USD)", "final loss"]
    rows = []
    for place, points in breakdown.pareto_points(matter).items():
        for order, point in zip(breakdown.numbers(points), points, strict=True):
            if not point.best:
                continue
            loss = number(point.loss) if math.isfinite(point.loss) else "–"
            rows.append([escape(place), str(order), f"<b>{escape(point.label)}</b>",
                         duration(point.time_s), number(point.cost_usd), loss])  # fmt: skip
    if len(matter.places) == 1:
        heads, rows = heads[1:], [row[1:] for row in rows]
    what = "time to target" if targets_matter(matter) else "time"
    note = (
        f"<p class=note>Median {what}, mean cost, mean final loss. Numbered: nothing else is "
        "better in one and at least as good in all three.</p>"
    )
    return Section("trade", "Time, cost and loss", "{figures}" + html_table(heads, rows) + note,
                   drawn)  # fmt: skip


def _breakdown(matter: Matter) -> Section:
    parts = {
        "What became of the contributions": breakdown.contributions(matter),
        "Staleness": breakdown.staleness(matter),
        "What failed": breakdown.failures(matter),
    }
    drawn = [figure._replace(title=title) for title, figure in parts.items() if figure]
    note = "<p class=note>Configurations without any are left out.</p>"
    nothing = "<p>Nothing failed, nothing was refused, nothing was late.</p>"
    body = "{figures}" + note if drawn else nothing
    return Section("failures", "Failures and staleness", body, drawn)


def _sensitivity(matter: Matter) -> Section:
    drawn = breakdown.tornado(matter)
    if matter.effects.empty:
        return Section("sensitivity", "", "", [])
    rows = []
    for row in matter.effects.to_dict("records"):
        effect, bounds = effect_words(row)
        small = f"<small>{escape(bounds)}</small>" if bounds else ""
        rows.append([f"<b>{escape(setting_title(str(row['setting'])))}</b>", escape(row["low"]),
                     escape(row["high"]), f"{escape(effect)}{small}",
                     f"{percent(row['low_share'])} → {percent(row['high_share'])}",
                     f"{row['seeds']} × {row['places']}"])  # fmt: skip
    heads = ["setting", "from", "to", "effect", "runs with a value", "seeds × places"]
    note = (
        f"<p class=note>What moving one setting does to {escape(metric_title(matter.metric))}, "
        "paired by seed, averaged over all combinations of the others. A number goes from its "
        "lowest to its highest value at which half of the runs have one; of other settings the "
        "extremes are compared.</p>"
    )
    return Section("sensitivity", "What to spend on", ("{figures}" if drawn else "")
                   + html_table(heads, rows) + note, [drawn] if drawn else [])  # fmt: skip


def _censored(matter: Matter) -> Section:
    found = censored(matter)
    if not found:
        return Section("censored", "What is missing",
                       "<p>Every run is whole and meets its criteria.</p>", [])  # fmt: skip
    rows = []
    for entry in found:
        reached = "–" if entry["reached"] is None else f"{entry['reached']} of {entry['runs']}"
        rows.append([escape(entry["place"]), f"<b>{escape(entry['label'])}</b>", reached,
                     _counts(entry["ended"]), _counts(entry["criteria"])])  # fmt: skip
    heads = ["where", "configuration", "reach the target", "ended early", "criteria not met"]
    if len(matter.places) == 1:
        heads, rows = heads[1:], [row[1:] for row in rows]
    body = html_table(heads, rows)
    if len(rows) > SHORT:
        body = f"<details><summary>{len(rows)} configurations</summary>{body}</details>"
    frame = matter.frame
    never = int((~frame["reached"].astype(bool)).sum()) if learned(matter) else 0
    early = sum(sum(entry["ended"].values()) for entry in found)
    note = (
        f"<p>{never:,} of {len(frame):,} runs never reach the target, {early:,} end early.</p>"
        "<p class=note>A run that never reaches the target counts as infinite in medians, and as "
        "the longest watch of its place in the decision; one that diverges has no loss, and counts "
        "as the worst there.</p>"
    )
    return Section("censored", "What is missing", note + body, [])


def _counts(counts: dict[Any, int]) -> str:
    return escape(", ".join(f"{name} {count}" for name, count in counts.items()))


def _reproduce(matter: Matter) -> Section:
    rows = "".join(
        f"<dt>{escape(name)}<dd>{escape(text)}" for name, text in provenance.facts(matter).items()
    )
    body = f"<dl>{rows}</dl>"
    command, file = provenance.command(matter), provenance.sweep_file(matter)
    if file:
        name = command.split()[2]
        body += (
            f"<p>Save as <code>{escape(name)}</code>:</p><pre>{escape(file)}</pre>"
            f"<p>and run</p><pre>{escape(command)}</pre>"
        )
    used = [cell.metric for cell in shown_cells(matter.summary.drop(columns=["_place", "_label"]))]
    known = [[f"<code>{escape(name)}</code>", escape(COLUMNS[name].meaning)]
             for name in dict.fromkeys([*used, matter.metric]) if name in COLUMNS]  # fmt: skip
    meanings = html_table(["column", "meaning"], known)
    body += f"<details><summary>What the columns mean</summary>{meanings}</details>"
    return Section("reproduce", "How to reproduce", body, [])
