"""Commands that look after results folders: `verify` and `merge`; `register` adds them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from jaxwan.analysis.humane import count
from jaxwan.commands.shell import AsJson, out, print_json
from jaxwan.experiment.errors import InputError

TOLD = {
    "doubles": "in several folders, taken once",
    "differing": "in several folders and not alike, the first one kept",
    "missing": "in no folder: run their shards, then merge again",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("verify")(verify_command)
    app.command("merge")(merge_command)


def say(text: str) -> None:
    """Print a line as it is, however long."""
    out.print(text, soft_wrap=True, highlight=False)


def verify_command(
    folder: Annotated[Path, typer.Argument(help="A results folder, finished or not.")],
    mend: Annotated[
        bool, typer.Option("--repair", help="Set bad parts aside, so that they are run again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every part of a results folder and name what is damaged, foreign or missing.

    Exit code 1 where anything is. A folder of rounds is read round by round.
    """
    from jaxwan.integrity import manifest_problem, repair, verify
    from jaxwan.rounds import round_folders
    from jaxwan.store import Store

    try:
        stores = [Store(each) for each in round_folders(folder) or [folder]]
        damaged = [problem for store in stores if (problem := manifest_problem(store))]
    except ValueError as error:
        raise InputError(str(error)) from None
    if damaged:
        raise InputError(damaged[0])
    chunks = sum(len(store.done()) for store in stores)
    found_in = [(store, verify(store)) for store in stores]
    findings = [finding for _, own in found_in for finding in own]
    aside = [name for store, own in found_in if mend for name in repair(store, own)]
    if as_json:
        records = [finding._asdict() for finding in findings]
        print_json({"chunks": chunks, "findings": records, "set_aside": aside})
    else:
        for found in findings:
            say(f"[yellow]{found.kind}[/] {escape(found.place)}: {escape(found.problem)}")
            say(f"  {escape(found.remedy if not aside else 'set aside; run the sweep again')}")
        verdict = count(len(findings), "finding") if findings else "[green]all are whole[/]"
        say(f"{count(chunks, 'chunk')} read: {verdict}")
    raise typer.Exit(1 if findings else 0)


def merge_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the whole.")],
    shards: Annotated[list[Path], typer.Argument(metavar="FOLDER…", help="Those to put in it.")],
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Although versions differ.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the parts of several folders of one sweep together; exit code 1 where some are missing.

    The folders stay as they are. Doubles are taken once, damaged parts are left out.
    """
    from jaxwan.merge import merge

    try:
        done = merge(folder, shards, any_version)
    except ValueError as error:
        raise InputError(str(error)) from None
    facts = {name: value for name, value in done._asdict().items() if name != "store"}
    if as_json:
        print_json({"results": folder, "finished": done.store.finished} | facts)
    else:
        for line in done.bad:
            say(f"[yellow]left out[/] {escape(line)}")
        for name, told in TOLD.items():
            if facts[name]:
                say(f"{count(len(facts[name]), 'chunk')} {told} ({some(facts[name])})")
        state = "complete" if done.store.finished else "unfinished"
        say(f"{count(done.taken, 'chunk')} copied; {folder} is {state}")
    raise typer.Exit(0 if done.store.finished else 1)


def some(names: list[str]) -> str:
    """Name the first few."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
