"""Passing settings: the cheapest setting that meets a challenge's success criteria, and how surely.

A setting passes where the exact lower bound of its share of successful runs (one-sided, Clopper and
Pearson 1934) is at least 90 %. The tries of a place share the error that the confidence allows
(Bonferroni): where none of them really succeeds in over 90 % of its runs, one is said to pass with
a probability of at most 5 %. So 64 of 64 runs pass, 63 do, and 62 do not.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy import special

from jaxwan.columns import records
from jaxwan.decide.passing_guess import Guess, guess
from jaxwan.decide.passing_runs import (
    Lesson,
    Place,
    Seen,
    is_calm,
    learned,
    long_enough,
    look,
    place_of,
)
from jaxwan.decide.passing_table import setting_of
from jaxwan.decide.race import Tell
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import config_id, is_barrier
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep

SHARE = 0.9  # of the runs that must surely succeed
SEEDS = 64  # fresh ones, on which what was found is checked
TRIES = 3  # settings of a place that are checked
HOPE = {True: 0.9, False: 0.6}  # of the throughput asked; by whether nothing fails, in a guess
EACH = 4  # settings of a place and protocol that are run: the cheapest ones, and the fastest ones
ROOM = 1.1  # reached of what is asked for, by the tries that are not on the edge
LEARNED, LESSONS = ("simple",), 8  # scenarios whose winners also learn, and seeds on which they do

class Passing(NamedTuple):
    """One row a challenge and scenario: what passes most cheaply, or what comes closest."""

    table: pd.DataFrame
    settings: int  # tried at each place
    runs: int
    confidence: float
    share: float

    def records(self) -> list[dict[str, Any]]:
        """Return JSON-ready rows."""
        return records(self.table)


def least_share(success: int, n: int, tail: float) -> float:
    """Return the lower bound of a share that is missed with probability `tail`, exactly."""
    return float(special.betaincinv(success, n - success + 1, tail)) if success else 0.0


def by_place(seen: Sequence[Seen]) -> dict[Place, list[Seen]]:
    """Return the settings of every place, the nearest first."""
    places: dict[Place, list[Seen]] = {}
    for one in sorted(seen, key=_reach, reverse=True):
        places.setdefault(one.place, []).append(one)
    return places


def _reach(one: Seen) -> float:
    return one.reach


def _cost(one: Seen) -> float:
    return one.cost


def hopeful(found: Sequence[Resolved]) -> list[Resolved]:
    """Choose by a guess what to run at one place.

    Of the settings with rounds and of those with events, each: the cheapest ones that may reach the
    throughput that is asked for, and the fastest ones whatever they reach.
    """
    kept: dict[str, Resolved] = {}
    for rounds in (True, False):
        own = [(guess(one), one) for one in found if is_barrier(one) is rounds]
        near = [pair for pair in own if pair[0].ratio >= _hope(pair[1])]
        cheapest = sorted(near, key=_guessed_cost)[:EACH]
        fastest = sorted(own, key=_guessed_ratio, reverse=True)[:EACH]
        kept |= {config_id(one): one for _, one in (*cheapest, *fastest)}
    return list(kept.values())


def _hope(resolved: Resolved) -> float:
    return HOPE[is_calm(resolved)] * resolved.criteria.min_throughput_ratio


def _guessed_cost(pair: tuple[Guess, Resolved]) -> float:
    return pair[0].cost


def _guessed_ratio(pair: tuple[Guess, Resolved]) -> float:
    return pair[0].ratio


def chosen(own: Sequence[Seen]) -> list[Seen]:
    """Choose the tries of a place from its settings, nearest first; return the cheapest first.

    They are the cheapest setting whose runs all succeeded, the cheapest of these that is not on the
    edge, and the cheapest such one that coordinates (by rounds or events) and compresses otherwise:
    what fails in training for one may not for the other. Where there are not so many, others of
    which some run succeeded fill up; where none did, it is the nearest.
    """
    sure = sorted((one for one in own if one.success == one.n), key=_cost)
    near = [one for one in own if one.success > 0]
    roomy = [one for one in sure if one.reach >= ROOM]
    tries = sure[:1] + roomy[:1]
    tries += [one for one in roomy if _is_other(one, tries[0])][:1]
    kept = {id(one): one for one in [*tries, *sure, *(near or own[:1])]}
    return sorted(list(kept.values())[:TRIES], key=_cost)


def _is_other(one: Seen, first: Seen) -> bool:
    """Tell whether settings differ in how they coordinate and in how they compress."""
    apart = is_barrier(one.resolved) != is_barrier(first.resolved)
    return apart and one.resolved.compressor.kind != first.resolved.compressor.kind


def taught(passed: dict[Place, list[Seen]], seeds: list[int]) -> dict[str, Lesson]:
    """Train with the cheapest setting of every place; where that fails, with the next one."""
    lessons: dict[str, Lesson] = {}
    for turn in range(TRIES):
        passed = {place: own for place, own in passed.items() if turn < len(own)}
        now = learned([own[turn].resolved for own in passed.values()], seeds)
        lessons |= now
        passed = {place: own for place, own in passed.items()
                  if turn < len(own) and now[config_id(own[turn].resolved)].fault}
    return lessons


class Verdict(NamedTuple):
    """What is said of a place: a try, whether it passes, and what came of training with it."""

    best: Seen
    passes: bool
    lesson: Lesson


def judged(
    tries: Sequence[Seen], passed: Sequence[Seen], lessons: dict[str, Lesson]
) -> Verdict:
    """Choose among the tries of a place, cheapest first, of which some passed."""
    for one in passed:
        lesson = lessons.get(config_id(one.resolved), Lesson())
        if not lesson.fault:
            return Verdict(one, True, lesson)
    if passed:
        lesson = lessons[config_id(passed[0].resolved)]
        return Verdict(passed[0]._replace(failed=lesson.fault), False, lesson)
    return Verdict(max(tries, key=_nearness), False, Lesson())


def _nearness(one: Seen) -> tuple[int, float]:
    return one.success, one.reach


def _silent(text: str) -> None:
    """Tell nobody."""


def _checked(confidence: float, share: float, seeds: int) -> float:
    """Return the probability with which a try may pass wrongly.

    Raises:
        InputError: for numbers out of range, or with which nothing could ever pass.
    """
    if not 0 < confidence < 1 or not 0 < share < 1:
        raise InputError("confidence and share lie strictly between 0 and 1")
    tail = (1 - confidence) / TRIES
    needed = math.ceil(math.log(tail) / math.log(share))
    if seeds < needed:
        raise InputError(f"even if all of {seeds} runs succeeded, that would not show a share of "
                         f"{share:g} at {confidence:g}; it takes {needed} seeds")  # fmt: skip
    return tail


def passing(
    source: str | os.PathLike[str], confidence: float = 0.95, share: float = SHARE,
    seeds: int = SEEDS, learn: bool = True, tell: Tell | None = None,
) -> Passing:  # fmt: skip
    """Search a sweep for the cheapest setting that passes at each scenario and challenge.

    A guess from means names the `hopeful` settings of each place. These run on the sweep's seeds,
    at least as long as the criteria's updates take, and `chosen` names the tries. They run again on
    fresh seeds, which alone count; the cost is that of such a run. The recommended settings run
    beside them on the same seeds. With `learn`, what was found in the small scenarios is trained as
    well, and does not pass where it diverges or hardly learns.

    Raises:
        InputError: for a bad sweep or number.
    """
    tail, say = _checked(confidence, share, seeds), tell or _silent
    sweep = Sweep.from_toml(Path(source))
    found, own_seeds = [long_enough(one) for one in sweep.resolve()[0]], list(sweep.seeds)
    usual = _recommended(sweep, found)
    fresh = [max(own_seeds) + 1 + seed for seed in range(seeds)]
    kept = [one for place in usual
            for one in hopeful([own for own in found if place_of(own) == place])]  # fmt: skip
    say(f"running {len(kept):,} of {len(found):,} settings")
    places = by_place(look(kept, own_seeds))
    asked = [one.resolved for place in usual for one in chosen(places[place])]
    say(f"checking {len(asked):,} settings on {seeds} fresh seeds")
    seen = look([*asked, *usual.values()], fresh)
    tries, base = by_place(seen[: len(asked)]), by_place(seen[len(asked) :])
    passed = {place: [one for one in sorted(own, key=_cost)
                      if least_share(one.success, one.n, tail) >= share]
              for place, own in tries.items()}  # fmt: skip
    lessons = {}
    if learn:
        say("training with what was found")
        small = {place: own for place, own in passed.items() if own and place[1] in LEARNED}
        lessons = taught(small, fresh[:LESSONS])
        lessons |= learned([usual[place] for place in small], fresh[:LESSONS])
    rows = [
        _row(judged(tries[place], passed[place], lessons), base[place][0], lessons, tail)
        for place in usual
    ]
    runs = len(kept) * len(own_seeds) + len(seen) * seeds
    return Passing(pd.DataFrame(rows), len(found) // len(usual), runs, confidence, share)


def _recommended(sweep: Sweep, found: list[Resolved]) -> dict[Place, Resolved]:
    """Return each place's recommended setting, its runs as long as its criteria need."""
    usual = {}
    for (own, _), one in zip(sweep.expand(), found, strict=True):
        place = place_of(one)
        if place not in usual:
            plain = Experiment(scenario=own.scenario, challenge=own.challenge, steps=own.steps,
                               timing_only=own.timing_only)  # fmt: skip
            usual[place] = long_enough(resolve(plain))
    return usual


def _facts(one: Seen, lesson: Lesson) -> dict[str, Any]:
    return {
        "setting": setting_of(one.resolved), "steps": one.resolved.steps,
        "success": one.success / one.n, "cost_usd": one.cost, "updates": one.updates,
        "throughput_ratio": one.ratio, "rejection_rate": one.rejected, "failed": one.failed,
        "loss_final": lesson.loss, "diverged": lesson.diverged,
    }  # fmt: skip


def _row(
    verdict: Verdict, usual: Seen, lessons: dict[str, Lesson], tail: float
) -> dict[str, Any]:
    """Return what is told of a place, the recommended setting's figures behind those found."""
    best, asked = verdict.best, usual.resolved.criteria
    beside = _facts(usual, lessons.get(config_id(usual.resolved), Lesson()))
    return {
        "challenge": best.place[0], "scenario": best.place[1], "passes": verdict.passes,
        **_facts(best, verdict.lesson), "at_least": least_share(best.success, best.n, tail),
        "min_steps": asked.min_steps, "max_rejection": asked.max_rejection,
        "min_throughput_ratio": asked.min_throughput_ratio,
        **{f"recommended_{name}": value for name, value in beside.items()},
    }  # fmt: skip
