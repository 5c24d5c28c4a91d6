"""Comparisons: what changing one setting does, pair by pair under common random numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import duration, duration_unit, number, percent
from jaxwan.analysis.outcomes import LOSSES, TO_TARGET, watched_times
from jaxwan.analysis.tables import setting_names
from jaxwan.columns import identity_columns, keyed, varying
from jaxwan.stats.intervals import Interval, mean_interval
from jaxwan.stats.paired import (
    geometric_ratio,
    holm,
    restrict,
    share_difference,
    sign_test,
    t_test,
    variance_reduction,
)

FIGURES = (
    "level", "baseline", "metric", "confidence", "n", "dropped", "reached", "baseline_reached",
    "both_reached", "horizon_s", "mean", "baseline_mean", "difference", "difference_lo",
    "difference_hi", "ratio", "ratio_lo", "ratio_hi", "p", "p_holm", "variance_reduction",
    "reach_difference", "reach_difference_lo", "reach_difference_hi", "reach_p",
)  # fmt: skip
_MOSTLY = 0.5  # of the pairs that must both have reached for a ratio
_NOTED = 8  # rows without a difference that notes tell of


class Pairs(NamedTuple):
    """The runs of two levels at one place, row by row on the same seeds."""

    place: dict[str, Any]
    level: str
    baseline: str
    a: pd.DataFrame  # the level's runs, by seed
    b: pd.DataFrame  # the baseline's


def compare(
    frame: pd.DataFrame,
    by: str,
    metric: str,
    confidence: float = 0.95,
    baseline: str | None = None,
) -> pd.DataFrame:
    """Compare the levels of one setting with a baseline, run by run on the same seeds.

    Runs are paired on their seed and on every other setting (identity and swept columns); the
    settings of `by` itself, like `compressor.ratio` of `compressor`, belong to its levels. One row
    per place (combination of the other settings) and level other than the baseline, which is
    `baseline` (a level as the table names it) or else the first level of the place.

    Columns: the other settings that vary, `level`, `baseline`, `metric`, `confidence`, `n` pairs,
    `dropped` pairs without two finite values (a diverged run has no loss), `mean`,
    `baseline_mean`, `difference` and `ratio` with `_lo _hi`, `p`, `p_holm` (Holm, over the whole
    table) and `variance_reduction`, the factor by which pairing shrinks the variance of the
    difference. A ratio is a geometric mean, NaN where values are not all positive. Flags get
    McNemar's test. For `time_to_target_s`, `ratio` rests on the `both_reached` pairs; means and
    differences are restricted: times are capped at `horizon_s`, the longest time until which every
    run of the two levels was watched; `reached` and `baseline_reached` count runs. Where nobody
    reached the target before that, there is no difference to tell: NaN. `reach_difference` with
    `_lo _hi` is that of the shares of runs that reached it, `reach_p` McNemar's exact p-value.

    Raises:
        ValueError: for a target that no run reached, a column that is missing, not numeric or does
            not vary, a level that is not there, settings that change together with `by`, or runs
            that cannot be told apart.
    """
    _check(frame, by, metric)
    found = [
        {**pairs.place, "level": pairs.level, "baseline": pairs.baseline, "metric": metric}
        | {"confidence": confidence}
        | _measure(pairs, metric, confidence)
        for pairs in _pairs(frame, by, baseline)
    ]
    if not found:
        raise ValueError(_why_no_pairs(frame, by, baseline))
    table = pd.DataFrame(found)
    table["p_holm"] = holm(table["p"])
    places = [name for name in table if name not in FIGURES]
    return table[[*places, *(name for name in FIGURES if name in table)]]


def _check(frame: pd.DataFrame, by: str, metric: str) -> None:
    if frame.empty:
        raise ValueError("there are no runs to compare")
    settings = identity_columns(frame)
    if by not in settings:
        raise ValueError(f"no setting {by!r} to compare by (there are: {', '.join(settings)})")
    numeric = list(frame.select_dtypes(["number", "bool", "boolean"]).columns)
    if metric not in numeric or metric in settings:
        known = ", ".join(str(name) for name in numeric if name not in settings)
        raise ValueError(f"no numeric column {metric!r} in the results (there are: {known})")
    needed = ["seed", *(["time_s", "reached"] if metric == TO_TARGET else [])]
    missing = [name for name in needed if name not in frame]
    if missing:
        raise ValueError(f"no column {missing[0]!r} in the results")
    if metric == TO_TARGET and not (frame["reached"].to_numpy(bool) & frame[metric].notna()).any():
        raise ValueError(_why_no_times(frame))


def _why_no_times(frame: pd.DataFrame) -> str:
    """Say why no run reached its target, and what to do about it."""
    if "timing_only" in frame and frame["timing_only"].to_numpy(bool).all():
        return (
            "these runs were timing-only, without a loss to reach: compare another metric than "
            f"{TO_TARGET!r} (--metric time_s, say), or run them with training"
        )
    return (
        f"no run reached its target, so there is no {TO_TARGET!r} to compare: run more steps, take "
        "an easier target, or compare another metric (--metric loss_final, say)"
    )


def _own(frame: pd.DataFrame, by: str) -> list[str]:
    """List `by` and the settings that only exist within it."""
    return [name for name in identity_columns(frame) if name == by or name.startswith(f"{by}.")]


def _levels(frame: pd.DataFrame, own: list[str]) -> pd.Series:
    """Name each run's level; a setting of the family that never varies goes unsaid."""
    said = [own[0], *varying(frame, own[1:])]
    keys = keyed(frame, own)
    first = ~keys.duplicated().to_numpy()
    names = [_level_name(row, said) for row in frame.loc[first, own].to_dict("records")]
    return keys.map(dict(zip(keys[first], names, strict=True)))


