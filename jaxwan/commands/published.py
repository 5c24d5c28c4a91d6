"""`jaxwan published`: the effects that papers report, reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxwan.cache import keep_programs
from jaxwan.commands.shell import AsJson, err, out, print_json
from jaxwan.published.run import REPRODUCED, Judged, chosen, judged, records

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
    as_json: AsJson = False,
) -> None:
    """Reproduce what papers report: run each claim's sweep and judge it by its intervals."""
    from jaxwan.published import page

    wanted = chosen(only)
    keep_programs()
    found = [judged(claim, sweeps, folder, progress=err.is_terminal) for claim in wanted]
    if markdown:
        typer.echo(page.page(found), nl=False)
    elif as_json:
        print_json(records(found))
    else:
        tell(found)


def tell(found: list[Judged]) -> None:
    """Print the table and how many claims were reproduced."""
    from jaxwan.published import page

    out.print(page.as_table(found), highlight=False)
    count = sum(each.verdict == REPRODUCED for each in found)
    out.print(f"\n{count} of {len(found)} reproduced; 95 % intervals", highlight=False)
