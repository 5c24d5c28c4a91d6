"""What commands share: options, where they print, how they end early, how results are told."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from jaxwan.analysis.humane import count, number
from jaxwan.experiment.errors import InputError

out = Console()
err = Console(stderr=True, highlight=False, soft_wrap=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Folder = Annotated[Path, typer.Argument(help="A results folder, finished or not.")]
Written = Annotated[Path | None, typer.Option("--out", help="Write it to this file.")]
RESUME = "finished chunks are kept in {}; the same command goes on from there"


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """End at once on Ctrl-C with one line of advice: what is stored is whole at any moment.

    Compilation in other threads cannot be interrupted, so unwinding would wait for it.
    """

    def stop(*_: Any) -> None:
        err.show_cursor(True)
        err.print(f"\ninterrupted: {escape(advice)}")
        sys.stdout.flush()
        os._exit(130)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def json_text(value: Any) -> str:
    """Write a value as JSON, NaN and infinities refused."""
    return json.dumps(value, indent=2, default=str, allow_nan=False)


def print_json(value: Any) -> None:
    """Print a value as JSON, NaN and infinities refused."""
    typer.echo(json_text(value))


def file_target(path: Path | None, option: str, *suffixes: str) -> Path | None:
    """Return the path of a file to be written; refuse one that cannot be, before any work.

    Raises:
        InputError: naming the option, the path and what is wrong with it.
    """
    if path is None:
        return None
    if suffixes and path.suffix.lower() not in suffixes:
        allowed = ", ".join(suffixes)
        raise InputError(f"{str(path)!r} has another ending than {allowed}", option)
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; name a file in it", option)
    there = path if path.exists() else next(each for each in path.absolute().parents
                                            if each.exists())  # fmt: skip
    if there != path and not there.is_dir():
        raise InputError(f"{str(path)!r} cannot be made: {there} is a file", option)
    if not os.access(there, os.W_OK):
        raise InputError(f"{str(path)!r} cannot be written: no right to write to {there}", option)
    return path


def write_file(path: Path, text: str) -> None:
    """Write a text, making the folders on its way."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def count_of(value: int, option: str, least: int) -> int:
    """Return a count that is large enough.

    Raises:
        InputError: naming the option, the value and what is allowed.
    """
    if value < least:
        raise InputError(f"expected {least} or more, got {value}", option)
    return value


def share_of(text: str, name: str) -> float:
    """Read a share strictly between 0 and 1: 0.02 or 2%.

    Raises:
        InputError: for anything else.
    """
    bare = text.strip().removesuffix("%").strip()
    try:
        value = float(bare) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise InputError(f"expected a share such as 2% or 0.02, got {text!r}", name) from None
    if not 0 < value < 1:
        raise InputError(f"expected a share above 0 and below 1 (100 %), got {text!r}", name)
    return value


def saving(wanted: int, trained: int) -> str:
    """Say how many learners were spared by runs that share one."""
    times = number(wanted / max(trained, 1))
    return (
        f"trained {count(trained, 'learner')} for {count(wanted, 'run')}: {times} "
        "times fewer, since runs that learn the same share one"
    )


def report(
    results: Any, folder: Path | None, as_json: bool, more: dict[str, Any] | None = None
) -> None:
    """Print the summary and why runs fail, `more` in JSON; with a folder, draw the picture too."""
    from jaxwan.analysis.tables import render_reasons, render_summary, summary_records

    summary, reasons = results.summary(), results.success_reasons()
    picture = results.plot(folder / "results.png") if folder else None
    if as_json:
        facts: dict[str, Any] = {"question": results.question, "warnings": list(results.warnings)}
        if results.tally:
            facts["learners"] = dict(zip(("wanted", "trained"), results.tally, strict=True))
        places = {"picture": picture, "results": folder} if folder else {}
        failed = {str(config): counts.to_dict() for config, counts in reasons.iterrows()}
        tables = {"summary": summary_records(summary), "failed_criteria": failed}
        print_json(facts | tables | places | (more or {}))
        return
    out.print(render_summary(summary, title=results.question or None))
    why = render_reasons(reasons, summary)
    if why:
        out.print()
        out.print(why, highlight=False)
    for warning in results.warnings:
        err.print(f"[yellow]warning[/] {escape(warning)}")
    if results.tally and results.tally[0] > results.tally[1]:
        out.print(f"\n{saving(*results.tally)}", highlight=False)
    if folder:
        out.print(f"\npicture  {picture}\nresults  {folder}", soft_wrap=True, highlight=False)


def report_folder(folder: Path, as_json: bool, tally: tuple[int, int] | None = None) -> None:
    """Print the summary of a results folder, read part by part, and draw its picture.

    Raises:
        InputError: where there is none, or a damaged one.
    """
    from jaxwan.results import Results
    from jaxwan.rounds import round_folders
    from jaxwan.streamed import StoredResults

    try:
        rounds = round_folders(folder)
        results = Results.load(folder) if rounds else StoredResults(folder, tally)
        report(results, folder, as_json)
    except ValueError as error:
        raise InputError(str(error)) from None


def warn_unfinished(folder: Path, frame: Any) -> None:
    """Say on stderr where a decision rests on a part of its sweep.

    Raises:
        InputError: where the folder holds no results.
    """
    from jaxwan.results import unfinished

    try:
        told = unfinished(folder, frame)
    except ValueError as error:
        raise InputError(str(error)) from None
    if told:
        err.print(f"[yellow]warning[/] {escape(told)}")


def loaded(folder: Path) -> Any:
    """Read a results folder.

    Raises:
        InputError: where there is none, or a damaged one.
    """
    from jaxwan.results import Results

    try:
        return Results.load(folder)
    except ValueError as error:
        raise InputError(str(error)) from None
