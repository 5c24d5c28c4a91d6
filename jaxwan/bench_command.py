"""The command that measures speed: `bench`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from jaxwan.analysis.humane import number

out = Console()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("bench")(bench_command)


def bench_command(as_json: AsJson = False) -> None:
    """Measure how fast this machine simulates and learns."""
    from jaxwan.bench.arrivals import bench_arrivals
    from jaxwan.bench.learning import bench_learning
    from jaxwan.engine import use_all_cores

    use_all_cores()
    records = bench_arrivals() + bench_learning()
    if as_json:
        typer.echo(json.dumps(records, indent=2, default=str, allow_nan=False))
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("benchmark", "value", "unit", "ratio", "target", "ok"):
        table.add_column(name, justify="right" if name in ("value", "ratio", "target") else "left")
    for record in records:
        figures = [figure(record[name]) for name in ("value", "unit", "ratio", "target", "ok")]
        table.add_row(str(record["name"]), *figures)
    out.print(table, highlight=False)


def figure(value: Any) -> str:
    """Write a measured number, a verdict or a name; "–" where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else number(value)
