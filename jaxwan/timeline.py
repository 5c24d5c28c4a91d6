"""One run's timeline: the spans that its workers live through, told by the simulated world."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxwan import engine
from jaxwan.analysis.spans import NOBODYS, UPDATE, Interval, paint, span_frame
from jaxwan.core import clock
from jaxwan.core.pytrees import replace
from jaxwan.core.units import BITS_PER_BYTE
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import budget, group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import SEED_LIMIT
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.spells import PARTITION
from jaxwan.world.state import Moment, Outcome
from jaxwan.world.watch import Spells

MOST_CYCLES = 100_000  # of all workers; a picture or a trace of more is of no use
ROOM = 64  # spells of a worker that are asked for at first


class Watched(NamedTuple):
    """One run as it was watched, NumPy."""

    names: tuple[str, ...]
    processes: tuple[str, ...]  # slowdown last
    sends: str  # what a worker does with its update: upload or exchange
    moments: Moment  # [tick, ...]
    outcome: Outcome
    spells: Spells  # [worker, spell]


def seconds(instant: Any) -> np.ndarray:
    """Return float64 seconds since zero, exact."""
    return instant.seconds.astype(np.float64) + instant.fraction / clock.FRACTION


def trace(experiment: Experiment, seed: int = 0) -> pd.DataFrame:
    """Return what every worker does in one run, from its start to its end, one row a span.

    Columns: worker, kind (compute, download, upload or exchange, wait, outage, partition), start_s,
    end_s, cycle, note (slowed; lost, rejected, cancelled or unfinished; the kind of outage),
    staleness (server updates since the fetch) and bytes (of the whole transfer). The last rows, of
    the worker "server" and kind "update", are its updates; their cycle is the version that they
    make. Spans of one worker follow one another without gap or overlap.

    Raises:
        InputError: for settings that do not fit together, or a run too long to look at.

    Example:
        >>> import jaxwan as jw
        >>> spans = jw.trace(jw.Experiment(scenario="simple", strategy="sync", steps=10))
    """
    return frame_of(watch(experiment, seed))


def watch(experiment: Experiment, seed: int) -> Watched:
    """Simulate the time of one run and keep all that its workers lived through.

    Raises:
        InputError: for settings that do not fit together, or a run too long to look at.
    """
    if not isinstance(experiment, Experiment):
        raise InputError("expected an Experiment", "experiment")
    if type(seed) is not int or not 0 <= seed < SEED_LIMIT:
        raise InputError(f"expected a whole number from 0 to 2**32 - 1, got {seed!r}", "seed")
    resolved = dataclasses.replace(resolve(experiment), timing_only=True)
    cycles = budget(resolved).cycle_ends
    if cycles > MOST_CYCLES:
        raise InputError(
            f"{cycles:,} cycles are too many to look at (at most {MOST_CYCLES:,}); lower steps",
            "steps",
        )
    (own,) = group([resolved])
    knobs = jax.tree.map(lambda leaf: leaf[0], own.world_knobs)
    moments, outcome = engine.watch(own.world, knobs, seed)
    return Watched(
        names=names_of(resolved), processes=(*own.world.processes, "slowdown"),
        sends="upload" if own.world.exchange == "star" else "exchange", moments=moments,
        outcome=outcome, spells=spells_until(own.world, knobs, seed, float(seconds(outcome.now))),
    )  # fmt: skip


def spells_until(plan: WorldPlan, knobs: WorldKnobs, seed: int, end_s: float) -> Spells:
    """Return every worker's spells that start before an end, and some after it."""
    some = WorldPlan(
        "barrier", "ideal", plan.workers, plan.workers, 0, processes=plan.processes,
        stationary=plan.stationary, intervals=plan.intervals,
    )  # fmt: skip
    knobs = replace(knobs, closing=None, server=None, site=None)
    room = ROOM
    while True:
        spells = engine.world_spells(some, room, knobs, seed)
        if np.all(seconds(spells.start)[:, -1] >= end_s):
            return spells
        room *= 4


def names_of(resolved: Resolved) -> tuple[str, ...]:
    """Return the workers' names, each with its place where two share one."""
    names = [worker.name for worker in resolved.workers]
    return tuple(
        name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names)
    )


def frame_of(watched: Watched) -> pd.DataFrame:
    """Return the spans of a run that was watched."""
    end_s = float(seconds(watched.outcome.now))
    cycles = cycles_of(watched)
    lanes = {}
    for worker, name in enumerate(watched.names):
        dark, cut = outages_of(watched, worker, end_s)
        lanes[name] = paint([*layers_of(cycles[worker], watched.sends, end_s, cut), dark], end_s)
    return span_frame(lanes, updates_of(watched))


class Cycle(NamedTuple):
    """One cycle of one worker; seconds since the start of the run."""

    worker: int
    number: int
    begin_s: float
    computes_s: float  # begins to compute
    computed_s: float
    sends_s: float
    end_s: float
    fate: str  # "" for an accepted one
    slowed: bool
    staleness: int
    down_bytes: int
    up_bytes: int


