"""The model that the bench simulates, in SimPy and in a Numba loop, where these are installed."""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxwan.bench.timing import line, note

INSTALL = "pip install '.[bench]'"


class Model(NamedTuple):
    """The numbers both simulators share."""

    workers: int = 8
    cycles: int = 100  # per worker
    step_s: float = 0.05
    sigma: float = 0.1
    bandwidth_bps: float = 50e6
    delay_s: float = 0.1
    jitter_s: float = 0.01
    update_bits: float = 235_146 * 0.64
    dense_bits: float = 235_146 * 32.0
    max_staleness: int = 5


class Arrivals(NamedTuple):
    """What a run of the plain loop counted."""

    accepted: int
    rejected: int
    time_s: float


def installed(package: str) -> bool:
    """Tell whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def simpy_arrivals(model: Model, seed: int) -> Arrivals:
    """Simulate one run as processes of SimPy, one for each worker."""
    simpy = importlib.import_module("simpy")
    rng, env = random.Random(seed), simpy.Environment()
    mean = -0.5 * model.sigma**2
    upload_s = model.update_bits / model.bandwidth_bps
    state = {"version": 0, "accepted": 0, "arrivals": 0}
    wanted, over = model.workers * model.cycles, env.event()

    def delay_s() -> float:
        return max(model.delay_s + model.jitter_s * rng.gauss(0.0, 1.0), 0.0)

    def worker() -> Any:
        held, bits = 0, model.dense_bits
        while True:
            compute_s = model.step_s * math.exp(mean + model.sigma * rng.gauss(0.0, 1.0))
            down_s = bits / model.bandwidth_bps + delay_s()
            yield env.timeout(down_s + compute_s + upload_s + delay_s())
            if state["version"] - held <= model.max_staleness:
                state["version"] += 1
                state["accepted"] += 1
            missed, held = state["version"] - held, state["version"]
            bits = min(missed * model.update_bits, model.dense_bits)
            state["arrivals"] += 1
            if state["arrivals"] == wanted:
                over.succeed()

    for _ in range(model.workers):
        env.process(worker())
    env.run(until=over)
    return Arrivals(state["accepted"], wanted - state["accepted"], float(env.now))


def _loop(numbers: np.ndarray, workers: int, ends: int, stale: int, seed: int) -> tuple[int, float]:
    """Simulate one run by the least of an array of pending instants; for Numba to compile."""
    np.random.seed(seed)
    step_s, sigma, bandwidth, delay, jitter, update, dense = numbers
    mean, upload_s = -0.5 * sigma**2, update / bandwidth
    pending, held = np.zeros(workers), np.zeros(workers, np.int64)
    version, accepted, now = 0, 0, 0.0
    for index in range(-workers, ends):
        worker, bits = index + workers, dense
        if index >= 0:
            worker = 0
            for other in range(1, workers):
                if pending[other] < pending[worker]:
                    worker = other
            now = pending[worker]
            if version - held[worker] <= stale:
                version += 1
                accepted += 1
            bits = min((version - held[worker]) * update, dense)
            held[worker] = version
        compute_s = step_s * math.exp(mean + sigma * np.random.normal())
        down_s = bits / bandwidth + max(delay + jitter * np.random.normal(), 0.0)
        up_s = upload_s + max(delay + jitter * np.random.normal(), 0.0)
        pending[worker] = now + down_s + compute_s + up_s
    return accepted, now


def looped(loop: Callable[..., tuple[int, float]], model: Model, seed: int) -> Arrivals:
    """Simulate one run by the loop, compiled or not."""
    numbers = np.array(
        [model.step_s, model.sigma, model.bandwidth_bps, model.delay_s, model.jitter_s,
         model.update_bits, model.dense_bits]
    )  # fmt: skip
    ends = model.workers * model.cycles
    accepted, now = loop(numbers, model.workers, ends, model.max_staleness, seed)
    return Arrivals(accepted, ends - accepted, now)


def numba_arrivals() -> Callable[[Model, int], Arrivals]:
    """Return the loop compiled by Numba."""
    loop = importlib.import_module("numba").njit(_loop)

    def run(model: Model, seed: int) -> Arrivals:
        return looped(loop, model, seed)

    return run


def plain_arrivals(model: Model, seed: int) -> Arrivals:
    """Simulate one run by the loop as Python runs it."""
    return looped(_loop, model, seed)


def rivals() -> dict[str, Callable[[], Callable[[Model, int], Arrivals]]]:
    """Return the rivals that are installed, by package."""
    every = {"simpy": lambda: simpy_arrivals, "numba": numba_arrivals}
    return {package: make for package, make in every.items() if installed(package)}


def bench_rivals(
    model: Model, world_per_core_s: float, seconds: float
) -> list[dict[str, Any]]:
    """Time SimPy and Numba, one core each; the ratio is how much faster the world is per core."""
    lines, found = [], rivals()
    for package in ("simpy", "numba"):
        if package not in found:
            lines.append(note(f"async arrivals, {package}: not installed ({INSTALL})"))
            continue
        start = time.perf_counter()
        run = found[package]()
        run(model, 0)
        compile_s, runs = time.perf_counter() - start, 0
        start, busy = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            runs += 1
            run(model, runs)
        pace = runs * model.workers * model.cycles / (time.process_time() - busy)
        about = f"async arrivals, {package}; ratio: the world against it"
        lines.append(line(about, pace, "arrivals/s of one core", ratio=world_per_core_s / pace))
        if package == "numba":
            lines.append(line("compilation by numba", compile_s, "s"))
    return lines
