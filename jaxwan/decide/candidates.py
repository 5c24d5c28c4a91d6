"""Candidates: the settings that a recommendation considers, and which of them need no learning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.experiment.catalog import load_challenge
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import learn_plan, world_plan
from jaxwan.experiment.resolve import failures_for, resolve
from jaxwan.experiment.resolved import Resolved, Scenario
from jaxwan.experiment.spec import Experiment

STEPS = 320  # of the proxy: eight rounds of the longest H
TIMED_STEPS = 80  # of the timing-only runs: two such rounds
POINTS = 20  # evaluations
LOCAL_STEPS = (10, 20, 40)
COMPRESSORS: dict[str, tuple[int, dict[str, Any]]] = {  # harshness, settings
    "none": (0, {"kind": "none"}),
    "fp16": (1, {"kind": "fp16"}),
    "int8": (2, {"kind": "int8"}),
    "top 1 %": (3, {"kind": "topk", "ratio": 0.01}),
    "SparseLoCo": (3, {"kind": "sparseloco"}),
}
SUMS = ("none", "fp16")
FAR = 6.0  # times the least: nothing in the grid loses so much in steps
SLACK = 1.01  # "no worse" of two timings
PLANS, PROGRAMS = 8, 6
OUTER_LRS = (0.4, 1.0)  # tried beside the usual one where plans are left


class Candidate(NamedTuple):
    """A setting that may be recommended."""

    name: str
    family: str  # strategy and what else its learning depends on, but H and compressor
    local_steps: int
    compressor: str
    exchange: str
    resolved: Resolved  # learns

    @property
    def learning(self) -> tuple[str, int, str]:
        """Return what the loss by steps depends on."""
        return self.family, self.local_steps, self.compressor

    @property
    def harsh(self) -> int:
        """Return how much the compressor takes away, in order."""
        return COMPRESSORS[self.compressor][0]


class Pruned(NamedTuple):
    """What is left to learn, and why the rest is not."""

    plans: list[Candidate]
    reasons: dict[str, int]
    timed: pd.DataFrame  # one row a candidate: time, cost and energy of a sample


def _settings() -> Iterator[tuple[str, str, int, dict[str, Any], str, str]]:
    """Yield name, family, H, strategy, compressor and exchange of every setting."""
    for compressor in COMPRESSORS:
        for exchange in ("star", "ring") if compressor in SUMS else ("star",):
            if compressor != "SparseLoCo":
                yield "sync", "sync", 1, {"kind": "sync"}, compressor, exchange
            for steps in LOCAL_STEPS:
                own = {"kind": "diloco", "local_steps": steps}
                yield f"DiLoCo H={steps}", "diloco", steps, own, compressor, exchange
    for compressor in SUMS:
        for steps in LOCAL_STEPS[1:]:
            own = {"kind": "streaming_diloco", "local_steps": steps}
            yield f"Streaming DiLoCo H={steps}", "streaming_diloco", steps, own, compressor, "ring"
        own = {"kind": "local_sgd", "local_steps": 10}
        yield "local SGD H=10", "local_sgd", 10, own, compressor, "ring"
    for compressor in ("none", "fp16", "int8"):
        yield "async", "async", 1, {"kind": "async", "max_staleness": 20}, compressor, "star"
        own = {"kind": "async_local_sgd", "local_steps": 20, "max_staleness": 20}
        yield "async local SGD H=20", "async_local_sgd", 20, own, compressor, "star"
    for steps in LOCAL_STEPS[1:]:
        own = {"kind": "diloco", "local_steps": steps}
        yield f"DiLoCo H={steps}", "diloco", steps, own, "fp16", "hierarchical"


def _resolved(fleet: str, scenario: Scenario, fields: dict[str, Any], name: str) -> Resolved:
    own: dict[str, Any] = {"learning": {"eval_points": POINTS}, **fields}
    experiment = Experiment(scenario="llm_scale", challenge=fleet, **own)
    found = replace(resolve(experiment, {"plan": name}), scenario=scenario)
    target = scenario.target_loss
    inner = found.optimizer if "local_steps" in found.strategy.static else scenario.optimizer
    failures = failures_for(load_challenge(fleet), experiment, found.workers, scenario.step_s)
    return replace(found, target_loss=target, optimizer=inner, failures=failures)


def candidates(fleet: str, scenario: Scenario, **world: Any) -> list[Candidate]:
    """Return every setting that fits the fleet; `world` are further fields of the experiments.

    Raises:
        InputError: for a fleet that cannot be loaded, or where no setting fits.
    """
    found, last = [], None
    for label, family, steps, strategy, compressor, exchange in _settings():
        name = f"{label}, {compressor if compressor != 'none' else 'uncompressed'}, {exchange}"
        fields = {"strategy": strategy, "compressor": COMPRESSORS[compressor][1],
                  "exchange": exchange, "steps": STEPS} | world  # fmt: skip
        try:
            resolved = _resolved(fleet, scenario, fields, name)
        except InputError as error:
            last = error
            continue
        if exchange == "hierarchical" and not _shares_regions(resolved):
            continue
        found.append(Candidate(name, family, steps, compressor, exchange, resolved))
    if not found:
        raise last or InputError("no setting fits the fleet", "fleet")
    return found


def _shares_regions(resolved: Resolved) -> bool:
    regions = Counter(worker.region for worker in resolved.workers)
    return 1 < len(regions) < len(resolved.workers)


def by_plan(runs: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return seconds, dollars and joules of one sample, by plan, from timing-only runs."""
    samples = runs["samples_per_s"] * runs["time_s"]
    each = pd.DataFrame({
        "plan": runs["plan"], "samples": samples, "time": runs["time_s"],
        "cost": runs["cost_usd"], "energy": runs["energy_j"],
    }).groupby("plan").mean().loc[list(names)]  # fmt: skip
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = each[["time", "cost", "energy"]].div(each["samples"], axis=0)
    return shares.replace([np.inf, -np.inf], np.nan).fillna(np.inf)


