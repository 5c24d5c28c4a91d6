"""Closed forms of waiting, staleness and failures, read off the world simulator.

A part is a function that returns checks; a new protocol's closed form is one more entry in PARTS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxwan import engine
from jaxwan.core.pytrees import replace
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.stats.maxima import exponential_first, lognormal_max
from jaxwan.validate.check import Check
from jaxwan.world.state import Moment, Outcome

TITLE = "Closed forms against the simulated world"
UNIT, TARGET = "standard errors", 3.0
RUNS, BARRIER_RUNS, ROUNDS = 32, 128, 100
WORKERS, CYCLES = 8, 150
SETTLED = 30 * WORKERS  # arrivals until the start is forgotten
UP_S, DOWN_S, SHAPE = 6.0, 2.0, 0.7
LONG_RUNS, LONG_CYCLES = 16, 600
# law: E[X²]/E[X]², of Weibull and lognormal at SHAPE
LAWS = {
    "exponential": 2.0,
    "weibull": math.gamma(1 + 2 / SHAPE) / math.gamma(1 + 1 / SHAPE) ** 2,
    "lognormal": math.exp(SHAPE**2),
    "deterministic": 1.0,
}
EXPONENTIAL = {"scale": 1.0, "power": 1.0, "sigma": 0.0}  # in a law of durations


def deviation(samples: Any, expected: float, bias: float = 0.0) -> float:
    """Return by how many standard errors independent samples miss the expected mean.

    `bias` bounds what the start of the runs may add to each.
    """
    samples = np.asarray(samples, np.float64)
    beyond = max(abs(samples.mean() - expected) - bias, 0.0)
    error = samples.std(ddof=1) / np.sqrt(len(samples))
    if beyond == 0:
        return 0.0
    return float(beyond / error) if error > 0 else float("inf")


def simulated(
    settings: Sequence[dict[str, Any]], runs: int, exponential: Sequence[bool], **numbers: float
) -> tuple[Moment, Outcome]:
    """Run the world of each setting `runs` times on a free network, the runs of a setting together.

    Where `exponential` says so, the compute noise is exponential with mean 1; `numbers` replace
    knobs that are one number.
    """
    base: dict[str, Any] = {"scenario": "simple", "timing_only": True}
    (own,) = group([resolve(Experiment(**base | each)) for each in settings])
    knobs = own.world_knobs
    noise = knobs.compute_noise
    law = {name: np.where(exponential, value, getattr(noise, name)).astype(np.float32)
           for name, value in EXPONENTIAL.items()}  # fmt: skip
    free = np.full_like(knobs.up_bps, np.inf)
    changes: dict[str, Any] = {
        name: np.full_like(getattr(knobs, name), value) for name, value in numbers.items()
    }
    knobs = replace(
        knobs, compute_noise=replace(noise, **law), up_bps=free, down_bps=free,
        delay_s=np.zeros_like(free), jitter_s=np.zeros_like(free),
        update_bits=np.zeros_like(knobs.update_bits), dense_bits=np.zeros_like(knobs.dense_bits),
        **changes,
    )  # fmt: skip
    knobs = jax.tree.map(lambda leaf: np.repeat(leaf, runs, axis=0), knobs)
    return engine.worlds(own.world, knobs, np.arange(runs * len(settings)))


def seconds(instant: Any) -> np.ndarray:
    """Return float64 seconds of instants."""
    return instant.seconds.astype(np.float64) + instant.fraction / 2.0**20


def barrier() -> list[Check]:
    """Compare the mean length of a round with the mean of the slowest of n."""
    cases = [(8, None), (16, None), (8, 0.3), (64, 0.3), (8, 1.0)]  # workers, sigma
    settings: list[dict[str, Any]] = [
        {"workers": n, "strategy": "sync", "steps": ROUNDS, "compute": {"sigma": sigma or 0.1}}
        for n, sigma in cases
    ]
    exponential = [sigma is None for _, sigma in cases]
    _, outcome = simulated(settings, BARRIER_RUNS, exponential, step_s=1.0)
    means = (seconds(outcome.now) / ROUNDS).reshape(len(cases), BARRIER_RUNS)
    found = []
    for (n, sigma), sample in zip(cases, means, strict=True):
        wanted = exponential_first(n, n) if sigma is None else lognormal_max(n, sigma)
        law = "exponential" if sigma is None else f"lognormal σ = {sigma:g}"
        source = "H_n / μ" if sigma is None else "quadrature over the normal"
        truth = f"barrier over {n} workers, {law}"
        error = deviation(sample, wanted)
        found.append(Check(truth, source, BARRIER_RUNS * ROUNDS, error, TARGET, UNIT))
    return found


def first_of() -> list[Check]:
    """Compare the formula for the first k of n with order statistics of plain draws."""
    rng, draws, worst = np.random.default_rng(11), 20_000, 0.0
    for k, n in ((1, 8), (6, 8), (12, 16), (96, 100)):
        sample = np.sort(rng.exponential(size=(draws, n)), axis=1)[:, k - 1]
        worst = max(worst, deviation(sample, exponential_first(k, n)))
    return [Check("first k of n exponentials", "(H_n − H_{n−k}) / μ; plain draws", 4 * draws,
                  worst, TARGET, UNIT)]  # fmt: skip


def quorum() -> list[Check]:
    """Compare rounds that close with the first 6 of 8 with the mean of that order statistic."""
    strategy = {"kind": "sync", "quorum": 0.75}
    settings: list[dict[str, Any]] = [{"workers": 8, "strategy": strategy, "steps": ROUNDS}]
    _, outcome = simulated(settings, BARRIER_RUNS, [True], step_s=1.0)
    error = deviation(seconds(outcome.now) / ROUNDS, exponential_first(6, 8))
    return [Check("rounds that close with 6 of 8", "(H_n − H_{n−k}) / μ; the world",
                  BARRIER_RUNS * ROUNDS, error, TARGET, UNIT)]  # fmt: skip


def ahead() -> list[Check]:
    """Compare the rate of two workers that wait for each other with theory, for each bound."""
    bounds = (0, 1, 3)
    settings = [
        {"workers": 2, "buffer": 1, "steps": LONG_CYCLES,
         "strategy": {"kind": "async", "max_staleness": bound, "on_stale": "block"}}
        for bound in bounds
    ]  # fmt: skip
    _, outcome = simulated(settings, RUNS, [True] * len(bounds), step_s=1.0)
    rates = (LONG_CYCLES / seconds(outcome.now)).reshape(len(bounds), RUNS)
    return [
        Check(f"rate of two workers at most {s + 1} cycles apart", "2(s+1) / (2(s+1)+1); Ho 2013",
              RUNS * LONG_CYCLES, deviation(own, 2 * (s + 1) / (2 * (s + 1) + 1)), TARGET, UNIT)
        for s, own in zip(bounds, rates, strict=True)
    ]  # fmt: skip


def staleness() -> list[Check]:
    """Compare ages of arrivals without a bound: n - 1 on average under any law."""
    sigmas = (None, 0.3, 1.0)
    settings = [
        {"workers": WORKERS, "strategy": "async", "buffer": 1, "steps": CYCLES,
         "compute": {"sigma": sigma or 0.1}}
        for sigma in sigmas
    ]  # fmt: skip
    moments, _ = simulated(settings, RUNS, [sigma is None for sigma in sigmas], step_s=1.0)
    ages = moments.tick.base_age[SETTLED:, :, 0].T.astype(np.float64)
    ages = ages.reshape(len(sigmas), RUNS, -1)
    source, count = "n − 1, whatever the law", ages[0].size
    found = []
    for sigma, own in zip(sigmas, ages, strict=True):
        law = "exponential" if sigma is None else f"lognormal σ = {sigma:g}"
        error = deviation(own.mean(axis=1), WORKERS - 1)
        found.append(Check(f"mean staleness of {WORKERS}, {law}", source, count, error, TARGET,
                           UNIT))  # fmt: skip
    spread = ((ages[0] - (WORKERS - 1)) ** 2).mean(axis=1)
    error = deviation(spread, WORKERS * (WORKERS - 1))
    found.append(Check(f"variance of staleness of {WORKERS}, exponential", "n (n − 1), geometric",
                       count, error, TARGET, UNIT))  # fmt: skip
    return found


def share_up(moment: float, until_s: float) -> tuple[float, float]:
    """Return the mean share of `until_s` seconds, begun fresh and up, that a worker is up.

    By renewal reward, up to terms that vanish faster than 1/T: A T + A E[C²]/2E[C] - E[U²]/2E[C]
    with U up, D down, C = U + D; `moment` is E[U²]/E[U]², and D's. Beside it the bound of what the
    end adds: a run ends with an arrival, so one worker of the fleet is surely up then.
    """
    cycle_s = UP_S + DOWN_S
    squares = moment * (UP_S**2 + DOWN_S**2) + 2 * UP_S * DOWN_S
    early_s = (UP_S / cycle_s * squares - moment * UP_S**2) / (2 * cycle_s)
    bound = moment * UP_S / 2 / WORKERS / until_s
    return UP_S / cycle_s + early_s / until_s, bound


def availability() -> list[Check]:
    """Compare the share of time that workers are up with MTBF / (MTBF + MTTR) under every law."""
    settings = [
        {"workers": WORKERS, "strategy": "async", "buffer": 1, "steps": LONG_CYCLES,
         "failures": {"transient": {"mtbf_s": UP_S, "duration_s": DOWN_S, "law": law,
                                    "shape": SHAPE, "down_law": law, "down_shape": SHAPE}}}
        for law in LAWS
    ]  # fmt: skip
    _, outcome = simulated(settings, LONG_RUNS, [False] * len(LAWS), step_s=2.0)
    ends = seconds(outcome.now).reshape(len(LAWS), LONG_RUNS)
    ups = outcome.up_s.astype(np.float64).mean(axis=1).reshape(len(LAWS), LONG_RUNS)
    found = []
    for (law, moment), up_s, until_s in zip(LAWS.items(), ups, ends, strict=True):
        wanted, bound = share_up(moment, float(until_s.mean()))
        error = deviation(up_s / until_s, wanted, bound)
        found.append(Check(f"availability, {law} times", "MTBF / (MTBF + MTTR)",
                           LONG_RUNS * WORKERS, error, TARGET, UNIT))  # fmt: skip
    return found


PARTS: tuple[Callable[[], list[Check]], ...] = (
    barrier, first_of, quorum, ahead, staleness, availability,
)  # fmt: skip


def checks() -> list[Check]:
    """Compare every closed form."""
    return [check for part in PARTS for check in part()]
