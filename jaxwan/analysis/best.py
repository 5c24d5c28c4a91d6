"""The best setting of a finished sweep: winner, ties, probabilities, and what remains possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import duration
from jaxwan.analysis.outcomes import WORKED, check_metric, prefers_larger
from jaxwan.analysis.places import Place, Question, by_place, place_of, roles
from jaxwan.analysis.robust import robust_choice, robust_sentence
from jaxwan.analysis.verdict import missing, verdict
from jaxwan.columns import identity_columns
from jaxwan.stats.best import (
    Gaps,
    better_at_most,
    gaps,
    not_watched,
    probability_best,
    surely_within,
)
from jaxwan.stats.intervals import Interval, mean_interval, wilson_interval
from jaxwan.stats.paired import holm, mean_ratio, sign_test, t_test

COLUMNS = (
    "setting", "config_id", "n", "mean", "lo", "hi", "ratio", "ratio_lo", "ratio_hi",
    "better_at_most", "p_holm", "probability", "tied", "winner", "filled", "watched_s",
)  # fmt: skip
DELTA = 0.05  # share of the winner's mean that does not matter, unless told
_MOSTLY = 0.5  # share of the winner's runs with a number from which on it beats who never has one
_NAMED = 3  # settings that a sentence names
_NONE = Interval(np.nan, np.nan, np.nan, 0)


class Verdict(NamedTuple):
    """What the runs of one place say."""

    place: dict[str, Any]
    winner: str | None  # None where no run of any setting has a number
    runner_up: str | None  # None there, and where the winner is the only setting: no choice
    tied: list[str]  # others that the winner is not surely better than
    ratio: Interval  # how many times better than the runner-up
    probability: float  # that the winner has the best mean
    regret: float  # at the confidence, nothing is better by more than this share
    sure: float  # confidence that nothing is better by more than delta
    sentence: str
    unknown: str | None = None  # whose runs were not watched for long enough, and how long


class Best(NamedTuple):
    """The answer, one verdict for each place, and a table of every setting at every place."""

    metric: str
    larger: bool
    confidence: float
    delta: float
    table: pd.DataFrame
    verdicts: list[Verdict]
    robust: pd.DataFrame | None  # where a choice over a column was asked for
    notes: list[str]
    sentence: str


class Judged(NamedTuple):
    """One place: a row of `COLUMNS` for every setting, best first, and the verdict."""

    rows: pd.DataFrame  # `p_holm` is not adjusted: that is over all places
    verdict: Verdict


def best(
    frame: pd.DataFrame,
    metric: str = "time_to_target_s",
    confidence: float = 0.95,
    delta: float = DELTA,
    over: str | None = None,
    larger: bool | None = None,
    choose: Sequence[str] = (),
) -> Best:
    """Choose the best setting by the mean of a metric, pair by pair under common random numbers.

    What differs among runs is either given (task, challenge, network, links, failures, attacks) or
    chosen (strategy, compressor, aggregator, optimizer, …); `choose` names the chosen ones instead.
    There is one verdict for each combination of what is given. With `over`, one of the given, there
    is also a choice that must serve all its values: by mean, worst decile and minimax regret.
    `delta` is a share of the winner's mean. Whether more is better follows from the metric unless
    `larger` says so. Runs without a number count as `jaxwan.analysis.outcomes` says.

    Raises:
        ValueError: for an unknown metric or column, an out-of-range number, or nothing to choose.
    """
    question = _asked(frame, metric, confidence, delta, larger)
    chosen, given = roles(frame, choose, over)
    places = [place_of(runs, names, chosen, question) for names, runs in by_place(frame, given)]
    found = answer([judge(place, question) for place in places], question)
    if over is None:
        return found
    rows = robust_choice(places, over, question)
    return found._replace(robust=rows, sentence=robust_sentence(rows, over, question))


def answer(judged: list[Judged], question: Question) -> Best:
    """Put the verdicts of all places together."""
    table = pd.concat([each.rows for each in judged], ignore_index=True)
    table["p_holm"] = holm(table["p_holm"])
    verdicts = [each.verdict for each in judged]
    return Best(*question, table, verdicts, None, notes_of(table, question),
                together(verdicts, question))  # fmt: skip


def _asked(
    frame: pd.DataFrame, metric: str, confidence: float, delta: float, larger: bool | None
) -> Question:
    if frame.empty:
        raise ValueError("there are no runs to choose from")
    check_metric(frame, metric, identity_columns(frame))
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence:g}")
    if not (math.isfinite(delta) and delta >= 0):
        raise ValueError(f"delta must be a share of zero or more, got {delta:g}")
    wanted = prefers_larger(metric) if larger is None else larger
    return Question(metric, wanted, confidence, delta)


def judge(place: Place, question: Question) -> Judged:
    """Find the best setting of a place, who is tied with it, and how sure that is.

    The best has the best mean; of equals, the one with most runs that have a number. Tied are those
    whose bound (`better_at_most`) is not below zero, but never one without a number in any run
    where most of the winner's have one, if watched for the winner's mean. Bounds take a run still
    on its way to its target as arriving when its own watch ends. Who may be as good, or better by
    delta, for that alone is not known: a ratio and probabilities would rest on what nobody saw.
    """
    values = place.values
    means, known, order = _ranked(place, question)
    winner = int(order[0])
    if known[winner] == 0 or len(values) == 1:
        return _undecided(place, question, means, None if known[winner] == 0 else winner)
    found, better, unseen = _bounded(place, winner, known, question)
    scale = abs(float(np.nanmean(values[winner]))) or 1.0
    better = better / scale
    ratios = [_NONE if unseen[j] or better[j] == -np.inf else
              _times_better(place, winner, j, question) for j in range(len(values))]  # fmt: skip
    chance = probability_best(values) if not unseen.any() else np.full(len(values), np.nan)
    rows = _rows(place, question, means).assign(
        ratio=[float(ratio.mean) for ratio in ratios],
        ratio_lo=[float(ratio.low) for ratio in ratios],
        ratio_hi=[float(ratio.high) for ratio in ratios],
        better_at_most=np.maximum(better, 0.0) + 0.0,
        p_holm=[np.nan if j == winner or unseen[j] else _p(place, winner, j)
                for j in range(len(values))],
        probability=chance,
        tied=~(better < 0),
        winner=np.arange(len(values)) == winner,
        watched_s=np.where(unseen, longest_watch(place), np.nan),
    )  # fmt: skip
    rows = rows.iloc[order]
    judged = Verdict(
        place=place.names,
        winner=place.settings[winner],
        runner_up=place.settings[order[1]],
        tied=[place.settings[j] for j in order[1:] if not better[j] < 0],
        ratio=ratios[order[1]],
        probability=float(chance[winner]),
        regret=float(np.max(np.nan_to_num(np.maximum(better, 0.0), nan=np.inf))),
        sure=surely_within(found, winner, question.delta * scale),
        sentence="",
        unknown=unknown_text(rows),
    )
    return _judged(place, question, rows, judged)


def _bounded(
    place: Place, winner: int, known: np.ndarray, question: Question
) -> tuple[Gaps, np.ndarray, np.ndarray]:
    """Return hopeful gaps and bounds, and who ties only for what was not watched `[setting]`."""
    values, hopeful = place.values, place.hopeful
    found = gaps(values, winner, hopeful, place.flags)
    told = gaps(values, winner, flags=place.flags)
    never = (known == 0) & (known[winner] >= _MOSTLY)
    least = np.where(never, -np.inf, better_at_most(told, winner, question.confidence))
    short = np.nanmin(hopeful, axis=1) < np.nanmean(values[winner])
    better = better_at_most(found, winner, question.confidence)
    better = np.where(never & ~short, -np.inf, better)
    margin = question.delta * (abs(float(np.nanmean(values[winner]))) or 1.0)
    return found, better, not_watched(better, least, margin)


def longest_watch(place: Place) -> np.ndarray:
    """Return how long the runs still on their way were watched at most, NaN without `[setting]`."""
    own = np.where(place.hopeful < place.values, place.hopeful, -np.inf).max(axis=1)
    return np.where(np.isfinite(own), own, np.nan)


def unknown_text(rows: pd.DataFrame) -> str | None:
    """Say which settings of a table were not watched for long enough to tell; None where all."""
    short = rows[rows["watched_s"].notna()]
    if short.empty:
        return None
    said = [f"{row['setting']} was watched only until {duration(row['watched_s'])}"
            for row in short.head(_NAMED).to_dict("records")]  # fmt: skip
    rest = len(short) - _NAMED
    return ", ".join(said) + (f", and {rest} more" if rest > 0 else "")


def _ranked(place: Place, question: Question) -> tuple[Interval, np.ndarray, np.ndarray]:
    """Return means, the share of runs with a number, and the settings' order `[setting]`."""
    means = _means(place, question)
    runs = np.count_nonzero(~np.isnan(place.values), axis=1)
    known = np.where(runs > 0, 1 - place.filled / np.maximum(runs, 1), 0.0)
    order = np.lexsort((-known, np.nan_to_num(means.mean, nan=np.inf), known == 0))
    return means, known, order