def _level_name(row: dict[Any, Any], said: list[str]) -> str:
    if len(said) == 1 and "." in said[0]:
        return f"{row[said[0]]:g}" if isinstance(row[said[0]], float) else str(row[said[0]])
    named = [str(row[said[0]]), setting_names(row, said[1:])]
    return " · ".join(filter(None, named))


def _pairs(frame: pd.DataFrame, by: str, baseline: str | None) -> Iterator[Pairs]:
    own = _own(frame, by)
    others = [name for name in identity_columns(frame) if name not in own]
    told = varying(frame, others)
    runs = frame.assign(_level=_levels(frame, own), _place=keyed(frame, told))
    if baseline is not None and baseline not in set(runs["_level"]):
        known = ", ".join(dict.fromkeys(runs["_level"]))
        raise ValueError(f"no level {baseline!r} of {by!r} (there are: {known})")
    for _, here in runs.groupby("_place", sort=False):
        levels = list(dict.fromkeys(here["_level"]))
        base = levels[0] if baseline is None else baseline
        if base not in levels:
            continue
        place = {name: here[name].iloc[0] for name in told}
        ours = _by_seed(here, base)
        for level in levels:
            if level != base:
                a, b = _by_seed(here, level).align(ours, join="inner", axis=0)
                if len(a):
                    yield Pairs(place, level, base, a, b)


def _by_seed(here: pd.DataFrame, level: str) -> pd.DataFrame:
    runs = here[here["_level"] == level].set_index("seed").sort_index()
    if runs.index.has_duplicates:
        raise ValueError(
            f"several runs of {level!r} have one seed and the same settings: the frame lacks the "
            "column that tells them apart; sweep that setting by name or compare fewer runs"
        )
    return runs


def _why_no_pairs(frame: pd.DataFrame, by: str, baseline: str | None) -> str:
    own = _own(frame, by)
    levels = _levels(frame, own)
    if levels.nunique() < 2:
        return f"{by!r} has a single level ({levels.iloc[0]}): nothing to compare"
    others = [name for name in identity_columns(frame) if name not in own]
    told = varying(frame, others)
    tied = [name for name in told if _tied(frame[name].map(str), levels)]
    if tied:
        return (
            f"no pairs: no two runs differ in {by} alone, these change along with it: "
            f"{', '.join(tied)} (a challenge, say, brings the settings recommended for it); sweep "
            f"{by} with each of them at one value, such as {_example(frame, tied[0])}"
        )
    also = f" with {baseline!r}" if baseline else ""
    more = f"; these vary too: {', '.join(told)}; give each one value, or the same ones everywhere"
    return f"no pairs: no two levels of {by!r} share a seed and the other settings{also}" + (
        more if told else ""
    )


def _example(frame: pd.DataFrame, name: str) -> str:
    """Write a line of a sweep file that holds a setting at its first value."""
    value = frame[name].iloc[0]
    return f"{name} = {json.dumps(value) if isinstance(value, str) else value}"


