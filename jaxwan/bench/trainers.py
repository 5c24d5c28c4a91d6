"""Programs of the engine for one experiment, at a block width of one's choice.

The worlds run once and leave their ticks; what is timed is the learners' training on them.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan import engine, work
from jaxwan.core.pytrees import replace
from jaxwan.experiment.resolve import resolve_and_warn
from jaxwan.experiment.spec import Experiment
from jaxwan.work import Program


class Trainer(NamedTuple):
    """Compiled learners and what they are called with: `run(turn)` trains `runs` replicates."""

    program: Program
    learners: engine.Compiled
    arguments: tuple[Any, ...]
    rounds: int  # of a replicate
    runs: int  # on all devices
    compile_s: float

    def run(self, turn: int) -> Any:
        """Train every replicate; each turn trains the same."""
        return self.learners(*self.arguments)

    @property
    def amount(self) -> float:
        """Return the replicate-rounds of one call."""
        return float(self.rounds * self.runs)


def program_of(experiment: Experiment, runs: int, width: int | None = None) -> Program:
    """Return an experiment's program for chunks of `runs`, by its own or the given width."""
    resolved, _ = resolve_and_warn(experiment, {})
    program = work.programs([resolved], runs)[0]
    block = min(program.plan.block if width is None else width, runs)
    return program._replace(plan=replace(program.plan, block=block), runs=runs)


def trainer(
    experiment: Experiment, runs: int, width: int | None = None, devices: int = 1
) -> Trainer:
    """Compile the training of `runs` replicates on each of some devices."""
    program = program_of(experiment, runs, width)
    seeds = np.arange(devices * runs, dtype=np.uint32).reshape(devices, runs)
    rows = np.zeros((devices, runs), np.int64)
    world, learn = (
        jax.tree.map(lambda column: column[rows], knobs)
        for knobs in (program.knobs.world, program.knobs.learn)
    )
    ticks = work.compiled_worlds(program, devices)(world, seeds).ticks
    return _compiled(program, learn, seeds, ticks)


def first_of(many: Trainer) -> Trainer:
    """Compile the training of the first replicate alone, on one device."""
    learn, seeds, _, ticks = many.arguments
    plan = replace(many.program.plan, block=1)
    first = jax.tree.map(lambda column: np.asarray(column)[:1, :1], (learn, seeds, ticks))
    return _compiled(many.program._replace(plan=plan, runs=1), *first)


def _compiled(program: Program, learn: Any, seeds: np.ndarray, ticks: Any) -> Trainer:
    devices, runs = seeds.shape
    start = time.perf_counter()
    learners = work.compiled_learners(program, devices)
    compile_s = time.perf_counter() - start
    count = np.full(devices, runs, np.int32)
    rounds = int(np.max(program.knobs.world.ticks))
    arguments = (learn, seeds, count, ticks)
    return Trainer(program, learners, arguments, rounds, devices * runs, compile_s)


def chosen_width(experiment: Experiment) -> int:
    """Return the block width that a sweep would choose."""
    resolved, _ = resolve_and_warn(experiment, {})
    return work.programs([resolved], work.LEARNING_CHUNK)[0].plan.block
