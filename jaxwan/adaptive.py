"""Adaptive sweeps: `run_until` adds seeds round by round until intervals are narrow."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from jaxwan.analysis.tables import setting_names
from jaxwan.api import _executor, _plain, progress_bar
from jaxwan.columns import identity_columns, varying
from jaxwan.decide.until import FIRST, MOST, next_round, seed_stream, targets_of, wide_notes
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.manifest import MANIFEST, BadManifest
from jaxwan.results import LEARNED, Results
from jaxwan.rounds import joined, round_folder, round_folders
from jaxwan.store import Store
from jaxwan.sweep import Executor, Job, Report, plan_job, run_in_memory, run_in_store


def run_until(
    sweep: Sweep | str | os.PathLike[str],
    until: str,
    out: str | os.PathLike[str] | None = None,
    most: int = MOST,
    progress: bool = False,
    ray: str | None = None,
    learn_once: bool = True,
) -> Results:
    """Run a sweep with as many seeds as its intervals take: `until` is "time_to_target_s: 5%, …".

    Every configuration gets 64 seeds, or the sweep's if more; those whose 95 % interval is wider
    than asked are doubled up to `most`. With `out`, each round is a store in that folder, and the
    same call goes on from there. `jaxwan.decide.until` says what the rule guarantees; warnings name
    what is still wide.

    Raises:
        InputError: for a bad sweep or target, or a folder that holds another sweep.
    """
    own = sweep if isinstance(sweep, Sweep) else Sweep.from_toml(Path(sweep))
    targets, first = targets_of(until), max(FIRST, len(own.seeds))
    if most < first:
        raise InputError(f"expected at least {first} seeds at most, got {most}", "--most")
    experiments, warnings = own.resolve()
    check_learned([each.metric for each in targets], experiments, "--until")
    by_id = {config_id(each): each for each in experiments}
    seeds = list(itertools.islice(seed_stream(own.seeds), most))
    executor = partial(_executor, ray=ray, learn_once=learn_once)
    done = _Rounds(own, by_id, warnings, out, progress, executor)
    done.resume()
    while (todo := next_round(done.frame, list(by_id), targets, first, most)) is not None:
        done.run(todo.config_ids, seeds[todo.start : todo.stop])
    frame, curves = joined(done.frames, done.curves)
    labels = _labels(frame)
    return Results(frame, curves, own.question, [*warnings, *wide_notes(frame, targets, labels)])


def check_learned(metrics: Sequence[str], experiments: Sequence[Resolved], place: str) -> None:
    """Refuse what only learning gives, where all is timing only, before anything is run.

    Raises:
        InputError: with other metrics.
    """
    if not all(each.timing_only for each in experiments):
        return
    for metric in metrics:
        if metric in LEARNED:
            raise InputError(f"no run will have a value of {metric!r}, for nothing is learned "
                             "(timing_only); use another, such as time_s or throughput_ratio",
                             place)  # fmt: skip


def _labels(frame: pd.DataFrame) -> dict[str, str]:
    """Name each configuration by the settings that tell it apart."""
    told = varying(frame, identity_columns(frame))
    rows = frame.drop_duplicates("config_id").to_dict("records")
    return {str(row["config_id"]): setting_names(row, told) for row in rows}


class _Rounds:
    """The rounds of a sweep so far, in memory or in a folder."""

    def __init__(
        self,
        own: Sweep,
        by_id: dict[str, Resolved],
        warnings: list[str],
        out: str | os.PathLike[str] | None,
        progress: bool,
        executor: Callable[[Job], Executor],
    ) -> None:
        self.own, self.by_id, self.warnings = own, by_id, warnings
        self.out, self.progress, self.executor = out, progress, executor
        self.frames: list[pd.DataFrame] = []
        self.curves: list[pd.DataFrame] = []

    @property
    def frame(self) -> pd.DataFrame | None:
        """Return the runs so far."""
        return pd.concat(self.frames, ignore_index=True) if self.frames else None

    def resume(self) -> None:
        """Take up the rounds of the folder, and finish one that was interrupted."""
        if self.out is None:
            return
        for folder in round_folders(self.out):
            try:
                begun = Store(folder).manifest["sweep"]
            except BadManifest as error:
                raise InputError(
                    f"{error.file} is damaged ({error.why}); move {folder} and the rounds after it "
                    "away, and the same command runs them again"
                ) from None
            names, seeds = begun.get("configurations", []), begun.get("seeds", [])
            if not set(names) <= set(self.by_id):
                raise InputError(f"{self.out} holds another sweep; choose another --out")
            self.run(names, seeds)

    def run(self, names: list[str], seeds: list[int]) -> None:
        """Run one round, or read it where it is finished."""
        number = len(self.frames)
        job = plan_job([self.by_id[name] for name in names], seeds)
        title = f"{self.own.name}, round {number + 1}: {len(names)} × {len(seeds)}"
        with progress_bar(title, self.progress) as report:
            if self.out is None:
                frame, curves = run_in_memory(job, report, self.executor(job))
            else:
                frame, curves = self._stored(job, list(seeds), number, report)
        self.frames.append(frame)
        self.curves.append(curves)

    def _stored(
        self, job: Job, seeds: list[int], number: int, report: Report | None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        if self.out is None or (Path(self.out) / MANIFEST).exists():
            raise InputError(f"{self.out} holds a sweep of fixed seeds; choose another --out")
        plan = {**_plain(self.own), "seeds": seeds, "round": number}
        try:
            store = Store.open(
                round_folder(self.out, number), job.manifest(plan, self.own.question, self.warnings)
            )
            run_in_store(job, store, report, self.executor(job))
            return store.load()
        except ValueError as error:
            raise InputError(str(error)) from None
