"""The command `bandwidth`: what a compute utilization takes, by formula and by simulation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jaxwan.analysis.humane import count, duration, number, percent
from jaxwan.cache import keep_programs
from jaxwan.commands.shell import AsJson, out, print_json
from jaxwan.experiment.errors import InputError

if TYPE_CHECKING:
    from jaxwan.bandwidth import Fleet, Simulated
    from jaxwan.utilization import Training

RATES = ((1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("bandwidth")(bandwidth_command)


def rate(bps: float) -> str:
    """Write a rate in the largest unit that it reaches."""
    size, name = next((unit for unit in RATES if bps >= unit[0]), RATES[-1])
    return f"{number(bps / size)} {name}"


def span(low: float | None, high: float | None) -> str:
    """Write an interval of rates in the unit of its lower end; an open end is "never"."""
    if not low:
        return "—"
    size, name = next((unit for unit in RATES if low >= unit[0]), RATES[-1])
    return f"{number(low / size)} to {number(high / size) if high else 'never'} {name}"


def training_of(fields: dict[str, Any], scenario: str | None) -> Training:
    """Return the training with the scenario's model and step time where none is stated.

    Raises:
        InputError: for an unknown scenario or a number that means nothing.
    """
    from jaxwan.bandwidth import scenario_sizes
    from jaxwan.utilization import Training

    usual = (1e9, 0.1) if scenario is None else scenario_sizes(scenario)
    for name, value in zip(("parameters", "step_s"), usual, strict=True):
        fields[name] = value if fields[name] is None else fields[name]
    training = Training(**fields)
    try:
        training.check()
    except ValueError as error:
        raise InputError(str(error)) from None
    return training


def bandwidth_command(
    parameters: Annotated[
        float | None, typer.Option(help="Of the model; the scenario's, or 1e9.")
    ] = None,
    layers: Annotated[int, typer.Option(help="Of equal size, released one by one.")] = 24,
    step_s: Annotated[
        float | None, typer.Option(help="Seconds of a local step; the scenario's, or 0.1.")
    ] = None,
    local_steps: Annotated[int, typer.Option(help="H; 1 is data-parallel.")] = 100,
    fragments: Annotated[int, typer.Option(help="Streaming DiLoCo's; 1 sends all at once.")] = 1,
    overlap_steps: Annotated[int, typer.Option(help="Steps a transfer may outlast its own.")] = 0,
    bits: Annotated[float, typer.Option(help="Of a value on the wire.")] = 16.0,
    traffic: Annotated[
        float, typer.Option(help="Payloads over a worker's link per exchange; a ring 2(n-1)/n.")
    ] = 1.0,
    scenario: Annotated[str | None, typer.Option(help="A scenario's name or file.")] = None,
    challenge: Annotated[
        str, typer.Option(help="Its fleet, delays, stragglers and failures are simulated.")
    ] = "baseline",
    workers: Annotated[int | None, typer.Option(help="The fleet is repeated to it.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Of the compute noise; 0.1.")] = None,
    seeds: Annotated[int, typer.Option(help="Simulated runs per bandwidth.")] = 32,
    rounds: Annotated[int, typer.Option(help="Exchanges in a simulated run.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Say what bandwidth 50 to 99 % compute utilization takes, by formula and by simulation."""
    from jaxwan.experiment.kinds import check_fields

    check_fields(scenario=scenario, challenge=challenge)
    from jaxwan.bandwidth import Fleet, answers, simulate

    fields = {
        "parameters": parameters, "layers": layers, "step_s": step_s, "local_steps": local_steps,
        "fragments": fragments, "overlap_steps": overlap_steps, "bits": bits, "traffic": traffic,
    }  # fmt: skip
    training = training_of(fields, scenario)
    fleet = Fleet(scenario or "simple", challenge, workers, sigma, seeds, rounds)
    keep_programs()
    simulated = simulate(training, fleet)
    records = answers(training, simulated)
    if as_json:
        ceiling = simulated.ceiling._asdict()
        facts = {"training": training._asdict(), "fleet": fleet._asdict(), "answers": records}
        print_json(facts | {"ceiling": ceiling})
        return
    tell_bandwidth(training, fleet, records, simulated)


def setting(training: Training) -> str:
    """Write a training in one line."""
    counts = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1.0, ""))
    size, name = next(unit for unit in counts if training.parameters >= unit[0] or not unit[1])
    words = [
        f"{training.parameters / size:.4g}{name} parameters in {training.layers} layers",
        f"{training.bits:g} bits each",
        f"every {training.local_steps} steps of {duration(training.step_s)}",
    ]
    if training.fragments > 1:
        words.append(f"{training.fragments} fragments")
    if training.overlap_steps:
        words.append(f"overlap {training.overlap_steps}")
    return ", ".join(words)


def tell_bandwidth(
    training: Training, fleet: Fleet, records: list[dict[str, Any]], simulated: Simulated | None
) -> None:
    """Print the answers as a table with what they hold for."""
    out.print(f"[bold]Bandwidth for a compute utilization[/]\n{setting(training)}\n",
              highlight=False, soft_wrap=True)  # fmt: skip
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("utilization", "formula", "simulated", "95 % interval", "of its ceiling"):
        table.add_column(name, justify="right")
    absent = "—" if simulated is None else "never"
    for record in records:
        told = [rate(record[name]) if record.get(name) else absent
                for name in ("simulated_bps", "of_ceiling_bps")]  # fmt: skip
        table.add_row(
            percent(record["utilization"]), rate(record["formula_bps"]), told[0],
            span(record.get("low_bps"), record.get("high_bps")), told[1],
        )  # fmt: skip
    out.print(table, highlight=False)
    if simulated is not None:
        top = simulated.ceiling
        spread = 100 * float(top.high - top.low) / 2
        out.print(
            f"\nceiling: {simulated.workers} workers of {fleet.challenge} compute "
            f"{percent(float(top.mean), 1)} (± {number(spread, 2)}) of the time at any bandwidth; "
            "the rest is waiting for stragglers, latency and failures. "
            f"{count(fleet.seeds, 'seed')}.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
