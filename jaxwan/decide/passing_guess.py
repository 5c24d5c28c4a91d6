"""A guess at a setting's throughput and cost without running it: which are worth running.

Means only: every worker repeats download, computing and upload over an ideal link, an outage loses
the cycle it strikes, and who comes back after churn downloads the whole model first. What is chosen
by the guess is simulated; only what it puts far below the criterion is left out unseen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxwan.experiment.lower import budget, compress_s, is_barrier, own_speeds, own_steps
from jaxwan.experiment.messages import sizes
from jaxwan.experiment.prices import GIGABYTE, PROVIDERS, hourly
from jaxwan.experiment.resolved import Renewal, Resolved

Floats = NDArray[np.float64]


class Cycle(NamedTuple):
    """The mean cycle of every worker, in seconds `[worker]`."""

    compute: Floats
    exchange: Floats  # update up, missed updates down
    first: Floats  # the whole model down
    moved: Floats  # bytes of an update up and what was missed down


def cycle_of(resolved: Resolved) -> Cycle:
    """Work out the workers' mean cycles where nothing fails."""
    message, workers = sizes(resolved), resolved.workers
    delay, up, down = (
        np.array([getattr(worker, name) for worker in workers], np.float64)
        for name in ("delay_s", "up_bps", "down_bps")
    )
    steps, speeds = np.array(own_steps(resolved)), np.array(own_speeds(resolved))
    compute = steps * resolved.scenario.step_s / speeds
    pace = np.ones(len(workers)) if is_barrier(resolved) else 1 / (compute + 2 * delay)
    missed = pace.sum() / pace * message.fetch_bits
    fetched = np.minimum(missed, message.dense_bits)
    exchange = 2 * delay + message.update_bits / up + fetched / down + compress_s(resolved)
    moved = (message.update_bits + fetched) / 8.0
    return Cycle(compute, exchange, delay + message.dense_bits / down, moved)


def _rate(process: Renewal | None, step_s: float) -> tuple[float, float]:
    """Return how often a process strikes a second, and the share of the time that it takes."""
    if process is None or math.isinf(process.up_mean):
        return 0.0, 0.0
    unit = step_s if process.unit == "steps" else 1.0
    whole = process.up_mean + process.down_mean
    return 1 / (process.up_mean * unit), process.down_mean / whole if math.isfinite(whole) else 1.0


def delivered(resolved: Resolved) -> float:
    """Guess the share of the cycles that end with an arrival rather than a loss."""
    failures, own = resolved.failures, cycle_of(resolved)
    rate = sum(_rate(p, resolved.scenario.step_s)[0]
               for p in (failures.transient, failures.crash, failures.churn))  # fmt: skip
    ends = 1 / (own.compute + own.exchange)
    return float((ends * np.exp(-rate * own.compute)).sum() / ends.sum())


class Guess(NamedTuple):
    """What means alone would give."""

    ratio: float
    cost: float


def guess(resolved: Resolved) -> Guess:
    """Guess a setting's throughput ratio and the cost of its run in dollars."""
    own, failures, step_s = cycle_of(resolved), resolved.failures, resolved.scenario.step_s
    struck = [_rate(p, step_s) for p in (failures.transient, failures.crash, failures.churn)]
    rate, up = sum(often for often, _ in struck), math.prod(1 - share for _, share in struck)
    back, slow = struck[2][0], _rate(failures.slowdown, step_s)[1]
    compute = own.compute / (1 - slow + slow / failures.slowdown_factor)
    whole = compute + own.exchange
    kept = up * np.exp(-back * own.first)  # of a session, the part behind the download
    length = budget(resolved)
    if is_barrier(resolved):
        kept = kept * np.exp(-rate * whole)
        longest = (whole + own.first * -np.expm1(-back * whole)).max()
        lasts = longest * length.ticks + own.first.max()
        free = len(kept) / own.compute.max()
        done = kept / lasts * length.ticks
    else:
        done = kept * _survives(rate * whole) / whole
        lasts = length.cycle_ends / max(done.sum(), 1e-300)
        free = float((1 / own.compute).sum())
        done = done * (1.0 if back else np.maximum(1 - own.first / lasts, 0.0))
    return Guess(float(done.sum() / free), _usd(resolved, own, lasts * up, done * lasts))


def _usd(resolved: Resolved, own: Cycle, up_s: float, cycles: Floats) -> float:
    """Return the price of the machines' hours and of the bytes they move."""
    workers = resolved.workers
    hours = sum(hourly(worker.device, resolved.pricing) for worker in workers) * up_s / 3600
    egress = np.array([PROVIDERS[worker.provider].usd_per_gb for worker in workers])
    return float(hours + (egress * own.moved * cycles).sum() / GIGABYTE)


def _survives(strikes: Floats) -> Floats:
    """Return the share of the time up that goes into cycles that no outage strikes."""
    return np.where(strikes > 0, strikes / np.expm1(np.maximum(strikes, 1e-9)), 1.0)
