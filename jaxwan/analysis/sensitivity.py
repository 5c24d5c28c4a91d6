"""Sensitivity: what moving each setting from low to high does to a metric, the others held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import number, percent
from jaxwan.analysis.outcomes import prefers_larger, values_of
from jaxwan.analysis.wording import (
    check_metric,
    config_labels,
    metric_text,
    metric_title,
    setting_text,
    setting_title,
    usual_metric,
)
from jaxwan.columns import identity_columns, keyed, varying
from jaxwan.stats.intervals import Interval, mean_interval

COLUMNS = (
    "setting", "metric", "confidence", "low", "high", "base", "seeds", "places", "dropped",
    "without", "is_ratio", "effect", "effect_lo", "effect_hi", "at_low", "at_low_lo", "at_low_hi",
    "at_high", "at_high_lo", "at_high_hi", "low_share", "high_share", "gain",
)  # fmt: skip
_ENOUGH = 0.5  # share of a level's runs that must have a value for it to be an end


class Factor(NamedTuple):
    """A setting that varies: its own columns and its levels, in order."""

    name: str
    own: list[str]
    levels: dict[str, str]  # as a key in the frame -> as people read it


def sensitivity(
    frame: pd.DataFrame,
    metric: str | None = None,
    confidence: float = 0.95,
    base: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Estimate the main effect of every setting that varies, the largest first.

    A number goes from its smallest to its largest value, of those at which at least half of the
    runs have a value (reach the target); `without` lists the other levels. Of other settings the
    two levels with the smallest and largest mean are compared, so their effect is that of a
    choice. Runs are paired on their seed and every other setting, effects averaged over those
    within a seed, and the interval is Student's t over seeds. Where all values are positive,
    effects are ratios (geometric means), else differences. `base` names the value that both ends
    are measured from (a one-at-a-time design); without it that is the mean over all levels of the
    place.

    Columns: `setting`, `metric`, `confidence`, `low`, `high` and `base` levels in words, `seeds`,
    `places` (combinations of the others), `dropped` pairs without two values, `is_ratio`,
    `effect` (high over low, or high minus low), `at_low` and `at_high` (against the base), each
    with `_lo _hi`, `low_share` and `high_share` (of runs that have a value: reach the target, do
    not diverge), and `gain`: how many times better the better end is, NaN for differences.

    Raises:
        ValueError: for a column that is missing or not numeric.
    """
    metric = usual_metric(frame) if metric is None else metric
    check_metric(frame, metric)
    names = [name for name in varying(frame, identity_columns(frame)) if name != metric]
    runs = frame.assign(_value=values_of(frame, metric))
    found = []
    for factor in _factors(frame, names):
        row = _effect(runs, names, factor, metric, confidence, (base or {}).get(factor.name))
        if row is not None:
            found.append(row)
    table = pd.DataFrame(found, columns=list(COLUMNS))
    size = np.where(table["is_ratio"].astype(bool), table["gain"].map(_log), table["effect"].abs())
    order = np.argsort(-np.nan_to_num(size.astype(np.float64), nan=-1.0), kind="stable")
    return table.iloc[order].reset_index(drop=True)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _factors(frame: pd.DataFrame, names: list[str]) -> Iterator[Factor]:
    for name in names:
        if pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(
            frame[name]
        ):
            values = sorted(frame[name].dropna().unique())
            if len(values) > 1:
                yield Factor(name, [name], {str(v): setting_text(name, v) for v in values})
            continue
        own = [name, *(other for other in names if other.startswith(f"{name}."))]
        keys = keyed(frame, own)
        words = frame[name] if len(own) == 1 else config_labels(frame, own)
        table = pd.Series(words.to_numpy(), index=keys).groupby(level=0, sort=False).first()
        yield Factor(name, own, {str(key): setting_text(name, word) for key, word in table.items()})


class _Cells(NamedTuple):
    """Values of one factor: `[seed · place, level]`, NaN where a run has none or is missing."""

    values: pd.DataFrame
    shares: pd.Series  # by level


def _cells(runs: pd.DataFrame, names: list[str], factor: Factor) -> _Cells:
    keys = keyed(runs, factor.own)
    others = [name for name in names if name not in factor.own]
    place = keyed(runs, others)
    table = pd.DataFrame(
        {"seed": runs["seed"], "place": place, "level": keys, "value": runs["_value"]}
    )
    table = table[table["level"].isin(list(factor.levels))]
    if table.duplicated(["seed", "place", "level"]).any():
        raise ValueError(
            "several runs have one seed and the same settings: the frame lacks the column that "
            "tells them apart"
        )
    shared = table.groupby(["seed", "place"])["level"].transform("nunique") > 1
    table = table[shared]
    shares = np.isfinite(table["value"]).groupby(table["level"]).mean()
    wide = table.pivot(index=["seed", "place"], columns="level", values="value")
    return _Cells(wide.where(np.isfinite(wide)), shares)