def prune(
    found: Sequence[Candidate],
    timed: pd.DataFrame,
    metric: str,
    ceilings: dict[str, float],
    plans: int = PLANS,
    programs: int = PROGRAMS,
) -> Pruned:
    """Keep what may be the best; `ceilings` are the most of a sample's time or cost.

    Dropped are, in this order: the same learning over a slower exchange; what exceeds the budget
    even if a sample taught as much as in synchronous training; what is harsher (larger H, or a
    compressor that takes more away) and yet no better; what needs several times the least; and,
    where more are left than may be raced, those that need most, the best of every compressor
    excepted. Synchronous uncompressed training stays, as the baseline.
    """
    score = timed[metric]
    base = min((one for one in found if one.learning == ("sync", 1, "none")),
               key=lambda one: score[one.name], default=None)  # fmt: skip
    left, reasons = list(found), {}

    def drop(reason: str, gone: list[Candidate]) -> None:
        names = {one.name for one in gone if one is not base}
        if names:
            reasons[reason] = len(names)
        left[:] = [one for one in left if one.name not in names]

    drop("same learning, slower exchange", _slower_twins(left, score))
    drop("over the budget at best", [
        one for one in left if any(timed[name][one.name] > top for name, top in ceilings.items())
    ])  # fmt: skip
    drop("harsher and no better", [one for one in left if _is_dominated(one, left, score)])
    least = min((score[one.name] for one in left), default=np.inf)
    drop(f"over {FAR:g} times the least per sample",
         [one for one in left if score[one.name] > FAR * least])  # fmt: skip
    kept = _most_promising(left, score, base, plans, programs)
    drop("beyond the plans that are raced", [one for one in left if one not in kept])
    return Pruned(_with_variants(kept, plans), reasons, timed)


def _slower_twins(left: Sequence[Candidate], score: pd.Series) -> list[Candidate]:
    best: dict[Any, Candidate] = {}
    for one in sorted(left, key=lambda one: score[one.name]):
        best.setdefault(one.learning, one)
    return [one for one in left if best[one.learning] is not one]


def _is_dominated(one: Candidate, left: Sequence[Candidate], score: pd.Series) -> bool:
    for other in left:
        milder = other.local_steps <= one.local_steps and other.harsh <= one.harsh
        same = (other.local_steps, other.harsh) == (one.local_steps, one.harsh)
        if other.family != one.family or not milder or same:
            continue
        if score[other.name] <= SLACK * score[one.name]:
            return True
    return False


def program_of(resolved: Resolved) -> Any:
    """Return what experiments have in common that share a program."""
    return world_plan(resolved, 0, 0), learn_plan(resolved, 0), resolved.eval_points


def _most_promising(
    left: Sequence[Candidate], score: pd.Series, base: Candidate | None, plans: int, programs: int
) -> list[Candidate]:
    """Return the baseline and those that need least, from a few programs only.

    The best of every compressor come first: a harsh one always wins by timing alone, and whether it
    still learns is what the race is for.
    """
    kept = [base] if base is not None else []
    used = {program_of(one.resolved) for one in kept}
    ranked = sorted(left, key=lambda one: score[one.name])
    first: dict[str, Candidate] = {}
    for one in ranked:
        first.setdefault(one.compressor, one)
    for one in [*first.values(), *ranked]:
        own = program_of(one.resolved)
        if one in kept or len(kept) >= plans or (own not in used and len(used) >= programs):
            continue
        kept.append(one)
        used.add(own)
    return kept


def _with_variants(kept: list[Candidate], plans: int) -> list[Candidate]:
    """Add other server steps where plans are left: they need no program of their own."""
    found = list(kept)
    for one in kept:
        usual = one.resolved.strategy.knobs.get("outer_lr")
        for lr in OUTER_LRS if usual is not None else ():
            if len(found) >= plans or lr == usual:
                continue
            strategy = one.resolved.strategy
            changed = replace(strategy, knobs=strategy.knobs | {"outer_lr": lr})
            name = f"{one.name}, outer lr {lr:g}"
            resolved = replace(one.resolved, strategy=changed, labels={"plan": name})
            found.append(one._replace(name=name, resolved=resolved))
    return found


def timing_of(found: Sequence[Candidate]) -> list[Resolved]:
    """Return the timing-only experiments of candidates."""
    return [replace(one.resolved, timing_only=True, steps=TIMED_STEPS) for one in found]
