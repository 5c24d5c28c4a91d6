"""SimulationTestHarness: classic experiments, thin over `jaxwan.simulate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console

from jaxwan.api import simulate
from jaxwan.experiment.choices import AGGREGATOR_MODELS, FAMILIES, STRATEGY_MODELS
from jaxwan.experiment.errors import unknown_name
from jaxwan.experiment.lower import config_id, is_barrier
from jaxwan.experiment.resolve import resolve, resolve_and_warn
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.harness.analyzer import batch_table, reasons_table
from jaxwan.harness.names import Challenge, Scenario, compressor_of, get_challenge
from jaxwan.harness.results import ExperimentResult

SEEDS = 8


class Request(NamedTuple):
    """One experiment as it was asked for; the fields are `run_experiment`'s arguments."""

    scenario: str
    challenge: str
    use_async: bool = True
    compression_method: str = "topk"
    compression_ratio: float = 0.01
    max_staleness: int | None = 5
    aggregation_rule: str = "trimmed_mean"
    trim_ratio: float = 0.1
    max_steps: int | None = None


class Planned(NamedTuple):
    """A request turned into jaxwan's own experiment."""

    request: Request
    experiment: Experiment
    resolved: Resolved
    aggregation_note: str
    notes: list[str]


class SimulationTestHarness:
    """Run experiments, keep their results and print them.

    `seeds` is how often, or with which seeds, each experiment is repeated; `results` holds every
    result so far.

    Example:
        >>> harness = SimulationTestHarness(verbose=True)
        >>> harness.run_experiment("simple", "wan_bandwidth", max_steps=20).metrics.final_loss
    """

    def __init__(
        self,
        verbose: bool = True,
        seeds: int | Sequence[int] = SEEDS,
        console: Console | None = None,
    ) -> None:
        self.verbose = verbose
        self.seeds = seeds
        self.console = console or Console()
        self.results: list[ExperimentResult] = []
        self.batch: list[ExperimentResult] = []

    def run_experiment(
        self,
        scenario: str | Scenario,
        challenge: str | Challenge,
        use_async: bool = True,
        compression_method: str = "topk",
        compression_ratio: float = 0.01,
        max_staleness: int | None = 5,
        aggregation_rule: str = "trimmed_mean",
        trim_ratio: float = 0.1,
        max_steps: int | None = None,
        seeds: int | Sequence[int] | None = None,
    ) -> ExperimentResult:
        """Run one experiment with every seed; `max_steps` None is the challenge's minimum.

        The rule aggregates over the challenge's buffer; where it cannot, or equals the mean, the
        result says so in `notes` and `config_snapshot["aggregation_note"]`.

        Raises:
            InputError: for a name or a number that is not allowed.
        """
        request = {
            "scenario": scenario,
            "challenge": challenge,
            "use_async": use_async,
            "compression_method": compression_method,
            "compression_ratio": compression_ratio,
            "max_staleness": max_staleness,
            "aggregation_rule": aggregation_rule,
            "trim_ratio": trim_ratio,
            "max_steps": max_steps,
        }
        return self.run_experiments([request], seeds)[0]

    def run_experiments(
        self, requests: Sequence[Mapping[str, Any]], seeds: int | Sequence[int] | None = None
    ) -> list[ExperimentResult]:
        """Run several experiments at once, each given as the arguments of `run_experiment`.

        They share their compiled programs and their seeds, so it is much faster than one by one.

        Raises:
            InputError: for a name or a number that is not allowed, before anything runs.
        """
        plans = [plan(request_of(request)) for request in requests]
        if not plans:
            return []
        progress = self.verbose and Console(stderr=True).is_terminal
        experiments = [planned.experiment for planned in plans]
        wanted = self.seeds if seeds is None else seeds
        frame = simulate(experiments, seeds=wanted, progress=progress).frame
        self.batch = [result_of(planned, frame) for planned in plans]
        self.results += self.batch
        if self.verbose:
            self.print_batch_summary()
        return self.batch

    def run_experiment_batch(
        self,
        scenarios: Sequence[str | Scenario],
        challenges: Sequence[str | Challenge],
        max_steps: int | None = 100,
        seeds: int | Sequence[int] | None = None,
    ) -> list[ExperimentResult]:
        """Run every scenario under every challenge, as the challenge recommends, in one go.

        Raises:
            InputError: for a name that does not exist, before anything runs.
        """
        requests = [
            {"scenario": scenario, "max_steps": max_steps, **recommended(challenge)}
            for scenario in scenarios
            for challenge in challenges
        ]
        return self.run_experiments(requests, seeds)

    def print_batch_summary(self) -> None:
        """Print the experiments of the last batch, and why they pass or fail."""
        if not self.batch:
            self.console.print("no experiments yet")
            return
        self.console.print(batch_table(self.batch), highlight=False)
        self.console.print(reasons_table(self.batch), highlight=False)