def _means(place: Place, question: Question) -> Interval:
    """Estimate the mean of each setting by Student's t, a share of flags by Wilson's score."""
    if not place.flags:
        return mean_interval(place.values.T, question.confidence)
    n = np.count_nonzero(~np.isnan(place.values), axis=1)
    hits = np.abs(np.nansum(place.values, axis=1))
    found = wilson_interval(hits, n, question.confidence)
    if not question.larger:
        return found
    return Interval(-found.mean, -found.high, -found.low, n)


def _undecided(
    place: Place, question: Question, means: Interval, only: int | None
) -> Judged:
    """Judge a place where no run has a number, or where a single setting stands."""
    nothing = dict.fromkeys(
        ("ratio", "ratio_lo", "ratio_hi", "better_at_most", "p_holm", "probability"), np.nan
    )
    rows = _rows(place, question, means).assign(
        **nothing, tied=False, winner=False, watched_s=np.nan
    )
    name = None if only is None else place.settings[only]
    judged = Verdict(place.names, name, None, [], _NONE, np.nan, np.nan, np.nan, "")
    return _judged(place, question, rows, judged)


def _judged(place: Place, question: Question, rows: pd.DataFrame, found: Verdict) -> Judged:
    said = found._replace(sentence=sentence_of(found, question))
    return Judged(rows[[*place.names, *COLUMNS]], said)


