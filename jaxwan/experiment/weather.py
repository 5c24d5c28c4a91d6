"""Links that change with time, as the user states them, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from jaxwan.experiment.errors import InputError
from jaxwan.experiment.processes import filed, off
from jaxwan.experiment.resolved import Choice, Resolved, Weather
from jaxwan.experiment.schema import Range, Settings
from jaxwan.experiment.tapes import read_tape, tapes_of

DAY_S = 86_400.0
Length = Annotated[float, Range(1.0, 1e8)]
Spell = Annotated[float, Range(1e-3, 1e8)]
Turn = Annotated[float, Range(0.0, 1.0)]


class Diurnal(Settings):
    """A daily dip of the bandwidth, a cosine."""

    depth: Annotated[float, Range(0.0, 0.99)] = Field(
        description="share of the bandwidth that is gone at the worst hour"
    )
    period_s: Length = Field(default=DAY_S, description="from dip to dip, seconds")
    phase: Turn = Field(default=0.0, description="when the dip is deepest, in periods")
    spread: Turn = Field(
        default=0.0, description="over which share of a period the dips are drawn (time zones)"
    )
    by: Literal["region", "worker"] = Field(
        default="region", description="who shares a dip: the workers of a region, or nobody"
    )


class Drift(Settings):
    """A slow lognormal factor on the bandwidth, mean 1, each worker's own."""

    sigma: Annotated[float, Range(0.0, 3.0)] = Field(description="of the factor's logarithm")
    correlation_s: Length = Field(
        description="after which the autocorrelation is 1/e, seconds"
    )


class Bursts(Settings):
    """Gilbert-Elliott: good and bad times in turn, both exponential, each worker's own."""

    good_s: Spell = Field(description="mean time between bursts, seconds")
    bad_s: Spell = Field(description="mean length of a burst, seconds")
    bad_loss: Annotated[float, Range(0.0, 1.0, open_high=True)] | None = Field(
        default=None, description="loss in a burst, where that is more than the link's own"
    )
    bad_factor: Turn = Field(default=1.0, description="on the bandwidth in a burst")

    @model_validator(mode="after")
    def does_something(self) -> Bursts:
        if not {"bad_loss", "bad_factor"} & self.model_fields_set:
            raise InputError("say what a burst does: bad_loss or bad_factor")
        return self


def tape_file(name: str) -> str:
    """Refuse a record of bandwidth that cannot be read."""
    read_tape(name)
    return name


class Recording(Settings):
    """Bandwidth as it was recorded, in both directions, over and over."""

    file: Annotated[str, AfterValidator(tape_file)] = Field(
        description="CSV with columns time_s, bandwidth_bps and perhaps worker (name or number)"
    )
    period_s: Annotated[int, Range(1, 100_000_000)] | None = Field(
        default=None, description="after which it starts again; its last step is repeated if unset"
    )


class WeatherTable(Settings):
    """What time does to every worker's link. "none" switches one off."""

    diurnal: Annotated[Diurnal | None, BeforeValidator(off)] = None
    drift: Annotated[Drift | None, BeforeValidator(off)] = None
    bursts: Annotated[Bursts | None, BeforeValidator(off)] = None
    trace: Annotated[
        Recording | None, BeforeValidator(filed, json_schema_input_type=Recording | str)
    ] = Field(default=None, description="recorded bandwidth: a CSV of time_s, bandwidth_bps")


def _recorded(recording: Recording, exchange: Choice, workers: Sequence[str]) -> dict[str, Any]:
    """Return the records and who has which."""
    if exchange.static.get("matrix"):
        raise InputError("a recorded bandwidth and exchange.matrix both replace the links; keep "
                         "one of the two", "link.weather.trace")  # fmt: skip
    try:
        tapes, own = tapes_of(read_tape(recording.file), workers, recording.period_s)
    except InputError as error:
        raise InputError(f"{recording.file}: {error}", "link.weather.trace") from None
    return {"tapes": tapes, "own": own}


def weather_of(
    table: WeatherTable, exchange: Choice, workers: Sequence[str]
) -> Weather | None:
    """Return the weather that a table states, or None where it states nothing.

    Raises:
        InputError: for a record of a worker that is not there, or one beside a matrix.
    """
    found: dict[str, Any] = {}
    for part in (table.diurnal, table.drift, table.bursts):
        found |= {} if part is None else part.model_dump()
    found["bad_loss"] = found.get("bad_loss") or 0.0
    if table.trace is not None:
        found |= _recorded(table.trace, exchange, workers)
    stated = (table.diurnal, table.drift, table.bursts, table.trace)
    return None if stated == (None,) * 4 else Weather(**found)


def hazy(resolved: Resolved) -> str | None:
    """Tell that bursts of loss alone do nothing to a transport that knows no loss."""
    weather = resolved.weather
    if weather is None or weather.bad_loss == 0 or resolved.transport != "ideal":
        return None
    return "link.weather.bursts: bad_loss does nothing to the ideal transport, which knows no loss"
