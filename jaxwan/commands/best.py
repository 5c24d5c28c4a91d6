"""The command `best`: choose from a finished sweep, or race the settings of a sweep file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jaxwan.analysis.humane import count
from jaxwan.cache import keep_programs
from jaxwan.commands.shell import (
    AsJson,
    count_of,
    err,
    out,
    print_json,
    share_of,
    warn_unfinished,
)
from jaxwan.experiment.errors import InputError, unknown_name

if TYPE_CHECKING:
    from jaxwan.decide.race import Race


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("best")(best_command)


def sense(maximize: bool, minimize: bool) -> bool | None:
    """Return whether more is better if the user said so.

    Raises:
        InputError: where both were said.
    """
    if maximize and minimize:
        raise InputError("--maximize and --minimize exclude each other")
    return True if maximize else False if minimize else None


def best_command(
    source: Annotated[Path, typer.Argument(help="A results folder, or a sweep file to race.")],
    metric: Annotated[str, typer.Option("--metric", help="A numeric result.")] = "time_to_target_s",
    confidence: Annotated[str, typer.Option(help="Of intervals and of the choice.")] = "95%",
    delta: Annotated[
        str | None,
        typer.Option(help="Share of the best that does not matter; 5%, in a race 2%."),
    ] = None,
    over: Annotated[
        str | None, typer.Option(help="One choice for all values of it: network, challenge, …")
    ] = None,
    choose: Annotated[
        str | None, typer.Option(help="Settings to choose among, joined by commas.")
    ] = None,
    maximize: Annotated[bool, typer.Option("--maximize", help="More is better.")] = False,
    minimize: Annotated[bool, typer.Option("--minimize", help="Less is better.")] = False,
    most: Annotated[int, typer.Option(help="Seeds of any one setting in a race.")] = 1024,
    as_json: AsJson = False,
) -> None:
    """Choose the best setting, and say how sure that is; a sweep FILE is run as far as it takes."""
    facts: dict[str, Any] = {
        "confidence": share_of(confidence, "--confidence"),
        "larger": sense(maximize, minimize),
        "choose": [name.strip() for name in choose.split(",")] if choose else (),
    }
    margin = None if delta is None else share_of(delta, "--delta")
    if source.suffix == ".toml" or source.is_file():
        if over:
            raise InputError("--over needs a finished sweep: run it, then choose from its folder")
        count_of(most, "--most", 2)
        tell_race(raced(source, metric, 0.02 if margin is None else margin, most, facts), as_json)
        return
    from jaxwan.analysis.best import best
    from jaxwan.analysis.best_table import best_records, render_best
    from jaxwan.results import Results

    try:
        frame = Results.load_for(source, metric).frame
        warn_unfinished(source, frame)
        check_settings(frame, "--choose", facts["choose"])
        check_settings(frame, "--over", [over] if over else [])
        found = best(frame, metric, delta=0.05 if margin is None else margin, over=over, **facts)
    except InputError:
        raise
    except ValueError as error:
        place = "--over" if over and str(error).startswith(repr(over)) else ""
        raise InputError(str(error), place) from None
    if as_json:
        print_json(best_records(found))
    else:
        out.print(render_best(found), highlight=False)


def check_settings(frame: Any, option: str, names: Sequence[str]) -> None:
    """Refuse settings that the results do not have.

    Raises:
        InputError: with the nearest spelling.
    """
    from jaxwan.columns import identity_columns

    known = identity_columns(frame)
    for name in names:
        if name not in known:
            raise unknown_name("setting", name, known, option)


def raced(file: Path, metric: str, delta: float, most: int, facts: dict[str, Any]) -> Race:
    """Race the settings of a sweep file, telling how it goes.

    Raises:
        InputError: for a bad file, metric or number.
    """
    from jaxwan.adaptive import check_learned
    from jaxwan.decide.race import known_metric, race
    from jaxwan.experiment.sweepfile import Sweep

    known_metric(metric)
    experiments, warnings = Sweep.from_toml(file).resolve()
    check_learned([metric], experiments, "--metric")
    for warning in warnings:
        err.print(f"[yellow]warning[/] {escape(warning)}")
    keep_programs()
    with err.status("the first seeds of every setting") as status:
        return race(
            experiments, metric, delta=delta, most=most,
            tell=lambda text: status.update(escape(text)), **facts,
        )  # fmt: skip


def tell_race(found: Race, as_json: bool) -> None:
    """Print what a race found and what it cost."""
    from jaxwan.analysis.best_table import best_records, render_best

    if as_json:
        cost = {"certified": found.certified, "probability": found.probability,
                "runs": found.spent, "runs_equal": found.equal}  # fmt: skip
        print_json(best_records(found.best) | cost)
        return
    out.print(render_best(found.best), highlight=False)
    times = found.equal / found.spent
    saving = f", {times:.1f} times as many" if times >= 1.05 else ""
    told = f"{count(found.spent, 'run')}; equally many for each would take {found.equal:,}{saving}"
    out.print(f"\n{told}", highlight=False)
    out.print(correctness(found), highlight=False)
    unknown = [each.unknown for each in found.best.verdicts if each.unknown]
    if unknown:
        out.print("not settled by any number of seeds: more steps would do", highlight=False)
    elif not found.certified:
        out.print("not settled within --most seeds: more of them, or a larger --delta, would do")


def correctness(found: Race) -> str:
    """Say how probable it is that what a race chose is as good as the best, but for delta."""
    from jaxwan.analysis.verdict import share, sureness

    where = ", at the place where it is least" if len(found.best.verdicts) > 1 else ""
    return (f"probability of correct selection, within {share(found.best.delta)} of the best: "
            f"{sureness(found.probability)}{where}")  # fmt: skip
