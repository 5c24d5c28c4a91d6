"""Recommend: the best way to train a model on a fleet, by timing first and by learning then."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import duration, number, percent
from jaxwan.analysis.verdict import factor
from jaxwan.decide.blocks import Other, blocks
from jaxwan.decide.candidates import (
    PLANS,
    PROGRAMS,
    Candidate,
    Pruned,
    by_plan,
    candidates,
    program_of,
    prune,
    timing_of,
)
from jaxwan.decide.race import Race, Tell, race
from jaxwan.experiment.errors import InputError, shown, unknown_name
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.model_size import (
    PROXY_FLOOR,
    PROXY_START,
    Model,
    model_of,
    scenario_for,
)
from jaxwan.experiment.prices import device
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.stats.intervals import Interval, mean_interval
from jaxwan.sweep import plan_job, run_in_memory

METRICS = {"time": "time_to_target_s", "cost": "cost_usd", "energy": "energy_j"}
FIGURES = {"time": "hours", "cost": "usd", "energy": "kwh"}
WORSE = {"time": "slower", "cost": "dearer", "energy": "more energy"}
MOSTLY = 0.5  # share of runs that reach the target, from which on their mean tells something
BATCH_TOKENS = 65_536  # of one worker's step
TOKENS_A_PARAMETER = 20  # Hoffmann et al. 2022
TIMED_SEEDS, BLOCK, MOST = 4, 32, 96
KWH = 3.6e6
HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0}
NUMBER = r"(\d+(?:\.\d+)?(?:e\d+)?)"
BASELINE = ("sync", 1, "none")
_RATIOS = ("ratio", "ratio_lo", "ratio_hi")
LIMITS = (
    "A small decoder learned, not the full model: how a larger H or a harsher compressor slows "
    "learning is the proxy's, and so are its learning rates.",
    "Times, bytes and prices are the full model's, over ideal links, without failures unless the "
    "fleet has them.",
)


class Budget(NamedTuple):
    """The most that a whole training may take."""

    hours: float = math.inf
    usd: float = math.inf


class Recommendation(NamedTuple):
    """What to use, how sure that is, and what it costs."""

    choice: str
    sentence: str
    certified: bool  # with the confidence nothing raced is better by more than delta
    table: pd.DataFrame  # one row a raced plan, best first; figures of a whole training
    pruned: dict[str, int]  # why settings were not raced, and how many
    considered: int
    model: Model
    tokens: float  # of a whole training
    steps: int  # of every worker in it
    blocks: dict[str, str]  # settings in the words of training frameworks
    experiment: Resolved  # of the choice
    plans: dict[str, Resolved]  # all that were raced
    race: Race
    notes: list[str]
    cpu_s: dict[str, float]  # of this process, compiling included


def budget_of(text: str | None) -> Budget:
    """Read a budget of a whole training: "$5000", "300 h", or both joined by a comma.

    Raises:
        InputError: for anything else.
    """
    found = Budget()
    for part in (text or "").split(",") if text else ():
        own = part.strip().lower()
        dollars = re.fullmatch(rf"(?:\$|usd)\s*{NUMBER}", own)
        dollars = dollars or re.fullmatch(rf"{NUMBER}\s*(?:\$|usd)", own)
        hours = re.fullmatch(rf"{NUMBER}\s*(s|min|h|d)", own)
        if dollars and float(dollars[1]) > 0:
            found = found._replace(usd=float(dollars[1]))
        elif hours and float(hours[1]) > 0:
            found = found._replace(hours=float(hours[1]) * HOURS[hours[2]])
        else:
            raise InputError(f"expected dollars or a duration such as $5000 or 300h, got "
                             f"{shown(text)}", "budget")  # fmt: skip
    return found


class Blocks:
    """Runs plans on blocks of seeds, whole programs at a time, so that each compiles but once.

    Every figure is that until the target: a run that did not reach it has none.
    """

    def __init__(self, plans: Sequence[Resolved], size: int) -> None:
        self.size, self.runs = size, 0
        self.programs: dict[Any, list[Resolved]] = {}
        for one in plans:
            self.programs.setdefault(program_of(one), []).append(one)
        self.found: dict[tuple[str, int], pd.DataFrame] = {}  # (plan, block) -> rows

    def __call__(self, experiments: list[Resolved], seeds: range) -> pd.DataFrame:
        """Return the rows of experiments on seeds."""
        blocks = range(seeds.start // self.size, (seeds.stop - 1) // self.size + 1)
        for block in blocks:
            missing = {program_of(one) for one in experiments
                       if (config_id(one), block) not in self.found}  # fmt: skip
            self._run([one for key in self.programs if key in missing
                       for one in self.programs[key]], block)  # fmt: skip
        rows = pd.concat([self.found[config_id(one), block] for one in experiments
                          for block in blocks], ignore_index=True)  # fmt: skip
        return rows[rows["seed"].between(seeds.start, seeds.stop - 1)].reset_index(drop=True)

    def _run(self, plans: list[Resolved], block: int) -> None:
        if not plans:
            return
        seeds = range(block * self.size, (block + 1) * self.size)
        frame = until_target(run_in_memory(plan_job(plans, list(seeds)))[0])
        self.runs += len(frame)
        for name, rows in frame.groupby("config_id", sort=False):
            self.found[str(name), block] = rows


def until_target(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows with cost and energy until the target, and the plan's name as the strategy."""
    reached = frame["reached"].to_numpy(bool)
    when = np.where(reached, frame["time_to_target_s"], np.nan)
    share = when / frame["time_s"].to_numpy()
    return frame.assign(
        cost_usd=frame["cost_usd"] * share, energy_j=frame["energy_j"] * share,
        strategy=frame["plan"], compressor="any",
    ).drop(columns="plan")  # fmt: skip


