"""Lower weather: numbers of the links' changes, and recorded bandwidth as one padded array."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxwan.core.clock import FRACTION
from jaxwan.experiment.outages import instant
from jaxwan.experiment.resolved import Resolved, Tape, Weather
from jaxwan.world.plan import WorldPlan
from jaxwan.world.tape import TapeKnobs
from jaxwan.world.weather import CELL_SHARE, WeatherKnobs

SHORTEST, LONGEST = 10, 50  # log2 of a cell of bursts in clock ticks


def _f32(value: Any) -> Any:
    return np.asarray(value, np.float32)


def points_of(members: Sequence[Resolved]) -> int:
    """Return the room for recorded bandwidth in a group; 0 where nothing is recorded."""
    own = [one.weather.tapes for one in members if one.weather is not None]
    return max((sum(len(tape.times_s) for tape in tapes) for tapes in own), default=0)


def bursts(good_s: float, bad_s: float) -> dict[str, Any]:
    """Return the numbers of a two-state chain; its cells last about two redraws."""
    rate = 1.0 / good_s + 1.0 / bad_s if good_s < math.inf else 1.0
    log2 = round(math.log2(2.0 / rate * FRACTION))
    return {
        "bad_share": _f32(bad_s / (good_s + bad_s)),
        "switch_rate": _f32(rate),
        "cell_log2": np.asarray(min(max(log2, SHORTEST), LONGEST), np.int32),
    }


def passed_s(tape: Tape) -> tuple[float, np.ndarray]:
    """Return the mean rate, and what has passed before each piece in seconds at that rate."""
    lengths = np.diff(np.append(tape.times_s, tape.period_s))
    bits = np.cumsum(lengths * np.asarray(tape.bps))
    mean = float(bits[-1]) / tape.period_s
    return mean, np.append(0.0, bits[:-1]) / mean


def tape_knobs(weather: Weather | None, points: int, width: int) -> TapeKnobs:
    """Return all records of a run, one after the other, padded."""
    start, passed = (np.zeros((points, 2), np.int32) for _ in range(2))
    bps, mean = np.ones(points, np.float32), np.ones(width, np.float32)
    first, count = (np.zeros(width, np.int32) for _ in range(2))
    period = np.ones(width, np.int32)
    place = 0
    for number, tape in enumerate(weather.tapes if weather is not None else ()):
        assert weather is not None
        rate, done = passed_s(tape)
        size, mine = len(tape.times_s), [n for n, own in enumerate(weather.own) if own == number]
        start[place : place + size] = [instant(x) for x in tape.times_s]
        passed[place : place + size] = [instant(x) for x in done]
        bps[place : place + size] = tape.bps
        first[mine], count[mine], period[mine], mean[mine] = place, size, tape.period_s, rate
        place += size
    return TapeKnobs(start, passed, bps, first, count, period, mean)  # type: ignore[arg-type]


def zones(resolved: Resolved, by: str, width: int) -> np.ndarray:
    """Return who shares its hours, int32 `[worker]`: the CRC-32 of a region, or a number."""
    if by == "worker":
        return np.arange(width, dtype=np.int32)
    codes = [zlib.crc32(worker.region.encode()) for worker in resolved.workers]
    return np.asarray(codes + [0] * (width - len(codes)), np.uint32).view(np.int32)


def weather_knobs(resolved: Resolved, plan: WorldPlan) -> dict[str, Any]:
    """Return the numbers of the weather, in the shapes of a group's plan."""
    own = resolved.weather
    if own is None:
        return {}
    names = ("depth", "period_s", "phase", "spread", "sigma", "bad_loss", "bad_factor")
    return {
        "weather": WeatherKnobs(
            zone=zones(resolved, own.by, plan.workers),  # type: ignore[arg-type]
            cell_s=_f32(own.correlation_s / CELL_SHARE),
            **{name: _f32(getattr(own, name)) for name in names},
            **bursts(own.good_s, own.bad_s),
            tape=tape_knobs(own, plan.points, plan.workers) if plan.points else None,
        )
    }
