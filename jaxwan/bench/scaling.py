"""How speed grows with runs, with workers, and with devices of one core each.

The number of CPU devices is settled when JAX starts, so each is measured in a process of its own,
held to as many cores as it has devices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxwan.bench.arrivals import Model, outcome, world_of
from jaxwan.bench.timing import compiled, judged, line, note, paces
from jaxwan.bench.trainers import trainer
from jaxwan.bench.workloads import UNIT, WORKLOADS, experiment_of
from jaxwan.cache import keep_programs
from jaxwan.core.devices import core_count

TWO_DEVICES = 1.6  # times one, at least
CHILD = "import sys, jaxwan.bench.scaling as own; own.child(int(sys.argv[1]))"
RUNS = 16  # on each device
PASSES = 3


def bench_runs(counts: tuple[int, ...] = (16, 128, 1024, 4096)) -> list[dict[str, Any]]:
    """Time the world at several numbers of runs side by side, on one device."""
    lines = []
    for runs in counts:
        model = Model()
        plan, knobs = world_of(model, runs)
        program, _ = compiled(partial(outcome, plan), knobs, jnp.arange(runs))
        amount = float(runs * model.workers * model.cycles)

        def run(turn: int, own: Any = program, knobs: Any = knobs, runs: int = runs) -> Any:
            return own(knobs, jnp.arange(runs) + turn * runs)

        pace = float(paces([run], [amount], 3).max())
        lines.append(line(f"async arrivals, {runs:,} runs side by side", pace, "arrivals/s"))
    return lines


def bench_workers(counts: tuple[int, ...] = (5, 10, 20, 40)) -> list[dict[str, Any]]:
    """Time W1 at several numbers of workers, on one device."""
    lines = []
    for workers in counts:
        load = WORKLOADS[0]._replace(workers=workers)
        own = trainer(experiment_of(load, 4), 8)
        pace = float(paces([own.run], [own.amount * workers], 3).max())
        lines.append(line(f"W1 with {workers} workers", pace, "gradients/s"))
    return lines


def child(devices: int) -> None:
    """Train W1 on so many devices whenever a line comes in, and print the pace."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:devices])
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_platforms", "cpu")
    keep_programs()
    own = trainer(experiment_of(WORKLOADS[0], 20), RUNS, None, devices)
    jax.block_until_ready(own.run(0))
    for _ in sys.stdin:
        start = time.perf_counter()
        jax.block_until_ready(own.run(1))
        pace = own.amount / (time.perf_counter() - start)
        sys.stdout.write(json.dumps(pace) + "\n")
        sys.stdout.flush()


def _device_paces(counts: tuple[int, ...]) -> dict[int, float]:
    """Return the replicate-rounds per second of as many devices, measured in turns."""
    quiet = {"JAX_NUM_CPU_DEVICES", "XLA_FLAGS"}
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    children = {
        devices: subprocess.Popen(
            [sys.executable, "-c", CHILD, str(devices)], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for devices in counts
    }  # fmt: skip
    found: dict[int, list[float]] = {devices: [] for devices in counts}
    try:
        for _ in range(PASSES):
            for devices, process in children.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                found[devices].append(float(json.loads(process.stdout.readline())))
    finally:
        for process in children.values():
            process.communicate()
    return {devices: max(own) for devices, own in found.items()}


def bench_devices() -> list[dict[str, Any]]:
    """Compare one CPU device of one core with two of one each."""
    if core_count() < 2:
        return [note("W1 on two CPU devices: needs two cores")]
    found = _device_paces((1, 2))
    return [
        line("W1 on one CPU device of one core", found[1], UNIT),
        judged("W1 on two CPU devices", found[2], UNIT, found[2] / found[1], TWO_DEVICES),
    ]


def bench_scaling() -> list[dict[str, Any]]:
    """Scale the batch of runs, the workers and the devices."""
    return bench_runs() + bench_workers() + bench_devices()
