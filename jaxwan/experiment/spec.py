"""Experiment: the validated front door. One experiment, every seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from jaxwan.experiment.catalog import load_challenge, load_network, load_scenario
from jaxwan.experiment.choices import (
    AGGREGATOR,
    ATTACK,
    COMPRESSOR,
    EXCHANGE,
    OPTIMIZER,
    PRE_AGGREGATOR,
    STRATEGY,
    TRANSPORT_NAMES,
    Count,
    Switch,
)
from jaxwan.experiment.errors import unknown_name
from jaxwan.experiment.fleets import Delay, Device, Loss, Operator, Speed
from jaxwan.experiment.prices import PRECISIONS, PRICINGS
from jaxwan.experiment.processes import FailureTable
from jaxwan.experiment.schema import Range, Settings
from jaxwan.experiment.weather import WeatherTable


def transport_name(value: Any) -> Any:
    """Refuse a transport that is not known."""
    if isinstance(value, str) and value not in TRANSPORT_NAMES:
        raise unknown_name("transport", value, TRANSPORT_NAMES)
    return value


def scenario_name(value: str) -> str:
    """Refuse a scenario that cannot be loaded."""
    load_scenario(value)
    return value


def challenge_name(value: str) -> str:
    """Refuse a challenge or fleet that cannot be loaded."""
    load_challenge(value)
    return value


def network_name(value: str | None) -> str | None:
    """Refuse a network that cannot be loaded."""
    if value is not None:
        load_network(value)
    return value


def recommended(value: Any) -> Any:
    """Read the word "recommended" as None."""
    return None if value == "recommended" else value


Rate = Annotated[float, Range(0.0)]
OwnBuffer = Annotated[Count | None, BeforeValidator(recommended)]


def fair(value: Any) -> Any:
    """Read the word "none" as no weather."""
    return WeatherTable() if value == "none" else value


class LinkTable(Settings):
    """Overrides of every worker's link; bandwidth 0 is a dead link."""

    transport: Annotated[Literal[TRANSPORT_NAMES], BeforeValidator(transport_name)] = "ideal"  # type: ignore[valid-type]
    bandwidth_bps: Rate | None = Field(default=None, description="both directions, bit/s")
    up_bps: Rate | None = Field(default=None, description="to the coordinator, bit/s")
    down_bps: Rate | None = Field(default=None, description="from the coordinator, bit/s")
    delay_s: Delay | None = Field(default=None, description="one way, seconds")
    loss: Loss | None = Field(default=None, description="probability that a packet is lost")
    jitter_s: Delay | None = Field(
        default=None, description="standard deviation of the delay, seconds"
    )
    streams: Annotated[int, Range(1, 256)] = Field(
        default=1, description="parallel connections that share a transfer (not ideal)"
    )
    window_bytes: Annotated[float, Range(1024.0)] | None = Field(
        default=None, description="largest window of a connection (not ideal); no limit unless told"
    )
    weather: Annotated[WeatherTable, BeforeValidator(fair)] = Field(
        default=WeatherTable(), description="how the links change with time"
    )
    connect: Switch = Field(
        default=False, description="every transfer opens its connections first (not ideal)"
    )


class ComputeTable(Settings):
    """How fast the workers compute."""

    sigma: Annotated[float, Range(0.0, 5.0)] = Field(
        default=0.1, description="sigma of the lognormal noise (mean 1)"
    )
    device: Device | None = Field(default=None, description="every worker's device")
    speed: Speed | None = Field(default=None, description="every worker's speed")
    precision: Literal[PRECISIONS] = Field(  # type: ignore[valid-type]
        default="bf16", description="whose peaks say how much faster a device is"
    )
    compression_bytes_per_s: Annotated[float, Range(0.0, open_low=True)] | None = Field(
        default=None, description="dense bytes compressed a second; takes no time unless told"
    )


class LearningTable(Settings):
    """What is recorded of the learning."""

    target_loss: Annotated[float, Range(0.0, open_low=True)] | None = Field(
        default=None, description="held-out loss that counts as reached; the scenario's unless told"
    )
    eval_points: Annotated[int, Range(1, 100_000)] = Field(
        default=20, description="evaluations in a run"
    )


Luck = Annotated[int, Range(0, 2**31 - 1)]


class LuckTable(Settings):
    """Other luck for one source of randomness: a number that is added to the seed there."""

    failures: Luck = Field(default=0, description="outages, slowdowns, churn, partitions")
    links: Luck = Field(default=0, description="jitter, losses, weather")
    stragglers: Luck = Field(default=0, description="the noise of computing")
    data: Luck = Field(default=0, description="samples, first model, random compression, attacks")


class Experiment(Settings):
    """One experiment: a scenario under a challenge, trained in one way.

    An omitted or "recommended" strategy, compressor, aggregator, buffer or optimizer is the
    challenge's (the scenario's) own.

    Example:
        >>> Experiment(scenario="simple", challenge="wan_bandwidth", compressor="fp16").steps

    Raises:
        InputError: for anything wrong, in one line.
    """

    scenario: Annotated[str, AfterValidator(scenario_name)] = Field(
        description="a scenario's name or file"
    )
    challenge: Annotated[str, AfterValidator(challenge_name)] = Field(
        default="baseline",
        description="name or file of a challenge, or file of a fleet (TOML, CSV)",
    )
    network: Annotated[str | None, AfterValidator(network_name)] = Field(
        default=None, description="name or file of the network that replaces every worker's link"
    )
    workers: Annotated[int, Range(1, 1_000_000)] | None = Field(
        default=None, description="number of workers; the fleet is repeated to it"
    )
    strategy: Annotated[Any, STRATEGY] = None
    compressor: Annotated[Any, COMPRESSOR] = None
    aggregator: Annotated[Any, AGGREGATOR] = None
    pre_aggregator: Annotated[Any, PRE_AGGREGATOR] = None
    attack: Annotated[Any, ATTACK] = None
    attack_stage: Literal["message", "update"] = Field(
        default="message", description="do attackers change what is sent, or what is compressed?"
    )
    downlink: Annotated[Any, COMPRESSOR] = None
    exchange: Annotated[Any, EXCHANGE] = None
    optimizer: Annotated[Any, OPTIMIZER] = None
    attackers: Annotated[int, Range(0, 1_000_000)] | None = Field(
        default=None, description="how many workers attack (the last ones)"
    )
    buffer: OwnBuffer = Field(default=None, description="contributions per server update")
    steps: Count | None = Field(default=None, description="local gradient steps per worker slot")
    link: LinkTable = LinkTable()
    compute: ComputeTable = ComputeTable()
    failures: FailureTable = FailureTable()
    pricing: Literal[PRICINGS] = Field(  # type: ignore[valid-type]
        default="on_demand", description="the price of every worker's hours"
    )
    provider: Operator | None = Field(
        default=None, description="whose egress prices apply to every worker"
    )
    learning: LearningTable = LearningTable()
    luck: LuckTable = LuckTable()
    timing_only: Switch = Field(default=False, description="simulate time and bytes, train nothing")
    fidelity: Literal["proxy", "full"] = Field(
        default="proxy", description="the model that is trained"
    )

    def replace(self, **changes: Any) -> Experiment:
        """Return a copy with some fields replaced, validated again."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return Experiment(**given | changes)


def origin(field: str, places: Mapping[str, str]) -> str:
    """Return where a field was written: the longest known prefix, and what follows it."""
    known = [name for name in places if field == name or field.startswith((f"{name}.", f"{name}["))]
    if not known:
        return field
    longest = max(known, key=len)
    return places[longest] + field[len(longest) :]
