"""The local executor: chunks on this machine's devices, one per device at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np

from jaxwan import engine, rows, work
from jaxwan.executors.job import Done, Job, Progress, Report
from jaxwan.executors.lessons import Asked, Lessons, Tally
from jaxwan.memory import check_compiled
from jaxwan.work import Chunk

COMPILERS = 2  # programs compiled at a time


class _Programs(NamedTuple):
    """What a program's chunks run: worlds, and learners where something is trained."""

    worlds: Future[engine.Compiled]
    learners: Future[engine.Compiled] | None

    @property
    def ready(self) -> bool:
        """Tell whether both are compiled."""
        return self.worlds.done() and (self.learners is None or self.learners.done())


class _Begun(NamedTuple):
    """A batch whose worlds have been started."""

    batch: list[Chunk]
    timed: engine.Timed


class _Timed(NamedTuple):
    """A batch whose worlds are done and whose learners have been started."""

    batch: list[Chunk]
    timed: engine.Timed  # NumPy [device, run, ...]
    asked: Asked | None


@contextmanager
def _compilers() -> Iterator[ThreadPoolExecutor]:
    """Lend threads that compile; an interrupt does not wait for what is still queued."""
    pool = ThreadPoolExecutor(COMPILERS)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Local:
    """Runs chunks of one job on the local devices; curves are kept from call to call."""

    def __init__(self, job: Job, share: bool = True) -> None:
        self._job = job
        self._share = share
        self._facts = [rows.facts_of(i, resolved) for i, resolved in enumerate(job.experiments)]
        self._lessons: dict[int, Lessons] = {}
        self._programs: dict[int, _Programs] = {}

    @property
    def tally(self) -> Tally:
        """Count the runs that wanted a curve, and those that were trained."""
        found = [lessons.tally for lessons in self._lessons.values()]
        return Tally(*(sum(column) for column in zip(*found, strict=True))) if found else Tally()

    def execute(
        self, pending: list[Chunk], report: Report | None = None, before: int = 0
    ) -> Iterator[Done]:
        """Run chunks and yield them as they finish; programs compile while others run."""
        job, began = self._job, time.monotonic()
        needed = list(dict.fromkeys(chunk.program for chunk in pending))
        done, total = before, before + sum(chunk.wanted for chunk in pending)

        def tell() -> None:
            if report:
                ready = sum(self._programs[index].ready for index in needed)
                elapsed = time.monotonic() - began
                report(Progress(done, total, ready, len(needed), elapsed))

        with _compilers() as pool:
            for index in needed:
                if index not in self._programs:
                    self._programs[index] = self._compile(pool, index)
            tell()
            for finished in self._pipeline(work.batches(pending, job.devices)):
                for part in self._collect(finished):
                    done += len(part.rows)
                    yield part
                tell()

    def _compile(self, pool: ThreadPoolExecutor, index: int) -> _Programs:
        program, devices = self._job.programs[index], self._job.devices
        worlds = pool.submit(work.compiled_worlds, program, devices)
        if program.plan.learn is None:
            return _Programs(worlds, None)
        return _Programs(worlds, pool.submit(work.compiled_learners, program, devices))

    def _pipeline(self, batches: list[list[Chunk]]) -> Iterator[_Timed]:
        """Keep the devices busy: the next batch's worlds run while the last one's rows are made."""
        begun: _Begun | None = None
        timed: _Timed | None = None
        for batch in [*batches, None]:
            upcoming = self._begin(batch) if batch is not None else None
            last, timed = timed, self._teach(begun) if begun is not None else None
            if last is not None:
                yield last
            begun = upcoming
        if timed is not None:
            yield timed

    def _begin(self, batch: list[Chunk]) -> _Begun:
        program = self._job.programs[batch[0].program]
        compiled = self._programs[batch[0].program].worlds.result()
        inputs = work.inputs(program, work.padded(batch, self._job.devices))
        return _Begun(batch, compiled(*inputs))

    def _teach(self, begun: _Begun) -> _Timed:
        index = begun.batch[0].program
        timed = jax.tree.map(np.asarray, jax.block_until_ready(begun.timed))
        if self._programs[index].learners is None:
            return _Timed(begun.batch, timed, None)
        lessons = self._lessons_of(index)
        asked = lessons.ask(self._job.programs[index], begun.batch, timed)
        return _Timed(begun.batch, timed._replace(ticks=None), asked)

    def _lessons_of(self, index: int) -> Lessons:
        """Return the curves of a program's learner; programs of one learner share them."""
        job, future = self._job, self._programs[index].learners
        assert future is not None
        learner = future.result()
        check_compiled(learner, job.programs[index], job.experiments, job.devices)
        return self._lessons.setdefault(id(learner.run), Lessons(learner, self._share))

    def _collect(self, timed: _Timed) -> Iterator[Done]:
        """Turn a batch into rows."""
        for device, chunk in enumerate(timed.batch):
            own = work.to_host(timed.timed, device, chunk.wanted)
            trained = timed.asked.trained(device) if timed.asked else None
            out = engine.joined(own, trained)
            about = [self._facts[int(config)] for config in chunk.config[: chunk.wanted]]
            seeds = chunk.seed[: chunk.wanted]
            curves = rows.curves(about, seeds, out)
            yield Done(chunk.name, rows.rows(about, seeds, out), curves)
