"""The command `variance`: how much of the spread failures, links, stragglers and data make."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jaxwan.analysis.humane import count, percent
from jaxwan.cache import keep_programs
from jaxwan.commands.fields import Challenge, Member, Network, Scenario, Steps, member_of
from jaxwan.commands.shell import AsJson, out, print_json

if TYPE_CHECKING:
    from jaxwan.decide.variance import Spread

BAR = 24  # characters of a whole


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("variance")(variance_command)


def variance_command(
    metric: Annotated[str, typer.Option("--metric", help="A numeric result.")] = "time_s",
    scenario: Scenario = "simple",
    challenge: Challenge = "unreliable",
    network: Network = None,
    transport: Annotated[str | None, typer.Option(help="Ideal, reno, cubic or bbr.")] = None,
    strategy: Member = None,
    compressor: Member = None,
    aggregator: Member = None,
    seeds: Annotated[int, typer.Option(help="Seeds; six times as many runs.")] = 256,
    steps: Steps = None,
    timing_only: Annotated[bool, typer.Option("--timing-only", help="Train nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say where the spread of a result comes from: failures, links, stragglers or data."""
    from jaxwan.experiment.kinds import check_fields

    check_fields(scenario=scenario, challenge=challenge, network=network)
    from jaxwan.decide.variance import records, spread
    from jaxwan.experiment.spec import Experiment

    members = {"strategy": strategy, "compressor": compressor, "aggregator": aggregator}
    fields: dict[str, Any] = {"scenario": scenario, "challenge": challenge, "network": network}
    fields |= {name: member_of(name, text) for name, text in members.items()}
    fields |= {"steps": steps, "timing_only": True if timing_only else None}
    fields |= {"link": None if transport is None else {"transport": transport}}
    experiment = Experiment(**{name: value for name, value in fields.items() if value is not None})
    keep_programs()
    found = spread(experiment, metric, seeds)
    if as_json:
        facts = {"metric": metric, "mean": found.mean, "deviation": found.deviation,
                 "runs": found.runs, "censored": found.censored}  # fmt: skip
        print_json(facts | {"sources": records(found)})
        return
    tell(found)


def tell(found: Spread) -> None:
    """Print a spread as a sentence and a table."""
    from jaxwan.analysis.wording import metric_text
    from jaxwan.decide.variance import records

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("source", "alone", "95 % interval", "with interactions", "95 % interval", ""):
        table.add_column(name, justify="left" if name in ("source", "") else "right")
    rows = records(found)
    for record in rows:
        total = record["total"]
        table.add_row(
            str(record["source"]), share(record["alone"]),
            span(record["alone_lo"], record["alone_hi"]), share(total),
            span(record["total_lo"], record["total_hi"]),
            "█" * round(BAR * min(max(float(total or 0.0), 0.0), 1.0)),
        )  # fmt: skip
    mean, around = (metric_text(found.metric, value) for value in (found.mean, found.deviation))
    spread = f"{found.metric} is {mean} on average, ± {around}"
    told = f"{spread} from run to run; {cause(rows[0])}"
    out.print(f"[bold]{told}[/]\n", highlight=False, soft_wrap=True)
    out.print(table, highlight=False)
    runs = count(found.runs, "run")
    notes = f"{runs}; shares of the variance (Sobol' indices), first order and total"
    if found.censored:
        notes += f"\n{percent(found.censored)} of the runs have no value and count as the worst"
    out.print(f"\n[dim]{notes}[/]", highlight=False)


def cause(record: dict[str, Any]) -> str:
    """Say how much of a spread its largest source makes, and no more than its interval does."""
    if record["total"] is None:
        return "nothing varies"
    low = 0.0 if record["total_lo"] is None else float(record["total_lo"])
    if low > 0.5:
        return f"{record['source']} make most of that"
    if low >= 0.01:
        return f"{record['source']} make at least {percent(math.floor(100 * low) / 100)} of that"
    return "the seeds are too few to say what makes that"


def share(value: Any) -> str:
    """Write a share of the variance; "–" where nothing varies."""
    return "–" if value is None else percent(float(value))


def span(low: Any, high: Any) -> str:
    """Write an interval of shares."""
    return "–" if low is None or high is None else f"{share(low)} to {share(high)}"
