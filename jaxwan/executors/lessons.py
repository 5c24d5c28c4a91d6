"""Learn once, price thousands: runs whose ticks and learning settings coincide share one learner.

A learner never sees a clock, so its curve is decided by its plan, its knobs, its seed and the ticks
that its world made. A 256-bit digest of the last three (BLAKE2b) names the curve; two runs of one
digest are taken for the same. A synchronous loss curve is thus trained once for all bandwidths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jaxwan import engine
from jaxwan.engine import Timed, Trained
from jaxwan.learning.learner import Curve
from jaxwan.work import Chunk, Program, places

DIGEST_BYTES = 32


class Tally(NamedTuple):
    """How many runs wanted a curve, and how many were trained for it."""

    wanted: int = 0
    trained: int = 0


class _Class:
    """Runs that are trained together: a device array now, NumPy `[run, ...]` once asked for."""

    def __init__(self, started: Trained) -> None:
        self._started: Trained | None = started
        self._curves: Trained | None = None

    def curves(self) -> Trained:
        """Wait for the curves, by place `[device x run, ...]`."""
        if self._curves is None:
            host = jax.tree.map(np.asarray, jax.block_until_ready(self._started))
            self._curves = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), host)
            self._started = None
        return self._curves


Seat = tuple[_Class, int]  # where a run's curve is found


class Asked(NamedTuple):
    """The seats of a batch's runs, chunk after chunk."""

    seats: list[list[Seat]]

    def trained(self, chunk: int) -> Trained:
        """Return the curves of one chunk's runs `[run, ...]`."""
        found = [(own.curves(), place) for own, place in self.seats[chunk]]
        columns = zip(*([x[place] for x in (*own.curve, own.floor)] for own, place in found),
                      strict=True)  # fmt: skip
        *curve, floor = (cast(Any, np.stack(column)) for column in columns)
        return Trained(Curve(*curve), floor)


def digests(knobs: Any, seeds: np.ndarray, ticks: Any, lengths: Iterable[int]) -> list[bytes]:
    """Name what decides each run's curve: knobs, seeds and ticks `[run, ...]`, NumPy.

    Only the first `lengths` ticks count: those after a run's end are room that nobody fills.
    """
    columns = [np.ascontiguousarray(x) for x in jax.tree.leaves(knobs)]
    stream = [np.ascontiguousarray(x) for x in jax.tree.leaves(ticks)]
    found = []
    for run, length in enumerate(lengths):
        digest = hashlib.blake2b(seeds[run].tobytes(), digest_size=DIGEST_BYTES)
        for column in columns:
            digest.update(column[run].tobytes())
        for column in stream:
            digest.update(column[run, :length].tobytes())
        found.append(digest.digest())
    return found


class Lessons:
    """The curves of one compiled learner, trained as they are asked for.

    With `share` a curve is trained once, without it for every run; the rows are the same.
    """

    def __init__(self, learner: engine.Compiled, share: bool) -> None:
        self._learner = learner
        self._share = share
        self._known: dict[bytes, Seat] = {}
        self.tally = Tally()

    def ask(self, program: Program, batch: list[Chunk], timed: Timed) -> Asked:
        """Start training what is new in a batch; `timed` in NumPy `[device, run, ...]`."""
        rows = places(program, batch)[: len(batch)]
        wanted = [(i, run) for i, chunk in enumerate(batch) for run in range(chunk.wanted)]
        index = np.array([i * program.runs + run for i, run in wanted])
        knobs = jax.tree.map(lambda column: column[rows.ravel()[index]], program.knobs.learn)
        seeds = np.stack([chunk.seed for chunk in batch]).ravel()[index]
        ticks = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[index], timed.ticks)
        names: list[Any] = list(range(len(index)))
        if self._share:
            names = digests(knobs, seeds, ticks, knobs.ticks)
        known = self._known if self._share else {}
        new = {name: place for place, name in reversed(list(enumerate(names))) if name not in known}
        picked = np.array(sorted(new.values()), np.int64)
        if len(picked):
            seats = self._train(program, *jax.tree.map(lambda x: x[picked], (knobs, seeds, ticks)))
            known |= {names[place]: seat for place, seat in zip(picked, seats, strict=True)}
        self.tally = Tally(self.tally.wanted + len(index), self.tally.trained + len(picked))
        own = iter([known[name] for name in names])
        return Asked([[next(own) for _ in range(chunk.wanted)] for chunk in batch])

    def _train(self, program: Program, knobs: Any, seeds: np.ndarray, ticks: Any) -> list[Seat]:
        """Start training runs `[run, ...]`, whole blocks dealt out to the devices in turn."""
        devices, runs, block = self._learner.devices, program.runs, program.plan.block
        number = np.arange(len(seeds))
        turn, inside = number // block, number % block
        device, place = turn % devices, turn // devices * block + inside
        count = np.bincount(device, minlength=devices).astype(np.int32)
        source = np.full((devices, runs), len(seeds) - 1)  # room repeats the last one
        source[device, place] = number
        full = jax.tree.map(lambda x: x[source], (knobs, seeds))
        started = self._learner(*full, count, jax.tree.map(lambda x: x[source], ticks))
        own = _Class(started)
        return [(own, int(d * runs + p)) for d, p in zip(device, place, strict=True)]
