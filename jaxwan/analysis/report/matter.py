"""What a report tells: the runs by place and configuration, and who wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.axis import Axis, long_axis
from jaxwan.analysis.best import DELTA, Judged, answer, judge
from jaxwan.analysis.best_table import measured
from jaxwan.analysis.outcomes import prefers_larger
from jaxwan.analysis.places import Question, by_place, place_label, place_of, told_apart
from jaxwan.analysis.sensitivity import sensitivity
from jaxwan.analysis.wording import check_metric, diverged, metric_title, usual_metric

OWN = ("_place", "_label")  # columns the report adds
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
    choices: dict[str, Judged]  # by place
    sentence: str  # what `jaxwan best` says of them all
    notes: list[str]  # what that rests on
    ranking: list[str]  # labels, the best first over all places
    effects: pd.DataFrame  # of `sensitivity`
    axis: Axis | None  # a number swept over many values

    @property
    def places(self) -> list[str]:
        """Name the places in the sweep's order."""
        return list(self.choices)

    @property
    def decides(self) -> bool:
        """Tell whether there is anything to choose at any place."""
        return any(len(choice.rows) > 1 for choice in self.choices.values())

    @property
    def top(self) -> list[str]:
        """Name the configurations that figures show, the best first."""
        return self.ranking[:TOP]

    def shown(self, most: int) -> pd.DataFrame:
        """Return the summary's rows a figure has room for: the best of every place."""
        each = max(most // max(len(self.choices), 1), 1)
        order = {
            (place, label): rank
            for place, choice in self.choices.items()
            for rank, label in enumerate(choice.rows["setting"])
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
    asked = Question(metric, prefers_larger(metric), confidence, DELTA)
    choices = _choices(frame, asked)
    named = _named(frame, choices)
    known = named.drop_duplicates("config_id").set_index("config_id")[list(OWN)]
    found = answer(list(choices.values()), asked)
    return Matter(
        named, curves, summary.join(known, on="config_id"), question, tuple(warnings),
        manifest or {}, source, metric, confidence, choices, found.sentence, found.notes,
        _ranking(choices), _effects(frame, metric, confidence), long_axis(frame),
    )  # fmt: skip


def _choices(frame: pd.DataFrame, question: Question) -> dict[str, Judged]:
    """Judge every place as `jaxwan best` does."""
    chosen, given = told_apart(frame)
    found: dict[str, Judged] = {}
    for names, runs in by_place(frame, given):
        label = place_label(names)
        label = f"{label} ({len(found) + 1})" if label in found else label
        found[label] = judge(place_of(runs, names, chosen, question), question)
    return found


def _named(frame: pd.DataFrame, choices: Mapping[str, Judged]) -> pd.DataFrame:
    places, labels = {}, {}
    for place, choice in choices.items():
        for config, label in zip(choice.rows["config_id"], choice.rows["setting"], strict=True):
            places[config], labels[config] = place, label
    ids = frame["config_id"]
    return frame.assign(_place=ids.map(places), _label=ids.map(labels))


def _ranking(choices: Mapping[str, Judged]) -> list[str]:
    """Order labels by their mean rank over the places they ran in."""
    ranks: dict[str, list[float]] = {}
    for choice in choices.values():
        for rank, label in enumerate(choice.rows["setting"]):
            ranks.setdefault(label, []).append(rank / len(choice.rows))
    return sorted(ranks, key=lambda label: float(np.mean(ranks[label])))


def _effects(frame: pd.DataFrame, metric: str, confidence: float) -> pd.DataFrame:
    try:
        return sensitivity(frame, metric, confidence)
    except ValueError:  # settings that the frame does not tell apart
        return sensitivity(frame.head(0), metric, confidence)


def verdict(matter: Matter) -> str:
    """Say what the sweep decides, in the words of `jaxwan best`; of few places, each.

    Where every run diverged, that comes first, whatever metric was asked for.
    """
    said = _decided(matter)
    return f"Every run diverged. {said}" if diverged(matter.frame).all() else said


def _decided(matter: Matter) -> str:
    found = [choice.verdict for choice in matter.choices.values()]
    if not matter.decides:
        return _of_one(matter)
    if len(found) > _SAID or len({each.winner for each in found}) == 1:
        return matter.sentence
    return "\n".join(
        f"{place}: {choice.verdict.sentence}" for place, choice in matter.choices.items()
    )


def decision(matter: Matter) -> dict[str, Any]:
    """Return what the sweep decides as JSON-ready data, place by place.

    A place's `status` is chosen, single (one configuration stands there), diverged (all its runs
    did) or nothing (no run has a value).
    """
    places = [
        {"place": place, "best": judged.verdict.winner, "tied": judged.verdict.tied,
         "status": _status(matter, place, judged)}
        for place, judged in matter.choices.items()
    ]  # fmt: skip
    facts = {"metric": matter.metric, "confidence": matter.confidence}
    return facts | {"sentence": verdict(matter), "places": places}


def _status(matter: Matter, place: str, judged: Judged) -> str:
    if judged.verdict.winner is not None:
        return "chosen" if judged.verdict.runner_up is not None else "single"
    lost = diverged(matter.frame[matter.frame["_place"] == place]).all()
    return "diverged" if lost else "nothing"


def _of_one(matter: Matter) -> str:
    """Say what the only configuration of every place attains."""
    title, places = metric_title(matter.metric), len(matter.choices)
    attained = [each for each in matter.choices.values() if each.verdict.winner is not None]
    if places > 1:
        several = f"One configuration at each of {places} places"
        head = f"One configuration, {places} places" if len(matter.ranking) == 1 else several
        return f"{head}; it has a {title} in {len(attained)} of them."
    if not attained:
        return matter.sentence
    value, _ = measured(attained[0].rows.iloc[0].to_dict(), matter.metric)
    return f"One configuration: mean {title} {value}."


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
