"""The processor cores of this machine, as JAX sees them."""

from __future__ import annotations

import os

import jax


def use_all_cores() -> None:
    """Show JAX one CPU device per core, if its backends have not started yet."""
    cores = core_count()
    if jax.config.jax_num_cpu_devices <= 0 and cores > 1:  # type: ignore[attr-defined]
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError:
            return


def core_count() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
