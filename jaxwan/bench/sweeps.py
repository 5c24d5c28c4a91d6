"""Sweeps end to end: from settings to rows, runs a second, the first pass with its compilation."""

from __future__ import annotations

import time
from typing import Any

from jaxwan.bench.timing import line
from jaxwan.executors.local import Local
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.sweep import plan_job, run_in_memory

UNIT = "runs/s"


def timing_sweep(seeds: int) -> Sweep:
    """Return a sweep without learning."""
    grid: dict[str, Any] = dict(
        scenario="simple", challenge="wan_bandwidth", strategy="async",
        network=["slow_wan", "typical_wan", "fast_wan"],
        compressor={"kind": "topk", "ratio": [0.1, 0.01, 0.001]},
    )  # fmt: skip
    fixed: dict[str, Any] = {"timing_only": True}
    return Sweep(question="How fast?", grid=grid | fixed, seeds=seeds, steps=100)


def learning_sweep(seeds: int) -> Sweep:
    """Return a sweep of runs that train a proxy."""
    grid: dict[str, Any] = dict(
        scenario="simple", challenge="wan_bandwidth", strategy="async",
        compressor={"kind": "topk", "ratio": [0.1, 0.01]},
    )  # fmt: skip
    return Sweep(question="How fast?", grid=grid, seeds=seeds, steps=50)


def _pass_s(sweep: Sweep) -> tuple[float, int]:
    """Return the seconds from settings to rows, and the rows."""
    start = time.perf_counter()
    experiments, _ = sweep.resolve()
    job = plan_job(experiments, sweep.seeds)
    frame, _ = run_in_memory(job, None, Local(job))
    return time.perf_counter() - start, len(frame)


def bench_sweep(name: str, sweep: Sweep) -> list[dict[str, Any]]:
    """Time a sweep twice: with compilation, and with its programs at hand."""
    first_s, runs = _pass_s(sweep)
    again_s = min(_pass_s(sweep)[0] for _ in range(2))
    about = f"{name} sweep of {runs:,} runs"
    return [
        line(f"{about}, programs at hand", runs / again_s, UNIT),
        line(f"{about}, compilation included", runs / first_s, UNIT),
        line(f"{about}: compilation", max(first_s - again_s, 0.0), "s"),
    ]


def bench_sweeps(timing_seeds: int = 2000, learning_seeds: int = 256) -> list[dict[str, Any]]:
    """Time a sweep without learning and one with it."""
    return bench_sweep("timing-only", timing_sweep(timing_seeds)) + bench_sweep(
        "learning", learning_sweep(learning_seeds)
    )
