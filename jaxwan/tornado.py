"""One-at-a-time designs: a base experiment, and each setting moved down and up from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from jaxwan.api import _progress
from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.resolve import resolve_and_warn
from jaxwan.experiment.resolved import Choice, Failures, Renewal, Resolved
from jaxwan.experiment.spec import Experiment
from jaxwan.sweep import plan_job, run_in_memory

BASE = "as it is"
_LINKS = ("up_bps", "down_bps")


class Design(NamedTuple):
    """A base and its variations, ready to run; `moved` are the settings that could be."""

    experiments: list[Resolved]
    moved: tuple[str, ...]
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
    rates = {
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
    "bandwidth": scale_bandwidth,
    "delay": scale_delay,
    "packet loss": scale_loss,
    "failure rate": scale_failures,
    "compute noise": scale_noise,
    "local steps (H)": scale_local_steps,
}
SWITCHES: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "compression": (
        ("none", {"compressor": "none"}),
        ("int8", {"compressor": "int8"}),
        ("topk 1 %", {"compressor": {"kind": "topk", "ratio": 0.01}}),
    ),
}
FACTORS = (*SCALES, *SWITCHES)


def design(base: Experiment, factor: float = 4.0, settings: Sequence[str] = FACTORS) -> Design:
    """Return the base, and every setting divided and multiplied by `factor`, one at a time.

    Compression is not scaled but switched. A setting that changes nothing is left out: the failure
    rate of a fleet without failures, H of a strategy without local steps.

    Raises:
        InputError: for an unknown setting, a factor of at most 1, or a bad base.
    """
    if not factor > 1:
        raise InputError(f"{factor:g} is not above 1", "--factor")
    for name in settings:
        if name not in FACTORS:
            raise unknown_name("setting", name, FACTORS, "--settings")
    plain, warnings = resolve_and_warn(base, {})
    found, moved = [dataclasses.replace(plain, labels=dict.fromkeys(settings, BASE))], []
    for name in settings:
        changed = [
            (label, own) for label, own in _variations(base, plain, name, factor)
            if own != plain
        ]  # fmt: skip
        found += [
            dataclasses.replace(own, labels=dict.fromkeys(settings, BASE) | {name: label})
            for label, own in changed
        ]
        moved += [name] if changed else []
    return Design(found, tuple(moved), tuple(warnings))


def _variations(
    base: Experiment, plain: Resolved, name: str, factor: float
) -> list[tuple[str, Resolved]]:
    if name in SCALES:
        scale = SCALES[name]
        return [(f"÷ {factor:g}", scale(plain, 1 / factor)), (f"× {factor:g}", scale(plain, factor))]
    return [
        (label, resolve_and_warn(base.replace(**changes), {})[0])
        for label, changes in SWITCHES[name]
    ]


def kind_of(choice: Choice) -> str:
    """Name a member for the labels."""
    return choice.kind


def run_design(plan: Design, seeds: Sequence[int], progress: bool = False) -> pd.DataFrame:
    """Run a design and return its frame: one label column per setting, `as it is` at the base."""
    job = plan_job(plan.experiments, tuple(seeds))
    with _progress("moving one setting at a time", progress) as report:
        frame, _ = run_in_memory(job, report)
    return frame
