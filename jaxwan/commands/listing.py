"""Commands that tell what is built in: `list`, `show` and `schema`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import duration, percent
from jaxwan.commands.shell import AsJson, out, print_json

HEADERS = {
    "stars": "",
    "gradient_bytes": "gradient",
    "step_s": "step",
    "bandwidth_bps": "bandwidth",
    "delay_s": "delay",
    "jitter_s": "jitter",
    "difficulty": "level",
}
RATES = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("list")(list_command)
    app.command("show")(show_command)
    app.command("schema")(schema_command)


def scaled(value: float, units: tuple[tuple[float, str], ...]) -> str:
    """Write a value in the largest unit that it reaches."""
    size, name = next((unit for unit in units if value >= unit[0]), units[-1])
    return f"{value / size:.3g} {name}"


def cell_text(column: str, value: Any) -> str:
    """Write a cell for people, by the unit in its column's name."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ("\n" if column == "settings" else ", ").join(map(str, value))
    if column == "stars":
        return "★" * value
    if column.endswith("_bps"):
        return scaled(value, RATES)
    if column.endswith("_bytes"):
        mebibytes = value / 2**20
        return f"{mebibytes:,.{2 if mebibytes < 10 else 1}f} MiB"
    if column.endswith("_s"):
        return duration(value) if value else "0"
    if column == "loss":
        return percent(value, 1)
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_table(records: list[dict[str, Any]]) -> Table:
    """Return records as a table; the columns `fleet` and `paper` stand dimmed below the text."""
    columns = [name for name in records[0] if name not in ("fleet", "paper")]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        right = isinstance(records[0][name], int | float) and name != "stars"
        table.add_column(
            HEADERS.get(name, name),
            justify="right" if right else "left",
            style="bold cyan" if name == "name" else "",
            no_wrap=right or name in ("name", "stars"),
        )
    for record in records:
        cells = [Text(cell_text(name, record[name])) for name in columns]
        below = record.get("fleet") or record.get("paper")
        if below:
            longest = columns.index("description" if "fleet" in record else "summary")
            cells[longest].append(f"\n{below}", style="dim")
        table.add_row(*cells)
    return table


def list_command(
    kind: Annotated[str, typer.Argument(help="networks, scenarios, challenges, strategies, …")],
    as_json: AsJson = False,
) -> None:
    """List what is built in of one KIND."""
    from jaxwan.experiment.kinds import plural

    which = plural(kind)  # before the listing, which loads JAX
    from jaxwan.experiment.listing import rows

    records = rows(which)
    if as_json:
        print_json(records)
    elif records:
        out.print(as_table(records))


def print_tree(record: dict[str, Any], indent: int = 0) -> None:
    """Print nested settings, one a line."""
    for key, value in record.items():
        pad = "  " * indent
        if isinstance(value, dict):
            out.print(f"{pad}[bold]{key}[/]")
            print_tree(value, indent + 1)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            out.print(f"{pad}[bold]{key}[/]")
            for entry in value:
                facts = ", ".join(f"{name} {cell_text(name, fact)}" for name, fact in entry.items())
                out.print(f"{pad}  {escape(facts)}")
        else:
            out.print(f"{pad}[cyan]{key}[/]  {escape(cell_text(key, value))}")


def show_command(
    kind: Annotated[str, typer.Argument(help="network, scenario, challenge, compressor, …")],
    name: Annotated[str, typer.Argument(help="a built-in name or a file")],
    as_json: AsJson = False,
) -> None:
    """Show one entry of the catalog, one family member, or one file of the user's."""
    from jaxwan.experiment.kinds import check_entry

    check_entry(kind, name)  # before the listing, which loads JAX
    from jaxwan.experiment.listing import detail

    record = detail(kind, name)
    if as_json:
        print_json(record)
    else:
        print_tree(record)


def schema_command(as_json: AsJson = True) -> None:
    """Print the JSON Schema of a sweep file, so that editors complete it."""
    from jaxwan.experiment.jsonschema import json_schema

    print_json(json_schema())
