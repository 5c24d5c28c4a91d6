"""`jaxwan report`: a results folder as a page, a text and a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxwan.commands.shell import (
    AsJson,
    Folder,
    file_target,
    loaded,
    out,
    report,
    share_of,
    warn_unfinished,
    write_file,
)
from jaxwan.experiment.errors import InputError

if TYPE_CHECKING:
    from jaxwan.analysis.report.matter import Matter


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("report")(report_command)


def report_command(
    folder: Folder,
    target: Annotated[
        Path | None, typer.Option("--out", help="The page; report.html in the folder.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What decides; the time to target where it is reached.")
    ] = None,
    confidence: Annotated[str, typer.Option(help="Of the decision.")] = "95%",
    text: Annotated[bool, typer.Option("--text", help="Print the report; no page.")] = False,
    png: Annotated[bool, typer.Option("--png", help="Draw it too, beside the page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a results folder as one page that needs no network; runs nothing.

    With --text or --json no page is written.
    """
    share = share_of(confidence, "--confidence")
    file_target(target, "--out")
    results = loaded(folder)
    matter = matter_of(results, folder, metric, share)
    page = target or folder / "report.html"
    if as_json:
        from jaxwan.analysis.report.matter import decision

        drawn = {"drawn": pictured(matter, page)} if png else {}
        report(results, folder, as_json, {"decision": decision(matter)} | drawn)
        return
    if text:
        from jaxwan.analysis.report.text import report_text

        warn_unfinished(folder, results.frame)
        typer.echo(report_text(matter), nl=False)
    else:
        report(results, folder, as_json)
        write(matter, page)
    if png:
        out.print(f"drawn    {pictured(matter, page)}", soft_wrap=True, highlight=False)
    if not text:
        out.print(f"report   {page}", soft_wrap=True, highlight=False)


def matter_of(results: Any, folder: Path, metric: str | None, confidence: float) -> Matter:
    """Return what there is to report of results and the manifest beside them.

    Raises:
        InputError: for a folder without runs, or an unknown metric.
    """
    from jaxwan.analysis.report.matter import gather
    from jaxwan.rounds import round_folders
    from jaxwan.store import Store

    try:
        manifest = Store([folder, *round_folders(folder)][-1]).manifest
        if round_folders(folder):  # the manifest is one round's
            manifest = manifest | {"runs": len(results.frame)}
        summary = results.summary(None, 0.95)
        return gather(results.frame, results.curves, summary, results.question, results.warnings,
                      manifest, os.fspath(folder), metric, confidence)  # fmt: skip
    except ValueError as error:
        raise InputError(str(error)) from None


def write(matter: Matter, target: Path) -> None:
    """Write the page."""
    from jaxwan.analysis.report.page import page

    write_file(target, page(matter))


def pictured(matter: Matter, page: Path) -> Path:
    """Draw the picture beside the page and return its path."""
    from jaxwan.analysis.report.picture import report_picture

    return report_picture(matter, page.with_suffix(".png"))
