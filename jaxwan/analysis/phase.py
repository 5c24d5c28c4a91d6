"""Phase diagrams: which configuration wins where, over two swept numbers."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from string import ascii_uppercase
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Group
from rich.text import Text

from jaxwan.analysis.best import DELTA, Judged, judge
from jaxwan.analysis.humane import count, percent
from jaxwan.analysis.outcomes import prefers_larger
from jaxwan.analysis.places import Question, one_each, place_of
from jaxwan.analysis.wording import (
    check_metric,
    metric_title,
    setting_text,
    setting_title,
    usual_metric,
)
from jaxwan.columns import identity_columns, plain_json, varying

USUAL_AXES = ("link.bandwidth_bps", "link.delay_s")
NONE, TIE = "·", "?"


class Phase(NamedTuple):
    """A map: the verdict at every place of a grid."""

    x: str
    y: str
    columns: list[Any]  # values of x, rising
    rows: list[Any]  # values of y, rising
    metric: str
    confidence: float
    labels: list[str]  # configurations that win somewhere, then the rest, as the sweep has them
    cells: dict[tuple[int, int], Judged]  # by row and column; what did not run is missing
    seeds: int

    def winner(self, row: int, column: int) -> str:
        """Name the winner of a place; empty where nobody attains anything or nothing ran."""
        cell = self.cells.get((row, column))
        return (cell.verdict.winner or "") if cell else ""

    def rival(self, row: int, column: int) -> str:
        """Name the first configuration tied with the winner; empty where the winner is alone."""
        cell = self.cells.get((row, column))
        return cell.verdict.tied[0] if cell and cell.verdict.tied else ""

    def shares(self) -> dict[str, int]:
        """Count the places that each configuration wins against another, the most first."""
        found = [cell.verdict for cell in self.cells.values()]
        won = [each.winner for each in found if each.runner_up is not None]
        counts = {label: won.count(label) for label in self.labels}
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def present(self) -> list[str]:
        """Name what wins, ties or stands alone somewhere, the most frequent winner first."""
        found = [cell.verdict for cell in self.cells.values()]
        names = {name for each in found for name in (each.winner, *each.tied)}
        return [label for label in self.shares() if label in names]


def phase(
    frame: pd.DataFrame,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    metric: str | None = None,
    confidence: float = 0.95,
) -> Phase:
    """Map two swept settings to the winning configuration.

    Configurations are told apart by `by` and the settings within it (`strategy` and
    `strategy.local_steps`), or by everything that varies beside the two axes; these are bandwidth
    and delay unless told, or else the two numbers with most values.

    Raises:
        ValueError: for a column that is missing or does not vary, or runs that `by` cannot tell
            apart.
    """
    if frame.empty:
        raise ValueError("there are no runs to map")
    metric = usual_metric(frame) if metric is None else metric
    check_metric(frame, metric)
    one = one_each(frame)
    x, y = _axes(one, x, y)
    own = _competing(one, x, y, by)
    question = Question(metric, prefers_larger(metric), confidence, DELTA)
    columns, rows = (sorted(one[name].dropna().unique().tolist()) for name in (x, y))
    cells = {
        (rows.index(at_y), columns.index(at_x)): judge(
            place_of(here, {x: at_x, y: at_y}, own, question), question
        )
        for (at_y, at_x), here in frame.groupby([y, x], sort=True)
    }
    said = [dict(zip(*(cell.rows[name] for name in ("config_id", "setting")), strict=True))
            for cell in cells.values()]  # fmt: skip
    names = {config: label for each in said for config, label in each.items()}
    labels = list(dict.fromkeys(names[config] for config in one["config_id"] if config in names))
    seeds = int(frame["seed"].nunique())
    return Phase(x, y, columns, rows, metric, confidence, labels, cells, seeds)


def _competing(one: pd.DataFrame, x: str, y: str, by: str | None) -> list[str]:
    """Return the settings that tell apart what competes at a place."""
    rest = [name for name in varying(one, identity_columns(one)) if name not in (x, y)]
    own = rest if by is None else _own(rest, by)
    others = [name for name in rest if name not in own]
    if others:
        raise ValueError(
            f"{', '.join(others)} vary too; map them by leaving --by out, or sweep them apart"
        )
    if not own:
        raise ValueError("nothing varies beside the axes: there is nothing to choose between")
    if one[[x, y, *own]].map(str).duplicated().any():
        raise ValueError("several configurations have the same settings: name the setting that "
                         "tells them apart")  # fmt: skip
    return own


def _axes(frame: pd.DataFrame, x: str | None, y: str | None) -> tuple[str, str]:
    numbers = {
        name: int(frame[name].nunique())
        for name in varying(frame, identity_columns(frame))
        if pd.api.types.is_numeric_dtype(frame[name])
    }
    most = sorted(numbers, key=lambda name: (name not in USUAL_AXES, -numbers[name]))
    free = [name for name in most if name not in (x, y)]
    for name in (x, y):
        if name is not None and name not in numbers:
            known = ", ".join(numbers) or "none"
            raise ValueError(f"{name!r} is no number that the sweep varies (there are: {known})")
    if x is None or y is None:
        if len(free) < (x is None) + (y is None):
            known = ", ".join(numbers) or "none"
            raise ValueError(f"a map needs two numbers that the sweep varies (there are: {known})")
        usual = [name for name in USUAL_AXES if name in free]
        free = [*usual, *(name for name in free if name not in usual)]
        x = free.pop(0) if x is None else x
        y = free.pop(0) if y is None else y
    if x == y:
        raise ValueError(f"both axes are {x!r}")
    return x, y


def _own(rest: list[str], by: str) -> list[str]:
    own = [name for name in rest if name == by or name.startswith(f"{by}.")]
    if not own:
        known = ", ".join(rest) or "none"
        raise ValueError(f"{by!r} does not vary beside the axes (there are: {known})")
    return own


def axis_title(name: str) -> str:
    """Name an axis; a delay is one way, and people know the round trip."""
    return "round-trip time" if name.endswith("delay_s") else setting_title(name)


def axis_text(name: str, value: Any) -> str:
    """Write a value on an axis, with three digits at most."""
    value = float(f"{value:.3g}")
    return setting_text(name, 2 * value if name.endswith("delay_s") else value)


def letters(found: Phase) -> dict[str, str]:
    """Give each configuration that wins or ties somewhere a letter, the most frequent first."""
    return dict(zip(found.present(), cycle(ascii_uppercase), strict=False))


def render_phase(found: Phase, title: str | None = None) -> Group:
    """Lay a map out as a grid of letters; a small letter follows where another is tied."""
    sign = letters(found)
    names = [axis_text(found.x, value).split(" ") for value in found.columns]
    heads = [axis_text(found.y, value) for value in found.rows]
    width = 1 + max(4, *(len(word) for name in names for word in name))
    margin = max(map(len, heads))
    lines = []
    for row in range(len(found.rows))[::-1]:
        marks = [_mark(found, sign, row, column) for column in range(len(names))]
        lines.append(f"{heads[row]:>{margin}}" + "".join(f"{mark:>{width}}" for mark in marks))
    for line in range(max(map(len, names))):
        words = [name[line] if line < len(name) else "" for name in names]
        lines.append(" " * margin + "".join(f"{word:>{width}}" for word in words))
    grid = Text("\n".join(lines), no_wrap=True)
    legend = Text("\n".join(_legend(found, sign)))
    notes = (
        f"{metric_title(found.metric)}; {axis_title(found.x)} to the right, "
        f"{axis_title(found.y)} upwards; {count(found.seeds, 'seed')}\n"
        f"a small letter: tied with it at {percent(found.confidence)} confidence; + with more; "
        f"{NONE} nobody has a value"
    )
    heading = [Text(title, style="bold")] if title else []
    return Group(*heading, grid, Text(""), legend, Text(notes, style="dim"))


def _mark(found: Phase, sign: dict[str, str], row: int, column: int) -> str:
    cell = found.cells.get((row, column))
    if cell is None:
        return " "
    if cell.verdict.winner is None:
        return NONE
    tied = cell.verdict.tied
    more = "+" if len(tied) > 1 else ""
    return sign[cell.verdict.winner] + (sign[tied[0]].lower() + more if tied else "")


def _legend(found: Phase, sign: dict[str, str]) -> list[str]:
    shares, places = found.shares(), len(found.cells)
    verdicts = [cell.verdict for cell in found.cells.values()]
    alone = Counter(each.winner for each in verdicts if each.runner_up and not each.tied)
    return [
        f"{letter}  {label}  (best at {shares[label]} of {places}, alone at {alone[label]})"
        for label, letter in sign.items()
    ]


def phase_records(found: Phase) -> dict[str, Any]:
    """Return a map as JSON-ready values: one record a place."""
    places = []
    for (row, column), cell in sorted(found.cells.items()):
        rivals = [
            {"label": each["setting"], "value": plain_json(each["mean"]),
             "value_lo": plain_json(each["lo"]), "value_hi": plain_json(each["hi"]),
             "share": 1 - each["filled"] / each["n"], "tied": each["tied"],
             "lead": plain_json(each["ratio"]), "lead_lo": plain_json(each["ratio_lo"]),
             "lead_hi": plain_json(each["ratio_hi"])}
            for each in cell.rows.to_dict("records")
        ]  # fmt: skip
        place = {found.x: found.columns[column], found.y: found.rows[row]}
        places.append(place | {"best": cell.verdict.winner, "tied": cell.verdict.tied,
                               "sentence": cell.verdict.sentence,
                               "configurations": rivals})  # fmt: skip
    return {
        "x": found.x, "y": found.y, "metric": found.metric, "confidence": found.confidence,
        "seeds": found.seeds, "wins": found.shares(), "places": places,
    }  # fmt: skip
