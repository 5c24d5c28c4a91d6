"""What one worker's machine must hold, and whether it does."""

from __future__ import annotations

import math

import jax

from jaxwan.experiment.prices import GIGABYTE, device
from jaxwan.experiment.resolved import Resolved
from jaxwan.learning.compressors import COMPRESSORS, Form
from jaxwan.learning.optimizers import OPTIMIZERS
from jaxwan.learning.problems import PROBLEMS, layout_of, with_defaults
from jaxwan.learning.problems.flat import size

FLOAT32_BYTES = 4


def memory_bytes(resolved: Resolved) -> float:
    """Return one worker's memory at full size.

    Weights, gradients and optimizer state of 4 bytes a parameter each, the compressor's memory, one
    dense receive buffer, one packed update, and batch x activations kept for the backward pass.
    """
    model = resolved.scenario.model
    static = with_defaults(model.kind, model.static)
    layout = layout_of(model.kind, **model.static)
    form = Form(layout, resolved.compressor.static)
    compressor = COMPRESSORS[resolved.compressor.kind]
    wire = compressor.wire(form, resolved.compressor.knobs)
    kept = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(
        jax.eval_shape(lambda: compressor.init(form))))  # fmt: skip
    copies = 3 + OPTIMIZERS[resolved.optimizer.kind].slots + bool(resolved.error_feedback)
    activations = PROBLEMS[model.kind].activations(static) * resolved.scenario.batch
    return FLOAT32_BYTES * (size(layout) * copies + kept + activations) + wire.bytes


def fits(resolved: Resolved) -> bool:
    """Tell whether every worker's memory fits its device."""
    smallest = min(device(worker.device).memory_bytes for worker in resolved.workers)
    return memory_bytes(resolved) <= smallest


def misfit(resolved: Resolved) -> str | None:
    """Say by how much a model exceeds the smallest device, or return None where it fits."""
    needed = memory_bytes(resolved)
    kinds = {worker.device for worker in resolved.workers}
    small = sorted(
        (device(kind).memory_bytes, kind) for kind in kinds if device(kind).memory_bytes < needed
    )
    if not small:
        return None
    held = ", ".join(f"{kind} {room / GIGABYTE:.3g} GB" for room, kind in small)
    return (
        f"memory: {resolved.scenario.name} with {resolved.compressor.kind} and "
        f"{resolved.optimizer.kind} needs {needed / GIGABYTE:.3g} GB and does not fit ({held})"
    )
