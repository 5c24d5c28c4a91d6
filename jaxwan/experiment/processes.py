"""Failures as the user states them, and the renewal processes they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from jaxwan.experiment.choices import LAW_NAMES
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.files import load
from jaxwan.experiment.records import by_worker, read_record
from jaxwan.experiment.resolved import Failures, Renewal, Replay
from jaxwan.experiment.schema import Range, Settings

UP = ("p", "mtbf_s", "mtbf_steps", "scale_s")
DOWN = ("duration_s", "duration_steps", "down_scale_s")
DRAWN = ("crash", "transient", "churn", "slowdown", "partition", "regional")
Law = Literal[LAW_NAMES]  # type: ignore[valid-type]
Length = Annotated[float, Range(0.0, open_low=True)]
Shape = Annotated[float, Range(0.0, open_low=True)]


def preset_name(name: str) -> str:
    """Refuse a preset that cannot be loaded."""
    load_preset(name)
    return name


class Process(Settings):
    """How often something fails and for how long."""

    preset: Annotated[str, AfterValidator(preset_name)] | None = Field(
        default=None, description="name or file of a measured availability; the rest is laid over"
    )
    p: Annotated[float, Range(0.0, 1.0, open_high=True)] | None = Field(
        default=None, description="probability per reference step; the rate is -ln(1-p)"
    )
    mtbf_s: Length | None = Field(default=None, description="mean time up, seconds")
    mtbf_steps: Length | None = Field(default=None, description="mean time up, reference steps")
    scale_s: Length | None = Field(
        default=None, description="scale of a Weibull time up, seconds, instead of its mean"
    )
    duration_s: Annotated[float, Range(0.0)] | None = Field(
        default=None, description="mean time down, seconds"
    )
    duration_steps: Annotated[float, Range(0.0)] | None = Field(
        default=None, description="mean time down, reference steps"
    )
    down_scale_s: Length | None = Field(
        default=None, description="scale of a Weibull time down, seconds, instead of its mean"
    )
    law: Law | None = Field(default=None, description="law of the time up; exponential unless told")
    shape: Shape | None = Field(default=None, description="Weibull shape or lognormal sigma, up")
    down_law: Law | None = Field(
        default=None, description="law of the time down; deterministic if unset"
    )
    down_shape: Shape | None = Field(
        default=None, description="Weibull shape or lognormal sigma, down"
    )
    start: Literal["up", "stationary"] | None = Field(
        default=None, description="all up at time zero, or as a long run would leave them"
    )

    @model_validator(mode="after")
    def one_of_each(self) -> Process:
        for names in (UP, DOWN):
            given = [name for name in names if getattr(self, name) is not None]
            if len(given) > 1:
                raise InputError(f"{' and '.join(given)} say the same thing; give only one")
        return self


class Slowdown(Process):
    """Episodes in which a worker computes slower by a factor."""

    factor: Annotated[float, Range(1.0)] | None = Field(
        default=None, description="how many times slower"
    )


class Partition(Process):
    """Times in which a part of the fleet cannot reach the coordinator; all share them."""

    share: Annotated[float, Range(0.0, 1.0)] | None = Field(
        default=None, description="share of the fleet, its last workers, that is cut off; 0.5"
    )


class Byzantine(Settings):
    """From when on the attackers attack; before it they are honest."""

    onset_s: Annotated[float, Range(0.0)] | None = Field(
        default=None, description="seconds from the start; 0 unless told"
    )
    onset_steps: Annotated[float, Range(0.0)] | None = Field(
        default=None, description="reference steps from the start"
    )

    @model_validator(mode="after")
    def one_onset(self) -> Byzantine:
        if self.onset_s is not None and self.onset_steps is not None:
            raise InputError("onset_s and onset_steps say the same thing; give only one")
        return self


class Preset(Process):
    """A measured availability."""

    description: str = ""
    source: str = ""

    @model_validator(mode="after")
    def complete(self) -> Preset:
        renewal(self.laws, 1.0, "")
        return self

    @property
    def laws(self) -> dict[str, Any]:
        """Return what it states about the process; in its stationary state unless told."""
        own = self.model_dump(exclude_none=True, exclude={"description", "source", "preset"})
        return {"start": "stationary"} | own

    @property
    def availability(self) -> float:
        """Return mean up / (mean up + mean down)."""
        process = renewal(self.laws, 1.0, "")
        return process.up_mean / (process.up_mean + process.down_mean)


def load_preset(name: str) -> Preset:
    """Load an availability preset by name or path to a TOML file."""
    return load("failure", Preset, name)


def off(value: Any) -> Any:
    """Read the word "none" as None, which TOML cannot write."""
    return None if value == "none" else value


def named(value: Any) -> Any:
    """Read a word as the preset of that name."""
    return {"preset": value} if isinstance(value, str) and value != "none" else off(value)


def filed(value: Any) -> Any:
    """Read a word as the file of that name."""
    return {"file": value} if isinstance(value, str) and value != "none" else off(value)


def record_file(name: str) -> str:
    """Refuse a record of outages that cannot be read."""
    read_record(name)
    return name


class Recorded(Settings):
    """Outages as they were recorded."""

    file: Annotated[str, AfterValidator(record_file)] = Field(
        description="CSV with columns worker (name or number), down_s, up_s"
    )
    rotate: Annotated[bool, Strict()] = Field(
        default=False, description="the seed shifts which worker takes which record"
    )


AnyProcess = Annotated[
    Process | None, BeforeValidator(named, json_schema_input_type=Process | str)
]
AnySlowdown = Annotated[
    Slowdown | None, BeforeValidator(named, json_schema_input_type=Slowdown | str)
]
AnyPartition = Annotated[
    Partition | None, BeforeValidator(named, json_schema_input_type=Partition | str)
]
AnyRecord = Annotated[
    Recorded | None, BeforeValidator(filed, json_schema_input_type=Recorded | str)
]


class FailureTable(Settings):
    """What may go wrong. An omitted one is the challenge's own; "none" switches it off."""

    crash: AnyProcess = None
    transient: AnyProcess = None
    churn: AnyProcess = None
    slowdown: AnySlowdown = None
    partition: AnyPartition = None
    regional: AnyProcess = Field(
        default=None, description="outages that all workers of one region share"
    )
    replay: AnyRecord = Field(
        default=None, description="recorded outages: a CSV of worker, down_s, up_s"
    )
    byzantine: Byzantine | None = Field(default=None, description="when the attack begins")


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Lay the settings of `top` over `base`; a rate or a duration replaces the other spelling."""
    replaced = {name for group in (UP, DOWN) if set(group) & set(top) for name in group}
    return {name: value for name, value in base.items() if name not in replaced} | top


def weibull_mean(values: dict[str, Any], field: str, place: str) -> float:
    """Return the mean of a Weibull law that is stated by its scale."""
    side = "down_" if field.startswith("down") else ""
    if values.get(f"{side}law") != "weibull" or f"{side}shape" not in values:
        raise InputError(
            f'{field} is of a Weibull law: give {side}law = "weibull" and {side}shape too', place
        )
    return values[field] * math.gamma(1.0 + 1.0 / values[f"{side}shape"])


def mean_up(values: dict[str, Any], place: str) -> tuple[float, str]:
    """Return the mean time up and its unit."""
    if "p" in values:
        rate = -math.log1p(-values["p"])
        return (1.0 / rate if rate > 0 else math.inf), "steps"
    if "mtbf_s" in values:
        return values["mtbf_s"], "s"
    if "mtbf_steps" in values:
        return values["mtbf_steps"], "steps"
    if "scale_s" in values:
        return weibull_mean(values, "scale_s", place), "s"
    raise InputError("say how often: p, mtbf_s, mtbf_steps or scale_s", place)


def mean_down(values: dict[str, Any], place: str) -> tuple[float, str | None]:
    """Return the mean time down and its unit; a crash without a duration is for good."""
    if "duration_s" in values:
        return values["duration_s"], "s"
    if "duration_steps" in values:
        return values["duration_steps"], "steps"
    if "down_scale_s" in values:
        return weibull_mean(values, "down_scale_s", place), "s"
    if place.endswith("crash"):
        return math.inf, None
    raise InputError("say for how long: duration_s, duration_steps or down_scale_s", place)


def renewal(values: dict[str, Any], step_s: float, place: str) -> Renewal:
    """Return the renewal process that the settings mean; mixed units become seconds."""
    up, up_unit = mean_up(values, place)
    down, down_unit = mean_down(values, place)
    unit = up_unit if down_unit in (None, up_unit) else "s"
    scale = {"s": 1.0, "steps": step_s if unit == "s" else 1.0}
    start = values.get("start", "up")
    if start == "stationary" and math.isinf(down):
        raise InputError('start = "stationary" needs a time down that ends', place)
    return Renewal(
        up_mean=up * scale[up_unit],
        down_mean=down * scale[down_unit or unit],
        unit=unit,
        up_law=values.get("law", "exponential"),
        down_law=values.get("down_law", "deterministic"),
        up_shape=values.get("shape", 1.0),
        down_shape=values.get("down_shape", 1.0),
        start=start,
    )


def stated(table: FailureTable, name: str) -> dict[str, Any] | None:
    """Return the settings of one kind of failure, or None where it is off."""
    process = getattr(table, name)
    if process is None:
        return None
    own = process.model_dump(exclude_none=True)
    preset = own.pop("preset", None)
    return own if preset is None else merged(load_preset(preset).laws, own)


def chosen(base: FailureTable, top: FailureTable, name: str) -> dict[str, Any] | None:
    """Return the settings of one kind of failure with the experiment's own on top."""
    own = stated(base, name)
    if name not in top.model_fields_set:
        return own
    over = stated(top, name)
    return None if over is None else merged(own or {}, over)


