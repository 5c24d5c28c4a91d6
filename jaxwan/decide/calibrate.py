"""Calibrate: from a log of pings, transfers and steps to a fleet file with its uncertainty.

A log is a CSV of `worker, kind, value` and, if wanted, `unit` and `region`. Kinds are rtt (a ping's
round trip), up and down (a transfer's rate, as iperf tells it), step (a gradient step) and loss (a
share of lost packets).
"""

from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from jaxwan.experiment.errors import InputError, shown, unknown_name
from jaxwan.stats.bootstrap import bca_interval, weighted_quantile
from jaxwan.stats.intervals import mean_interval, quantile_interval

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
RATES = {"bps": 1.0, "kbps": 1e3, "Mbps": 1e6, "Gbps": 1e9}
UNITS: dict[str, dict[str, float]] = {
    "rtt": SECONDS, "up": RATES, "down": RATES, "step": SECONDS, "loss": {"": 1.0, "%": 0.01},
}  # fmt: skip
NEEDED, OPTIONAL = ("worker", "kind", "value"), ("unit", "region")
LEAST = {"rtt": 0.0, "up": 0.0, "down": 0.0, "step": 0.0, "loss": -math.inf}  # exclusive
NORMAL_QUARTILES = 1.349  # between a normal's quartiles, in standard deviations
FIELDS = ("speed", "up_bps", "down_bps", "delay_s", "jitter_s", "loss")


class Figure(NamedTuple):
    """An estimate, its interval (NaN where n is too small for one), and how many values it has."""

    value: float
    low: float
    high: float
    n: int


class Measured(NamedTuple):
    """One worker's values by kind, in seconds, bit/s and shares."""

    name: str
    region: str
    values: dict[str, list[float]]


class Calibration(NamedTuple):
    """A fleet with the uncertainty of every figure."""

    workers: dict[str, dict[str, Figure]]  # worker -> field -> figure
    regions: dict[str, str]
    sigma: Figure | None  # of the noise of computing; None where no step was measured twice
    reference_s: float | None  # the step that speed 1 takes
    notes: list[str]
    toml: str


