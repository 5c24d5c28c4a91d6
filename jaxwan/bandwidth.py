"""What bandwidth a compute utilization takes: by formula, and by simulation side by side."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan import engine
from jaxwan.core.pytrees import replace
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import group
from jaxwan.experiment.messages import sizes
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.stats.intervals import Interval, mean_interval
from jaxwan.utilization import Floats, Training, needed_bps

TARGETS = (0.5, 0.8, 0.9, 0.95, 0.99)
POINTS = 64  # bandwidths simulated side by side, the last without limit
MOST = 4096  # seeds, and rounds
MARGIN = 30.0  # the grid goes so many times beyond what the formula asks for


class Fleet(NamedTuple):
    """Who trains, as the simulation sees it; the formula knows none of it."""

    scenario: str = "simple"
    challenge: str = "baseline"
    workers: int | None = None
    sigma: float | None = None  # of the compute noise
    seeds: int = 32
    rounds: int = 40


class Simulated(NamedTuple):
    """Utilization over bandwidth, each with its 95 % interval over seeds."""

    bandwidth_bps: Floats  # [point]; the last is infinite
    share: Interval  # [point]
    workers: int

    @property
    def ceiling(self) -> Interval:
        """Return the utilization without any limit of bandwidth."""
        return Interval(*(np.asarray(part)[-1] for part in self.share))


def scenario_sizes(scenario: str) -> tuple[int, float]:
    """Return the parameters and the step time, seconds, of a scenario's full model."""
    resolved = resolve(Experiment(scenario=scenario, timing_only=True))
    return sizes(resolved).parameters, resolved.scenario.step_s


def streams(training: Training) -> bool:
    """Tell whether fragments or overlapped steps make the exchange a streaming one."""
    return training.fragments > 1 or training.overlap_steps > 0


def bandwidth_grid(training: Training) -> Floats:
    """Return bandwidths that enclose every answer, rising, the last one infinite."""
    low = needed_bps(training, TARGETS[0]) / MARGIN
    high = needed_bps(training, TARGETS[-1]) * MARGIN
    return np.append(np.geomspace(low, high, POINTS - 1), np.inf)


def experiment_of(training: Training, fleet: Fleet) -> Experiment:
    """Return the timing-only experiment: rounds of H local steps under a barrier.

    Raises:
        InputError: for a wrong name or number.
    """
    strategy = {"kind": "diloco", "local_steps": training.local_steps, "overlap": True}
    if streams(training):
        own = {"fragments": training.fragments, "overlap_steps": float(training.overlap_steps)}
        strategy |= own
    fields: dict[str, Any] = {
        "scenario": fleet.scenario, "challenge": fleet.challenge, "strategy": strategy,
        "compressor": "none", "aggregator": "mean", "timing_only": True,
        "steps": fleet.rounds * training.local_steps,
    }  # fmt: skip
    if streams(training):
        fields["exchange"] = "ring"
    if fleet.workers is not None:
        fields["workers"] = fleet.workers
    if fleet.sigma is not None:
        fields["compute"] = {"sigma": fleet.sigma}
    return Experiment(**fields)


def simulate(training: Training, fleet: Fleet) -> Simulated:
    """Simulate all bandwidths and seeds in one vmapped timing-only run.

    As in the formula the payload crosses every worker's link once, and streams out during the last
    backward pass; speeds, delays, jitter, slowdowns and outages are the fleet's.

    Raises:
        InputError: for a fleet that cannot be.
    """
    for name, least in (("seeds", 2), ("rounds", 1)):
        value = getattr(fleet, name)
        if not least <= value <= MOST:
            raise InputError(f"{value} is not between {least} and {MOST}", name)
    resolved = resolve(experiment_of(training, fleet))
    scenario = dataclasses.replace(resolved.scenario, step_s=training.step_s)
    (own,) = group([dataclasses.replace(resolved, scenario=scenario)])
    grid = bandwidth_grid(training)
    rows = len(grid) * fleet.seeds
    knobs = jax.tree.map(lambda leaf: np.repeat(leaf, rows, axis=0), own.world_knobs)
    each = np.repeat(grid, fleet.seeds).astype(np.float32)
    payload_bits = training.payload_bits / training.fragments
    if streams(training):  # a ring sends it 2 (n - 1) / n times
        count = len(resolved.workers)
        payload_bits /= max(2.0 * (count - 1) / count, 1e-9)
    up = np.broadcast_to(each[:, None], knobs.up_bps.shape).copy()
    down = up if streams(training) else np.full_like(up, np.inf)  # peers' links serve both ways
    knobs = replace(
        knobs,
        up_bps=up,
        down_bps=down,
        update_bits=np.full_like(knobs.update_bits, payload_bits),
        dense_bits=np.zeros_like(knobs.dense_bits) if streams(training) else knobs.dense_bits,
    )
    seeds = np.tile(np.arange(fleet.seeds), len(grid))
    outcome = engine.world_ends(own.world, knobs, seeds)
    ended, busy = seconds(outcome.now), seconds(outcome.totals.busy)
    count = len(resolved.workers)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(ended > 0, busy / (ended * count), np.nan)
    return Simulated(grid, mean_interval(share.reshape(len(grid), -1).T), count)


def seconds(instant: Any) -> Floats:
    """Return float64 seconds of instants."""
    return instant.seconds.astype(np.float64) + instant.fraction / 2.0**20


def crossing_bps(bandwidth_bps: Floats, share: Any, target: float) -> float:
    """Return the bandwidth from which on a curve stays at or above a target; inf if it never does.

    Between two points the curve is straight over the logarithm of the bandwidth.
    """
    share = np.asarray(share, np.float64)
    below = np.flatnonzero(~(share >= target))
    if len(below) == 0:
        return float(bandwidth_bps[0])
    last = int(below[-1])
    if last + 1 >= len(share) or not math.isfinite(bandwidth_bps[last + 1]):
        return math.inf
    way = (target - share[last]) / (share[last + 1] - share[last])
    low, high = np.log(bandwidth_bps[last : last + 2])
    return float(np.exp(low + way * (high - low)))


def answers(training: Training, simulated: Simulated | None) -> list[dict[str, Any]]:
    """Return one record a target; a bandwidth is None where no bandwidth is enough, or unknown.

    `of_ceiling_bps` reaches that share of what the fleet computes without limit of bandwidth.
    """
    found = []
    for target in TARGETS:
        record: dict[str, Any] = {"utilization": target}
        record["formula_bps"] = needed_bps(training, target)
        if simulated is not None:
            share, top = simulated.share, float(simulated.ceiling.mean)
            curves = {
                "simulated": (share.mean, target), "low": (share.high, target),
                "high": (share.low, target), "of_ceiling": (share.mean, target * top),
            }  # fmt: skip
            for name, (curve, level) in curves.items():
                bps = crossing_bps(simulated.bandwidth_bps, curve, level)
                record[f"{name}_bps"] = bps if math.isfinite(bps) else None
        found.append(record)
    return found