def onset_s(base: FailureTable, top: FailureTable, step_s: float) -> float:
    """Return when the attack begins: as the experiment says, else the challenge, else at once."""
    stated = top.byzantine or base.byzantine or Byzantine()
    return (stated.onset_s or 0.0) + (stated.onset_steps or 0.0) * step_s


def replay_of(base: FailureTable, top: FailureTable, workers: Sequence[str]) -> Replay | None:
    """Return the recorded outages of each worker by name, or None where nothing is replayed.

    Raises:
        InputError: for a record of a worker that is not there.
    """
    own = top.replay if "replay" in top.model_fields_set else base.replay
    if own is None:
        return None
    try:
        return Replay(by_worker(read_record(own.file), workers), own.rotate)
    except InputError as error:
        raise InputError(f"{own.file}: {error}", "failures.replay") from None


def failures_of(base: FailureTable, top: FailureTable, step_s: float) -> Failures:
    """Return the failures of a challenge with the experiment's own laid over them."""
    found: dict[str, Any] = {}
    for name in DRAWN:
        values = chosen(base, top, name)
        if values is None:
            continue
        if name == "slowdown" and "factor" not in values:
            raise InputError("say how many times slower: factor", "failures.slowdown")
        found["slowdown_factor"] = values.pop("factor", found.get("slowdown_factor", 1.0))
        found["cut_share"] = values.pop("share", found.get("cut_share", 0.5))
        found[name] = renewal(values, step_s, f"failures.{name}")
    return Failures(**found, onset_s=onset_s(base, top, step_s))
