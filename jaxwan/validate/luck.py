"""Outages against the availabilities they are named for, and luck that belongs to its owner alone.

What is compared exactly has a target of zero.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan import engine
from jaxwan.experiment.catalog import presets
from jaxwan.experiment.lower import group
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.spec import Experiment
from jaxwan.validate.check import Check
from jaxwan.world.state import Moment
from jaxwan.world.watch import Spells

TITLE = "Outages and luck"
WORKERS, ROOM = 3000, 48  # workers of a preset, and spells of each
CYCLES = (0.1, 1.0, 2.5)  # mean cycles of up and down after which the share is taken
EXACT = "that differ"


def seconds(instant: Any) -> np.ndarray:
    """Return float64 seconds of instants."""
    return instant.seconds.astype(np.float64) + instant.fraction / 2.0**20


def experiment(**settings: Any) -> Experiment:
    """Return a timing-only experiment with some settings."""
    usual: dict[str, Any] = {
        "scenario": "simple", "strategy": "async", "buffer": 1, "compressor": "none",
        "aggregator": "mean", "timing_only": True, "steps": 20,
    }  # fmt: skip
    return Experiment(**usual | settings)


def spells(own: Experiment, seed: int, room: int) -> Spells:
    """Return everybody's first spells in the world of an experiment."""
    (batch,) = group([resolve(own)])
    return engine.world_spells(batch.world, room, _one(batch.world_knobs), seed)


def _one(knobs: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], knobs)


def up_s(found: Spells, until_s: float) -> np.ndarray:
    """Return the seconds each worker is up until a time.

    Raises:
        ValueError: where the spells may not reach that far.
    """
    start, end = (np.minimum(seconds(at), until_s) for at in (found.start, found.end))
    if (start[:, -1] < until_s).any():
        raise ValueError(f"more than {start.shape[1]} spells in {until_s:g} s")
    return until_s - np.sum(end - start, axis=1)


def preset_check(name: str) -> Check:
    """Compare the share of time up, from the start on, with mean up / (mean up + mean down)."""
    own = experiment(workers=WORKERS, failures={"transient": name})
    process = resolve(own).failures.transient
    assert process is not None
    mean_s = process.up_mean + process.down_mean
    found = spells(own, 7, ROOM)
    worst = 0.0
    for cycles in CYCLES:
        share = up_s(found, cycles * mean_s) / (cycles * mean_s)
        error = share.std(ddof=1) / np.sqrt(WORKERS)
        worst = max(worst, abs(share.mean() - process.up_mean / mean_s) / error)
    truth = f"availability of {name} at {len(CYCLES)} early times"
    return Check(truth, "mean up / (mean up + mean down)", WORKERS, float(worst), 3.0,
                 "standard errors")  # fmt: skip


RECORD = ((0, 0.75, 2.5), (0, 6.0, 7.25), (1, 3.5, 3.625), (1, 9.0, 9.0 + 2.0**-20), (2, 1.0, 4.0))


def replay_check() -> Check:
    """Compare the time up in a replayed record with the record, exactly."""
    lines = [f"{worker},{down!r},{up!r}" for worker, down, up in RECORD]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.csv"
        file.write_text("\n".join(["worker,down_s,up_s", *lines]) + "\n", encoding="utf-8")
        own = experiment(failures={"replay": str(file)}, steps=400)
        (batch,) = group([resolve(own)])
    moments, outcome = engine.watch(batch.world, _one(batch.world_knobs), 0)
    until_s = float(seconds(outcome.now))
    wrong = 0
    for worker in range(4):
        down = sum(max(min(up, until_s) - min(at, until_s), 0.0)
                   for who, at, up in RECORD if who == worker)  # fmt: skip
        wrong += int(seconds(outcome.up)[worker] != until_s - down)
    ran = until_s > max(up for *_, up in RECORD) and len(moments.now.seconds) > 0
    return Check("time up in a replayed record", "the record itself", len(RECORD),
                 float(wrong if ran else len(RECORD)), 0.0, f"workers {EXACT}")  # fmt: skip


class Run(NamedTuple):
    """One run's luck."""

    computed: dict[tuple[int, int], float]  # seconds of computation by worker and cycle
    spells: Spells


TROUBLE = {"transient": {"mtbf_s": 6.0, "duration_s": 1.5, "down_law": "exponential"}}


def luck(**settings: Any) -> Run:
    """Return the computation of every undisturbed cycle and the outages of one run."""
    own = experiment(challenge="wan_bandwidth", failures=TROUBLE, **settings)
    (batch,) = group([resolve(own)])
    knobs = _one(batch.world_knobs)
    moments, _ = engine.watch(batch.world, knobs, 3)
    return Run(computed_s(moments), engine.world_spells(batch.world, 12, knobs, 3))


def computed_s(moments: Moment) -> dict[tuple[int, int], float]:
    """Return the seconds of computation of the cycles that were not lost."""
    lived = moments.lived
    assert lived is not None
    kept = np.ravel(lived.began & ~lived.lost)
    columns = (np.ravel(x)[kept] for x in (lived.worker, lived.cycle, lived.busy_s))
    return {(int(w), int(c)): float(s) for w, c, s in zip(*columns, strict=True)}


def differences(one: Run, other: Run) -> tuple[int, int]:
    """Return how many draws two runs share, and how many of them differ."""
    shared = one.computed.keys() & other.computed.keys()
    wrong = sum(one.computed[key] != other.computed[key] for key in shared)
    width = min(one.spells.process.shape[0], other.spells.process.shape[0])
    for mine, theirs in zip(one.spells[1:], other.spells[1:], strict=True):
        wrong += int(np.sum(seconds(mine)[:width] != seconds(theirs)[:width]))
    return len(shared) + 2 * seconds(one.spells.start)[:width].size, wrong


def common_checks() -> list[Check]:
    """Compare the luck of runs that differ in something that is none of its business."""
    plain = luck()
    cases = {
        "another transport": luck(link={"transport": "cubic"}),
        "a fifth worker": luck(workers=5),
        "another strategy": luck(strategy="sync"),
    }
    found = []
    for name, other in cases.items():
        count, wrong = differences(plain, other)
        found.append(Check(f"outages and compute noise under {name}", "the same run without",
                           count, float(wrong), 0.0, f"draws {EXACT}"))  # fmt: skip
    return found


def checks() -> list[Check]:
    """Compare every preset, a record, and the luck of runs that differ."""
    return [*map(preset_check, presets()), replay_check(), *common_checks()]