def sentence_of(found: Verdict, question: Question) -> str:
    """Say a verdict in one sentence."""
    return verdict(
        found.winner,
        question.metric,
        larger=question.larger,
        runner_up=found.runner_up,
        ratio=found.ratio,
        confidence=question.confidence,
        sure=found.sure,
        margin=question.delta,
        tied=found.tied,
        among="here" if found.place else "in the sweep",
        unknown=found.unknown,
    )


def _rows(place: Place, question: Question, means: Interval) -> pd.DataFrame:
    sign = -1.0 if question.larger else 1.0
    bounds = sign * np.stack([means.low, means.high]) + 0.0  # no minus zero
    return pd.DataFrame(place.names, index=range(len(place.values))).assign(
        setting=place.settings,
        config_id=place.config_ids,
        n=np.maximum(means.n, place.filled),
        mean=sign * means.mean + 0.0,
        lo=bounds.min(axis=0),
        hi=bounds.max(axis=0),
        filled=place.filled,
    )


def _pair(values: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    both = ~np.isnan(values[a]) & ~np.isnan(values[b])
    return values[a][both], values[b][both]


def _times_better(place: Place, winner: int, j: int, question: Question) -> Interval:
    """Return how many times better the winner is than another, above 1 where it is."""
    own, other = _pair(place.values, winner, j)
    if place.flags and np.array_equal(own, other):  # nothing differs yet: no ratio without error
        return _NONE
    if question.larger:
        return mean_ratio(-own, -other, question.confidence)
    return mean_ratio(other, own, question.confidence)


def _p(place: Place, winner: int, j: int) -> float:
    own, other = _pair(place.values, winner, j)
    return sign_test(own != 0, other != 0) if place.flags else t_test(own - other)


def together(verdicts: list[Verdict], question: Question) -> str:
    """Return the one sentence, or how often each setting wins where there are several places."""
    if len(verdicts) == 1:
        return verdicts[0].sentence
    places = len(verdicts)
    if all(found.winner is None for found in verdicts):
        return f"{missing(question.metric).capitalize()} at any of {places} places."
    contested = [found for found in verdicts if found.runner_up is not None]
    nobody = sum(found.winner is None for found in verdicts)
    lone = places - len(contested) - nobody
    wins = pd.Series([found.winner for found in contested], dtype=object).value_counts(sort=True)
    said = []
    if len(wins) == 1:
        where = f"all {places} places" if len(contested) == places else (
            f"{len(contested)} of {places} places"
        )  # fmt: skip
        said.append(f"Use {wins.index[0]}: it is the best at {where}")
        tied = sum(bool(found.tied) for found in contested)
        if tied:
            said.append(f"others tie with it, or were not watched long enough, at {tied}")
    elif len(wins):
        parts = [f"{name} at {count}" for name, count in wins.items()]
        more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
        said.append(f"Of {places} places, best is {', '.join(parts[:3])}{more}")
        said += _widest(contested, wins)
    if nobody:
        said.append(f"at {nobody} {missing(question.metric)}")
    if lone:
        said.append(f"at {lone} there is nothing to choose: a single setting stands there")
    if not contested:
        said.insert(0, f"There is no choice at any of {places} places")
    return "; ".join(said) + "."


def _widest(contested: list[Verdict], wins: pd.Series) -> list[str]:
    """Name the setting that is best or tied at most places, where that is at more than it wins."""
    good = pd.Series([name for found in contested for name in (found.winner, *found.tied)])
    counts = good.value_counts(sort=True)
    name, count = max(counts.items(), key=lambda item: (item[1], wins.get(item[0], 0)))
    return [f"{name} is best or tied at {count}"] if count > wins.get(name, 0) else []


def notes_of(table: pd.DataFrame, question: Question) -> list[str]:
    """Say what the figures rest on."""
    few, many = int(table["n"].min()), int(table["n"].max())
    seeds = f"{few}" if few == many else f"{few} to {many}"
    notes = [f"{seeds} seeds each, paired; intervals at {100 * question.confidence:g} %"]
    if few < 64:
        notes.append("fewer than 64 seeds: intervals of skewed metrics may be too narrow")
    filled = int(table["filled"].sum())
    if filled and question.metric == "time_to_target_s":
        notes.append(
            f"{filled:,} runs did not reach the target: each counts as the longest that any run "
            "of its place was watched, in bounds of how much better it may be as its own watch"
        )
        unknown = unknown_text(table)
        if unknown:
            notes.append(f"not known: {unknown}")
    elif filled and question.metric in WORKED:
        notes.append(f"{filled:,} runs in which nothing was accepted count as zero")
    elif filled:
        notes.append(f"{filled:,} runs without a number count as the worst of their place")
    return notes
