"""Run the example experiments of the classic suite, then their analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from jaxwan.cache import keep_programs
from jaxwan.experiment.errors import InputError
from jaxwan.harness import ResultsAnalyzer, ResultsStore, SimulationTestHarness

CHALLENGES = ("baseline", "wan_bandwidth", "unreliable")
METHODS = ("none", "fp16", "quantize", "topk")


def examples(
    steps: Annotated[int, typer.Option(help="Steps per worker.")] = 100,
    seeds: Annotated[int, typer.Option(help="Repetitions of each experiment.")] = 8,
    folder: Annotated[Path | None, typer.Option("--out", help="Keep results here.")] = None,
) -> None:
    """Run a batch of challenges and a comparison of compressions, then analyze both."""
    console = Console()
    keep_programs()
    harness = SimulationTestHarness(verbose=True, seeds=seeds, console=console)
    console.rule("Challenges, as each recommends")
    harness.run_experiment_batch(["simple"], CHALLENGES, max_steps=steps)
    console.rule("Compression on wan_bandwidth")
    settings = {"scenario": "simple", "challenge": "wan_bandwidth", "max_steps": steps}
    harness.run_experiments([settings | {"compression_method": method} for method in METHODS])
    console.rule("Analysis")
    analyzer = ResultsAnalyzer(harness.results, console)
    analyzer.print_statistics()
    analyzer.print_comparison_by_challenge()
    analyzer.print_comparison_by_compression()
    if folder:
        ResultsStore(folder).save_batch_results(harness.results, "results.json")
        ResultsStore(folder).save_results_csv(harness.results, "results.csv")
        console.print(f"report  {analyzer.generate_report(folder / 'report.txt')}", soft_wrap=True)


if __name__ == "__main__":
    try:
        typer.run(examples)
    except InputError as error:
        Console(stderr=True).print(f"[red]error[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None
