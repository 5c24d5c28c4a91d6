"""`jaxwan tornado`: what to spend on, one setting moved at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jaxwan.cache import keep_programs
from jaxwan.commands.fields import Challenge, Member, Network, Scenario, member_of
from jaxwan.commands.shell import (
    AsJson,
    err,
    file_target,
    interruptible,
    loaded,
    out,
    print_json,
    share_of,
    warn_unfinished,
)
from jaxwan.experiment.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("tornado")(tornado_command)


def tornado_command(
    folder: Annotated[
        Path | None, typer.Argument(help="A results folder to tell of; runs nothing.")
    ] = None,
    scenario: Scenario = "simple",
    challenge: Challenge = "unreliable",
    network: Network = None,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="KIND[:KNOB=VALUE,…]", help="With local steps, so that H can vary."),
    ] = "diloco:local_steps=25",
    compressor: Member = None,
    workers: Annotated[int | None, typer.Option(help="Repeats or cuts the fleet.")] = None,
    steps: Annotated[int, typer.Option(help="Local steps per worker.")] = 200,
    factor: Annotated[float, typer.Option(help="Every setting is divided and multiplied.")] = 4.0,
    settings: Annotated[
        str | None, typer.Option(help="Comma-separated: bandwidth, delay, …; all.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="A numeric column of the results.")] = None,
    learning: Annotated[
        bool, typer.Option("--learning/--timing-only", help="Train, or simulate time only.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 32,
    confidence: Annotated[str, typer.Option(help="Of the intervals.")] = "95%",
    picture: Annotated[Path | None, typer.Option("--plot", help="PNG to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what to spend on: bandwidth, latency, reliability, compression, H."""
    from jaxwan.experiment.kinds import check_fields

    check_fields(scenario=scenario, challenge=challenge, network=network)
    from jaxwan.analysis.sensitivity import render_sensitivity, sensitivity
    from jaxwan.analysis.tornado_plot import plot_tornado
    from jaxwan.columns import records

    fields = {
        "scenario": scenario, "challenge": challenge, "network": network, "workers": workers,
        "strategy": member_of("strategy", strategy), "steps": steps,
        "compressor": member_of("compressor", compressor),
        "timing_only": None if learning else True,
    }  # fmt: skip
    stated = {name: value for name, value in fields.items() if value is not None}
    title = "" if folder else " · ".join(filter(None, [scenario, challenge, network, strategy]))
    share = share_of(confidence, "--confidence")
    file_target(picture, "--plot", ".png")
    try:
        frame, base = opened(folder, stated, factor, settings, seeds)
        table = sensitivity(frame, metric, share, base)
        drawn = plot_tornado(table, picture, title) if picture else None
    except ValueError as error:
        raise InputError(str(error)) from None
    if as_json:
        plain = {} if folder else {"experiment": stated}
        print_json(plain | {"effects": records(table)} | ({"picture": drawn} if drawn else {}))
        return
    out.print(render_sensitivity(table, f"What to spend on: {title}" if title else None))
    if drawn:
        out.print(f"\npicture  {drawn}", soft_wrap=True, highlight=False)


def opened(
    folder: Path | None, stated: dict[str, Any], factor: float, settings: str | None, seeds: int
) -> tuple[Any, dict[str, Any] | None]:
    """Return a frame and its base: of a folder, or of a design that is run.

    Raises:
        InputError: for wrong settings, or a damaged folder.
    """
    if folder is not None:
        frame = loaded(folder).frame
        warn_unfinished(folder, frame)
        return frame, None
    from jaxwan.experiment.spec import Experiment
    from jaxwan.experiment.sweepfile import check_seeds
    from jaxwan.tornado import SETTINGS, design, run_design

    named = [part.strip() for part in settings.split(",")] if settings else SETTINGS
    plan = design(Experiment(**stated), factor, named)
    for warning in plan.warnings:
        err.print(f"[yellow]warning[/] {warning}")
    keep_programs()
    with interruptible("nothing was kept"):
        frame = run_design(plan, check_seeds(seeds), progress=err.is_terminal)
    return frame, plan.base
