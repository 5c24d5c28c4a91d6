"""Tables and the text report of classic results.

Experiments share their seeds, so a figure over several of them is averaged seed by seed first, and
its interval is that of the seeds.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from jaxwan.analysis.humane import duration_spread, percent, spread
from jaxwan.harness.results import METRICS, ExperimentResult, interval_of, per_seed
from jaxwan.stats.intervals import Interval

Results = Sequence[ExperimentResult]
COLUMNS = {
    "throughput_ratio": "throughput\nratio",
    "steps_per_second": "steps/s",
    "rejection_rate": "rejected",
    "average_staleness": "stale-\nness",
    "total_time_s": "time",
    "final_loss": "final\nloss",
}
REPORT_WIDTH = 100


def grouped(results: Results, name: str) -> Interval:
    """Average a metric over experiments seed by seed, with the t interval over the seeds."""
    parts = [
        pd.Series(per_seed(result.runs, name), index=result.runs["seed"]) for result in results
    ]
    together = pd.concat(parts, axis=1)
    means = np.where(np.isinf(together).any(axis=1), np.inf, together.mean(axis=1))
    return interval_of(means.astype(np.float64))


def cell(name: str, found: Interval) -> Text:
    """Write a mean with its half width below it."""
    half = found.high - found.mean
    if name == "rejection_rate":
        mean = percent(found.mean, 1)
        around = f"±{100 * half:.1f}" if math.isfinite(half) else ""
    elif name == "total_time_s":
        mean, around = duration_spread(found.mean, half)
    else:
        mean, around = spread(found.mean, half)
    diverges = name == "final_loss" and math.isinf(found.mean)
    return Text("diverges" if diverges else mean).append(f"\n{around}" if around else "", "dim")


def verdict(result: ExperimentResult) -> Text:
    """Write whether the criteria are met, and by what share of the runs."""
    word = "pass" if result.success_criteria_met else "fail"
    style = "green" if result.success_criteria_met else "red"
    share = f"\n{percent(result.success_rate.mean)} of {len(result.runs)}"
    return Text(word, style=style).append(share, style="dim")


def sheet(title: str, first: Sequence[str], others: Sequence[str]) -> Table:
    """Return an empty table with text columns, then columns of figures."""
    made = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    made.title_style = "bold"
    made.padding = (0, 1, 0, 0)
    for header in first:
        made.add_column(header, overflow="fold", min_width=4)
    for header in others:
        made.add_column(header, justify="right", no_wrap=True)
    return made


def batch_table(results: Results) -> Table:
    """Return one line per experiment: setting, verdict and main figures."""
    made = sheet("Experiments", ["experiment"], ["verdict", *COLUMNS.values()])
    for result in results:
        config = result.config_snapshot
        label = Text(f"{result.scenario} · {result.challenge}")
        label.append(f"\n{how(result)}", style="dim")
        figures = [cell(name, result.interval(name)) for name in COLUMNS]
        made.add_row(label, verdict(result), *figures)
        made.caption = f"means over {config['seeds']} seeds, ± half the 95 % interval"
    made.caption_justify = "left"
    return made


def how(result: ExperimentResult) -> str:
    """Name how an experiment trains: strategy, compression, aggregation."""
    config = result.config_snapshot
    bound = config["max_staleness"]
    strategy = f"async ≤ {'∞' if bound is None else bound}" if config["use_async"] else "sync"
    return f"{strategy} · {compression(result)} · {config['aggregation_used']}"


def compression(result: ExperimentResult) -> str:
    """Name the compression; top-k with its ratio."""
    config = result.config_snapshot
    method = str(config["compression_method"])
    ratio = config["compression_ratio"]
    return f"{method} {ratio:g}" if method == "topk" and ratio is not None else method


def comparison_table(
    results: Results,
    what: str,
    key: Callable[[ExperimentResult], str],
    context: Callable[[ExperimentResult], str],
) -> Table:
    """Return one line per group of experiments: how many pass, and their mean figures.

    Where the groups cover different contexts, a line is a group in one context: a mean over
    different contexts would compare those.
    """
    made = sheet(f"By {what}", [what], ["passed", *COLUMNS.values()])
    covered: dict[str, set[str]] = {}
    for result in results:
        covered.setdefault(key(result), set()).add(context(result))
    alike = len({frozenset(contexts) for contexts in covered.values()}) == 1
    groups: dict[str, list[ExperimentResult]] = {}
    for result in results:
        name = key(result) if alike else f"{key(result)} · {context(result)}"
        groups.setdefault(name, []).append(result)
    for name, own in groups.items():
        passed = f"{sum(result.success_criteria_met for result in own)}/{len(own)}"
        made.add_row(name, passed, *(cell(metric, grouped(own, metric)) for metric in COLUMNS))
    return made


def statistics_table(results: Results) -> Table:
    """Return every metric: mean over experiments with its interval, smallest and largest."""
    made = sheet("Statistics", ["metric"], ["mean", "± 95 %", "smallest", "largest"])
    for name in METRICS:
        means = [float(result.interval(name).mean) for result in results]
        mean, _, around = cell(name, grouped(results, name)).plain.partition("\n")
        ends = (min(means), max(means)) if not np.isnan(means).any() else (math.nan, math.nan)
        shown = [cell(name, Interval(end, math.nan, math.nan, 0)).plain for end in ends]
        made.add_row(name, mean, around.lstrip("±"), *shown)
    return made


def reasons_table(results: Results) -> Table:
    """Say of each experiment whether it passes, why not, and what to know about it."""
    made = Table.grid(padding=(0, 2, 0, 0))
    for result in results:
        word = "PASS" if result.success_criteria_met else "FAIL"
        low, high = percent(result.success_rate.low), percent(result.success_rate.high)
        share = f"{percent(result.success_rate.mean)} of {len(result.runs)} runs"
        made.add_row(word, f"{result.scenario} · {result.challenge} · {how(result)}")
        made.add_row("", f"succeeds in {share} (95 %: {low} to {high})")
        for line in [*result.failure_reasons, *(f"note: {note}" for note in result.notes)]:
            made.add_row("", Text(line))
    return made


class ResultsAnalyzer:
    """Statistics and comparisons of a list of results, printed or written as a report."""

    def __init__(self, results: Results, console: Console | None = None) -> None:
        """Take the results.

        Raises:
            ValueError: where there are none.
        """
        if not results:
            raise ValueError("no results to analyze")
        self.results = list(results)
        self.console = console or Console()

    def print_statistics(self) -> None:
        """Print how many experiments pass and every metric over all of them."""
        self._print(self._headline(), statistics_table(self.results))

    def print_comparison_by_scenario(self) -> None:
        """Print the mean figures of each scenario."""
        self._compare("scenario", lambda r: r.scenario, lambda r: r.challenge)

    def print_comparison_by_challenge(self) -> None:
        """Print the mean figures of each challenge."""
        self._compare("challenge", lambda r: r.challenge, lambda r: r.scenario)

    def print_comparison_by_compression(self) -> None:
        """Print the mean figures of each compression."""
        self._compare("compression", compression, lambda r: f"{r.scenario} · {r.challenge}")

    def generate_report(self, path: str | os.PathLike[str]) -> Path:
        """Write statistics, comparisons and the reasons of every verdict as plain text."""
        buffer = io.StringIO()
        writer = ResultsAnalyzer(self.results, Console(file=buffer, width=REPORT_WIDTH))
        writer._print(Text("jaxwan: report of simulated experiments\n"))
        writer.print_statistics()
        writer.print_comparison_by_scenario()
        writer.print_comparison_by_challenge()
        writer.print_comparison_by_compression()
        writer._print(batch_table(self.results), Text("\nVerdicts\n"), reasons_table(self.results))
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = (line.rstrip() for line in buffer.getvalue().splitlines())
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return target

    def _compare(
        self,
        what: str,
        key: Callable[[ExperimentResult], str],
        context: Callable[[ExperimentResult], str],
    ) -> None:
        self._print(comparison_table(self.results, what, key, context))

    def _headline(self) -> Text:
        passed = sum(result.success_criteria_met for result in self.results)
        runs = sum(len(result.runs) for result in self.results)
        return Text(f"{passed} of {len(self.results)} experiments meet their criteria; {runs} runs")

    def _print(self, *parts: RenderableType) -> None:
        for part in parts:
            self.console.print(part, highlight=False)