def _tied(values: pd.Series, levels: pd.Series) -> bool:
    """Tell whether no value of a setting occurs at two levels."""
    return bool(levels.groupby(values).nunique().max() == 1)


def _measure(pairs: Pairs, metric: str, confidence: float) -> dict[str, Any]:
    if metric == TO_TARGET:
        return _measure_times(pairs, confidence)
    if pd.api.types.is_bool_dtype(pairs.a[metric]):
        return _measure_flags(pairs, metric, confidence)
    a, b = _values(pairs.a, metric), _values(pairs.b, metric)
    known = np.isfinite(a) & np.isfinite(b)
    dropped = int(np.sum(~known))
    a, b = a[known], b[known]
    return _row(a, b, mean_interval(a - b, confidence), t_test(a - b), dropped) | _bounds(
        "ratio", geometric_ratio(a, b, confidence)
    )


def _values(runs: pd.DataFrame, metric: str) -> np.ndarray:
    values = runs[metric].to_numpy(np.float64, na_value=np.nan)
    if metric in LOSSES and "status" in runs:
        return np.where(runs["status"].str.contains("diverged"), np.nan, values)
    return values


def _measure_flags(pairs: Pairs, metric: str, confidence: float) -> dict[str, Any]:
    known = (pairs.a[metric].notna() & pairs.b[metric].notna()).to_numpy(bool)
    a = pairs.a.loc[known, metric].to_numpy(bool)
    b = pairs.b.loc[known, metric].to_numpy(bool)
    found = share_difference(a, b, confidence)
    row = _row(a.astype(float), b.astype(float), found, sign_test(a, b), int(np.sum(~known)))
    return row | _bounds("ratio", Interval(np.nan, np.nan, np.nan, len(a)))


def _measure_times(pairs: Pairs, confidence: float) -> dict[str, Any]:
    (a, watched_a), (b, watched_b) = (watched_times(runs) for runs in (pairs.a, pairs.b))
    hit_a, hit_b = np.isfinite(a), np.isfinite(b)
    capped = restrict(a, b, watched_a, watched_b)
    gap = capped.a - capped.b
    both = hit_a & hit_b
    counts = {
        "reached": int(hit_a.sum()),
        "baseline_reached": int(hit_b.sum()),
        "both_reached": int(both.sum()),
        "horizon_s": capped.horizon,
        **_bounds("reach_difference", share_difference(hit_a, hit_b, confidence)),
        "reach_p": sign_test(hit_a, hit_b),
    }
    row = _row(capped.a, capped.b, mean_interval(gap, confidence), t_test(gap), 0)
    seen = np.concatenate([a[hit_a], b[hit_b]])
    if not both.all() and not np.any(seen < capped.horizon):
        unseen = ("mean", "baseline_mean", "difference", "difference_lo", "difference_hi", "p",
                  "variance_reduction")  # fmt: skip
        row |= dict.fromkeys(unseen, np.nan)
    ratio = Interval(np.nan, np.nan, np.nan, int(both.sum()))
    if both.mean() >= _MOSTLY:  # else of the lucky few
        ratio = geometric_ratio(a[both], b[both], confidence)
    return row | _bounds("ratio", ratio) | counts


def _row(a: np.ndarray, b: np.ndarray, gap: Interval, p: float, dropped: int) -> dict[str, Any]:
    return {
        "n": len(a),
        "dropped": dropped,
        "mean": float(a.mean()) if len(a) else np.nan,
        "baseline_mean": float(b.mean()) if len(b) else np.nan,
        **_bounds("difference", gap),
        "p": p,
        "variance_reduction": variance_reduction(a, b),
    }


def _bounds(name: str, found: Interval) -> dict[str, float]:
    sides = zip(("", "_lo", "_hi"), (found.mean, found.low, found.high), strict=True)
    return {f"{name}{side}": float(value) for side, value in sides}


def render_comparison(table: pd.DataFrame, title: str | None = None) -> Group:
    """Lay a comparison out for people: each estimate with its interval below it."""
    rows = table.to_dict("records")
    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    sheet.add_column("level", overflow="fold", min_width=12)
    for header in _headers(table):
        sheet.add_column(header, justify="right", no_wrap=True)
    last = ""
    for row, label in zip(rows, place_labels(table), strict=True):
        if last and label != last:
            sheet.add_section()
        first = Text(f"{label}\n" if label else "", style="dim" if label == last else "")
        first.append(_against(row, table), style="bold not dim")
        sheet.add_row(first, *_cells(row, "reached" in table))
        last = label
    metric = rows[0]["metric"]
    heading = title or f"{metric}: difference from {_baselines(table)}"
    return Group(Text(heading, style="bold"), sheet, Text("\n".join(_notes(table)), style="dim"))


