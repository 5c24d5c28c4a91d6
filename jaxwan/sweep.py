"""Run a sweep: compile each program once, run its chunks, keep what is done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import pandas as pd

from jaxwan import engine, rows, work
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.resolved import Resolved
from jaxwan.memory import check_compiled, check_memory
from jaxwan.parts import digest
from jaxwan.store import Store
from jaxwan.work import Chunk, Program

COMPILERS = 2  # programs compiled at a time


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
    engine.use_all_cores()
    own, devices = distinct(experiments), engine.device_count()
    found = work.programs(own, len(seeds))
    cut = work.chunks(found, own, tuple(seeds))
    devices = min(devices, max(Counter(chunk.program for chunk in cut).values()))
    check_memory(found, own, devices)
    return Job(own, tuple(seeds), found, cut, devices)


def _collect(
    job: Job, facts: list[rows.Facts], batch: list[Chunk], out: engine.Output
) -> list[Done]:
    """Turn the output of one batch into rows."""
    done = []
    for device, chunk in enumerate(batch):
        own = work.to_host(out, device, chunk.wanted)
        about = [facts[int(config)] for config in chunk.config[: chunk.wanted]]
        seeds = chunk.seed[: chunk.wanted]
        done.append(Done(chunk.name, rows.rows(about, seeds, own), rows.curves(about, seeds, own)))
    return done


@contextmanager
def _compilers() -> Iterator[ThreadPoolExecutor]:
    """Lend threads that compile; an interrupt does not wait for what is still queued."""
    pool = ThreadPoolExecutor(COMPILERS)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _compile_ahead(
    job: Job, pool: ThreadPoolExecutor, needed: list[int]
) -> dict[int, Future[engine.Compiled]]:
    return {index: pool.submit(work.compiled, job.programs[index], job.devices) for index in needed}


def execute(job: Job, pending: list[Chunk], report: Report | None = None) -> Iterator[Done]:
    """Run chunks and yield them as they finish; programs compile while others run."""
    facts = [rows.facts_of(index, resolved) for index, resolved in enumerate(job.experiments)]
    began = time.monotonic()
    needed = list(dict.fromkeys(chunk.program for chunk in pending))
    done = sum(chunk.wanted for chunk in job.chunks) - sum(chunk.wanted for chunk in pending)
    total = sum(chunk.wanted for chunk in job.chunks)
    with _compilers() as pool:
        futures = _compile_ahead(job, pool, needed)

        def tell(done: int) -> None:
            if report:
                ready = sum(future.done() for future in futures.values())
                elapsed = time.monotonic() - began
                report(Progress(done, total, ready, len(needed), elapsed))

        tell(done)
        running: tuple[list[Chunk], Any] | None = None
        for batch in [*work.batches(pending, job.devices), None]:
            started = None
            if batch is not None:
                program = job.programs[batch[0].program]
                compiled = futures[batch[0].program].result()
                check_compiled(compiled, program, job.experiments, job.devices)
                started = compiled(*work.inputs(program, work.padded(batch, job.devices)))
            if running is not None:
                yield from _collect(job, facts, running[0], jax.block_until_ready(running[1]))
                done += sum(chunk.wanted for chunk in running[0])
                tell(done)
            running = (batch, started) if batch is not None else None


def run_in_memory(job: Job, report: Report | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run every chunk and return rows by configuration and seed, and curves in their order."""
    done = list(execute(job, job.chunks, report))
    frame = pd.concat([part.rows for part in done], ignore_index=True)
    frame = frame.sort_values(["config_index", "seed"], kind="stable", ignore_index=True)
    parts = [part.curves for part in done if part.curves is not None]
    if not parts:
        return frame, pd.DataFrame()
    long = pd.concat(parts, ignore_index=True)
    place = pd.Series(frame.index, index=frame["run_id"])
    order = long["run_id"].map(place).argsort(kind="stable")
    return frame, long.iloc[order].reset_index(drop=True)


def shard_of(chunks: list[Chunk], shard: tuple[int, int]) -> list[Chunk]:
    """Return the chunks of the shard i of n, in order.

    Which they are depends on their names as on the draw of a lot: neighbours cost alike.
    """
    lots = sorted(range(len(chunks)), key=[digest(c.name.encode()) for c in chunks].__getitem__)
    return [chunks[place] for place in sorted(lots[shard[0] - 1 :: shard[1]])]


def run_in_store(
    job: Job, store: Store, report: Report | None = None, shard: tuple[int, int] = (1, 1)
) -> None:
    """Run the chunks of a shard that the store lacks and write each as it finishes.

    The sweep is marked as finished by whoever stores its last chunk.
    """
    if store.manifest["chunks"] != job.chunk_list():
        raise ValueError(
            f"{store.path} was begun with other chunks, by another version; choose a fresh folder"
        )
    own = shard_of(job.chunks, shard)
    present = store.resume({chunk.name for chunk in own})
    pending = [chunk for chunk in own if chunk.name not in present]
    with store.writer() as write:
        for part in execute(job._replace(chunks=own), pending, report):
            write(part.name, part.rows, part.curves)
    if not store.missing():
        store.finish()
