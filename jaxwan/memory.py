"""Memory: what training takes on this machine, told before it starts.

A lower bound is checked before anything is compiled, and the compiler's own account of its buffers
before the program runs.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxwan.core import keys
from jaxwan.engine import Compiled
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.prices import GIGABYTE
from jaxwan.experiment.resolved import Resolved
from jaxwan.learning.learner import begin
from jaxwan.learning.plan import LearnKnobs, LearnPlan
from jaxwan.learning.problems import PROBLEMS, layout_of
from jaxwan.learning.problems.flat import size
from jaxwan.work import Program

FLOAT32_BYTES = 4
SMALL = 10**6  # parameters up to which nobody runs out of memory, so that nothing is traced
PASSING = 2  # model-sized arrays of a step: a gradient and what becomes of it
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _number(path: str, name: str = "") -> float:
    """Return the first number in a file, on the line of that name; infinity where there is none."""
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return math.inf
    words = next((line.split() for line in lines if line.startswith(name)), [])
    return next((float(word) for word in words if word.isdigit()), math.inf)


def available_bytes() -> float:
    """Return the memory that a run may fill: of the accelerators, or the part of RAM that is free.

    A container's limit counts too.
    """
    if jax.default_backend() != "cpu":
        held = [device.memory_stats() or {} for device in jax.local_devices()]
        return sum(stats.get("bytes_limit", math.inf) for stats in held)
    free = _number("/proc/meminfo", "MemAvailable:") * 1024
    if free == math.inf and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        free = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([free, *(_number(path) for path in LIMITS)])


def _bytes(tree: Any) -> float:
    return float(sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree)))


def block_bytes(plan: LearnPlan, knobs: LearnKnobs, runs: int) -> float:
    """Return the least that training `runs` side by side takes; `knobs` of one run, NumPy.

    The model with all that its workers remember, every slot's update, the arrays that a step
    passes through, and one batch's activations. Convolutions copy their inputs on top of that.
    """
    problem, static = PROBLEMS[plan.problem], dict(plan.problem_static)
    task = jax.eval_shape(lambda: problem.make_task(static))
    model = jax.eval_shape(
        lambda knobs, task: begin(plan, knobs, task, keys.run_key(0)), knobs, task
    )
    dim = size(layout_of(plan.problem, **static))
    activations = static.get("batch", 1) * problem.activations(static)
    return _bytes(task) + runs * (
        _bytes(model) + FLOAT32_BYTES * (dim * (plan.slots + PASSING) + activations)
    )


def parameters(program: Program) -> int:
    """Return the parameters that a program trains; 0 where it trains nothing."""
    plan = program.plan.learn
    return size(layout_of(plan.problem, **dict(plan.problem_static))) if plan else 0


def _refuse_above(
    program: Program, first: Resolved, devices: int, each: float, qualifier: str
) -> None:
    needed, room = devices * each, available_bytes()
    if needed > room:
        assert program.plan.learn is not None
        raise InputError(
            f"training {parameters(program):,} parameters with {program.plan.learn.workers} "
            f"workers needs {qualifier}{needed / GIGABYTE:.3g} GB of memory, and "
            f"{room / GIGABYTE:.3g} GB are free; take the proxy, fewer workers, a smaller batch, "
            "or a compressor without memory",
            "fidelity" if first.fidelity == "full" else "scenario",
        )


def check_memory(found: list[Program], experiments: list[Resolved], devices: int) -> None:
    """Refuse work that this machine's memory cannot hold; nothing is allocated or compiled.

    Raises:
        InputError: that tells how much is needed at least and how much there is.
    """
    for program in found:
        plan, knobs = program.plan.learn, program.knobs.learn
        if plan is None or knobs is None or parameters(program) <= SMALL:
            continue
        one = jax.tree.map(lambda column: np.asarray(column[0]), knobs)
        first = experiments[min(program.place)]
        each = block_bytes(plan, one, program.plan.block)
        _refuse_above(program, first, devices, each, "at least ")


def check_compiled(
    compiled: Compiled, program: Program, experiments: list[Resolved], devices: int
) -> None:
    """Refuse a compiled program whose buffers this machine's memory cannot hold.

    Raises:
        InputError: that tells how much is needed and how much there is.
    """
    if parameters(program) <= SMALL:
        return
    buffers = compiled.run.memory_analysis()
    if buffers is not None:
        each = float(buffers.temp_size_in_bytes + buffers.argument_size_in_bytes)
        _refuse_above(program, experiments[min(program.place)], devices, each, "")