def recommend(
    model: str,
    fleet: str | os.PathLike[str] = "aws_regions",
    target: float | None = None,
    budget: str | None = None,
    *,
    metric: str = "time",
    tokens: float | None = None,
    batch_tokens: int = BATCH_TOKENS,
    confidence: float = 0.95,
    delta: float = 0.05,
    most: int = MOST,
    plans: int = PLANS,
    programs: int = PROGRAMS,
    tell: Tell | None = None,
    **world: Any,
) -> Recommendation:
    """Recommend a way to train a model on a fleet.

    All settings are timed first, at full size and without learning; what cannot be the best is
    dropped, and at most `plans` are raced, a small decoder learning in each. `model` is a size
    ("1B") or a Hugging Face config.json, `fleet` a challenge's name or a fleet's file, `target` a
    held-out loss of the proxy, `budget` what a whole training of `tokens` (20 a parameter unless
    told) may take: "$5000", "300h". `metric` is time, cost or energy; `world` are further fields of
    the experiments, such as `link`.

    A whole training is to synchronous training what the target is to the proxy: the figures of all
    plans are scaled by one factor, so that theirs takes the tokens.

    Raises:
        InputError: for anything that cannot be read, or where nothing is left within the budget.

    Example:
        >>> import jaxwan as jw
        >>> jw.recommend("1B", "aws_regions", budget="$20000").sentence
    """
    _check(metric, most, batch_tokens, target, tokens)
    say: Callable[[str], None] = tell or (lambda _: None)
    own, limit = model_of(model), budget_of(budget)
    wanted = float(tokens or TOKENS_A_PARAMETER * own.parameters)
    base = resolve(Experiment(scenario="llm_scale")).scenario
    scenario = scenario_for(own, batch_tokens, base, target)
    found = candidates(str(fleet), scenario, **world)
    say(f"timing {len(found)} settings")
    began = time.process_time()
    timed = run_in_memory(plan_job(timing_of(found), list(range(TIMED_SEEDS))))[0]
    middle = time.process_time()
    samples = wanted / batch_tokens * scenario.batch
    ceilings = {"time": limit.hours * 3600 / samples, "cost": limit.usd / samples}
    left = prune(found, by_plan(timed, [one.name for one in found]), metric, ceilings, plans,
                 programs)  # fmt: skip
    say(f"racing {len(left.plans)} plans")
    asked: dict[str, Any] = {"confidence": confidence, "delta": delta, "most": most, "tell": tell}
    raced, table = _raced(left.plans, METRICS[metric], samples, limit, asked)
    told = _told(own, left, len(found), wanted, batch_tokens, raced, table, WORSE[metric])
    took = {"timing": middle - began, "racing": time.process_time() - middle}
    return told._replace(cpu_s=took)


