"""Lower failures: laws, regions and recorded outages as arrays, padded to what a group needs."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxwan.core.clock import FRACTION
from jaxwan.experiment.resolved import Failures, Renewal, Resolved
from jaxwan.world.durations import LAWS, DurationKnobs, RenewalKnobs
from jaxwan.world.plan import WorldPlan
from jaxwan.world.spells import NO_RECORD, PROCESSES, USUAL, TraceKnobs

ALWAYS = "transient"  # a plan has at least one outage process


def _f32(value: Any) -> Any:
    return np.asarray(value, np.float32)


def _has(resolved: Resolved, name: str) -> bool:
    """Tell whether a run needs a process; who starts offline is in its churn."""
    away = name == "churn" and not all(worker.online for worker in resolved.workers)
    return away or getattr(resolved.failures, name) is not None


def processes_of(members: Sequence[Resolved]) -> tuple[str, ...]:
    """Return the outage processes of a group's plan, in the order of PROCESSES.

    Groups with at most transient outages keep to those, all others have the usual ones, so that
    the laws in use rarely decide about a compilation; the rest is there where somebody needs it.
    """
    used = {name for name in PROCESSES if any(_has(own, name) for own in members)}
    usual = USUAL if used - {ALWAYS} else (ALWAYS,)
    return tuple(name for name in PROCESSES if name in {*used, *usual})


def is_stationary(failures: Failures) -> bool:
    """Tell whether any process starts in its stationary state."""
    drawn = (getattr(failures, name) for name in (*PROCESSES[:-1], "slowdown"))
    return any(process is not None and process.start == "stationary" for process in drawn)


def may_start_down(failures: Failures) -> bool:
    """Tell whether a worker may be down at time zero, so that it joins later."""
    return is_stationary(failures) or failures.replay is not None


def intervals_of(members: Sequence[Resolved]) -> int:
    """Return the room for recorded outages of one worker; 0 where nothing is replayed."""
    records = [own.failures.replay.spells for own in members if own.failures.replay]
    return max((len(spells) + 1 for record in records for spells in record), default=0)


def _law(process: Renewal, step_s: float, phase: str) -> tuple[float, float, float]:
    unit = step_s if process.unit == "steps" else 1.0
    law = LAWS[getattr(process, f"{phase}_law")]
    return law.cast(getattr(process, f"{phase}_mean") * unit, getattr(process, f"{phase}_shape"))


def _laws(processes: Sequence[Renewal | None], step_s: float, phase: str) -> DurationKnobs:
    """Cast one phase ("up" or "down") of each process to its law's three numbers."""
    nothing = (math.inf if phase == "up" else 1.0, 0.0, 0.0)
    rows = [nothing if one is None else _law(one, step_s, phase) for one in processes]
    return DurationKnobs(*(_f32(column) for column in zip(*rows, strict=True)))


def _down_share(process: Renewal | None) -> float:
    """Return the probability to be down at time zero; -1 for a process that starts up."""
    if process is None or process.start != "stationary":
        return -1.0
    up, down = process.up_mean, process.down_mean
    return 0.0 if math.isinf(up) else down / (up + down)


def renewals(resolved: Resolved, names: Sequence[str], stationary: bool) -> RenewalKnobs:
    """Return the laws of some processes; what is replayed has none."""
    own = [getattr(resolved.failures, name) if name != "replay" else None for name in names]
    step_s = resolved.scenario.step_s
    shares = _f32([_down_share(process) for process in own]) if stationary else None
    return RenewalKnobs(_laws(own, step_s, "up"), _laws(own, step_s, "down"), shares)


def regions(resolved: Resolved, width: int) -> np.ndarray:
    """Return the CRC-32 of every worker's region, int32 `[worker]`."""
    codes = [zlib.crc32(worker.region.encode()) for worker in resolved.workers]
    return np.asarray(codes + [0] * (width - len(codes)), np.uint32).view(np.int32)


def instant(seconds: float) -> tuple[int, int]:
    """Return seconds in the clock's resolution of 2**-20 s; inf is the end of time."""
    if math.isinf(seconds):
        return NO_RECORD[:2]
    ticks = round(seconds * FRACTION)
    return ticks // FRACTION, ticks % FRACTION


def record(resolved: Resolved, width: int, intervals: int) -> TraceKnobs:
    """Return recorded outages `[worker, interval, 4]`; beyond the last nothing ever comes."""
    spells = np.tile(np.asarray(NO_RECORD, np.int32), (width, intervals, 1))
    replay = resolved.failures.replay
    for worker, own in enumerate(replay.spells if replay else ()):
        for number, (down_s, up_s) in enumerate(own):
            spells[worker, number] = (*instant(down_s), *instant(up_s))
    rotate = np.asarray(replay is not None and replay.rotate)
    return TraceKnobs(spells, rotate)  # type: ignore[arg-type]


def failure_knobs(resolved: Resolved, plan: WorldPlan, width: int) -> dict[str, Any]:
    """Return the knobs of all that may fail, in the shapes of a group's plan."""
    names = plan.processes
    return dict(
        outages=renewals(resolved, names, plan.stationary),
        slowdown=renewals(resolved, ("slowdown",), plan.stationary),
        slowdown_factor=_f32(resolved.failures.slowdown_factor),
        region=regions(resolved, width) if "regional" in names else None,
        trace=record(resolved, width, plan.intervals) if "replay" in names else None,
    )
