"""Commands about finished or growing results folders; `register` adds them to the app."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxwan import (
    answers,
    bench_command,
    best_command,
    folders,
    passing_command,
    phase_command,
    recommend_command,
    report_command,
    tornado_command,
    trace_command,
    variance_command,
)
from jaxwan.experiment.errors import InputError
from jaxwan.published import command as published

if TYPE_CHECKING:
    import pandas as pd

    from jaxwan.store import Store

out = Console()

Folder = Annotated[Path, typer.Argument(help="A results folder, finished or not.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("compare")(compare_command)
    app.command("status")(status_command)
    answers.register(app)
    bench_command.register(app)
    best_command.register(app)
    folders.register(app)
    passing_command.register(app)
    recommend_command.register(app)
    trace_command.register(app)
    variance_command.register(app)
    report_command.register(app)
    phase_command.register(app)
    tornado_command.register(app)
    published.register(app)


def print_json(value: Any) -> None:
    """Print a value as JSON, NaN and infinities refused."""
    typer.echo(json.dumps(value, indent=2, default=str, allow_nan=False))


def compare_command(
    folder: Folder,
    by: Annotated[str, typer.Option("--by", help="The setting to compare: compressor, …")],
    metric: Annotated[
        str, typer.Option("--metric", help="A numeric column of the results.")
    ] = "time_to_target_s",
    baseline: Annotated[
        str | None, typer.Option(help="The level to compare with; the first unless told.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it as a PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what one setting changes, run by run on the same seeds."""
    from jaxwan.analysis.compare import compare, render_comparison
    from jaxwan.columns import records

    try:
        table = compare(compared(folder, by, metric), by, metric, confidence, baseline)
    except ValueError as error:
        raise InputError(str(error)) from None
    picture = None
    if plot is not None:
        from jaxwan.analysis.compare_plot import plot_comparison

        picture = plot_comparison(table, plot)
    if as_json:
        places = {"picture": picture} if picture else {}
        print_json({"by": by, "metric": metric, "comparisons": records(table)} | places)
        return
    out.print(render_comparison(table))
    if picture:
        out.print(f"\npicture  {picture}", soft_wrap=True, highlight=False)


def compared(folder: Path, by: str, metric: str) -> pd.DataFrame:
    """Read the runs of a folder, only the columns that comparing a metric takes.

    Where there is no such setting or metric, the first part will do to say so.

    Raises:
        ValueError: where there is no store, or a damaged part.
    """
    from jaxwan.columns import IDENTITY, swept_columns
    from jaxwan.results import Results
    from jaxwan.rounds import round_folders
    from jaxwan.store import Store

    if round_folders(folder):
        return Results.load(folder).frame
    store = Store(folder)
    first = next((store.rows(name) for name in store.stored()[:1]), None)
    if first is None:
        return store.load()[0]
    swept = swept_columns(first.head(0).reindex(columns=store.columns()))
    if metric not in first.select_dtypes(["number", "bool", "boolean"]) and metric not in swept:
        return first
    if by not in (*IDENTITY, *swept):
        return first
    wanted = ["config_id", "seed", *IDENTITY, *swept, "status", "reached", "time_s", metric]
    return store.load(wanted, curves=False)[0]


def status_of(folder: Path) -> dict[str, Any]:
    """Return how far the sweep in a results folder is.

    Raises:
        InputError: where there is none, or a damaged one.
    """
    from jaxwan.rounds import round_folders
    from jaxwan.store import Store

    rounds = [status_of(each) for each in round_folders(folder)]
    if rounds:
        counts = ("chunks_done", "chunks_total", "runs_done", "runs_total", "writing_s")
        whole = {"finished": all(each["finished"] for each in rounds)}
        return rounds[-1] | whole | {name: sum(each[name] for each in rounds) for name in counts}
    try:
        store = Store(folder)
    except ValueError as error:
        raise InputError(str(error)) from None
    chunks, done = store.manifest.get("chunks", []), store.done()
    runs_done = sum(chunk.get("runs", 0) for chunk in chunks if chunk["name"] in done)
    return {
        "question": store.manifest.get("question", ""),
        "finished": store.finished,
        "chunks_done": len(done),
        "chunks_total": len(store.chunks),
        "runs_done": runs_done,
        "runs_total": store.manifest.get("runs", runs_done),
        "programs": store.manifest.get("programs"),
        **_times(store),
        "versions": store.manifest.get("versions", {}),
        "warnings": store.manifest.get("warnings", []),
    }


def _times(store: Store) -> dict[str, Any]:
    """Return when the store was last written, and how long its parts took from first to last."""
    parts = sorted(part.stat().st_mtime for part in store.parts.glob("*.parquet"))
    last = max([(store.path / "manifest.json").stat().st_mtime, *parts])
    moment = datetime.fromtimestamp(last, UTC)
    return {
        "last_write": moment.isoformat(timespec="seconds"),
        "since_last_write_s": max((datetime.now(UTC) - moment).total_seconds(), 0.0),
        "writing_s": parts[-1] - parts[0] if parts else 0.0,
    }


def tell_shard(folder: Path, shard: tuple[int, int], as_json: bool) -> None:
    """Say that a shard is done, and what makes the whole of all."""
    facts = status_of(folder) | {"shard": "{}/{}".format(*shard), "results": folder}
    if as_json:
        print_json(facts)
        return
    out.print(
        f"shard {facts['shard']} is done: {facts['runs_done']:,} of {facts['runs_total']:,} runs "
        f"are in {folder}\nwhen all shards are: jaxwan merge OUT FOLDER… (nothing to merge where "
        "they share one folder)", soft_wrap=True, highlight=False,
    )  # fmt: skip


def status_command(folder: Folder, as_json: AsJson = False) -> None:
    """Say how far the sweep in a results folder is; reads the manifest, never the runs."""
    from jaxwan.analysis.humane import duration, percent

    facts = status_of(folder)
    if as_json:
        print_json(facts)
        return
    share = facts["runs_done"] / facts["runs_total"] if facts["runs_total"] else 1.0
    state = "finished" if facts["finished"] else "unfinished; the same command goes on from here"
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    ago = duration(facts["since_last_write_s"])
    lines = {
        "question": facts["question"],
        "state": state,
        "runs": f"{facts['runs_done']:,} of {facts['runs_total']:,} ({percent(share)})",
        "chunks": f"{facts['chunks_done']:,} of {facts['chunks_total']:,}",
        "last write": f"{facts['last_write']} ({ago} ago)",
        "writing": f"{duration(facts['writing_s'])} from the first chunk to the last",
        "versions": versions,
        "warnings": "\n".join(facts["warnings"]),
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, text in lines.items():
        if text:
            table.add_row(f"[cyan]{name}[/]", text)
    out.print(table, highlight=False)
