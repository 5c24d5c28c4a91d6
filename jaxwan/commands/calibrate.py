"""The command `calibrate`: a fleet file from a log of measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import number
from jaxwan.commands.shell import (
    AsJson,
    Written,
    file_target,
    out,
    print_json,
    share_of,
    write_file,
)
from jaxwan.experiment.errors import InputError

if TYPE_CHECKING:
    from jaxwan.decide.calibrate import Calibration, Figure

FIELD_UNITS = {
    "speed": (1.0, ""), "up_bps": (1e6, "Mbit/s"), "down_bps": (1e6, "Mbit/s"),
    "delay_s": (1e-3, "ms"), "jitter_s": (1e-3, "ms"), "loss": (1e-2, "%"),
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("calibrate")(calibrate_command)


def calibrate_command(
    log: Annotated[Path, typer.Argument(help="A CSV of worker, kind, value, and unit, region.")],
    file: Written = None,
    reference_s: Annotated[
        float | None, typer.Option(help="The step that speed 1 takes; the fastest worker's.")
    ] = None,
    confidence: Annotated[str, typer.Option(help="Of intervals.")] = "95%",
    as_json: AsJson = False,
) -> None:
    """Turn measured pings, transfers and steps into a fleet file with its uncertainty.

    Kinds of a line: rtt (s, ms, us), up and down (bps, kbps, Mbps, Gbps), step (s, ms, us), loss (a
    share, or %).
    """
    from jaxwan.decide.calibrate import calibrate

    share = share_of(confidence, "--confidence")
    if reference_s is not None and not 0 < reference_s < 1e9:
        problem = f"expected seconds above 0 and below 1e9, got {reference_s:g}"
        raise InputError(problem, "--reference-s")
    file_target(file, "--out")
    found = calibrate(log, reference_s, share)
    if file is not None:
        write_file(file, found.toml)
    if as_json:
        print_json(calibration_records(found))
    elif file is None:
        typer.echo(found.toml, nl=False)
    else:
        out.print(calibration_table(found), highlight=False)
        for note in found.notes:
            out.print(Text(note, style="yellow"))
        out.print(f"\nwritten  {file}", soft_wrap=True, highlight=False)


def calibration_records(found: Calibration) -> dict[str, Any]:
    """Turn a calibration into JSON-ready data; a side that is not known is null."""
    def plain(figure: Figure) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in figure._asdict().items()}

    return {
        "workers": {name: {field: plain(own) for field, own in figures.items()}
                    for name, figures in found.workers.items()},
        "regions": found.regions,
        "compute_sigma": plain(found.sigma) if found.sigma else None,
        "reference_s": found.reference_s,
        "notes": found.notes,
    }  # fmt: skip


def calibration_table(found: Calibration) -> Table:
    """Lay the fleet out, each figure with its interval below it."""
    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    sheet.add_column("worker", overflow="fold")
    for header in ("speed", "up", "down", "delay", "jitter", "loss"):
        sheet.add_column(header, justify="right", no_wrap=True)
    for name, figures in found.workers.items():
        told = [figure_cell(field, figures.get(field)) for field in FIELD_UNITS]
        sheet.add_row(Text(name, style="cyan"), *told)
    if found.sigma is not None:
        sheet.caption = f"noise of computing: sigma {figure_cell('', found.sigma).plain}".replace(
            "\n", ", ")  # fmt: skip
        sheet.caption_justify = "left"
    return sheet


def figure_cell(field: str, figure: Figure | None) -> Text:
    """Write a figure in its unit, its interval below it."""
    if figure is None:
        return Text("–", style="dim")
    size, unit = FIELD_UNITS.get(field, (1.0, ""))
    center, low, high = (number(side / size) for side in figure[:3])
    text = Text(f"{center} {unit}".strip())
    return text if figure.low != figure.low else text.append(f"\n{low} – {high}", style="dim")
