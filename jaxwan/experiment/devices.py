"""Devices: power, memory and price of what a worker runs on, with the source of each figure."""

from __future__ import annotations

from typing import NamedTuple

from jaxwan.core.families import member
from jaxwan.experiment.resolved import Resolved
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.optimizers import OPTIMIZERS
from jaxwan.learning.problems import PROBLEMS, layout_of, with_defaults
from jaxwan.learning.problems.flat import size

FLOAT32_BYTES = 4
GIGABYTE = 1e9
EGRESS_USD_PER_GB = 0.09  # list price of the first 10 TB a month out of a large cloud region
NETWORK_J_PER_BYTE = 1.4e-5  # 0.06 kWh/GB in 2015, halving every two years (Aslan et al. 2018)


class Device(NamedTuple):
    """What one worker's machine draws, holds and costs."""

    summary: str
    source: str
    busy_w: float
    idle_w: float
    memory_bytes: float
    usd_per_hour: float


DEVICES = {
    "reference_gpu": Device(
        summary="The accelerator whose step time each scenario states.",
        source="A100 SXM 80 GB: 400 W board limit, about 60 W idle; about 2 $/h on demand",
        busy_w=400.0,
        idle_w=60.0,
        memory_bytes=80e9,
        usd_per_hour=2.0,
    ),
    "cpu": Device(
        summary="A server without accelerator, slower by the scenario's factor.",
        source="two-socket server: about 300 W busy, 120 W idle; about 0.4 $/h for 8 cores, 64 GB",
        busy_w=300.0,
        idle_w=120.0,
        memory_bytes=64e9,
        usd_per_hour=0.4,
    ),
}


def device(name: str) -> Device:
    """Return a device by name.

    Raises:
        ValueError: naming the nearest device.
    """
    return member("device", DEVICES, name)


def memory_bytes(resolved: Resolved) -> float:
    """Return one worker's memory at full size.

    Weights, gradients and optimizer state of 4 bytes a parameter each, the error memory, one dense
    receive buffer, one packed update, and batch x activations kept for the backward pass.
    """
    model = resolved.scenario.model
    static = with_defaults(model.kind, model.static)
    layout = layout_of(model.kind, **model.static)
    wire = COMPRESSORS[resolved.compressor.kind].wire(resolved.compressor.knobs, layout)
    copies = 3 + OPTIMIZERS[resolved.optimizer.kind].slots + resolved.error_feedback
    activations = PROBLEMS[model.kind].activations(static) * resolved.scenario.batch
    return FLOAT32_BYTES * (size(layout) * copies + activations) + wire.bytes


def fits(resolved: Resolved) -> bool:
    """Tell whether every worker's memory fits its device."""
    smallest = min(device(worker.device).memory_bytes for worker in resolved.workers)
    return memory_bytes(resolved) <= smallest
