"""Races: run the settings of a sweep file seed by seed until one is surely within δ of the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.best import (
    Best,
    Judged,
    answer,
    judge,
    longest_watch,
    sentence_of,
    unknown_text,
)
from jaxwan.analysis.outcomes import check_metric, outcomes, prefers_larger, worst_value
from jaxwan.analysis.places import Place, Question, by_place, place_of, roles
from jaxwan.columns import COLUMNS, identity_columns
from jaxwan.decide.select import Look, Selection, equal_allocation, look_sizes, select
from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.resolved import Resolved
from jaxwan.stats.intervals import Interval
from jaxwan.sweep import distinct, plan_job, run_in_memory

FIRST, MOST = 64, 1024
Runner = Callable[[list[Resolved], range], pd.DataFrame]
Tell = Callable[[str], None]


class Race(NamedTuple):
    """What a race found, and what it cost."""

    best: Best
    certified: bool  # at every place nothing is better by more than delta
    probability: float  # posterior, from below, that what was chosen is within delta of the best
    spent: int  # runs
    equal: int  # runs that as many seeds for each would take, for the same guarantee
    runs: pd.DataFrame


def simulated(experiments: list[Resolved], seeds: range) -> pd.DataFrame:
    """Run experiments on seeds and return their rows."""
    return run_in_memory(plan_job(experiments, list(seeds)))[0]


def known_metric(metric: str) -> None:
    """Refuse a metric that no run can have, before anything is run.

    Raises:
        InputError: with the nearest spelling.
    """
    numeric = ("float64", "int64", "bool", "boolean")
    known = [name for name, column in COLUMNS.items()
             if column.dtype in numeric and column.group != "identity"]  # fmt: skip
    if metric not in known:
        raise unknown_name("metric", metric, known)


def race(
    experiments: Sequence[Resolved],
    metric: str = "time_to_target_s",
    confidence: float = 0.95,
    delta: float = 0.02,
    *,
    larger: bool | None = None,
    choose: Sequence[str] = (),
    most: int = MOST,
    runner: Runner = simulated,
    tell: Tell | None = None,
) -> Race:
    """Choose among experiments with as few runs as it takes; `select` says what is guaranteed.

    All get the first seeds (64, or `most` if that is less); after that only contenders do, up to
    `most` each. Places (see `jaxwan.analysis.best.best`) are raced one after another, each at the
    confidence. What a run without a number counts as is fixed after the first seeds.

    Raises:
        InputError: for a bad number or metric, or where there is nothing to choose from.
    """
    known_metric(metric)
    own = distinct(experiments)
    wanted = prefers_larger(metric) if larger is None else larger
    question = Question(metric, wanted, confidence, delta)
    first = min(FIRST, most)
    try:
        sizes = look_sizes(first, most)
        if not 0 < delta < 1 or not 0 < confidence < 1:
            raise ValueError("delta and confidence must lie strictly between 0 and 1")
        begun = runner(own, range(first))
        check_metric(begun, metric, identity_columns(begun))
        chosen, given = roles(begun, choose)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None
    found = [
        _one(_Course(own, runs, names, chosen, question, runner), sizes, tell)
        for names, runs in by_place(begun, given)
    ]
    return _joined(found, question)


class _Course:
    """The runs of one place, more of which can be had."""

    def __init__(
        self,
        experiments: list[Resolved],
        begun: pd.DataFrame,
        names: dict[str, Any],
        chosen: list[str],
        question: Question,
        runner: Runner,
    ) -> None:
        ids = list(dict.fromkeys(begun["config_id"]))
        by_id = {config_id(each): each for each in experiments}
        self.ids, self.experiments = ids, [by_id[each] for each in ids]
        self.names, self.chosen, self.question, self.runner = names, chosen, question, runner
        self.first = int(begun.groupby("config_id").size().min())
        self.parts = [begun]
        raw = outcomes(begun, question.metric, question.larger)
        known = raw.values[~raw.filled]
        self.bound = worst_value(begun, question.metric, known, question.larger)

    def sample(self, configs: list[int], seeds: range) -> np.ndarray:
        """Return the metric of runs, and the best it may be `[2, configuration, seed]`.

        The first seeds are there already.
        """
        if seeds.start < self.first:
            runs = self.parts[0]
        else:
            runs = self.runner([self.experiments[j] for j in configs], seeds)
            self.parts.append(runs)
        found = outcomes(runs, self.question.metric, self.question.larger, self.bound)
        flat = pd.DataFrame({"config": runs["config_id"].to_numpy(),
                             "seed": runs["seed"].to_numpy(), "value": found.values,
                             "hopeful": found.hopeful})  # fmt: skip
        ids = [self.ids[j] for j in configs]
        tables = (flat.pivot(index="config", columns="seed", values=name)
                  for name in ("value", "hopeful"))  # fmt: skip
        return np.stack([own.loc[ids, list(seeds)].to_numpy(np.float64) for own in tables])

    def place(self) -> Place:
        """Return all runs so far as a table of settings and seeds."""
        runs = pd.concat(self.parts, ignore_index=True)
        return place_of(runs, self.names, self.chosen, self.question, self.bound)


_Raced = tuple[_Course, Place, Selection | None]  # None where a single setting stands


def _one(course: _Course, sizes: list[int], tell: Tell | None) -> _Raced:
    question, labels = course.question, course.place().settings
    if not np.isfinite(course.bound):
        raise InputError(f"no run has a value of {question.metric!r}")
    if len(labels) == 1:
        return course, course.place(), None

    def report(look: Look) -> None:
        if tell:
            tell(f"{labels[look.leader]} leads, {look.open} to settle, {look.seeds:,} runs")

    found = select(
        course.sample, len(labels), question.delta, question.confidence,
        larger=question.larger, flags=course.place().flags, sizes=sizes, tell=report,
    )  # fmt: skip
    return course, course.place(), found


def _joined(found: list[_Raced], question: Question) -> Race:
    """Judge every place with the bounds that hold under repeated looks."""
    judged, equal, certified, chance = [], 0, True, 1.0
    for _, place, selection in found:
        own = judge(place, question)
        if selection is None:
            judged.append(own)
            equal += place.values.size
            continue
        judged.append(_under_looks(own, selection, place, question))
        equal += _equal(selection, question.confidence)
        certified = certified and selection.certified
        chance = min(chance, selection.probability)
    best = answer(judged, question)
    runs = pd.concat([part for course, _, _ in found for part in course.parts], ignore_index=True)
    return Race(best, certified, chance, len(runs), equal, runs)


def _under_looks(found: Judged, selection: Selection, place: Place, question: Question) -> Judged:
    """Put the bounds of a race in the place of those that hold for a single look."""
    if found.verdict.winner is None:
        return found
    scale = abs(float(selection.mean[selection.winner])) or 1.0
    settings = range(len(place.settings))
    unseen = np.isin(settings, selection.unknown)
    rows = found.rows.assign(
        better_at_most=pd.Series(np.maximum(selection.better, 0.0) / scale + 0.0, index=settings),
        tied=pd.Series(settings).isin(selection.tied),
        watched_s=pd.Series(np.where(unseen, longest_watch(place), np.nan), index=settings),
    )
    rows.loc[rows["watched_s"].notna(), ["ratio", "ratio_lo", "ratio_hi", "p_holm"]] = np.nan
    if unseen.any():  # a probability would rest on what nobody saw
        rows["probability"] = np.nan
    tied = [place.settings[j] for j in selection.tied]
    hidden = found.verdict.runner_up in {place.settings[j] for j in np.flatnonzero(unseen)}
    verdict = found.verdict._replace(
        ratio=Interval(np.nan, np.nan, np.nan, 0) if hidden else found.verdict.ratio,
        probability=np.nan if unseen.any() else found.verdict.probability,
        tied=[name for name in tied if name != found.verdict.winner],
        regret=selection.regret / scale,
        sure=question.confidence if selection.certified else np.nan,
        unknown=unknown_text(rows),
    )
    return Judged(rows, verdict._replace(sentence=sentence_of(verdict, question)))


def _equal(selection: Selection, confidence: float) -> int:
    """Return the runs that equal allocation would take, by the mean square paired spread.

    Never fewer than the first seeds, without which it would not know the spread. Where the leader's
    mean is zero, so is delta, and no number of seeds would do: as many as the race took then.
    """
    k, own = len(selection.spent), selection.values[selection.winner]
    if selection.delta == 0:
        return k * int(selection.spent.max())
    squares = [np.nanvar(own - selection.values[j], ddof=1) / 2
               for j in range(k) if j != selection.winner]  # fmt: skip
    sigma = float(np.sqrt(np.mean(squares)))
    needed = equal_allocation(sigma, selection.delta, k, confidence)
    return k * max(needed, int(selection.spent.min()))
