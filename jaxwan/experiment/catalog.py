"""The catalog: networks, scenarios, challenges and fleets as TOML, built in or the user's own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from jaxwan.experiment.choices import (
    AGGREGATOR,
    AGGREGATOR_MODELS,
    COMPRESSOR,
    COMPRESSOR_MODELS,
    OPTIMIZER,
    PROBLEM_MODELS,
    STRATEGY,
    STRATEGY_MODELS,
    Count,
)
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.files import built_in, load
from jaxwan.experiment.fleets import (
    Bandwidth,
    Delay,
    Loss,
    WorkerEntry,
    duplicates,
)
from jaxwan.experiment.processes import FailureTable, Preset, failures_of, load_preset
from jaxwan.experiment.resolved import Criteria
from jaxwan.experiment.schema import OneOf, Range, Settings

Problem = Annotated[Settings, OneOf("problem", PROBLEM_MODELS, open=False)]
Seconds = Annotated[float, Range(0.0, 1e6, open_low=True)]


class NetworkEntry(Settings):
    """A link to the coordinator: the same bandwidth in both directions unless told."""

    description: str = ""
    bandwidth_bps: Bandwidth
    up_bps: Bandwidth | None = None
    down_bps: Bandwidth | None = None
    delay_s: Delay = Field(default=0.0, description="one way, seconds")
    loss: Loss = 0.0
    jitter_s: Delay = Field(default=0.0, description="standard deviation of the delay")


class ScenarioEntry(Settings):
    """A training task: the full model sets time and bytes, the proxy the loss."""

    description: str = ""
    stars: Annotated[int, Range(1, 5)] = 1
    batch: Count
    step_s: Seconds = Field(description="one reference step on one reference GPU, seconds")
    cpu_slowdown: Annotated[float, Range(1.0, 1e6)] = 1.0
    target_loss: Annotated[float, Range(0.0, open_low=True)] | None = None
    model: Problem
    proxy: Problem
    optimizer: Annotated[Settings, OneOf("optimizer", OPTIMIZER.models, open=False)]


class CriteriaEntry(Settings):
    """Success criteria."""

    min_steps: Count = 100
    max_rejection: Annotated[float, Range(0.0, 1.0)] = 1.0
    min_throughput_ratio: Annotated[float, Range(0.0, 1.0)] = 0.0


class Recommended(Settings):
    """The challenge's own way to train."""

    strategy: Annotated[Settings, STRATEGY] = STRATEGY_MODELS["sync"]()
    compressor: Annotated[Settings, COMPRESSOR] = COMPRESSOR_MODELS["none"]()
    aggregator: Annotated[Settings, AGGREGATOR] = AGGREGATOR_MODELS["mean"]()
    buffer: Count = 1


class ChallengeEntry(Settings):
    """Workers, what befalls them, and when it counts as success. A fleet is one without trouble."""

    description: str = ""
    tests: str = ""
    difficulty: Annotated[int, Range(0, 10)] = 0
    criteria: CriteriaEntry = CriteriaEntry()
    recommended: Recommended = Recommended()
    failures: FailureTable = FailureTable()
    worker: tuple[WorkerEntry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def complete(self) -> ChallengeEntry:
        for name in duplicates([worker.name for worker in self.worker]):
            raise InputError(f"duplicate worker {name!r}", "worker")
        failures_of(self.failures, FailureTable(), 1.0)
        return self

    @property
    def size(self) -> int:
        """Return the number of workers."""
        return sum(worker.count for worker in self.worker)

    @property
    def limits(self) -> Criteria:
        """Return the success criteria."""
        return Criteria(**self.criteria.model_dump())


def load_network(name: str) -> NetworkEntry:
    """Load a network by name or path to a TOML file."""
    return load("network", NetworkEntry, name)


def load_scenario(name: str) -> ScenarioEntry:
    """Load a scenario by name or path to a TOML file."""
    return load("scenario", ScenarioEntry, name)


def load_challenge(name: str) -> ChallengeEntry:
    """Load a challenge by name, path to its TOML file, or path to a fleet (TOML or CSV)."""
    return load("challenge", ChallengeEntry, name)


def networks() -> dict[str, NetworkEntry]:
    """Return the built-in networks, fastest first."""
    found = {name: load_network(name) for name in built_in("network")}
    return dict(sorted(found.items(), key=lambda item: -item[1].bandwidth_bps))


def scenarios() -> dict[str, ScenarioEntry]:
    """Return the built-in scenarios, smallest first."""
    found = {name: load_scenario(name) for name in built_in("scenario")}
    return dict(sorted(found.items(), key=lambda item: item[1].stars))


def challenges() -> dict[str, ChallengeEntry]:
    """Return the built-in challenges and fleets, easiest first."""
    found = {name: load_challenge(name) for name in built_in("challenge")}
    return dict(sorted(found.items(), key=lambda item: item[1].difficulty))


def presets() -> dict[str, Preset]:
    """Return the built-in availability presets, most available first."""
    found = {name: load_preset(name) for name in built_in("failure")}
    return dict(sorted(found.items(), key=lambda item: -item[1].availability))