def _effect(
    runs: pd.DataFrame, names: list[str], factor: Factor, metric: str, confidence: float,
    base: Any,
) -> dict[str, Any] | None:  # fmt: skip
    values, shares = _cells(runs, names, factor)
    levels = [level for level in factor.levels if level in values]
    if len(levels) < 2:
        return None
    known = values.to_numpy(np.float64)
    known = known[np.isfinite(known)]
    ratio = bool(len(known) and (known > 0).all())
    scaled = values.map(np.log) if ratio else values
    usable = [level for level in levels if shares[level] >= _ENOUGH]
    usable = usable if len(usable) > 1 else levels
    low, high = _ends(scaled, usable, len(factor.own) == 1 and factor.name in _numeric(runs))
    both = scaled[[low, high]].notna().all(axis=1)
    origin = None if base is None else str(base)
    center = scaled[origin] if origin in levels else scaled[levels].mean(axis=1)
    gaps = {
        "effect": (scaled[high] - scaled[low])[both],
        "at_low": (scaled[low] - center)[both],
        "at_high": (scaled[high] - center)[both],
    }
    found: dict[str, Any] = {
        "setting": factor.name, "metric": metric, "confidence": confidence,
        "low": factor.levels[low], "high": factor.levels[high],
        "base": factor.levels.get(origin or "", ""),
        "seeds": int(both[both].index.get_level_values("seed").nunique()),
        "places": int(values.index.get_level_values("place").nunique()),
        "dropped": int((~both & values[[low, high]].notna().any(axis=1)).sum()),
        "without": [factor.levels[level] for level in levels if shares[level] < _ENOUGH],
        "is_ratio": ratio, "low_share": shares[low], "high_share": shares[high],
    }  # fmt: skip
    for name, gap in gaps.items():
        found |= _bounded(name, _over_seeds(gap, confidence), ratio)
    upward = found["effect"] if prefers_larger(metric) else 1 / found["effect"] if ratio else 0.0
    found["gain"] = max(upward, 1 / upward) if ratio and upward > 0 else math.nan
    return found


def _numeric(runs: pd.DataFrame) -> set[str]:
    return {str(name) for name in runs.select_dtypes("number")}


def _ends(scaled: pd.DataFrame, levels: list[str], ordered: bool) -> tuple[str, str]:
    """Choose the two levels to compare: the ends of a number, else the extremes of the means."""
    if ordered:
        return levels[0], levels[-1]
    means = scaled[levels].mean()
    if means.isna().all():
        return levels[0], levels[-1]
    low, high = str(means.idxmin()), str(means.idxmax())
    return (low, high) if low != high else (levels[0], levels[-1])


def _over_seeds(gap: pd.Series, confidence: float) -> Interval:
    return mean_interval(gap.groupby(level="seed").mean().to_numpy(np.float64), confidence)


def _bounded(name: str, found: Interval, ratio: bool) -> dict[str, float]:
    sides = (float(found.mean), float(found.low), float(found.high))
    shown = [math.exp(min(side, 700.0)) if ratio else side for side in sides]
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), shown, strict=True))


def render_sensitivity(table: pd.DataFrame, title: str | None = None) -> Group:
    """Lay the effects out for people: what to spend on, the largest effect first."""
    if table.empty:
        return Group(Text("no setting varies alone: nothing to tell the effects of"))
    metric, sheet = table["metric"].iloc[0], Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False
    )  # fmt: skip
    sheet.add_column("setting", overflow="fold", style="bold")
    sheet.add_column("from → to", overflow="fold")
    for name in ("effect", "with value" if _some_missing(table) else "", "pairs"):
        if name:
            sheet.add_column(name, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        cells = [Text("\n".join(effect_words(row)))]
        if _some_missing(table):
            cells.append(Text(f"{percent(row['low_share'])} → {percent(row['high_share'])}"))
        pairs = f"{row['seeds']} × {row['places']}"
        sheet.add_row(
            setting_title(str(row["setting"])), f"{row['low']} → {row['high']}", *cells, pairs
        )
    way = "more" if prefers_larger(metric) else "less"
    notes = (
        f"effect on {metric_title(metric)} ({way} is better), paired by seed and averaged over "
        f"the other settings; {percent(table['confidence'].iloc[0])} intervals over seeds; "
        "pairs: seeds × combinations of the others"
    )
    for row in table[table["without"].map(len) > 0].to_dict("records"):
        levels = row["without"]
        said = ", ".join(levels[:6]) + (f" and {len(levels) - 6} more" if len(levels) > 6 else "")
        notes += f"\n{setting_title(str(row['setting']))}: under half have a value at {said}"
    return Group(Text(title or "What to spend on", style="bold"), sheet, Text(notes, style="dim"))


def _some_missing(table: pd.DataFrame) -> bool:
    return bool((table[["low_share", "high_share"]] < 1).any(axis=None))


def effect_words(row: Mapping[Any, Any]) -> tuple[str, str]:
    """Write an effect and its interval."""
    values = [row[name] for name in ("effect", "effect_lo", "effect_hi")]
    if not math.isfinite(values[0]):
        return "–", ""
    if row["is_ratio"]:
        words = [f"×{number(value)}" if math.isfinite(value) else "–" for value in values]
    else:
        words = [metric_text(str(row["metric"]), value) for value in values]
    return words[0], f"{words[1]} to {words[2]}" if math.isfinite(values[1]) else ""
