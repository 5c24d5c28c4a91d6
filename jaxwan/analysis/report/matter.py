"""What a report tells: the runs by place and configuration, and who wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.axis import Axis, long_axis
from jaxwan.analysis.best import is_given
from jaxwan.analysis.choose import Choice, choose
from jaxwan.analysis.humane import percent
from jaxwan.analysis.sensitivity import sensitivity
from jaxwan.analysis.tables import setting_names
from jaxwan.analysis.wording import check_metric, config_labels, metric_title, usual_metric
from jaxwan.columns import identity_columns, varying

OWN = ("_place", "_label")  # columns the report adds
PLACES = ("scenario", "challenge", "network")
_SAID = 3  # places whose verdicts are all said where no configuration suits them all
TOP = 8  # configurations that get a colour


class Matter(NamedTuple):
    """Everything a report draws from; `frame` has the columns `_place` and `_label`."""

    frame: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame  # of `Results.summary`, with `_place` and `_label`
    question: str
    warnings: tuple[str, ...]
    manifest: Mapping[str, Any]
    source: str  # the results folder
    metric: str
    confidence: float
    choices: dict[str, Choice]  # by place
    ranking: list[str]  # labels, the best first over all places
    effects: pd.DataFrame  # of `sensitivity`
    axis: Axis | None  # a number swept over many values

    @property
    def places(self) -> list[str]:
        """Name the places in the sweep's order."""
        return list(self.choices)

    @property
    def top(self) -> list[str]:
        """Name the configurations that figures show, the best first."""
        return self.ranking[:TOP]

    def shown(self, most: int) -> pd.DataFrame:
        """Return the summary's rows a figure has room for: the best of every place."""
        each = max(most // max(len(self.choices), 1), 1)
        order = {
            (place, rival.label): rank
            for place, choice in self.choices.items()
            for rank, rival in enumerate(choice.rivals)
        }
        rows = self.summary
        ranks = [order[key] for key in zip(rows["_place"], rows["_label"], strict=True)]
        place = rows["_place"].map({name: i for i, name in enumerate(self.choices)})
        rows = rows.assign(_rank=ranks, _at=place).sort_values(["_at", "_rank"], kind="stable")
        return rows.groupby("_place", sort=False).head(each).drop(columns=["_rank", "_at"])


def gather(
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    summary: pd.DataFrame,
    question: str = "",
    warnings: Sequence[str] = (),
    manifest: Mapping[str, Any] | None = None,
    source: str = "",
    metric: str | None = None,
    confidence: float = 0.95,
) -> Matter:
    """Prepare a report from the runs, their curves and their summary.

    Raises:
        ValueError: for no runs, or a metric that is no numeric column.
    """
    if frame.empty:
        raise ValueError("there are no runs to report")
    metric = usual_metric(frame) if metric is None else metric
    check_metric(frame, metric)
    named = _named(frame)
    known = named.drop_duplicates("config_id").set_index("config_id")[["_place", "_label"]]
    choices = {
        str(place): choose(here, here["_label"], metric, confidence)
        for place, here in named.groupby("_place", sort=False)
    }
    return Matter(
        named, curves, summary.join(known, on="config_id"), question, tuple(warnings),
        manifest or {}, source, metric, confidence, choices, _ranking(named, choices),
        _effects(frame, metric, confidence), long_axis(frame),
    )  # fmt: skip


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    names = identity_columns(frame)
    told = varying(frame, names)
    where = [name for name in told if name in PLACES or is_given(name)]
    if set(where) == set(told):  # nothing else is to be chosen
        where = [name for name in told if name in PLACES]
    rest = [name for name in names if name not in (*PLACES, *where)]
    place, label = config_labels(frame, where), config_labels(frame, rest)
    if not varying(frame, rest):
        given = [name for name in ("strategy", "compressor") if name in frame]
        label = pd.Series(setting_names(frame.iloc[0].to_dict(), given), index=frame.index)
    double = frame.assign(_place=place, _label=label).drop_duplicates("config_id")
    if double.duplicated(["_place", "_label"]).any():
        twice = double.duplicated(["_place", "_label"], keep=False)
        odd = frame["config_id"].isin(double.loc[twice, "config_id"])
        label = label.where(~odd, label + " · " + frame["config_id"].astype(str).str[:8])
    return frame.assign(_place=place, _label=label)


def _ranking(named: pd.DataFrame, choices: Mapping[str, Choice]) -> list[str]:
    """Order labels by their mean rank over the places they ran in."""
    ranks: dict[str, list[float]] = {label: [] for label in dict.fromkeys(named["_label"])}
    for choice in choices.values():
        for rank, rival in enumerate(choice.rivals):
            ranks[rival.label].append(rank / len(choice.rivals))
    return sorted(ranks, key=lambda label: float(np.mean(ranks[label])))


def _effects(frame: pd.DataFrame, metric: str, confidence: float) -> pd.DataFrame:
    try:
        return sensitivity(frame, metric, confidence)
    except ValueError:  # settings that the frame does not tell apart
        return sensitivity(frame.head(0), metric, confidence)


def verdict(matter: Matter) -> str:
    """Say in one sentence what the sweep decides."""
    choices = matter.choices
    if len(choices) == 1:
        only = next(iter(choices.values()))
        return only.sentence[0].upper() + only.sentence[1:]
    good: dict[str, int] = {}
    for choice in choices.values():
        if choice.best is not None:
            for label in (choice.best, *choice.tied):
                good[label] = good.get(label, 0) + 1
    title = metric_title(matter.metric)
    if not good:
        return f"No configuration has a {title} in any of {len(choices)} places."
    if len(matter.ranking) == 1:
        reached = sum(choice.best is not None for choice in choices.values())
        return f"One configuration, {len(choices)} places; it has a {title} in {reached} of them."
    most = max(good.values())
    if most < len(choices) <= _SAID:
        return "\n".join(f"{place}: {choice.sentence}" for place, choice in choices.items())
    best = next(label for label in matter.ranking if good.get(label) == most)
    also = sum(count == most for count in good.values()) - 1
    others = f" (as {also} other{'s are' if also > 1 else ' is'})" if also else ""
    return f"{best} is best or statistically tied in {most} of {len(choices)} places{others}, " + (
        f"by {title} at {percent(matter.confidence)} confidence."
    )


def decision(matter: Matter) -> dict[str, Any]:
    """Return what the sweep decides as JSON-ready data, place by place."""
    places = [
        {"place": place, "best": choice.best, "tied": choice.tied}
        for place, choice in matter.choices.items()
    ]
    facts = {"metric": matter.metric, "confidence": matter.confidence}
    return facts | {"sentence": verdict(matter), "places": places}


def censored(matter: Matter) -> list[dict[str, Any]]:
    """Count, per configuration, the runs without a full result; only where there are any."""
    found = []
    for (place, label), runs in matter.frame.groupby(["_place", "_label"], sort=False):
        learned = bool(runs["loss_final"].notna().any()) if "loss_final" in runs else False
        reached = int(runs["reached"].sum()) if learned and "reached" in runs else None
        status = runs["status"].astype(str) if "status" in runs else pd.Series(dtype=str)
        ended = status[status != "ok"].value_counts().to_dict()
        failed = pd.Series(dtype=str)
        if "failed_criteria" in runs:
            failed = runs["failed_criteria"].fillna("").str.split(",").explode().str.strip()
        criteria = failed[failed != ""].value_counts().to_dict()
        if ended or criteria or (reached is not None and reached < len(runs)):
            found.append({"place": place, "label": label, "runs": len(runs), "reached": reached,
                          "ended": ended, "criteria": criteria})  # fmt: skip
    return found


def targets_matter(matter: Matter) -> bool:
    """Tell whether any run reaches its target loss."""
    return bool("reached" in matter.frame and matter.frame["reached"].any())


def learned(matter: Matter) -> bool:
    """Tell whether the runs trained a model."""
    curves = matter.curves
    return bool(len(curves) and np.isfinite(curves["loss"].to_numpy(np.float64)).any())