def _check(
    metric: str, most: int, batch_tokens: int, target: float | None, tokens: float | None
) -> None:
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    if most < 2 or not 1 <= batch_tokens <= 10**9:
        raise InputError("most must be at least 2, batch_tokens at least 1")
    if target is not None and not PROXY_FLOOR < target < PROXY_START:
        raise InputError(f"expected a loss between the proxy's floor, {PROXY_FLOOR:g}, and where "
                         f"it starts, {PROXY_START:g}, got {target:g}", "target")  # fmt: skip
    if tokens is not None and not 0 < tokens < math.inf:
        raise InputError(f"expected a number above 0, got {tokens:g}", "tokens")


def _raced(
    plans: Sequence[Candidate], metric: str, samples: float, limit: Budget, asked: dict[str, Any]
) -> tuple[Race, pd.DataFrame]:
    """Race plans and return what a whole training takes with each.

    Raises:
        InputError: where there is but one.
    """
    if len(plans) < 2:
        raise InputError("nothing but synchronous training is left to race; is the budget below "
                         "what any setting takes?", "budget")  # fmt: skip
    own = [one.resolved for one in plans]
    asked = asked | {"runner": Blocks(own, min(BLOCK, asked["most"]))}
    names = {one.name: one for one in plans}
    raced = race(own, metric, **asked)
    table = whole_training(raced, names, samples)
    return within(raced, table, names, limit, metric, asked)


def whole_training(raced: Race, names: dict[str, Candidate], samples: float) -> pd.DataFrame:
    """Return one row a plan: hours, dollars and kWh of a whole training with their intervals.

    A plan of which under half of the runs reach the target has none: those that do are the lucky
    ones. Where synchronous training is such, the plan that takes fewest samples stands for it.
    """
    runs = raced.runs
    reached = runs.groupby("strategy")["reached"].mean()
    samples_each = runs["samples_per_s"] * runs["time_to_target_s"]
    taken = samples_each.groupby(runs["strategy"]).mean().where(reached >= MOSTLY)
    sync = [name for name, one in names.items() if one.learning == BASELINE]
    usual = float(taken.get(sync[0], np.nan)) if sync else np.nan
    scale = samples / (usual if usual > 0 else float(taken.min()))
    table = raced.best.table.reset_index(drop=True)
    for figure, metric in METRICS.items():
        length = {"time": 3600.0, "cost": 1.0, "energy": KWH}[figure]
        column = FIGURES[figure]
        for place, name in enumerate(table["setting"]):
            values = runs.loc[runs["strategy"] == name, metric].dropna().to_numpy()
            known = len(values) and reached[name] >= MOSTLY
            sides = mean_interval(values, raced.best.confidence) if known else None
            for side, key in (("mean", ""), ("low", "_lo"), ("high", "_hi")):
                value = np.nan if sides is None else float(getattr(sides, side))
                table.loc[place, column + key] = value * scale / length
    return table.assign(reached=table["setting"].map(reached).astype(float))


def within(
    raced: Race, table: pd.DataFrame, names: dict[str, Candidate], limit: Budget, metric: str,
    asked: dict[str, Any],
) -> tuple[Race, pd.DataFrame]:  # fmt: skip
    """Return the race and table of the plans within the budget, where the winner is not.

    What a plan without figures takes is unknown: neither within a budget nor over it.
    """
    tops = (("hours", limit.hours), ("usd", limit.usd))
    over = np.any([table[name] > top for name, top in tops], axis=0)
    inside = np.all([(table[name] <= top) | np.isinf(top) for name, top in tops], axis=0)
    table = table.assign(over_budget=over, within_budget=inside)
    kept = [names[name] for name in table.loc[inside, "setting"]]
    if inside[0] or not kept:
        return raced, table
    nothing = dict.fromkeys(("probability", *_RATIOS), np.nan) | {"winner": False, "tied": False}
    gone = table[~inside].assign(**nothing)
    if len(kept) == 1:
        return raced, pd.concat([table[inside].assign(**nothing), gone], ignore_index=True)
    again = race([one.resolved for one in kept], metric, **asked)
    rows = again.best.table.set_index("setting")
    front = table.set_index("setting").loc[list(rows.index)]
    told = ("winner", "tied", "probability", "n", *_RATIOS)
    front = front.assign(**{name: rows[name] for name in told})
    return again, pd.concat([front.reset_index(), gone], ignore_index=True)