def read_log(path: str | os.PathLike[str]) -> list[Measured]:
    """Read a log.

    Raises:
        InputError: naming file, line, column, value and what is allowed.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"no such file: {path}")
    try:
        return _read(file)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InputError(f"{file}: not a CSV in UTF-8 ({error})") from None


def _read(file: Path) -> list[Measured]:
    found: dict[str, Measured] = {}
    with file.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened, skipinitialspace=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        _check_header(columns)
        reader.fieldnames = columns
        for row in reader:
            try:
                _add(found, row)
            except InputError as error:
                raise InputError(f"line {reader.line_num}: {error}") from None
    if not found:
        raise InputError("the log has no measurements")
    return list(found.values())


def _check_header(columns: list[str]) -> None:
    for name in NEEDED:
        if name not in columns:
            raise InputError(f"missing column {name!r} (needed: {', '.join(NEEDED)})")
    for name in columns:
        if name not in (*NEEDED, *OPTIONAL):
            raise unknown_name("column", name, (*NEEDED, *OPTIONAL))
    if len(set(columns)) < len(columns):
        raise InputError("a column stands twice")


def _add(found: dict[str, Measured], row: dict[Any, Any]) -> None:
    if None in row or None in row.values():
        raise InputError("the number of cells differs from the header's")
    cells = {name: text.strip() for name, text in row.items()}
    name, kind = cells["worker"], cells["kind"]
    if not name:
        raise InputError("is empty", "worker")
    for column in ("worker", "region"):
        if not cells.get(column, "").isprintable():
            problem = f"{shown(cells[column])} has characters that cannot be printed"
            raise InputError(problem, column)
    if kind not in UNITS:
        raise unknown_name("kind", kind, UNITS, "kind")
    value = _value(kind, cells["value"], cells.get("unit", ""))
    region = cells.get("region") or name
    own = found.setdefault(name, Measured(name, region, {}))
    if cells.get("region") and own.region not in (region, name):
        raise InputError(f"{shown(name)} is in {shown(own.region)} on an earlier line", "region")
    found[name] = own._replace(region=region if cells.get("region") else own.region)
    own.values.setdefault(kind, []).append(value)


def _value(kind: str, text: str, unit: str) -> float:
    units = UNITS[kind]
    if unit and unit not in units:
        raise unknown_name("unit", unit, units, "unit")
    try:
        value = float(text) * units.get(unit, 1.0)
    except ValueError:
        raise InputError(f"expected a number, got {shown(text)}", "value") from None
    top = 1.0 if kind == "loss" else 1e18
    if not (math.isfinite(value) and value > LEAST[kind] and value < top) or value < 0:
        allowed = "0 to below 1" if kind == "loss" else "above 0"
        raise InputError(f"{shown(text)} is not allowed for {kind} (allowed: {allowed})", "value")
    return value


def calibrate(
    log: str | os.PathLike[str], reference_s: float | None = None, confidence: float = 0.95
) -> Calibration:
    """Turn a log into a fleet.

    One-way delay is half the median round trip, jitter its spread between quartiles over the root
    of two (two ways, independent), a rate the median of its transfers, speed `reference_s` (the
    fastest worker's mean step unless told) over the mean step, loss the mean. The noise of
    computing is pooled over the workers, as the standard deviation of log steps.

    Intervals: order statistics for medians, BCa for jitter, Student's t for means, chi-square for
    the noise.

    Raises:
        InputError: for a malformed log, or a worker without pings or transfers.
    """
    if not 0 < confidence < 1 or (reference_s is not None and not 0 < reference_s < 1e9):
        raise InputError("confidence must lie between 0 and 1 and the reference step above 0")
    measured = read_log(log)
    steps = [np.mean(one.values["step"]) for one in measured if "step" in one.values]
    reference = reference_s or (float(min(steps)) if steps else None)
    workers: dict[str, dict[str, Figure]] = {}
    notes: list[str] = []
    for one in measured:
        workers[one.name] = _worker(one, reference, confidence, notes)
    regions = {one.name: one.region for one in measured}
    sigma = _noise(measured, confidence)
    found = Calibration(workers, regions, sigma, reference, notes, "")
    return found._replace(toml=as_toml(found, Path(log).name, confidence))


def _worker(
    one: Measured, reference: float | None, confidence: float, notes: list[str]
) -> dict[str, Figure]:
    values = one.values
    if "rtt" not in values:
        raise InputError(f"worker {one.name!r} has no rtt: measure its ping")
    if "up" not in values and "down" not in values:
        raise InputError(f"worker {one.name!r} has neither up nor down: measure a transfer")
    for name, other in (("up", "down"), ("down", "up")):
        if name not in values:
            notes.append(f"{one.name}: no {name} was measured; it is taken to be as {other}")
    figures = {}
    if "step" in values and reference:
        mean = _mean(values["step"], confidence)
        figures["speed"] = Figure(reference / mean.value, reference / mean.high,
                                  reference / mean.low, mean.n)  # fmt: skip
    else:
        notes.append(f"{one.name}: no step was measured; its speed is taken to be 1")
    for name, other in (("up", "down"), ("down", "up")):
        figures[f"{name}_bps"] = _median(values.get(name) or values[other], confidence)
    trip = _median(values["rtt"], confidence)
    figures["delay_s"] = trip._replace(value=trip.value / 2, low=trip.low / 2, high=trip.high / 2)
    figures["jitter_s"] = _jitter(values["rtt"], confidence)
    if "loss" in values:
        loss = _mean(values["loss"], confidence)
        figures["loss"] = loss._replace(low=max(loss.low, 0.0), high=min(loss.high, 1.0))
    return figures


def _mean(x: list[float], confidence: float) -> Figure:
    found = mean_interval(np.asarray(x), confidence)
    return Figure(float(found.mean), float(found.low), float(found.high), len(x))


def _median(x: list[float], confidence: float) -> Figure:
    found = quantile_interval(np.asarray(x), 0.5, confidence)
    sides = [float(side) if math.isfinite(side) else math.nan for side in (found.low, found.high)]
    return Figure(float(np.median(x)), sides[0], sides[1], len(x))


def _spread(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a normal with the quartiles of x, one way."""
    gap = weighted_quantile(weights, x, 0.75) - weighted_quantile(weights, x, 0.25)
    return gap / NORMAL_QUARTILES / math.sqrt(2)


def _jitter(x: list[float], confidence: float) -> Figure:
    values = np.asarray(x)[:, None]
    if len(x) < 8:
        value = float(_spread(np.ones((1, len(x))), values)[0, 0]) if len(x) > 1 else 0.0
        return Figure(value, math.nan, math.nan, len(x))
    found = bca_interval(values, statistic=_spread, confidence=confidence)
    center, low, high = (float(np.ravel(side)[0]) for side in (found.mean, found.low, found.high))
    return Figure(center, low, high, len(x))


def _noise(measured: list[Measured], confidence: float) -> Figure | None:
    squares, freedom, n = 0.0, 0, 0
    for one in measured:
        steps = np.log(one.values.get("step", []))
        if len(steps) > 1:
            squares += float(np.sum((steps - steps.mean()) ** 2))
            freedom += len(steps) - 1
            n += len(steps)
    if not freedom:
        return None
    tail = (1 - confidence) / 2
    high, low = (float(special.chdtri(freedom, 1 - side)) for side in (tail, 1 - tail))
    center, least, most = (math.sqrt(squares / by) for by in (freedom, low, high))
    return Figure(center, least, most, n)


def _written(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"


def _around(figure: Figure, confidence: float) -> str:
    if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return f"{figure.n} measured, too few for an interval"
    sides = f"{_written(figure.low)} to {_written(figure.high)}"
    return f"{100 * confidence:g} %: {sides}, {figure.n} measured"


def _quoted(text: str) -> str:
    bare = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{bare}"'


def as_toml(found: Calibration, source: str, confidence: float) -> str:
    """Write a fleet file: every figure with its interval behind it."""
    lines = [f"# Measured: from {source if source.isprintable() else 'a log'}."]
    if found.reference_s:
        lines.append(f"# Speed 1 takes {_written(found.reference_s)} s a step.")
    if found.sigma:
        lines.append(f"# The noise of computing is not the fleet's: set compute.sigma = "
                     f"{_written(found.sigma.value)}")  # fmt: skip
        lines.append(f"# in the experiment ({_around(found.sigma, confidence)}).")
    lines += [f"# {note}." for note in found.notes]
    lines.append(f"description = {_quoted(f'{len(found.workers)} workers, measured.')}")
    for name, figures in found.workers.items():
        lines += ["", "[[worker]]", f"name = {_quoted(name)}",
                  f"region = {_quoted(found.regions[name])}"]  # fmt: skip
        for field in FIELDS:
            if field in figures:
                own = figures[field]
                lines.append(f"{field} = {own.value:.6g}  # {_around(own, confidence)}")
            elif field == "speed":
                lines.append("speed = 1.0  # not measured")
    return "\n".join(lines) + "\n"
