"""The best setting as people read it: a sentence, then a table of what the seeds say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.best import COLUMNS, Best, Verdict
from jaxwan.analysis.compare import is_duration
from jaxwan.analysis.humane import duration, duration_unit, number, percent
from jaxwan.analysis.outcomes import TO_TARGET
from jaxwan.analysis.places import place_label
from jaxwan.analysis.robust import CRITERIA
from jaxwan.analysis.verdict import share
from jaxwan.analysis.wording import metric_text
from jaxwan.columns import plain_json, records

_SHOWN = 12  # settings of a place
_PLACES = 6  # sentences of places


def render_best(found: Best) -> Group:
    """Lay an answer out: the sentence first, each figure with its interval below it."""
    parts: list[RenderableType] = [Text(found.sentence, style="bold")]
    if len(found.verdicts) > 1 and found.robust is None:
        parts += [_sentence(each) for each in found.verdicts[:_PLACES]]
    if found.robust is not None:
        parts += [Text(), _robust(found.robust, found)]
    parts += [Text(), _settings(found)]
    notes = [*found.notes, "p best: probability of the best mean; = ties with the winner"]
    if found.robust is not None:
        notes.append("below mean, worst decile, regret: share of resampled seeds in which it wins")
    rest = len(found.verdicts) - _PLACES
    if rest > 0 and found.robust is None:
        notes.append(f"{rest} more places in the table; --json has their sentences")
    parts += [Text("\n" + "\n".join(notes), style="dim")]
    return Group(*parts)


def best_records(found: Best) -> dict[str, Any]:
    """Turn an answer into JSON-ready data."""
    verdicts = [
        {**each._asdict(), "place": {name: plain_json(at) for name, at in each.place.items()}}
        | {"ratio": {name: plain_json(side) for name, side in each.ratio._asdict().items()}}
        | {name: plain_json(getattr(each, name)) for name in ("probability", "regret", "sure")}
        for each in found.verdicts
    ]
    return {
        "sentence": found.sentence,
        "metric": found.metric,
        "larger_is_better": found.larger,
        "confidence": found.confidence,
        "delta": found.delta,
        "verdicts": verdicts,
        "settings": records(found.table),
        "robust": None if found.robust is None else records(found.robust),
        "notes": found.notes,
    }


def _sentence(found: Verdict) -> Text:
    return Text.assemble((f"{place_label(found.place)}: ", "cyan"), found.sentence)


def _settings(found: Best) -> Table:
    metric = found.metric.removesuffix("_s").replace("_", " ")
    sheet = _sheet("setting", [metric, "worse than\nbest", "better by\nat most", "p best", "seeds"])
    places = [str(name) for name in found.table if name not in COLUMNS]
    last = ""
    for _, rows in _grouped(found.table, places):
        for place, row in enumerate(rows[:_SHOWN]):
            label = place_label({name: row[name] for name in places})
            if place == 0 and last:
                sheet.add_section()
            sheet.add_row(_name(row, label if label != last else ""), *_cells(row, found))
            last = label
        if len(rows) > _SHOWN:
            sheet.add_row(Text(f"and {len(rows) - _SHOWN} more", style="dim"))
    return sheet


def _grouped(table: pd.DataFrame, places: list[str]) -> list[tuple[str, list[dict[Any, Any]]]]:
    groups: dict[str, list[dict[Any, Any]]] = {}
    for row in table.to_dict("records"):
        groups.setdefault(str([row[name] for name in places]), []).append(row)
    return list(groups.items())


def _sheet(first: str, headers: list[str]) -> Table:
    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    sheet.add_column(first, overflow="fold", min_width=16)
    for header in headers:
        sheet.add_column(header, justify="right", no_wrap=True)
    return sheet


def _name(row: Mapping[Any, Any], place: str) -> Text:
    label = Text(f"{place}\n" if place else "", style="cyan")
    mark = "" if row["winner"] else "= " if row["tied"] else ""
    style = "bold green" if row["winner"] else "bold" if row["tied"] else ""
    return label.append(mark + str(row["setting"]), style=style)


def _cells(row: Mapping[Any, Any], found: Best) -> list[Text]:
    center, around = measured(row, found.metric)
    ratio = "" if row["winner"] else _times(row["ratio"])
    bounds = "" if row["winner"] else f"{_times(row['ratio_lo'])} – {_times(row['ratio_hi'])}"
    if math.isnan(row["ratio"]):
        ratio, bounds = "–", ""
    most = "" if row["winner"] else "0" if row["better_at_most"] <= 0 else share(
        row["better_at_most"]) if math.isfinite(row["better_at_most"]) else "–"  # fmt: skip
    chance = row["probability"]
    return [
        Text(center).append(f"\n{around.strip()}" if around else "", style="dim"),
        Text(ratio).append(f"\n{bounds}" if bounds else "", style="dim"),
        Text(most),
        Text("–" if math.isnan(chance) else _chance(chance)),
        Text(str(row["n"])),
    ]


def _chance(value: float) -> str:
    return ">99 %" if 0.99 < value < 1 else "<1 %" if 0 < value < 0.01 else percent(value)


def _times(ratio: float) -> str:
    return f"{number(ratio)}×" if ratio >= 1.3 else f"{100 * (ratio - 1):.1f} %"


def measured(row: Mapping[Any, Any], metric: str) -> tuple[str, str]:
    """Write the mean of a row, and below it its interval and how many runs reached the target."""
    center, low, high = (float(row[name]) for name in ("mean", "lo", "hi"))
    text = metric_text(metric, center)
    if is_duration(metric):
        length, _ = duration_unit(center)
        bounds = f"{number(low / length)} – {number(high / length)}"
    else:
        bounds = f"{metric_text(metric, low)} – {metric_text(metric, high)}"
    parts = [bounds] if math.isfinite(low) and math.isfinite(high) else []
    if row["filled"] and metric == TO_TARGET:
        text = f"≥ {text}"
        parts.append(f"reached by {percent(1 - row['filled'] / row['n'])}")
    return text, "\n".join(parts)


def _robust(table: pd.DataFrame, found: Best) -> Table:
    sheet = _sheet("setting, over all rows", ["mean", "worst decile", "regret"])
    for row in table.sort_values("regret", kind="stable").head(_SHOWN).to_dict("records"):
        cells = []
        for name in CRITERIA:
            value = row[name]
            told = share(value) if name == "regret" else (
                duration(value) if is_duration(found.metric) else number(value)
            )  # fmt: skip
            cell = Text(told, style="bold green" if row[f"{name}_winner"] else "")
            cells.append(cell.append(f"\n{_chance(row[f'{name}_probability'])}", style="dim"))
        sheet.add_row(str(row["setting"]), *cells)
    return sheet