def recommended(challenge: str | Challenge) -> dict[str, Any]:
    """Return a challenge's recommendation as arguments of `run_experiment`."""
    own = get_challenge(challenge) if isinstance(challenge, str) else challenge
    return {
        "challenge": own.name,
        "use_async": own.recommended_async,
        "compression_method": own.recommended_compression,
        "compression_ratio": own.recommended_compression_ratio,
        "max_staleness": own.recommended_max_staleness,
        "aggregation_rule": own.recommended_aggregation,
        "trim_ratio": own.recommended_trim_ratio,
    }


def request_of(given: Mapping[str, Any]) -> Request:
    """Return the arguments as a request; a scenario or challenge object stands for its name.

    Raises:
        InputError: for an argument that does not exist.
    """
    for name in given:
        if name not in Request._fields:
            raise unknown_name("argument", name, Request._fields)
    named: dict[str, Any] = {
        name: value.name if isinstance(value, Scenario | Challenge) else value
        for name, value in given.items()
    }
    return Request(**named)


def plan(request: Request) -> Planned:
    """Turn a request into an experiment; the mean stands in for a rule that cannot be used.

    Raises:
        InputError: for a name or a number that is not allowed.
    """
    strategy = (
        STRATEGY_MODELS["async"](max_staleness=request.max_staleness)
        if request.use_async
        else STRATEGY_MODELS["sync"]()
    )
    experiment = Experiment(
        scenario=request.scenario,
        challenge=request.challenge,
        strategy=strategy,
        compressor=compressor_of(request.compression_method, request.compression_ratio),
        aggregator="mean",
        steps=request.max_steps,
    )
    rule = aggregator_of(request)
    note = why_mean(rule, resolve(experiment))
    if not note:
        experiment = experiment.replace(aggregator=rule)
    resolved, warnings = resolve_and_warn(experiment)
    return Planned(request, experiment, resolved, note, [*filter(None, [note]), *warnings])


def aggregator_of(request: Request) -> Any:
    """Return the aggregation rule.

    Raises:
        InputError: for a name that does not exist, or a trim ratio out of range.
    """
    kind = request.aggregation_rule
    if kind not in AGGREGATOR_MODELS:
        raise unknown_name("rule", kind, AGGREGATOR_MODELS, "aggregation_rule")
    trims = "trim_ratio" in FAMILIES["aggregator"][kind].knobs
    return AGGREGATOR_MODELS[kind](**({"trim_ratio": request.trim_ratio} if trims else {}))


def why_mean(rule: Any, resolved: Resolved) -> str:
    """Say why the mean is used instead of a rule, or nothing where the rule is."""
    member, slots = FAMILIES["aggregator"][rule.kind], slots_of(resolved)
    knobs = {name: getattr(rule, name) for name in member.knobs}
    if rule.kind == "mean":
        return ""
    if slots < member.needs(knobs):
        return (
            f"{rule.kind} needs {member.needs(knobs)} gradients per update and the buffer of "
            f"{resolved.challenge} holds {slots}: the mean is used"
        )
    same = member.is_mean(knobs, slots)
    return f"{rule.kind} of {slots} gradients equals the mean: the mean is used" if same else ""


def slots_of(resolved: Resolved) -> int:
    """Return how many gradients become one update."""
    return len(resolved.workers) if is_barrier(resolved) else resolved.buffer


def snapshot(planned: Planned, seeds: int) -> dict[str, Any]:
    """Return the settings: what was asked for, and what became of it."""
    resolved = planned.resolved
    limits = resolved.criteria
    return planned.request._asdict() | {
        "max_steps": resolved.steps,
        "seeds": seeds,
        "aggregation_used": resolved.aggregator.kind,
        "aggregation_buffer": slots_of(resolved),
        "aggregation_note": planned.aggregation_note,
        "attack": resolved.attack.kind if resolved.attack else "none",
        "num_workers": len(resolved.workers),
        "workers": [worker.name for worker in resolved.workers],
        "min_steps": limits.min_steps,
        "max_rejection": limits.max_rejection,
        "min_throughput_ratio": limits.min_throughput_ratio,
    }


def result_of(planned: Planned, frame: pd.DataFrame) -> ExperimentResult:
    """Return the result of one experiment from the rows of all of them."""
    runs = frame[frame["config_id"] == config_id(planned.resolved)].reset_index(drop=True)
    return ExperimentResult(snapshot(planned, len(runs)), runs, planned.notes)
