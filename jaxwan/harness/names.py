"""Scenarios and challenges as the classic suite names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxwan.experiment.catalog import load_challenge, load_scenario
from jaxwan.experiment.choices import COMPRESSOR_MODELS, FAMILIES
from jaxwan.experiment.errors import unknown_name
from jaxwan.experiment.listing import gradient

COMPRESSION = {"none": "none", "fp16": "fp16", "quantize": "int8", "topk": "topk"}


@dataclass(frozen=True)
class Scenario:
    """A training task."""

    name: str
    description: str
    stars: int
    parameters: int
    gradient_bytes: int
    batch_size: int
    step_time_s: float
    target_loss: float | None


@dataclass(frozen=True)
class Challenge:
    """Workers, what befalls them, when it counts as success, and how one had better train."""

    name: str
    description: str
    tests: str
    difficulty: int
    num_workers: int
    min_steps: int
    max_rejection_rate: float
    min_throughput_ratio: float
    recommended_async: bool
    recommended_compression: str
    recommended_compression_ratio: float
    recommended_max_staleness: int | None
    recommended_aggregation: str
    recommended_trim_ratio: float
    recommended_buffer: int


class Settings(NamedTuple):
    """Keyword arguments for a trainer's controller and for its gradient compressor."""

    controller: dict[str, Any]
    compressor: dict[str, Any]


def get_scenario(name: str) -> Scenario:
    """Look a scenario up by name or file.

    Raises:
        InputError: for a name that does not exist, with the nearest spelling.
    """
    entry = load_scenario(name)
    parameters, gradient_bytes = gradient(entry)
    return Scenario(
        name=name,
        description=entry.description,
        stars=entry.stars,
        parameters=parameters,
        gradient_bytes=gradient_bytes,
        batch_size=entry.batch,
        step_time_s=entry.step_s,
        target_loss=entry.target_loss,
    )


def get_challenge(name: str) -> Challenge:
    """Look a challenge up by name or file.

    Raises:
        InputError: for a name that does not exist, with the nearest spelling.
    """
    entry = load_challenge(name)
    own = entry.recommended
    strategy, compressor, aggregator = (
        member.model_dump() for member in (own.strategy, own.compressor, own.aggregator)
    )
    asynchronous = FAMILIES["strategy"][strategy["kind"]].protocol == "events"
    return Challenge(
        name=name,
        description=entry.description,
        tests=entry.tests,
        difficulty=entry.difficulty,
        num_workers=entry.size,
        min_steps=entry.criteria.min_steps,
        max_rejection_rate=entry.criteria.max_rejection,
        min_throughput_ratio=entry.criteria.min_throughput_ratio,
        recommended_async=asynchronous,
        recommended_compression=classic_name(compressor["kind"]),
        recommended_compression_ratio=compressor.get("ratio", 1.0),
        recommended_max_staleness=strategy["max_staleness"] if asynchronous else 0,
        recommended_aggregation=aggregator["kind"],
        recommended_trim_ratio=aggregator.get("trim_ratio", 0.0),
        recommended_buffer=own.buffer,
    )


def recommended_settings(challenge: str | Challenge) -> Settings:
    """Return a challenge's recommendation as keywords of a real trainer and its compressor.

    Example:
        >>> controller, compressor = recommended_settings("wan_latency")
        >>> MainController(**controller, compressor=GradientCompressor(**compressor))
    """
    own = get_challenge(challenge) if isinstance(challenge, str) else challenge
    controller = {
        "use_async": own.recommended_async,
        "max_staleness": own.recommended_max_staleness,
        "aggregation_rule": own.recommended_aggregation,
        "trim_ratio": own.recommended_trim_ratio,
        "buffer_size": own.recommended_buffer,
    }
    member = FAMILIES["compressor"][COMPRESSION.get(own.recommended_compression, "none")]
    compressor = {
        "compression_method": own.recommended_compression,
        "compression_ratio": own.recommended_compression_ratio,
        "error_feedback": member.feedback,
    }
    return Settings(controller, compressor)


def classic_name(kind: str) -> str:
    """Return the classic name of a compressor; jaxwan's own where it has none."""
    return next((classic for classic, own in COMPRESSION.items() if own == kind), kind)


def compressor_of(method: str, ratio: float) -> Any:
    """Return the compressor of a classic name (or of jaxwan's own).

    Raises:
        InputError: for a name that does not exist, or a ratio out of range.
    """
    kind = COMPRESSION.get(method, method)
    if kind not in COMPRESSOR_MODELS:
        raise unknown_name("compression", method, COMPRESSION, "compression_method")
    takes_ratio = "ratio" in FAMILIES["compressor"][kind].knobs
    return COMPRESSOR_MODELS[kind](**({"ratio": ratio} if takes_ratio else {}))
