"""The table of published claims: for the terminal and, as docs/published.md, for the reader."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from rich.markup import escape
from rich.table import Table

from jaxwan.analysis.humane import number
from jaxwan.published.claim import Finding
from jaxwan.published.run import REPRODUCED, Judged

PAGE = """# Published effects

What papers report, and what the simulator makes of it: one sweep each under `sweeps/published/`,
run, judged and written here by `jaxwan published --markdown > docs/published.md`. Figures stand
with their 95 % intervals, paired by seed wherever two settings are compared. A claim is reproduced
where every interval lies beyond its bound, so that the opposite is excluded, and in part where some
do; a claim that is not reproduced keeps its row.

"""


def figure(finding: Finding) -> str:
    """Write an estimate with its interval."""
    bounds = f"{number(finding.low)} to {number(finding.high)}"
    return f"{number(finding.figure)} ({bounds})"


def needed(finding: Finding) -> str:
    """Write where the interval must lie."""
    return f"{'>' if finding.above else '<'} {number(finding.bound)}"


def as_table(found: list[Judged]) -> Table:
    """Return the claims as a table, a line for each finding."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("", "claim", "our figure", "needed", "verdict"):
        table.add_column(name, no_wrap=name in ("", "needed", "verdict"))
    for each in found:
        colour = "green" if each.verdict == REPRODUCED else "bold red"
        told = f"[bold]{escape(each.claim.claim)}[/]\n[dim]{escape(each.claim.source)}[/]"
        verdict = f"[{colour}]{each.verdict}[/]"
        table.add_row(f"[bold cyan]{each.claim.key}[/]", told, "", "", verdict)
        for finding in each.findings:
            mark = "[green]holds[/]" if finding.holds else "[red]does not hold[/]"
            what = f"  {escape(finding.what)}"
            table.add_row("", what, figure(finding), needed(finding), mark)
    return table


def page(found: list[Judged]) -> str:
    """Return the page of published effects as Markdown."""
    rows = [
        "| | claim | source | our figure (95 % interval) | needed | verdict |",
        "|---|---|---|---|---|---|",
        *(row(each) for each in found),
    ]
    sections = [line for each in found for line in section(each)]
    return PAGE + "\n".join([*rows, *sections]) + "\n"


def row(each: Judged) -> str:
    """Write a claim as a row of the page's table: its findings stand below one another."""
    figures = "<br>".join(f"{finding.what}: {figure(finding)}" for finding in each.findings)
    bounds = "<br>".join(needed(finding) for finding in each.findings)
    verdict = each.verdict if each.verdict == REPRODUCED else f"**{each.verdict}**"
    cells = (each.claim.key, each.claim.claim, each.claim.source, figures, bounds, verdict)
    return f"| {' | '.join(cells)} |"


def section(each: Judged) -> Iterator[str]:
    """Write what was asked, how, and where it fails."""
    missed = [finding.what for finding in each.findings if not finding.holds]
    claim = each.claim
    yield from ("", f"## {claim.key}. {claim.claim}", "")
    yield fill(f"`sweeps/published/{claim.sweep}.toml`, {each.runs:,} runs. {claim.note}", 100)
    if missed:
        yield from ("", fill(f"Does not hold: {'; '.join(missed)}.", 100))
