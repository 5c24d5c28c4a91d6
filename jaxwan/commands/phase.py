"""`jaxwan phase`: which configuration wins where, over two swept numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxwan.cache import keep_programs
from jaxwan.commands.shell import (
    RESUME,
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

if TYPE_CHECKING:
    from jaxwan.analysis.phase_plot import Mark
    from jaxwan.results import Results

Source = Annotated[Path, typer.Argument(help="A results folder, or a sweep file to run first.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("phase")(phase_command)


def phase_command(
    source: Source,
    x: Annotated[
        str | None, typer.Option("--x", help="A swept number; link.bandwidth_bps if there.")
    ] = None,
    y: Annotated[
        str | None, typer.Option("--y", help="Another; link.delay_s if there.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="What competes: strategy, …; all that varies.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="A numeric column; the time to target where it is reached.")
    ] = None,
    confidence: Annotated[str, typer.Option(help="From which on two are told apart.")] = "95%",
    seeds: Annotated[int | None, typer.Option(help="Instead of the sweep file's.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="For the results of a sweep file.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="PNG to write; phase.png beside the results.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Map two swept numbers, bandwidth and delay say, to the configuration that wins there."""
    from jaxwan.analysis.phase import phase, phase_records, render_phase
    from jaxwan.analysis.phase_plot import plot_phase

    share = share_of(confidence, "--confidence")
    file_target(picture, "--plot", ".png")
    results, home = opened(source, folder, seeds)
    try:
        found = phase(results.frame, x, y, by, metric, share)
    except ValueError as error:
        raise InputError(str(error)) from None
    target = plot_phase(
        found, picture or home / "phase.png", results.question, known_networks(found.x, found.y)
    )
    if as_json:
        print_json({"question": results.question, "picture": target} | phase_records(found))
        return
    out.print(render_phase(found, results.question or None), soft_wrap=True, highlight=False)
    out.print(f"\npicture  {target}", soft_wrap=True, highlight=False)


def opened(source: Path, folder: Path | None, seeds: int | None) -> tuple[Results, Path]:
    """Return the results of a folder, or of a sweep file that is run first, and their folder.

    Raises:
        InputError: for what is neither, or a damaged folder.
    """
    if source.is_dir():
        found = loaded(source)
        warn_unfinished(source, found.frame)
        return found, source
    from jaxwan import api
    from jaxwan.experiment.sweepfile import Sweep

    changes = {} if seeds is None else {"seeds": seeds}
    plan = Sweep.from_toml(source, **changes)
    plan.resolve()
    target = folder or Path("results") / plan.name
    keep_programs()
    with interruptible(RESUME.format(target)):
        return api.run(plan, out=target, progress=err.is_terminal), target


def known_networks(x: str, y: str) -> list[Mark]:
    """Return the networks of the catalog as places on a map of bandwidth and delay."""
    from jaxwan.analysis.phase_plot import Mark
    from jaxwan.experiment.listing import rows

    wanted = {"link.bandwidth_bps": "bandwidth_bps", "link.delay_s": "delay_s"}
    if {x, y} != set(wanted):
        return []
    records: list[dict[str, Any]] = rows("networks")
    return [
        Mark(str(record["name"]).replace("_", " "), record[wanted[x]], record[wanted[y]])
        for record in records
    ]
