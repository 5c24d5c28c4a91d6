"""Compute utilization by formula: what share of the time a training computes on a given link.

The model of Streaming DiLoCo's Table 4 (Douillard et al. 2025) for data-parallel training (H = 1),
DiLoCo (one fragment) and streaming DiLoCo, with and without overlap; and the idealized wall-clock
times of Charles et al. 2025, App. A. Latency, jitter and failures are left to the simulator.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FORWARD_SHARE = 1 / 3  # of a step; the backward pass is the rest
TABLE_TRAFFIC = 5 / 6  # payload share with which Douillard et al.'s simulator is reproduced
WIDEST_BPS, NARROWEST_BPS = 1e18, 1.0


class Training(NamedTuple):
    """What one worker computes and sends.

    `traffic` is how often the payload crosses the worker's link at each synchronization.
    """

    parameters: float
    layers: int
    step_s: float
    local_steps: int = 1  # H; 1 is data-parallel training
    fragments: int = 1  # P; layer l belongs to fragment l mod P, one is sent every H/P steps
    overlap_steps: int = 0  # further steps that a transfer may take before it stalls
    bits: float = 16.0  # of a value on the wire
    traffic: float = 1.0

    @property
    def payload_bits(self) -> float:
        """Return what crosses the link in `local_steps` steps."""
        return self.parameters * self.bits * self.traffic

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            ValueError: naming the number and its range.
        """
        positive = ("parameters", "layers", "step_s", "local_steps", "fragments", "bits", "traffic")
        for name in positive:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value:g} is not above 0")
        if self.overlap_steps < 0:
            raise ValueError(f"overlap_steps: {self.overlap_steps} is below 0")
        most = min(self.layers, self.local_steps)
        if self.fragments > most:
            raise ValueError(
                f"fragments: {self.fragments} is above {most}, the lesser of layers and local_steps"
            )
        if (self.overlap_steps + 1) * self.fragments > max(self.local_steps, self.fragments):
            raise ValueError(
                f"overlap_steps: {self.overlap_steps} with {self.fragments} fragments in "
                f"{self.local_steps} local steps would send a fragment before the last has arrived"
            )


def release_s(training: Training) -> Floats:
    """Return when each layer's gradient is ready `[layer]`, from the start of its step.

    The backward pass runs from the last layer to the first: layer l (1 = input) of L is ready at
    T/3 + (L - l + 1)/L * 2T/3.
    """
    layer = np.arange(1, training.layers + 1)
    backward = (training.layers - layer + 1) / training.layers
    return training.step_s * (FORWARD_SHARE + backward * (1 - FORWARD_SHARE))


def stalls_s(training: Training, bandwidth_bps: ArrayLike) -> Floats:
    """Return how long each fragment's transfer holds the training up `[..., fragment]`.

    A fragment's layers queue first-come-first-served onto the link as their gradients are ready;
    it is due at the end of its step, or `overlap_steps` steps later.
    """
    rate = np.asarray(bandwidth_bps, np.float64)
    sending_s = training.payload_bits / training.layers / rate
    ready, due = release_s(training), training.step_s * (1 + training.overlap_steps)
    stalls = []
    for fragment in range(training.fragments):
        sent = np.zeros_like(rate)
        for moment in sorted(ready[fragment :: training.fragments]):
            sent = np.maximum(sent, moment) + sending_s
        # ready times and step times are sums of thirds: rounding is no stall
        late = sent - due
        stalls.append(np.where(late > 1e-12 * due, late, 0.0))
    return np.stack(stalls, axis=-1)


def utilization(training: Training, bandwidth_bps: ArrayLike) -> Floats:
    """Return the share of the time that is spent computing `[...]` (Douillard et al. 2025, 3.1)."""
    compute_s = training.local_steps * training.step_s
    return compute_s / (compute_s + stalls_s(training, bandwidth_bps).sum(axis=-1))


def needed_bps(training: Training, target: float) -> float:
    """Return the least bandwidth, bit/s, that reaches a target utilization below 1."""
    if not 0 < target < 1:
        raise ValueError(f"utilization {target:g} is not between 0 and 1")
    low, high = NARROWEST_BPS, WIDEST_BPS
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if utilization(training, middle) >= target else (middle, high)
    return high


def first_reaching(training: Training, target: float, grid_bps: Floats) -> int:
    """Return the place of the first bandwidth on a rising grid that reaches the target.

    It is the grid's length where none does.
    """
    reached = utilization(training, grid_bps) >= target
    return int(np.argmax(reached)) if reached.any() else len(grid_bps)


class Network(NamedTuple):
    """A network between nodes, as Charles et al. 2025 see it."""

    bandwidth_bps: float
    latency_s: float


HIGH = Network(400e9, 1e-4)  # Charles et al. 2025, A.3: within a data centre
LOW = Network(10e9, 1e-2)


def compute_time_s(parameters: float, tokens: float, chips: float, chip_flops: float) -> float:
    """Return the seconds of 6 N D operations on R chips (Charles et al. 2025, A.1)."""
    return 6 * parameters * tokens / (chips * chip_flops)


def all_reduce_time_s(parameters: float, nodes: float, network: Network, bits: float = 16) -> Any:
    """Return the least seconds of one all-reduce (Charles et al. 2025, A.2)."""
    return 2 * parameters * bits / network.bandwidth_bps * (1 - 1 / nodes) + network.latency_s


def wall_clock_s(
    compute_s: float, steps: int, parameters: float, nodes: int, replicas: int = 0,
    local_steps: int = 1, inner: Network = HIGH, outer: Network = LOW,
) -> float:  # fmt: skip
    """Return the idealized seconds of a whole training (Charles et al. 2025, A.3).

    `replicas` 0 is data-parallel training across data centres: every step crosses `outer`. One
    replica adds an all-reduce every `local_steps` steps; two or more keep the steps within their
    data centres, nodes / replicas each, on `inner`.
    """
    across = all_reduce_time_s(parameters, nodes, outer)
    if replicas == 0:
        return compute_s + across * steps
    if replicas == 1:
        return compute_s + across * steps * (1 + 1 / local_steps)
    within = all_reduce_time_s(parameters, nodes / replicas, inner)
    return compute_s + within * steps + across * steps / local_steps
