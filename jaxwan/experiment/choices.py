"""The annotations of every family at the front door, generated from the registries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from jaxwan.experiment.chains import ChainModels
from jaxwan.experiment.exchanges import EXCHANGES
from jaxwan.experiment.schema import OneOf, Range, Settings, family_models
from jaxwan.experiment.strategies import STRATEGIES, Strategy
from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.optimizers import OPTIMIZERS
from jaxwan.learning.problems import PROBLEMS
from jaxwan.world.durations import LAWS
from jaxwan.world.transport import TRANSPORTS

Switch = Annotated[bool, Strict()]
Count = Annotated[int, Range(1)]


class NoAttack(Settings):
    """Nobody attacks."""

    kind: Literal["none"] = "none"


class NoPreAggregator(Settings):
    """The updates are aggregated as they come."""

    kind: Literal["none"] = "none"


def memory_field(member: Any) -> Mapping[str, Any]:
    """Add the switch of the error memory to every compressor."""
    usual = "on" if member.feedback else "off"
    text = f"error feedback, or the estimate of EF21; {usual} unless told"
    share = Annotated[float, Range(0.0, 1.0)]
    cycles = Annotated[int, Range(0, 1_000_000_000)]
    told = "cycles of a worker over which the ratio falls to its value, in four stages"
    early = {"warmup": (cycles, Field(default=0, description=told))}
    return (early if "ratio" in member.knobs else {}) | {
        "error_feedback": (Switch | Literal["ef21"] | None, Field(default=None, description=text)),
        "error_decay": (
            share, Field(default=member.decay, description="decay of the error memory")
        ),
    }


def buffer_field(member: Strategy) -> Mapping[str, Any]:
    """Add the buffer to the strategies that merge arrivals."""
    if member.protocol != "events":
        return {}
    return {
        "buffer": (Count | None, Field(default=None, description="contributions per server update"))
    }


STRATEGY_MODELS = family_models(STRATEGIES, buffer_field)
COMPRESSOR_MODELS = ChainModels(COMPRESSORS, memory_field)
AGGREGATOR_MODELS = family_models(AGGREGATORS)
PRE_AGGREGATOR_MODELS: dict[str, type[Settings]] = {"none": NoPreAggregator} | family_models(
    PRE_AGGREGATORS
)
ATTACK_MODELS: dict[str, type[Settings]] = {"none": NoAttack} | family_models(ATTACKS)
OPTIMIZER_MODELS = family_models(OPTIMIZERS)
EXCHANGE_MODELS = family_models(EXCHANGES)
PROBLEM_MODELS = family_models(PROBLEMS)

STRATEGY = OneOf("strategy", STRATEGY_MODELS)
COMPRESSOR = OneOf("compressor", COMPRESSOR_MODELS)
AGGREGATOR = OneOf("aggregator", AGGREGATOR_MODELS)
PRE_AGGREGATOR = OneOf("pre_aggregator", PRE_AGGREGATOR_MODELS)
ATTACK = OneOf("attack", ATTACK_MODELS)
EXCHANGE = OneOf("exchange", EXCHANGE_MODELS)
OPTIMIZER = OneOf("optimizer", OPTIMIZER_MODELS)

FAMILIES: dict[str, Mapping[str, Any]] = {
    "strategy": STRATEGIES,
    "compressor": COMPRESSORS,
    "aggregator": AGGREGATORS,
    "pre_aggregator": PRE_AGGREGATORS,
    "attack": ATTACKS,
    "optimizer": OPTIMIZERS,
    "problem": PROBLEMS,
    "transport": TRANSPORTS,
    "exchange": EXCHANGES,
}
LAW_NAMES = tuple(LAWS)
TRANSPORT_NAMES = tuple(TRANSPORTS)
