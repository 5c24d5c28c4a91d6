"""The best setting of a finished sweep: winner, ties, probabilities, and what remains possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.outcomes import check_metric, outcomes, prefers_larger
from jaxwan.analysis.tables import setting_names
from jaxwan.analysis.verdict import verdict
from jaxwan.columns import identity_columns, varying
from jaxwan.core.families import nearest
from jaxwan.stats.best import better_at_most, gaps, probability_best, surely_within
from jaxwan.stats.intervals import Interval, mean_interval
from jaxwan.stats.paired import holm, mean_ratio, t_test

_GIVEN = {
    "scenario", "challenge", "network", "workers", "attackers", "attack", "attack_stage",
    "fidelity", "timing_only", "steps",
}  # fmt: skip
_GIVEN_WITHIN = ("attack.", "link.", "failures.", "learning.", "compute.")
_CHOSEN_WITHIN = ("link.transport", "link.streams", "link.connect", "compute.device",
                  "compute.precision")  # fmt: skip
COLUMNS = (
    "setting", "config_id", "n", "mean", "lo", "hi", "ratio", "ratio_lo", "ratio_hi",
    "better_at_most", "p_holm", "probability", "tied", "winner", "filled",
)  # fmt: skip


class Verdict(NamedTuple):
    """What the runs of one place say."""

    place: dict[str, Any]
    winner: str
    runner_up: str | None
    tied: list[str]  # others that the winner is not surely better than
    ratio: Interval  # how many times better than the runner-up
    probability: float  # that the winner has the best mean
    regret: float  # at the confidence, nothing is better by more than this share
    sure: float  # confidence that nothing is better by more than delta
    sentence: str


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


class Question(NamedTuple):
    """What is asked of every place."""

    metric: str
    larger: bool
    confidence: float
    delta: float


class Place(NamedTuple):
    """The runs of one place as a table of settings and seeds."""

    names: dict[str, Any]
    settings: list[str]
    config_ids: list[str]
    values: np.ndarray  # [setting, seed], NaN where not run; smaller is better
    filled: np.ndarray  # int [setting]; runs that were told a number


def best(
    frame: pd.DataFrame,
    metric: str = "time_to_target_s",
    confidence: float = 0.95,
    delta: float = 0.05,
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
    from jaxwan.analysis.robust import robust_choice, robust_sentence

    question = _asked(frame, metric, confidence, delta, larger)
    chosen, given = roles(frame, choose, over)
    places = [place_of(runs, names, chosen, question) for names, runs in by_place(frame, given)]
    judged = [judge(place, question) for place in places]
    table = pd.concat([rows for rows, _ in judged], ignore_index=True)
    table["p_holm"] = holm(table["p_holm"])
    verdicts = [found for _, found in judged]
    rows, sentence = None, together(verdicts, question)
    if over is not None:
        rows = robust_choice(places, over, question)
        sentence = robust_sentence(rows, over, question)
    notes = notes_of(table, question)
    return Best(metric, question.larger, confidence, delta, table, verdicts, rows, notes, sentence)


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


def is_given(name: str) -> bool:
    """Tell whether a setting is usually the world's rather than the user's to choose."""
    if name.startswith(_CHOSEN_WITHIN):
        return False
    return name in _GIVEN or name.startswith(_GIVEN_WITHIN)


def roles(
    frame: pd.DataFrame, choose: Sequence[str] = (), over: str | None = None
) -> tuple[list[str], list[str]]:
    """Split what varies into the chosen and the given; where no choice varies, links and such are.

    Raises:
        ValueError: for a column that is not there or does not vary, or where nothing is chosen.
    """
    known = identity_columns(frame)
    told = varying(frame, known)
    for name in [*choose, *([over] if over else [])]:
        if name not in known:
            hint = nearest(name, known)
            meant = f"; did you mean {hint!r}?" if hint else ""
            raise ValueError(f"no setting {name!r} in the results{meant} ({', '.join(known)})")
    if over is not None and over not in told:
        raise ValueError(f"{over!r} has a single value: {frame[over].iloc[0]}")
    if choose:
        own = [name for name in told if any(_within(name, root) for root in choose)]
    else:
        own = [name for name in told if not is_given(name) and name != over]
        if over is None:
            own = own or [name for name in told if name != "scenario"]
    if over in own:
        raise ValueError(f"{over!r} cannot be both chosen and what the choice is over")
    if not own:
        raise ValueError("nothing to choose from: no setting varies among the runs")
    return own, [name for name in told if name not in own]


def _within(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def by_place(frame: pd.DataFrame, given: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Split the frame by what is given, in order of first appearance."""
    if not given:
        return [({}, frame)]
    key = frame[given].map(str).agg("\x1f".join, axis=1)
    groups = [runs for _, runs in frame.groupby(key, sort=False)]
    return [({name: runs[name].iloc[0] for name in given}, runs) for runs in groups]


