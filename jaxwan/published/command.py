"""`jaxwan published`: the effects that papers report, reproduced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from jaxwan.cache import keep_programs
from jaxwan.published.run import REPRODUCED, Judged, chosen, judged, records

out = Console()
err = Console(stderr=True, highlight=False, soft_wrap=True)
SWEEPS, RESULTS = Path("sweeps/published"), Path("results/published")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("published")(published_command)


def published_command(
    sweeps: Annotated[Path, typer.Argument(help="Folder of the published sweeps.")] = SWEEPS,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="KEY", help="This claim; repeatable.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--out", help="For the results; what is there is not run again.")
    ] = RESULTS,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/published.md.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead of a table.")
    ] = False,
) -> None:
    """Reproduce what papers report: run each claim's sweep and judge it by its intervals."""
    from jaxwan.published import page

    wanted = chosen(only)
    keep_programs()
    found = [judged(claim, sweeps, folder, progress=err.is_terminal) for claim in wanted]
    if markdown:
        typer.echo(page.page(found), nl=False)
    elif as_json:
        typer.echo(json.dumps(records(found), indent=2, allow_nan=False))
    else:
        tell(found)


def tell(found: list[Judged]) -> None:
    """Print the table and how many claims were reproduced."""
    from jaxwan.published import page

    out.print(page.as_table(found), highlight=False)
    count = sum(each.verdict == REPRODUCED for each in found)
    out.print(f"\n{count} of {len(found)} reproduced; 95 % intervals", highlight=False)
