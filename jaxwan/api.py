"""The public one-call functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

from jaxwan.executors.cluster import OnRay
from jaxwan.executors.lessons import Tally
from jaxwan.executors.local import Local
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.fanout import leaves
from jaxwan.experiment.resolve import resolve_and_warn
from jaxwan.experiment.schema import plain
from jaxwan.experiment.spec import Experiment
from jaxwan.experiment.sweepfile import Sweep, check_seeds
from jaxwan.results import Results
from jaxwan.store import Store
from jaxwan.sweep import Executor, Job, Progress, Report, plan_job, run_in_memory, run_in_store


class _Rate(ProgressColumn):
    """Runs per second since the first one finished."""

    def render(self, task: Task) -> Text:
        """Return the speed, or nothing while programs still compile."""
        return Text(f"{task.speed:,.0f} runs/s" if task.speed else "", style="cyan")


@contextmanager
def progress_bar(title: str, show: bool) -> Iterator[Report | None]:
    """Show how far a sweep is, where wanted."""
    if not show:
        yield None
        return
    bar = RichProgress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("runs"), _Rate(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=None)

        def report(now: Progress) -> None:
            waiting = now.programs_total - now.programs_compiled
            note = f" (compiling {waiting})" if waiting else ""
            bar.update(
                task, description=title + note, completed=now.runs_done, total=now.runs_total
            )

        yield report


def _differences(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Return of each experiment the settings, by dotted name, that are not the same in all."""
    tables = [leaves(experiment.model_dump()) for experiment in experiments]
    names = dict.fromkeys(name for table in tables for name in table)
    varied = [name for name in names if len({str(table.get(name)) for table in tables}) > 1]
    return [{name: table[name] for name in varied if name in table} for table in tables]


def simulate(
    experiments: Experiment | Sequence[Experiment],
    seeds: int | Sequence[int] = 32,
    steps: int | None = None,
    progress: bool = False,
) -> Results:
    """Simulate experiments, each with every seed, and return their results.

    `seeds` is a count or a list; `steps` replaces the experiments' local gradient steps per worker.

    Raises:
        InputError: for settings that do not fit together, before anything is compiled.

    Example:
        >>> import jaxwan as jw
        >>> jw.simulate(jw.Experiment(scenario="simple", challenge="baseline"), seeds=8, steps=20)
    """
    own = [experiments] if isinstance(experiments, Experiment) else list(experiments)
    if not own or not all(isinstance(experiment, Experiment) for experiment in own):
        raise InputError("expected an Experiment or a list of at least one", "experiments")
    if steps is not None:
        own = [experiment.replace(steps=steps) for experiment in own]
    try:
        wanted = check_seeds(list(seeds) if isinstance(seeds, Iterable) else plain(seeds))
    except InputError as error:
        raise error.at("seeds") from None
    told_apart = zip(own, _differences(own), strict=True)
    found = [resolve_and_warn(experiment, labels) for experiment, labels in told_apart]
    warnings = list(dict.fromkeys(text for _, told in found for text in told))
    job = plan_job([resolved for resolved, _ in found], wanted)
    executor = Local(job)
    with progress_bar("simulating", progress) as report:
        frame, curves = run_in_memory(job, report, executor)
    return Results(frame, curves, warnings=warnings, tally=executor.tally)


def _plain(sweep: Sweep) -> dict[str, Any]:
    return sweep.model_dump(mode="json", exclude={"base", "question"})


def run(
    sweep: Sweep | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
    shard: tuple[int, int] | None = None,
    ray: str | None = None,
    learn_once: bool = True,
) -> Results:
    """Run a sweep, given as a Sweep or a file; with `out`, in a folder that can be resumed.

    With `shard=(i, n)` only the i-th of n parts of the sweep is run, into `out`: a folder of its
    own, to be put together by `jaxwan merge`, or one that all shards share. `ray` is the address of
    a Ray cluster, or "local" to start one here; rows do not depend on it. Runs that learn the same
    share one learner unless `learn_once` is false: the rows are the same, and `tally` of the
    results counts what that saved.

    Raises:
        InputError: for a bad sweep, or a folder that holds another one; nothing is written.
    """
    if out is not None:
        stored = run_stored(sweep, out, progress, shard, ray, learn_once)
        results = Results.load(stored.store.path)
        results.tally = stored.tally
        return results
    if shard is not None:
        raise InputError("a shard needs a folder to keep its part in; give out=", "shard")
    own, job, warnings = _planned(sweep)
    executor = _executor(job, ray, learn_once)
    with progress_bar(own.name, progress) as report:
        frame, curves = run_in_memory(job, report, executor)
    return Results(frame, curves, own.question, warnings, executor.tally)


class Stored(NamedTuple):
    """The folder of a sweep, and how many of the runs done now wanted a learner and had one."""

    store: Store
    tally: Tally


def run_stored(
    sweep: Sweep | str | os.PathLike[str],
    out: str | os.PathLike[str],
    progress: bool = False,
    shard: tuple[int, int] | None = None,
    ray: str | None = None,
    learn_once: bool = True,
) -> Stored:
    """Run a sweep, or a shard of it, in a folder and return its store; no result is loaded.

    Raises:
        InputError: for a bad sweep or shard, or a folder that holds another sweep.
    """
    part = check_shard((1, 1) if shard is None else shard)
    own, job, warnings = _planned(sweep)
    executor = _executor(job, ray, learn_once)
    with progress_bar(own.name, progress) as report:
        try:
            store = Store.open(out, job.manifest(_plain(own), own.question, warnings))
            run_in_store(job, store, report, executor, part)
        except ValueError as error:
            raise InputError(str(error)) from None
    return Stored(store, executor.tally)


def _planned(sweep: Sweep | str | os.PathLike[str]) -> tuple[Sweep, Job, list[str]]:
    """Resolve a sweep and lay it out."""
    own = sweep if isinstance(sweep, Sweep) else Sweep.from_toml(Path(sweep))
    try:
        experiments, warnings = own.resolve()
    except InputError as error:
        raise (error if own.base is None else InputError(f"{own.name}.toml: {error}")) from None
    return own, plan_job(experiments, own.seeds), warnings


def check_shard(shard: Any) -> tuple[int, int]:
    """Return a shard `(i, n)`, given as such or as "i/n".

    Raises:
        InputError: for anything but 1 <= i <= n.
    """
    try:
        own, of = shard.split("/") if isinstance(shard, str) else shard
        found = int(own), int(of)
    except (TypeError, ValueError):
        raise InputError(f"expected i/n, such as 1/4, got {shard!r}", "shard") from None
    if not 1 <= found[0] <= found[1]:
        raise InputError(f"expected i/n with i from 1 to n, got {found[0]}/{found[1]}", "shard")
    return found


def _executor(job: Job, ray: str | None, learn_once: bool) -> Executor:
    return Local(job, learn_once) if ray is None else OnRay(job, ray, learn_once)
