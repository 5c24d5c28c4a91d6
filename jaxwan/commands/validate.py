"""The command `validate`: the model against measurements, tables and closed forms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxwan.cache import keep_programs
from jaxwan.commands.shell import AsJson, err, out, print_json


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("validate")(validate_command)


def validate_command(
    folder: Annotated[Path, typer.Option("--out", help="For the pictures.")] = Path(
        "results/validate"
    ),
    as_json: AsJson = False,
) -> None:
    """Compare the model with measurements, published tables and closed forms; exit 1 on a miss."""
    from jaxwan.validate import frame

    keep_programs()
    with err.status("starting") as status:
        groups = frame.collect(lambda title: status.update(f"{title} …"))
        status.update("drawing …")
        pictures = frame.draw(folder)
    missed = [check for group in groups for check in group.checks if not check.passed]
    total = sum(len(group.checks) for group in groups)
    if as_json:
        print_json({"passed": not missed, "checks": frame.records(groups), "pictures": pictures})
    else:
        for group in groups:
            out.print(frame.as_table(group), highlight=False)
            out.print()
        verdict = f"[bold red]{len(missed)} of {total} MISSED[/]" if missed else (
            f"[green]all {total} checks passed[/]"
        )  # fmt: skip
        out.print(verdict, highlight=False)
        for picture in pictures:
            out.print(f"picture  {picture}", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if missed else 0)
