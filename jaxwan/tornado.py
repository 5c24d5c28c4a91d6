"""One-at-a-time designs: a base experiment, and each setting moved down and up from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxwan.api import progress_bar
from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.resolve import resolve_and_warn
from jaxwan.experiment.resolved import Failures, Renewal, Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.sweep import plan_job, run_in_memory

_LINKS = ("up_bps", "down_bps")


class Design(NamedTuple):
    """A base and its variations, ready to run; `base` holds its value of every setting."""

    experiments: list[Resolved]
    base: dict[str, Any]
    warnings: tuple[str, ...]


def _scaled_workers(own: Resolved, names: Sequence[str], factor: float, most: float) -> Resolved:
    workers = tuple(
        dataclasses.replace(
            worker, **{name: min(getattr(worker, name) * factor, most) for name in names}
        )
        for worker in own.workers
    )
    return dataclasses.replace(own, workers=workers)


def scale_bandwidth(own: Resolved, factor: float) -> Resolved:
    """Multiply every link's bandwidth, both ways."""
    return _scaled_workers(own, _LINKS, factor, float("inf"))


def scale_delay(own: Resolved, factor: float) -> Resolved:
    """Multiply every link's delay."""
    return _scaled_workers(own, ("delay_s",), factor, float("inf"))


def scale_loss(own: Resolved, factor: float) -> Resolved:
    """Multiply every link's packet loss, up to 90 %."""
    return _scaled_workers(own, ("loss",), factor, 0.9)


def scale_failures(own: Resolved, factor: float) -> Resolved:
    """Multiply the rate of every failure that happens; how long each lasts stays."""
    rates: dict[str, Any] = {
        field.name: dataclasses.replace(process, up_mean=process.up_mean / factor)
        for field in dataclasses.fields(Failures)
        if isinstance(process := getattr(own.failures, field.name), Renewal)
    }
    return dataclasses.replace(own, failures=dataclasses.replace(own.failures, **rates))


def scale_noise(own: Resolved, factor: float) -> Resolved:
    """Multiply the sigma of the compute noise, up to 5."""
    return dataclasses.replace(own, compute_sigma=min(own.compute_sigma * factor, 5.0))


def scale_local_steps(own: Resolved, factor: float) -> Resolved:
    """Multiply the local steps H of a strategy that has them, to at least one."""
    if "local_steps" not in own.strategy.static:
        return own
    steps = max(round(own.strategy.static["local_steps"] * factor), 1)
    static = own.strategy.static | {"local_steps": steps}
    return dataclasses.replace(own, strategy=dataclasses.replace(own.strategy, static=static))


SCALES: dict[str, Callable[[Resolved, float], Resolved]] = {
    "bandwidth ×": scale_bandwidth,
    "delay ×": scale_delay,
    "packet loss ×": scale_loss,
    "failure rate ×": scale_failures,
    "compute noise ×": scale_noise,
    "local_steps": scale_local_steps,
}
COMPRESSION: dict[str, Any] = {
    "none": "none", "int8": "int8", "topk 1 %": {"kind": "topk", "ratio": 0.01},
}  # fmt: skip
SETTINGS = ("bandwidth", "delay", "packet loss", "failure rate", "compute noise", "local steps",
            "compression")  # fmt: skip


def design(base: Experiment, factor: float = 4.0, settings: Sequence[str] = SETTINGS) -> Design:
    """Return the base, and every setting divided and multiplied by `factor`, one at a time.

    Compression is switched instead. A setting that changes nothing is left out: the failure rate
    of a fleet without failures, H of a strategy without local steps.

    Raises:
        InputError: for an unknown setting, a factor of at most 1, or a bad base.
    """
    if not factor > 1:
        raise InputError(f"{factor:g} is not above 1", "--factor")
    for name in settings:
        if name not in SETTINGS:
            raise unknown_name("setting", name, SETTINGS, "--settings")
    plain, warnings = resolve_and_warn(base, {})
    columns = [name for name in SCALES if name.replace("_", " ").removesuffix(" ×") in settings]
    origin: dict[str, Any] = {name: _value(plain, name, 1.0) for name in columns}
    varied: list[tuple[str, Any, Resolved]] = [
        (name, _value(own, name, scale), own)
        for name in columns for scale in (1 / factor, factor)
        if (own := SCALES[name](plain, scale)) != plain
    ]  # fmt: skip
    if "compression" in settings:
        origin["compression"] = "as it is"
        others = {name: resolve_and_warn(base.replace(compressor=member), {})[0]
                  for name, member in COMPRESSION.items()}  # fmt: skip
        same = [name for name, own in others.items() if own == plain]
        origin["compression"] = same[0] if same else plain.compressor.kind
        varied += [("compression", name, own) for name, own in others.items() if own != plain]
    moved = {name for name, _, _ in varied}
    origin = {name: value for name, value in origin.items() if name in moved}
    found = [dataclasses.replace(plain, labels=origin)]
    found += [dataclasses.replace(own, labels=origin | {name: v}) for name, v, own in varied]
    return Design(found, origin, tuple(warnings))


def _value(own: Resolved, name: str, scale: float) -> float | int:
    """Return what a variation is called: its factor, or its number of local steps."""
    return own.strategy.static.get("local_steps", 1) if name == "local_steps" else scale


def run_design(plan: Design, seeds: Sequence[int], progress: bool = False) -> pd.DataFrame:
    """Run a design and return its frame, with a column per setting that moves."""
    job = plan_job(plan.experiments, tuple(seeds))
    with progress_bar("moving one setting at a time", progress) as report:
        frame, _ = run_in_memory(job, report)
    return frame.assign(compressor=plan.experiments[0].compressor.kind)  # one setting, one column