class Fate(NamedTuple):
    """How a cycle ended."""

    counts: bool
    age: int
    end_s: float


def fates_of(moments: Moment) -> dict[tuple[int, int], Fate]:
    """Return the fate of each cycle that ended, by worker and number."""
    tick, lived = moments.tick, moments.lived
    assert lived is not None
    ended = tick.fetched.astype(bool)
    columns = (tick.worker, tick.cycle, tick.weight > 0, tick.base_age, seconds(lived.ended))
    told = zip(*(np.asarray(column)[ended].tolist() for column in columns), strict=True)
    fates: dict[tuple[int, int], Fate] = {}
    for worker, cycle, *fate in told:  # a worker that is woken repeats its last cycle
        fates.setdefault((worker, cycle), Fate(*fate))
    return fates


def cycles_of(watched: Watched) -> list[list[Cycle]]:
    """Return every worker's cycles, in the order of their beginnings."""
    lived = watched.moments.lived
    assert lived is not None
    began = lived.began.astype(bool)
    fates = fates_of(watched.moments)
    computed = seconds(lived.computed)
    computes = np.round((computed - lived.busy_s) * clock.FRACTION) / clock.FRACTION
    columns: dict[str, Any] = {
        "worker": lived.worker, "number": lived.cycle, "begin_s": seconds(lived.begin),
        "computes_s": computes, "computed_s": computed, "sends_s": seconds(lived.sends),
        "lost": lived.lost, "cancelled": lived.cancelled,
        "slowed": lived.slowed, "down_bytes": lived.down_bits, "up_bytes": lived.up_bits,
    }  # fmt: skip
    picked = {name: np.broadcast_to(column, began.shape)[began].tolist()
              for name, column in columns.items()}  # fmt: skip
    found: list[list[Cycle]] = [[] for _ in watched.names]
    for values in zip(*picked.values(), strict=True):
        record = dict(zip(picked, values, strict=True))
        lost, cancelled = record.pop("lost"), record.pop("cancelled")
        own = fates.get((record["worker"], record["number"]))
        if own is None:
            fate = "unfinished"
        else:
            wasted = "cancelled" if cancelled else "lost" if lost else "rejected"
            fate = "" if own.counts else wasted
        for name in ("down_bytes", "up_bytes"):
            record[name] = round(record[name] / BITS_PER_BYTE)
        age = own.age if own and fate in ("", "rejected") else NOBODYS
        end_s = own.end_s if own else math.inf
        found[record["worker"]].append(Cycle(**record, end_s=end_s, fate=fate, staleness=age))
    return found


def layers_of(
    cycles: list[Cycle], sends: str, end_s: float, cut: list[Interval]
) -> list[list[Interval]]:
    """Return one worker's spans, from what anything covers to what only outages cover."""
    after = [cycle.begin_s for cycle in cycles[1:]] + [end_s]
    waits, downs, ups, computes = [], [], [], []
    for own, until in zip(cycles, after, strict=True):
        fate, age = own.fate, own.staleness
        slowed = ", ".join(filter(None, ("slowed" if own.slowed else "", fate)))
        waits.append(Interval("wait", own.begin_s, until, own.number))
        begins_s, computed_s = (min(at, own.end_s) for at in (own.computes_s, own.computed_s))
        downs.append(Interval("download", own.begin_s, begins_s, own.number, fate, age,
                              own.down_bytes))  # fmt: skip
        ups.append(Interval(sends, own.sends_s, own.end_s, own.number, fate, age, own.up_bytes))
        computes.append(Interval("compute", begins_s, computed_s, own.number, slowed,
                                 age))  # fmt: skip
    return [waits, downs, ups, cut, computes]


def outages_of(
    watched: Watched, worker: int, end_s: float
) -> tuple[list[Interval], list[Interval]]:
    """Return one worker's outages and its partitions until the end of the run."""
    dark, cut = [], []
    spells = jax.tree.map(lambda leaf: leaf[worker], watched.spells)
    starts, ends = seconds(spells.start), seconds(spells.end)
    for process, start, end in zip(spells.process, starts, ends, strict=True):
        name = watched.processes[process]
        if start >= end_s or name == "slowdown":
            continue
        for_good = ", for good" if end >= clock.NEVER_S else ""
        if name == PARTITION:
            cut.append(Interval("partition", start, end))
        else:
            dark.append(Interval("outage", start, end, note=name + for_good))
    return dark, cut


def updates_of(watched: Watched) -> list[Interval]:
    """Return the server's updates, each with the version that it makes."""
    moments = watched.moments
    versions, at = moments.version, seconds(moments.now)
    made = np.flatnonzero(np.diff(versions, prepend=0) > 0)
    taken = np.sum(moments.tick.weight > 0, axis=1)
    return [
        Interval(UPDATE, float(at[tick]), float(at[tick]), int(versions[tick]),
                 f"{int(taken[tick])} contributions")
        for tick in made
    ]  # fmt: skip