def place_of(
    runs: pd.DataFrame,
    names: dict[str, Any],
    chosen: list[str],
    question: Question,
    bound: float | None = None,
) -> Place:
    """Lay the runs of a place out by setting and seed; `bound` is what a run without a number is.

    Raises:
        ValueError: where a seed of a configuration stands twice.
    """
    found = outcomes(runs, question.metric, question.larger, bound)
    sign = -1.0 if question.larger else 1.0
    flat = pd.DataFrame({
        "config": runs["config_id"].to_numpy(), "seed": runs["seed"].to_numpy(),
        "value": sign * found.values,
    })  # fmt: skip
    if flat.duplicated(["config", "seed"]).any():
        raise ValueError("several runs have one configuration and one seed")
    order = list(dict.fromkeys(flat["config"]))
    values = flat.pivot(index="config", columns="seed", values="value").loc[order]
    filled = pd.Series(found.filled).groupby(flat["config"].to_numpy()).sum().loc[order]
    first = runs.drop_duplicates("config_id").to_dict("records")
    labels = [setting_names(row, chosen) or str(row["config_id"]) for row in first]
    return Place(names, labels, order, values.to_numpy(np.float64), filled.to_numpy())


def judge(place: Place, question: Question) -> tuple[pd.DataFrame, Verdict]:
    """Return the table of one place, best first (`p_holm` not yet adjusted), and its verdict."""
    values = place.values
    means = mean_interval(values.T, question.confidence)
    order = np.argsort(means.mean, kind="stable")  # NaN last
    winner = int(order[0])
    found = gaps(values, winner)
    scale = abs(float(means.mean[winner])) or 1.0
    better = better_at_most(found, winner, question.confidence) / scale
    chance = probability_best(values)
    ratios = [_times_better(values, winner, j, question) for j in range(len(values))]
    rows = _rows(place, question, winner, means, better).assign(
        ratio=[float(ratio.mean) for ratio in ratios],
        ratio_lo=[float(ratio.low) for ratio in ratios],
        ratio_hi=[float(ratio.high) for ratio in ratios],
        probability=chance,
    )
    second = int(order[1]) if len(order) > 1 else None
    judged = Verdict(
        place=place.names,
        winner=place.settings[winner],
        runner_up=None if second is None else place.settings[second],
        tied=[place.settings[j] for j in order[1:] if not better[j] < 0],
        ratio=ratios[winner if second is None else second],
        probability=float(chance[winner]),
        regret=float(np.max(np.nan_to_num(np.maximum(better, 0.0), nan=np.inf))),
        sure=surely_within(found, winner, question.delta * scale),
        sentence="",
    )
    table = rows[[*place.names, *COLUMNS]].iloc[order]
    return table, judged._replace(sentence=sentence_of(judged, question))


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
    )


def _rows(
    place: Place, question: Question, winner: int, means: Interval, better: np.ndarray
) -> pd.DataFrame:
    values, sign = place.values, -1.0 if question.larger else 1.0
    bounds = sign * np.stack([means.low, means.high])
    return pd.DataFrame(place.names, index=range(len(values))).assign(
        setting=place.settings,
        config_id=place.config_ids,
        n=means.n,
        mean=sign * means.mean,
        lo=bounds.min(axis=0),
        hi=bounds.max(axis=0),
        better_at_most=np.maximum(better, 0.0),
        p_holm=[np.nan if j == winner else _p(values, winner, j) for j in range(len(values))],
        tied=~(better < 0),
        winner=np.arange(len(values)) == winner,
        filled=place.filled,
    )


def _pair(values: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    both = ~np.isnan(values[a]) & ~np.isnan(values[b])
    return values[a][both], values[b][both]


def _times_better(values: np.ndarray, winner: int, j: int, question: Question) -> Interval:
    """Return how many times better the winner is than another, above 1 where it is."""
    own, other = _pair(values, winner, j)
    if question.larger:
        return mean_ratio(-own, -other, question.confidence)
    return mean_ratio(other, own, question.confidence)


def _p(values: np.ndarray, winner: int, j: int) -> float:
    own, other = _pair(values, winner, j)
    return t_test(own - other)


def together(verdicts: list[Verdict], question: Question) -> str:
    """Return the one sentence, or how often each setting wins where there are several places."""
    if len(verdicts) == 1:
        return verdicts[0].sentence
    wins = pd.Series([found.winner for found in verdicts]).value_counts(sort=True)
    if len(wins) == 1:
        return f"Use {wins.index[0]}: it is the best at all {len(verdicts)} places."
    parts = [f"{name} at {count}" for name, count in wins.items()]
    more = f" and {len(parts) - 3} more" if len(parts) > 3 else ""
    return f"Of {len(verdicts)} places, best is {', '.join(parts[:3])}{more}."


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
            "of its place was watched"
        )
    elif filled:
        notes.append(f"{filled:,} runs without a number count as the worst of their place")
    return notes
