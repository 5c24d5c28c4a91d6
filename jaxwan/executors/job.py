"""Jobs: everything a sweep will do, laid out before anything is compiled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pandas as pd

from jaxwan import engine, work
from jaxwan.core.devices import use_all_cores
from jaxwan.executors.lessons import Tally
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.resolved import Resolved
from jaxwan.memory import check_memory
from jaxwan.work import Chunk, Program


class Progress(NamedTuple):
    """How far a sweep is."""

    runs_done: int
    runs_total: int
    programs_compiled: int
    programs_total: int
    elapsed_s: float


Report = Callable[[Progress], None]


class Done(NamedTuple):
    """A finished chunk."""

    name: str
    rows: pd.DataFrame
    curves: pd.DataFrame | None


class Job(NamedTuple):
    """Everything a sweep will do, known before anything is compiled."""

    experiments: list[Resolved]
    seeds: tuple[int, ...]
    programs: list[Program]
    chunks: list[Chunk]
    devices: int

    def manifest(self, sweep: dict[str, Any], question: str, warnings: list[str]) -> dict[str, Any]:
        """Return what the store must know to resume."""
        return {
            "sweep": {**sweep, "configurations": [config_id(own) for own in self.experiments]},
            "question": question,
            "warnings": warnings,
            "programs": len(self.programs),
            "runs": len(self.experiments) * len(self.seeds),
            "chunks": self.chunk_list(),
        }

    def chunk_list(self) -> list[dict[str, Any]]:
        """Name every chunk and its shape, as the manifest keeps them."""
        return [
            {"name": chunk.name, "program": chunk.program, "runs": chunk.wanted,
             "shape": len(chunk.seed)}
            for chunk in self.chunks
        ]  # fmt: skip


def distinct(experiments: Sequence[Resolved]) -> list[Resolved]:
    """Drop configurations that stand twice; the first one keeps its place and labels."""
    kept: dict[str, Resolved] = {}
    for resolved in experiments:
        kept.setdefault(config_id(resolved), resolved)
    return list(kept.values())


def plan_job(experiments: Sequence[Resolved], seeds: Sequence[int]) -> Job:
    """Lay a sweep out: programs, and chunks of one shape each.

    Raises:
        InputError: for models that this machine's memory cannot hold.
    """
    use_all_cores()
    own, devices = distinct(experiments), engine.device_count()
    found = work.programs(own, len(seeds))
    cut = work.chunks(found, own, tuple(seeds))
    devices = min(devices, max(Counter(chunk.program for chunk in cut).values()))
    check_memory(found, own, devices)
    return Job(own, tuple(seeds), found, cut, devices)


class Executor(Protocol):
    """Whatever runs chunks: rows never depend on which."""

    @property
    def tally(self) -> Tally:
        """Count the runs that wanted a curve, and those that were trained."""

    def execute(
        self, pending: list[Chunk], report: Report | None = None, before: int = 0
    ) -> Iterator[Done]:
        """Run chunks and yield them as they finish, in any order; `before` runs are done."""
