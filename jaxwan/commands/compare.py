"""The command `compare`: what one setting changes, run by run on the same seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jaxwan.commands.shell import (
    AsJson,
    Folder,
    file_target,
    out,
    print_json,
    share_of,
    warn_unfinished,
)
from jaxwan.experiment.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("compare")(compare_command)


def compare_command(
    folder: Folder,
    by: Annotated[str, typer.Option("--by", help="The setting to compare: compressor, …")],
    metric: Annotated[
        str, typer.Option("--metric", help="A numeric column of the results.")
    ] = "time_to_target_s",
    baseline: Annotated[
        str | None, typer.Option(help="The level to compare with; the first unless told.")
    ] = None,
    confidence: Annotated[str, typer.Option(help="Of the intervals.")] = "95%",
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw it as a PNG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what one setting changes, run by run on the same seeds."""
    from jaxwan.analysis.compare import compare, render_comparison
    from jaxwan.columns import records
    from jaxwan.results import Results

    share = share_of(confidence, "--confidence")
    file_target(plot, "--plot", ".png")
    try:
        frame = Results.load_for(folder, metric).frame
        warn_unfinished(folder, frame)
        table = compare(frame, by, metric, share, baseline)
    except ValueError as error:
        raise InputError(str(error)) from None
    picture = None
    if plot is not None:
        from jaxwan.analysis.compare_plot import plot_comparison

        picture = plot_comparison(table, plot)
    if as_json:
        places = {"picture": picture} if picture else {}
        print_json({"by": by, "metric": metric, "comparisons": records(table)} | places)
        return
    out.print(render_comparison(table))
    if picture:
        out.print(f"\npicture  {picture}", soft_wrap=True, highlight=False)
