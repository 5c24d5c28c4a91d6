"""Runs of settings: long enough for the criteria's updates, with what they came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from jaxwan.decide.passing_guess import delivered
from jaxwan.experiment.lower import config_id, is_barrier
from jaxwan.experiment.resolved import Failures, Resolved
from jaxwan.experiment.rounds import steps_between
from jaxwan.sweep import plan_job, run_in_memory

SPARE = 1.25  # arrivals beyond those of min_steps updates: some are late or rejected
MOST_SPARE = 4.0
LEARNS = 0.9  # of the initial loss; training that ends above has hardly learned
MOST_STEPS = 100_000

Place = tuple[str, str]  # challenge, scenario


def place_of(resolved: Resolved) -> Place:
    """Return challenge and scenario."""
    return resolved.challenge, resolved.scenario.name


class Seen(NamedTuple):
    """What the runs of one setting came to; means over its seeds."""

    resolved: Resolved
    success: int  # runs
    n: int
    cost: float
    ratio: float
    rejected: float
    updates: float
    reach: float  # of what is asked for, by the criterion that is furthest from it
    failed: str  # that criterion, or what else some run missed

    @property
    def place(self) -> Place:
        """Return challenge and scenario."""
        return place_of(self.resolved)


class Lesson(NamedTuple):
    """What came of training with a setting; NaN where nobody did."""

    loss: float = math.nan  # final, mean over the runs that did not diverge
    diverged: float = math.nan  # share of the runs
    initial: float = math.nan

    @property
    def fault(self) -> str:
        """Say what is wrong with training so; nothing where nobody did."""
        if self.diverged > 0:
            return "diverges"
        return "hardly learns" if self.loss > LEARNS * self.initial else ""


def long_enough(resolved: Resolved) -> Resolved:
    """Return an experiment whose runs are long enough for as many updates as the criteria ask."""
    updates = resolved.criteria.min_steps * SPARE
    if not is_barrier(resolved):
        lost = min(1 / max(delivered(resolved), 1e-9), MOST_SPARE)
        updates *= lost * resolved.buffer / len(resolved.workers)
    steps = math.ceil(updates * steps_between(resolved))
    return replace(resolved, steps=min(max(resolved.steps, steps), MOST_STEPS))


def is_calm(resolved: Resolved) -> bool:
    """Tell whether nothing fails."""
    return resolved.failures == Failures()


def look(found: Sequence[Resolved], seeds: list[int]) -> list[Seen]:
    """Run settings on seeds; those without failures apart, for a block waits for its unluckiest."""
    parts = [[one for one in found if is_calm(one) is calm] for calm in (True, False)]
    rows = [run_in_memory(plan_job(part, seeds))[0] for part in parts if part]
    runs = pd.concat(rows, ignore_index=True)
    runs["failed"] = runs["failed_criteria"].str.split(",").str[0]
    facts = runs.groupby("config_id").agg(
        success=("success", "sum"), n=("success", "size"), cost=("cost_usd", "mean"),
        ratio=("throughput_ratio", "mean"), rejected=("rejection_rate", "mean"),
        updates=("steps", "mean"),
    )  # fmt: skip
    missed = runs[~runs["success"]].groupby("config_id")["failed"].agg(_commonest)
    own = facts.join(missed).to_dict("index")
    return [_seen(one, own[config_id(one)]) for one in found]


def _commonest(names: pd.Series) -> str:
    return str(names.mode().iloc[0])


def _seen(resolved: Resolved, own: dict[Any, Any]) -> Seen:
    asked = resolved.criteria
    parts = {
        "min_throughput_ratio": own["ratio"] / asked.min_throughput_ratio,
        "min_steps": own["updates"] / asked.min_steps,
        "max_rejection": (1 - own["rejected"]) / (1 - asked.max_rejection),
    }
    reach, furthest = min((value, name) for name, value in parts.items())
    failed = furthest if reach < 1 else own["failed"]
    failed = "" if own["success"] == own["n"] else failed
    return Seen(resolved, int(own["success"]), int(own["n"]), own["cost"], own["ratio"],
                own["rejected"], own["updates"], reach, failed)  # fmt: skip


def learned(found: Sequence[Resolved], seeds: list[int]) -> dict[str, Lesson]:
    """Train with settings on seeds and return what came of it, by `config_id`."""
    if not found or not seeds:
        return {}
    own = [replace(one, timing_only=False) for one in found]
    runs = run_in_memory(plan_job(own, seeds))[0]
    runs["diverged"] = runs["status"].str.contains("diverged")
    runs["loss"] = runs["loss_final"].where(~runs["diverged"])
    facts = runs.groupby("config_id")[["loss", "diverged", "loss_initial"]].mean().astype(float)
    return {config_id(one): Lesson(*facts.loc[config_id(mine)])
            for one, mine in zip(found, own, strict=True)}  # fmt: skip
