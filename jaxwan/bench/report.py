"""The parts of the bench by name, the machine they ran on, and their table in Markdown."""

from __future__ import annotations

import datetime
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxwan.bench.arrivals import bench_arrivals
from jaxwan.bench.learning import bench_learning
from jaxwan.bench.scaling import bench_scaling
from jaxwan.bench.sweeps import bench_sweeps
from jaxwan.bench.widths import bench_widths
from jaxwan.bench.workloads import bench_workloads
from jaxwan.core.devices import core_count

Record = dict[str, Any]
PARTS: dict[str, Callable[[], list[Record]]] = {
    "arrivals": bench_arrivals,
    "learning": bench_learning,
    "workloads": bench_workloads,
    "sweeps": bench_sweeps,
    "scaling": bench_scaling,
    "widths": bench_widths,
}
TITLES = {
    "arrivals": "Timing only, beside event loops",
    "learning": "Learning, beside NumPy",
    "workloads": "Standard workloads, beside NumPy",
    "sweeps": "Sweeps end to end",
    "scaling": "Runs, workers and devices",
    "widths": "How many replicates to train side by side",
}


def blas_threads() -> str:
    """Say what NumPy multiplies matrices with: the library, and its threads where they are told."""
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    told = [os.environ[name] for name in names if name in os.environ]
    build: Any = np.show_config(mode="dicts")
    library = build.get("Build Dependencies", {}).get("blas", {}).get("name", "unknown BLAS")
    return f"{library} on {told[0] if told else core_count()} threads"


def machine() -> str:
    """Name the machine by kind, and the versions."""
    versions = {"Python": platform.python_version(), "JAX": jax.__version__}
    versions["NumPy"] = np.__version__
    for package in ("simpy", "numba"):
        if importlib.util.find_spec(package) is not None:
            versions[package] = importlib.import_module(package).__version__
    kind = jax.local_devices()[0].device_kind
    devices = f"{jax.local_device_count()} {kind} device(s)"
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    where = f"{core_count()} cores, {devices}, {platform.machine()}"
    return f"{where}; {told}; NumPy by {blas_threads()}"


def measure(parts: Sequence[str] = tuple(PARTS)) -> list[Record]:
    """Run parts of the bench; every record names its part."""
    return [{"part": part} | record for part in parts for record in PARTS[part]()]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return value if isinstance(value, str) else f"{value:.3g}"


def markdown(records: Sequence[Record]) -> str:
    """Write records as the page of benchmarks has them, one table for each part."""
    lines = [f"{datetime.date.today().isoformat()}; {machine()}."]
    for part in dict.fromkeys(record["part"] for record in records):
        lines += ["", f"### {TITLES[part]}", "", "| what | figure | unit | ratio | asked | met |"]
        lines.append("|---|--:|---|--:|--:|---|")
        for record in records:
            if record["part"] == part:
                fields = [record[name] for name in ("value", "unit", "ratio", "target", "ok")]
                lines.append(f"| {record['name']} | " + " | ".join(map(_cell, fields)) + " |")
    return "\n".join(lines)