def place_labels(table: pd.DataFrame) -> list[str]:
    """Name the place of each row by the settings that stand before its level."""
    places = list(table.columns[: list(table.columns).index("level")])
    return [setting_names(row, places) for row in table.to_dict("records")]


def _headers(table: pd.DataFrame) -> list[str]:
    reached = ["reached\n(base)"] if "reached" in table else []
    return [*reached, "difference", "ratio", "p\n(Holm)", "pairs", "pairing\nworth"]


def _baselines(table: pd.DataFrame) -> str:
    names = table["baseline"].unique()
    return str(names[0]) if len(names) == 1 else "the baseline"


def _against(row: Mapping[Any, Any], table: pd.DataFrame) -> str:
    if table["baseline"].nunique() == 1:
        return str(row["level"])
    return f"{row['level']} – {row['baseline']}"


def _cells(row: Mapping[Any, Any], censored: bool) -> list[Text]:
    length, unit = _unit(row)
    gap = [f"{number(row[f'difference{side}'] / length)}" for side in ("", "_lo", "_hi")]
    gap[0] += f" {unit}" if unit and gap[0] != "–" else ""
    ratio = [number(row[f"ratio{side}"]) for side in ("", "_lo", "_hi")]
    found = [_estimate(*gap), _estimate(*ratio), Text(_p(row["p_holm"]))]
    worth = row["variance_reduction"]
    pairs = f"{row['n']}" + (f"\n−{row['dropped']}" if row["dropped"] else "")
    found += [Text(pairs), Text("–" if math.isnan(worth) else f"×{number(worth, 2)}")]
    if not censored:
        return found
    runs, base = f"{row['reached']}/{row['n']}", f"({row['baseline_reached']}/{row['n']})"
    return [Text(f"{runs}\n{base}"), *found]


def _unit(row: Mapping[Any, Any]) -> tuple[float, str]:
    if not is_duration(row["metric"]):
        return 1.0, ""
    sides = (abs(row[f"difference{side}"]) for side in ("", "_lo", "_hi"))
    return duration_unit(max((side for side in sides if math.isfinite(side)), default=1.0))


def is_duration(metric: str) -> bool:
    """Tell whether a metric is in seconds."""
    return metric.endswith("_s") and not metric.endswith("per_s")


def _estimate(center: str, low: str, high: str) -> Text:
    return Text(center).append("" if low == "–" else f"\n{low} to {high}", style="dim")


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _reaching(row: Mapping[Any, Any], place: str) -> str:
    """Say how much oftener a level reaches the target, where that is all there is to tell."""
    gap, low, high = (f"{100 * row[f'reach_difference{side}']:+.0f}" for side in ("", "_lo", "_hi"))
    level = f"{place}: {row['level']}" if place else row["level"]
    return (
        f"–: nobody arrived while all were watched; {level} reaches the target in {row['reached']} "
        f"of {row['n']} runs, {row['baseline']!r} in {row['baseline_reached']}: {gap} points "
        f"({low} to {high}), p {'' if row['reach_p'] < 0.001 else '= '}{_p(row['reach_p'])}"
    )


def _notes(table: pd.DataFrame) -> list[str]:
    first = table.iloc[0]
    notes = [
        f"{percent(first['confidence'])} intervals, paired by seed; "
        "pairing worth: unpaired pairs that one pair replaces"
    ]
    if "horizon_s" in table:
        caps = [duration(cap) for cap in sorted(table["horizon_s"].unique())]
        span = caps[0] if len(caps) == 1 else f"{caps[0]} to {caps[-1]}"
        notes.append(f"difference: times capped at {span}, until when every run was watched")
        notes.append("ratio: of the pairs in which both reached the target, where half did")
        rows = zip(table.to_dict("records"), place_labels(table), strict=True)
        said = [_reaching(row, label) for row, label in rows if math.isnan(row["difference"])]
        notes += said[:_NOTED]
        notes += [f"{len(said) - _NOTED} more in --json"] if len(said) > _NOTED else []
    if table["dropped"].any():
        notes.append(f"{table['dropped'].sum()} pairs left out: no finite value on one side")
    return notes
