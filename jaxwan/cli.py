"""The command line: look around, run one experiment, run a sweep file."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jaxwan import __version__
from jaxwan.analysis.humane import duration, percent
from jaxwan.cache import keep_programs
from jaxwan.commands import register, tell_shard
from jaxwan.experiment.errors import InputError
from jaxwan.members import member_of
from jaxwan.shell import RESUME, err, interruptible, out, print_json, report, report_folder

app = typer.Typer(
    name="jaxwan",
    help="Simulate distributed training over wide-area networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Member = Annotated[
    str | None,
    typer.Option(metavar="KIND[:KNOB=VALUE,…]", help="The challenge's own unless told."),
]
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


def say_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"jaxwan {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=say_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Simulate distributed training over wide-area networks."""


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


@app.command("list")
def list_command(
    kind: Annotated[str, typer.Argument(help="networks, scenarios, challenges, strategies, …")],
    as_json: AsJson = False,
) -> None:
    """List what is built in of one KIND."""
    from jaxwan.experiment.listing import rows

    records = rows(kind)
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


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help="network, scenario, challenge, compressor, …")],
    name: Annotated[str, typer.Argument(help="a built-in name or a file")],
    as_json: AsJson = False,
) -> None:
    """Show one entry of the catalog, one family member, or one file of the user's."""
    from jaxwan.experiment.listing import detail

    record = detail(kind, name)
    if as_json:
        print_json(record)
    else:
        print_tree(record)


@app.command()
def schema(as_json: AsJson = True) -> None:
    """Print the JSON Schema of a sweep file, so that editors complete it."""
    from jaxwan.experiment.jsonschema import json_schema

    print_json(json_schema())


@app.command()
def run(
    scenario: Annotated[str, typer.Option(help="A scenario's name or file.")] = "simple",
    challenge: Annotated[str, typer.Option(help="A challenge's or fleet's.")] = "baseline",
    network: Annotated[str | None, typer.Option(help="Replaces every link.")] = None,
    strategy: Member = None,
    compressor: Member = None,
    aggregator: Member = None,
    attack: Member = None,
    optimizer: Member = None,
    exchange: Annotated[
        str | None, typer.Option(metavar="KIND[:KNOB=VALUE,…]", help="Star, ring, …; star.")
    ] = None,
    transport: Annotated[str | None, typer.Option(help="Ideal, reno, cubic or bbr.")] = None,
    workers: Annotated[int | None, typer.Option(help="Repeats or cuts the fleet.")] = None,
    buffer: Annotated[int | None, typer.Option(help="Contributions per update.")] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 16,
    steps: Annotated[int | None, typer.Option(help="Local steps per worker.")] = None,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Train nothing.")] = False,
    fidelity: Annotated[str | None, typer.Option(help="Proxy, or the full model.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Keep the results here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run one experiment; what is not given is the challenge's own."""
    members = {
        "strategy": strategy,
        "compressor": compressor,
        "aggregator": aggregator,
        "attack": attack,
        "optimizer": optimizer,
        "exchange": exchange,
    }
    fields: dict[str, Any] = {"scenario": scenario, "challenge": challenge, "network": network}
    fields |= {name: member_of(name, text) for name, text in members.items()}
    fields |= {"buffer": buffer, "timing_only": True if timing_only else None, "steps": steps}
    fields |= {"fidelity": fidelity, "workers": workers}
    fields |= {"link": None if transport is None else {"transport": transport}}
    stated = {name: value for name, value in fields.items() if value is not None}
    report(simulated(stated, seeds, folder), folder, as_json)


def simulated(fields: dict[str, Any], seeds: int, folder: Path | None) -> Any:
    """Run one experiment, keeping the results where there is a folder.

    Raises:
        InputError: for a wrong field or a wrong number of seeds.
    """
    from jaxwan.experiment.resolve import resolve
    from jaxwan.experiment.spec import Experiment
    from jaxwan.experiment.sweepfile import Sweep

    experiment = Experiment(**fields)
    resolve(experiment)
    plan = Sweep(grid=fields, seeds=seeds, name="run")
    from jaxwan import api

    keep_programs()
    if folder is None:
        with interruptible("nothing was kept; with --out a run can be resumed"):
            return api.simulate(experiment, seeds=seeds, progress=err.is_terminal)
    with interruptible(RESUME.format(folder)):
        return api.run(plan, out=folder, progress=err.is_terminal)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="A sweep file (TOML).")],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Results folder; results/NAME if unset.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Replaces the file's seeds.")] = None,
    steps: Annotated[int | None, typer.Option(help="Replaces the file's steps.")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="Run on a Ray cluster, or start one here."),
    ] = None,
    learn_once: Annotated[
        bool, typer.Option(help="Runs that learn the same share one learner; same rows.")
    ] = True,
    until: Annotated[
        str | None,
        typer.Option(metavar="METRIC: WIDTH", help='Add seeds until as sure: "time_s: 5%".'),
    ] = None,
    most: Annotated[int, typer.Option(help="With --until, seeds of one configuration.")] = 1024,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Run the I-th of N parts only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep file; what is already in the results folder is not run again."""
    from jaxwan.experiment.sweepfile import Sweep

    stated = {"seeds": seeds, "steps": steps}
    changes = {name: value for name, value in stated.items() if value is not None}
    plan = Sweep.from_toml(file, **changes)
    plan.resolve()
    target = folder or Path("results") / plan.name
    from jaxwan import api

    if shard is not None and until is not None:
        raise InputError("--until decides on all runs of a round: it takes no --shard")
    part = None if shard is None else api.check_shard(shard)
    keep_programs()
    with interruptible(RESUME.format(target)):
        how: dict[str, Any] = {"ray": ray, "learn_once": learn_once}
        if until is not None:
            from jaxwan.adaptive import run_until

            results = run_until(plan, until, target, most, progress=err.is_terminal, **how)
            report(results, target, as_json)
            return
        store, tally = api.run_stored(plan, target, err.is_terminal, part, **how)
    if part is not None and store.missing():
        tell_shard(target, part, as_json)
        return
    report_folder(target, as_json, tally)


register(app)


def say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning of the package as one line on stderr."""
    err.print(f"[yellow]warning[/] {escape(' '.join(str(message).split()))}")


def main() -> None:
    """Run the command line; a wrong input is one line on stderr and exit code 2."""
    warnings.showwarning = say_warning
    usage: Any = typer.BadParameter.__mro__[1]
    try:
        raise SystemExit(app(standalone_mode=False) or 0)
    except (InputError, OSError, usage) as error:
        text = error.format_message() if isinstance(error, usage) else str(error)
        if text and len(sys.argv) > 1:
            err.print(f"[red]error[/] {escape(' '.join(text.split()))}", soft_wrap=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