def _told(
    own: Model, left: Pruned, considered: int, tokens: float, batch_tokens: int, raced: Race,
    table: pd.DataFrame, worse: str,
) -> Recommendation:  # fmt: skip
    """Put the answer together."""
    plans = {one.name: one.resolved for one in left.plans}
    choice = str(table["setting"].iloc[0])
    chosen = plans[choice]
    steps = max(round(tokens / (batch_tokens * len(chosen.workers))), 1)
    notes = [*_memory(own, chosen), *LIMITS, *_unsure(raced, table)]
    told = blocks(chosen, steps, _others(raced, table, plans, worse))
    return Recommendation(
        choice, _sentence(raced, table), raced.certified, table, left.reasons, considered, own,
        tokens, steps, told, chosen, plans, raced, notes, {},
    )  # fmt: skip


def _sentence(raced: Race, table: pd.DataFrame) -> str:
    """Say the choice, and where no plan is known to keep within the budget, that."""
    first, said = table.iloc[0], raced.best.sentence
    if not first["within_budget"]:
        verb = "stays" if table["over_budget"].all() else "is known to stay"
        return f"Nothing raced {verb} within the budget. {said}"
    if first["setting"] != raced.best.verdicts[0].winner and table["within_budget"].sum() == 1:
        return f"Use {first['setting']}: nothing else raced is known to stay within the budget."
    return said


def _others(
    raced: Race, table: pd.DataFrame, plans: dict[str, Resolved], worse: str
) -> list[Other]:  # fmt: skip
    """Return what else may be used: within the budget and with figures, best first."""
    rows = table.iloc[1:]
    rows = rows[rows["within_budget"] & rows["hours"].notna()]
    found = []
    for row in rows.to_dict("records"):
        mean, low, high = (float(row[name]) for name in _RATIOS)
        ratio = Interval(mean, low, high, int(row["n"]))
        much, interval = factor(ratio, raced.best.confidence) if mean > 0 else ("", "")
        apart = f"{much} {worse} ({interval})" if much else ""
        found.append(Other(str(row["setting"]), plans[str(row["setting"])], apart))
    return found


def _memory(own: Model, chosen: Resolved) -> list[str]:
    """Say where weights, gradients and Adam's moments do not fit into one device."""
    kinds = sorted({worker.device for worker in chosen.workers})
    small = min(kinds, key=lambda kind: device(kind).memory_bytes)
    needed = 16.0 * own.parameters
    if needed <= device(small).memory_bytes:
        return []
    return [f"16 bytes a parameter are {needed / 1e9:,.0f} GB, more than one {small} holds: each "
            "worker must be several devices, and its speed and price theirs."]  # fmt: skip


def _unsure(raced: Race, table: pd.DataFrame) -> list[str]:
    share = float(table["reached"].iloc[0])
    notes = []
    if share < 1:
        notes.append(f"{percent(share)} of the choice's runs reached the target; its figures are "
                     "theirs")  # fmt: skip
    if not raced.certified:
        notes.append("The race is not settled: more seeds (--most) or a larger --delta would do.")
    return notes


def _span(low: str, high: str) -> str:
    return "" if "–" in (low, high) else f"{low} – {high}"


def figures(row: pd.Series, name: str) -> tuple[str, str]:
    """Write a figure of a whole training and its interval."""
    sides = [float(row[name + key]) for key in ("", "_lo", "_hi")]
    if not np.isfinite(sides[0]):
        return "–", ""
    if name == "hours":
        length = 24.0 if sides[0] >= 48 else 1.0
        unit = "d" if length > 1 else "h"
        center, low, high = (number(side / length) for side in sides)
        if sides[0] < 1:
            return duration(sides[0] * 3600), ""
        return f"{center} {unit}", _span(low, high)
    if name == "usd":
        center, low, high = (f"{side:,.0f}" if side >= 100 else number(side) for side in sides)
        return f"${center}", _span(low, high)
    center, low, high = (f"{side:,.0f}" if side >= 100 else number(side) for side in sides)
    return f"{center} kWh", _span(low, high)
