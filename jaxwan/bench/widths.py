"""How many replicates to train side by side: a scan, beside the width that a sweep chooses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from jaxwan.bench.timing import line, paces
from jaxwan.bench.trainers import chosen_width, trainer
from jaxwan.bench.workloads import MANY, UNIT, WORKLOADS, experiment_of
from jaxwan.cache import keep_programs
from jaxwan.experiment.spec import Experiment

WIDTHS = (1, 2, 4, 8, 16, 32)
SHARE = 0.9  # of the best width's speed that the chosen one must reach
TURNS = 3
COMPILERS = 2  # programs compiled at a time


def proxy(scenario: str, steps: int) -> Experiment:
    """Return synchronous training of a scenario's proxy with sparse updates."""
    settings: dict[str, Any] = dict(
        scenario=scenario, challenge="baseline", strategy="sync", aggregator="mean",
        compressor={"kind": "topk", "ratio": 0.01}, steps=steps, learning={"eval_points": 1},
    )  # fmt: skip
    return Experiment(**settings)


def cases() -> dict[str, Experiment]:
    """Return what the widths are scanned for."""
    return {
        "W1": experiment_of(WORKLOADS[0], 4),
        "W2": experiment_of(WORKLOADS[2], 1),
        "proxy of simple": proxy("simple", 60),
        "proxy of moderate": proxy("moderate", 20),
    }


def scan(name: str, experiment: Experiment, runs: int = MANY) -> list[dict[str, Any]]:
    """Time one experiment at every width on one device."""
    widths = [width for width in WIDTHS if width <= runs]
    with ThreadPoolExecutor(COMPILERS) as pool:
        trained = list(pool.map(partial(trainer, experiment, runs), widths))
    found = paces([own.run for own in trained], [own.amount for own in trained], TURNS)
    speeds, chosen = found.max(axis=0), min(chosen_width(experiment), runs)
    best = float(speeds.max())
    share = float(speeds[widths.index(chosen)]) / best
    lines = [
        line(f"{name}: width {width}", speed, UNIT, ratio=float(speed) / best)
        for width, speed in zip(widths, speeds, strict=True)
    ]
    own = f"{name}: chosen width {chosen}; ratio: share of the best"
    fast = float(speeds[widths.index(chosen)])
    return [*lines, line(own, fast, UNIT, ratio=share, target=SHARE, ok=share >= SHARE)]


def bench_widths() -> list[dict[str, Any]]:
    """Scan the block widths of the standard workloads and two proxies."""
    keep_programs()
    return [row for name, own in cases().items() for row in scan(name, own)]
