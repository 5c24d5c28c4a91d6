"""Work: from resolved experiments and seeds to chunks of one shape per program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan import engine
from jaxwan.engine import Knobs, Plan
from jaxwan.experiment.lower import Group, budget, group
from jaxwan.experiment.resolved import Resolved
from jaxwan.learning.plan import LearnPlan
from jaxwan.learning.problems import layout_of
from jaxwan.learning.problems.flat import size
from jaxwan.world.plan import WorldKnobs

CACHE_BYTES = 3 * 2**19  # of a core that one block of runs may fill
WIDEST_BLOCK = 8  # wider ones were slower, or no faster, even where they fit
FEW = 2  # runs side by side that pay on a processor even outside that cache
ROOM_BYTES = 2**26  # that those few may take
ACCELERATOR_BYTES = 2**32  # of an accelerator's memory that one block may take
LEARNING_CHUNK = 128  # runs; few enough that a kill costs little
TIMING_CHUNK = 1024
SHARES = 2  # chunks that even a small sweep is cut into, so that two cores have work
TICK_ROOM_BYTES = 2**28  # for the recorded ticks of a chunk
SLOT_BYTES = 64  # of one slot's record, twin and copy included


class Chunk(NamedTuple):
    """A fixed number of runs of one program."""

    name: str
    program: int
    config: np.ndarray  # int [run]; position among the experiments
    seed: np.ndarray  # uint32 [run]
    wanted: int  # runs; the rest repeats the last one


class Program(NamedTuple):
    """One compiled plan's worth of work."""

    plan: Plan
    knobs: Knobs  # NumPy [config of the group, ...]
    place: dict[int, int]  # position among the experiments -> row of knobs
    runs: int  # runs in a chunk


def _power_of_two(number: float) -> int:
    return 1 << max(0, int(np.floor(np.log2(max(number, 1.0)))))


def block_width(plan: LearnPlan | None, backend: str | None = None) -> int:
    """Return how many runs to train side by side on a backend, this machine's unless told.

    On a processor as many as its cache holds, but a few where these are not too large; elsewhere as
    many as the memory holds, for a launch costs the same however wide.
    """
    if plan is None:
        return 1
    dim = size(layout_of(plan.problem, **dict(plan.problem_static)))
    copies = plan.workers * (plan.holds + bool(plan.feedback)) + plan.slots + 6
    run_bytes = 4 * dim * copies
    if (backend or jax.default_backend()) != "cpu":
        return min(LEARNING_CHUNK, _power_of_two(ACCELERATOR_BYTES / run_bytes))
    fits = min(WIDEST_BLOCK, _power_of_two(CACHE_BYTES / run_bytes))
    return max(fits, min(FEW, _power_of_two(ROOM_BYTES / run_bytes)))


def chunk_runs(own: Group, wanted: int) -> int:
    """Return how many runs a chunk of a program holds, whatever machine runs it."""
    most = TIMING_CHUNK if own.learn is None else LEARNING_CHUNK
    per_run = own.world.ticks * own.world.slots * SLOT_BYTES
    fits = _power_of_two(TICK_ROOM_BYTES / per_run)
    enough = 2 * _power_of_two(wanted / SHARES - 1.0) if wanted > SHARES else 1
    return max(min(most, fits, enough), 1)


def programs(experiments: list[Resolved], seeds: int) -> list[Program]:
    """Return the programs of a sweep, each with the shape of its chunks."""
    found = []
    for own in group(experiments):
        runs = chunk_runs(own, len(own.members) * seeds)
        block = min(block_width(own.learn), runs)
        points = experiments[own.members[0]].eval_points
        place = {config: row for row, config in enumerate(own.members)}
        plan = Plan(own.world, own.learn, block, points)
        found.append(Program(plan, Knobs(own.world_knobs, own.learn_knobs), place, runs))
    return found


def chunks(
    found: list[Program], experiments: list[Resolved], seeds: tuple[int, ...]
) -> list[Chunk]:
    """Cut the work of each program into chunks, the longest runs first."""
    cut = []
    for index, program in enumerate(found):
        members = sorted(program.place, key=lambda config: -budget(experiments[config]).ticks)
        config = np.repeat(np.asarray(members, np.int64), len(seeds))
        seed = np.tile(np.asarray(seeds, np.uint32), len(members))
        for number, start in enumerate(range(0, len(config), program.runs)):
            part = slice(start, start + program.runs)
            own_config, own_seed = config[part], seed[part]
            spare = program.runs - len(own_config)
            cut.append(
                Chunk(
                    name=f"p{index:03d}-{number:06d}",
                    program=index,
                    config=np.pad(own_config, (0, spare), mode="edge"),
                    seed=np.pad(own_seed, (0, spare), mode="edge"),
                    wanted=len(own_config),
                )
            )
    return cut


def places(program: Program, batch: list[Chunk]) -> np.ndarray:
    """Return the rows of a program's knobs that chunks run `[device, run]`."""
    return np.array([[program.place[int(config)] for config in chunk.config] for chunk in batch])


def inputs(program: Program, batch: list[Chunk]) -> tuple[WorldKnobs, np.ndarray]:
    """Return the worlds' knobs and seeds `[device, run, ...]` for one chunk per device."""
    rows = places(program, batch)
    knobs = jax.tree.map(lambda column: column[rows], program.knobs.world)
    return knobs, np.stack([chunk.seed for chunk in batch])


def batches(pending: list[Chunk], devices: int) -> list[list[Chunk]]:
    """Put chunks of one program together, one per device; the last may repeat."""
    found: list[list[Chunk]] = []
    for chunk in pending:
        if found and len(found[-1]) < devices and found[-1][0].program == chunk.program:
            found[-1].append(chunk)
        else:
            found.append([chunk])
    return found


def _shaped(knobs: Any, devices: int, runs: int) -> tuple[Any, np.ndarray]:
    row = np.zeros((devices, runs), np.int64)
    return jax.tree.map(lambda column: column[row], knobs), row.astype(np.uint32)


def compiled_worlds(program: Program, devices: int) -> engine.Compiled:
    """Trace and compile the worlds of a program for one chunk per device."""
    shaped = _shaped(program.knobs.world, devices, program.runs)
    return engine.world_program(program.plan, *shaped)


def compiled_learners(program: Program, devices: int) -> engine.Compiled:
    """Trace and compile the learners of a program for one chunk per device."""
    shaped = _shaped(program.knobs.learn, devices, program.runs)
    return engine.learner_program(program.plan, *shaped)


def padded(batch: list[Chunk], devices: int) -> list[Chunk]:
    """Repeat the last chunk until there is one per device."""
    return batch + [batch[-1]] * (devices - len(batch))


def to_host(out: Any, device: int, count: int) -> Any:
    """Return one device's output in NumPy, without the padding runs."""
    return jax.tree.map(lambda x: np.asarray(x[device])[:count], out)
