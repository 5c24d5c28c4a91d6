"""The command `status`: how far a sweep is, read from its results folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from jaxwan.commands.shell import AsJson, Folder, out, print_json
from jaxwan.experiment.errors import InputError

if TYPE_CHECKING:
    from jaxwan.store import Store


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("status")(status_command)


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
