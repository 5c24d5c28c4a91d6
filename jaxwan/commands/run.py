"""Commands that simulate: `run`, one experiment, and `sweep`, a sweep file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxwan.cache import keep_programs
from jaxwan.commands.fields import Buffer, Challenge, Member, Network, Scenario, Steps, member_of
from jaxwan.commands.shell import RESUME, AsJson, err, interruptible, report, report_folder
from jaxwan.commands.status import tell_shard
from jaxwan.experiment.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("run")(run_command)
    app.command("sweep")(sweep_command)


def run_command(
    scenario: Scenario = "simple",
    challenge: Challenge = "baseline",
    network: Network = None,
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
    buffer: Buffer = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 16,
    steps: Steps = None,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Train nothing.")] = False,
    fidelity: Annotated[str | None, typer.Option(help="Proxy, or the full model.")] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Keep the results here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run one experiment; what is not given is the challenge's own."""
    from jaxwan.experiment.kinds import check_fields

    check_fields(scenario=scenario, challenge=challenge, network=network)
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


def sweep_command(
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
