"""The command `passing`: the cheapest settings that meet the challenges' criteria."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jaxwan.cache import keep_programs
from jaxwan.commands.shell import AsJson, err, out, print_json, share_of

if TYPE_CHECKING:
    from jaxwan.decide.passing import Passing


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("passing")(passing_command)


def passing_command(
    file: Annotated[Path, typer.Argument(help="A sweep file, such as sweeps/passing.toml.")],
    share: Annotated[str, typer.Option(help="Of runs that must surely succeed.")] = "90%",
    confidence: Annotated[str, typer.Option(help="Of that.")] = "95%",
    seeds: Annotated[int, typer.Option(help="Fresh ones, on which the cheapest are checked.")] = 64,
    learn: Annotated[bool, typer.Option(help="Train with what was found, where that is cheap.")]
    = True,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the cheapest setting of a sweep that meets the criteria of each challenge."""
    from jaxwan.decide.passing import passing
    from jaxwan.decide.passing_table import page_rows

    keep_programs()
    with err.status("searching") as status:
        found = passing(
            file, share_of(confidence, "--confidence"), share_of(share, "--share"), seeds, learn,
            tell=lambda text: status.update(escape(text)),
        )  # fmt: skip
    if as_json:
        facts = {"share": found.share, "confidence": found.confidence, "runs": found.runs}
        print_json(facts | {"places": found.records()})
    elif markdown:
        typer.echo("\n".join(page_rows(found.records())))
    else:
        out.print(passing_table(found), highlight=False)
        passed = sum(row["passes"] for row in found.records())
        out.print(f"\n{passed} of {len(found.table)} places have a setting that passes; "
                  f"{found.settings} settings tried at each, {found.runs:,} runs",
                  highlight=False)  # fmt: skip


def passing_table(found: Passing) -> Table:
    """Lay the places out, the recommended setting below the one that passes."""
    from jaxwan.decide.passing_table import cells

    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    sheet.add_column("place", no_wrap=True)
    sheet.add_column("cheapest that passes\nrecommended", overflow="fold")
    for header in ("success", "throughput", "cost", "loss"):
        sheet.add_column(header, justify="right", no_wrap=True)
    for row in found.records():
        own = [cell.replace("not checked", "–") for cell in cells(row)]
        name = Text(own[2], style="green" if row["passes"] else "yellow")
        sheet.add_row(Text(own[0], style="cyan"), name, *own[3:7])
        sheet.add_row(Text(own[1], style="cyan"), *(Text(cell, style="dim") for cell in own[7:]))
    return sheet
