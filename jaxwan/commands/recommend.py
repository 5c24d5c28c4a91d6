"""The command `recommend`: how to train a model on a fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import percent
from jaxwan.cache import keep_programs
from jaxwan.commands.shell import (
    AsJson,
    Written,
    count_of,
    err,
    file_target,
    json_text,
    out,
    print_json,
    share_of,
    write_file,
)
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.kinds import check_entry

if TYPE_CHECKING:
    from jaxwan.decide.recommend import Recommendation


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("recommend")(recommend_command)


def target_of(text: str) -> float | None:
    """Read a target: a loss of the proxy, or "default".

    Raises:
        InputError: for anything else.
    """
    if text == "default":
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise InputError(f'expected a loss above 0 or "default", got {text!r}', "--target")
    return value


def check_fleet(fleet: str) -> None:
    """Refuse a fleet that is neither built in nor a file, before anything is timed.

    Raises:
        InputError: at the option.
    """
    try:
        check_entry("challenge", fleet)
    except InputError as error:
        file = "" if error.problem.startswith("no such file") else "; or name a TOML or CSV file"
        raise InputError(error.problem + file, "--fleet") from None


def recommend_command(
    model: Annotated[str, typer.Option(help="A size such as 1B, or a Hugging Face config.json.")],
    fleet: Annotated[str, typer.Option(help="A challenge's name, or a fleet's TOML or CSV file.")],
    target: Annotated[str, typer.Option(help="A held-out loss of the proxy.")] = "default",
    budget: Annotated[
        str | None, typer.Option(help="Of a whole training: $5000, 300h, or both with a comma.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What to save: time, cost or energy.")] = "time",
    tokens: Annotated[
        float | None, typer.Option(help="Of a whole training; 20 a parameter.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Of one worker's step.")] = 65_536,
    confidence: Annotated[str, typer.Option(help="Of intervals and of the choice.")] = "95%",
    delta: Annotated[str, typer.Option(help="Share of the best that does not matter.")] = "5%",
    most: Annotated[int, typer.Option(help="Seeds of any one plan.")] = 96,
    file: Written = None,
    as_json: AsJson = False,
) -> None:
    """Recommend how to train a model on a fleet: times every setting, then races the promising."""
    from jaxwan.decide.recommend import recommend

    count_of(most, "--most", 2)
    file_target(file, "--out")
    check_fleet(fleet)
    keep_programs()
    with err.status("reading") as status:
        found = recommend(
            model, fleet, target_of(target), budget, metric=metric, tokens=tokens,
            batch_tokens=batch_tokens, confidence=share_of(confidence, "--confidence"),
            delta=share_of(delta, "--delta"), most=most,
            tell=lambda text: status.update(escape(text)),
        )  # fmt: skip
    if file is not None:
        write_file(file, json_text(recommendation_records(found)) + "\n")
    if as_json:
        print_json(recommendation_records(found))
    else:
        tell_recommendation(found)
        if file is not None:
            out.print(f"\nwritten  {file}", soft_wrap=True, highlight=False)


def recommendation_records(found: Recommendation) -> dict[str, Any]:
    """Turn a recommendation into JSON-ready data."""
    from jaxwan.columns import records

    return {
        "choice": found.choice,
        "sentence": found.sentence,
        "certified": found.certified,
        "model": found.model._asdict(),
        "tokens": found.tokens,
        "steps": found.steps,
        "considered": found.considered,
        "pruned": found.pruned,
        "runs": found.race.spent,
        "cpu_s": found.cpu_s,
        "plans": records(found.table),
        "settings": found.blocks,
        "notes": found.notes,
    }


def tell_recommendation(found: Recommendation) -> None:
    """Print a recommendation: the sentence, the plans, the settings, and what it does not say."""
    chosen = found.experiment
    out.print(Text(found.sentence, style="bold"))
    size = f"{found.model.parameters:,} parameters ({found.model.assumed})"
    what = (f"{found.model.name}: {size}; {len(chosen.workers)} workers of {chosen.challenge}; "
            f"a whole training is {found.tokens:.3g} tokens, {found.steps:,} steps a worker")
    out.print(Text(f"\n{what}"))
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.pruned.items())
    raced, took = len(found.table), sum(found.cpu_s.values())
    out.print(Text(f"{found.considered} settings timed; not raced: {reasons}; {raced} plans raced, "
                   f"{found.race.spent:,} runs; {took:.0f} s of processor\n"))  # fmt: skip
    out.print(plans_table(found), highlight=False)
    for name, text in found.blocks.items():
        out.print(Text(f"\n{name}", style="cyan"))
        out.print(Text(text), soft_wrap=True)  # broken lines would not be read again
    out.print(Text("\n" + "\n".join(found.notes), style="dim"))


def plans_table(found: Recommendation) -> Table:
    """Lay the raced plans out, best first."""
    from jaxwan.decide.recommend import figures

    sheet = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    sheet.add_column("plan", overflow="fold", min_width=20)
    for header in ("time", "cost", "energy", "reached", "p best", "seeds"):
        sheet.add_column(header, justify="right", no_wrap=True)
    for place, (_, row) in enumerate(found.table.iterrows()):
        mark = "" if place == 0 else "= " if row["tied"] else ""
        name = Text(f"{mark}{row['setting']}", style="bold green" if place == 0 else "")
        if row["over_budget"]:
            name.append("\nover the budget", style="red")
        cells = []
        for column in ("hours", "usd", "kwh"):
            center, around = figures(row, column)
            cells.append(Text(center).append(f"\n{around}" if around else "", style="dim"))
        chance = float(row["probability"])
        sure = "–" if chance != chance else "<1 %" if chance < 0.01 else percent(chance)
        sheet.add_row(name, *cells, percent(float(row["reached"])), sure, str(row["n"]))
    return sheet
