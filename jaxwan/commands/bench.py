"""The command that measures speed: `bench`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from jaxwan.analysis.humane import number
from jaxwan.commands.shell import AsJson, out, print_json
from jaxwan.experiment.errors import unknown_name

AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="A part: arrivals, learning, workloads, sweeps, scaling or widths. May be repeated.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("bench")(bench_command)


def bench_command(
    only: Only = None, as_json: AsJson = False, as_markdown: AsMarkdown = False
) -> None:
    """Measure how fast this machine simulates and learns."""
    from jaxwan.bench.report import PARTS, TITLES, markdown, measure
    from jaxwan.core.devices import use_all_cores

    for name in only or ():
        if name not in PARTS:
            raise unknown_name("part", name, PARTS)
    use_all_cores()
    records = []
    for place, part in enumerate(only or PARTS):
        found = measure([part])
        records += found
        if not (as_json or as_markdown):
            out.print(("\n" if place else "") + f"[bold]{TITLES[part]}[/]")
            out.print(table_of(found), highlight=False)
    if as_json:
        print_json(records)
    elif as_markdown:
        typer.echo(markdown(records))


def table_of(records: list[dict[str, Any]]) -> Table:
    """Return records as a table."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("benchmark", "value", "unit", "ratio", "target", "ok"):
        table.add_column(name, justify="right" if name in ("value", "ratio", "target") else "left")
    for record in records:
        figures = [figure(record[name]) for name in ("value", "unit", "ratio", "target", "ok")]
        table.add_row(str(record["name"]), *figures)
    return table


def figure(value: Any) -> str:
    """Write a measured number, a verdict or a name; "–" where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)
