"""`jaxwan trace`: one run's timeline as a trace file and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from jaxwan.analysis.humane import duration, percent
from jaxwan.cache import keep_programs
from jaxwan.commands.fields import Buffer, Challenge, Member, Network, Scenario, Steps, member_of
from jaxwan.commands.shell import AsJson, out, print_json
from jaxwan.experiment.errors import InputError

USUAL_FOLDER = Path("results/trace")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command("trace")(trace_command)


def trace_command(
    scenario: Scenario = "simple",
    challenge: Challenge = "baseline",
    network: Network = None,
    strategy: Member = None,
    compressor: Member = None,
    aggregator: Member = None,
    exchange: Annotated[
        str | None, typer.Option(metavar="KIND[:KNOB=VALUE,…]", help="A star unless told.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="The fleet is repeated to it.")] = None,
    buffer: Buffer = None,
    steps: Steps = None,
    seed: Annotated[int, typer.Option(help="Whose luck.")] = 0,
    start_s: Annotated[
        float | None, typer.Option("--from", help="Second at which the picture begins.")
    ] = None,
    stop_s: Annotated[
        float | None, typer.Option("--to", help="Second at which the picture ends.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", help="For trace and picture.")] = USUAL_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Write the timeline of one run: a trace for ui.perfetto.dev and a Gantt chart."""
    from jaxwan.experiment.kinds import check_fields

    check_fields(scenario=scenario, challenge=challenge, network=network)
    from jaxwan.experiment.spec import Experiment

    members = {"strategy": strategy, "compressor": compressor, "aggregator": aggregator,
               "exchange": exchange}  # fmt: skip
    fields: dict[str, Any] = {"scenario": scenario, "challenge": challenge, "network": network}
    fields |= {"workers": workers, "buffer": buffer, "steps": steps}
    fields |= {name: member_of(name, text) for name, text in members.items()}
    stated = {name: value for name, value in fields.items() if value is not None}
    experiment = Experiment(**stated)
    check_window(start_s, stop_s)
    keep_programs()
    from jaxwan.timeline import trace

    frame = trace(experiment, seed)
    title = " · ".join([scenario, challenge, *(text for text in members.values() if text)])
    facts = written(frame, folder, f"{title}, seed {seed}", start_s, stop_s)
    if as_json:
        print_json({"experiment": stated, "seed": seed} | facts)
        return
    tell(facts)


def check_window(start_s: float | None, stop_s: float | None) -> None:
    """Refuse a window that is empty whatever the run.

    Raises:
        InputError: in one line.
    """
    if start_s is not None and not 0 <= start_s:
        raise InputError(f"{start_s:g} is not a second of the run (0 or later)", "--from")
    if stop_s is not None and not (start_s or 0.0) < stop_s:
        raise InputError(f"{stop_s:g} is not after --from {start_s or 0:g}", "--to")


def written(
    frame: Any, folder: Path, title: str, start_s: float | None, stop_s: float | None
) -> dict[str, Any]:
    """Write trace and picture; return what there is to say.

    Raises:
        InputError: for a window past the end of the run.
    """
    from jaxwan.analysis.gantt import Window, gantt, usual_window
    from jaxwan.analysis.perfetto import write_trace
    from jaxwan.analysis.spans import UPDATE, tally

    end_s = float(frame["end_s"].max())
    usual = usual_window(frame)
    start = usual.start_s if start_s is None and stop_s is None else start_s or 0.0
    length = usual.end_s - usual.start_s
    stop = min(start + length, end_s) if stop_s is None else min(stop_s, end_s)
    if start >= end_s:
        raise InputError(f"{start:g} is past the end of the run at {end_s:g} s", "--from")
    picture = gantt(frame, folder / "trace.png", Window(start, stop), title)
    file = write_trace(frame, folder / "trace.json", title)
    updates = int((frame["kind"] == UPDATE).sum())
    return {
        "end_s": end_s, "updates": updates, "spans": len(frame) - updates,
        "window_s": [start, stop], "workers": tally(frame), "trace": file, "picture": picture,
    }  # fmt: skip


def tell(facts: dict[str, Any]) -> None:
    """Print where each worker's time went, and the files."""
    from jaxwan.analysis.spans import KINDS, WASTED

    records = facts["workers"]
    kinds = [kind for kind in KINDS if any(record[f"{kind}_s"] for record in records)]
    fates = [fate for fate in WASTED if any(record[fate] for record in records)]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("worker", style="bold cyan", no_wrap=True)
    for name in (*kinds, "cycles", *fates):
        table.add_column(name, justify="right")
    for record in records:
        shares = [percent(record[f"{kind}_s"] / facts["end_s"], 1) for kind in kinds]
        table.add_row(escape(record["worker"]), *shares,
                      *(f"{record[name]:,}" for name in ("cycles", *fates)))  # fmt: skip
    out.print(table, highlight=False)
    start, stop = facts["window_s"]
    out.print(
        f"\n{facts['updates']:,} server updates in {duration(facts['end_s'])}; the picture shows "
        f"{start:.6g} s to {stop:.6g} s (--from, --to)\n"
        f"picture  {facts['picture']}\ntrace    {facts['trace']}  (open it in ui.perfetto.dev)",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
