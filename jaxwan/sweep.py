"""Run a sweep: in memory, or into a store that keeps what is done."""

from __future__ import annotations

import pandas as pd

from jaxwan.executors.job import Done, Executor, Job, Progress, Report, distinct, plan_job
from jaxwan.executors.local import Local
from jaxwan.parts import digest
from jaxwan.store import Store
from jaxwan.work import Chunk

__all__ = ["Done", "Executor", "Job", "Progress", "Report", "distinct", "plan_job", "run_in_memory",
           "run_in_store"]  # fmt: skip


def run_in_memory(
    job: Job, report: Report | None = None, executor: Executor | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run every chunk and return rows by configuration and seed, and curves in their order."""
    done = list((executor or Local(job)).execute(job.chunks, report))
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
    job: Job,
    store: Store,
    report: Report | None = None,
    executor: Executor | None = None,
    shard: tuple[int, int] = (1, 1),
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
    before = sum(chunk.wanted for chunk in own if chunk.name in present)
    with store.writer() as write:
        for part in (executor or Local(job)).execute(pending, report, before):
            write(part.name, part.rows, part.curves)
    if not store.missing():
        store.finish()
