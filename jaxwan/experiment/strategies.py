"""Strategies: who waits for whom. The protocol itself lives in the world."""

from __future__ import annotations

from typing import NamedTuple

from jaxwan.core.families import Knob, Static

OVERLAP = Knob(False, 0, 1, "the upload streams out during the last backward pass")


class Strategy(NamedTuple):
    """A coordination rule: its protocol is "barrier" (rounds) or "events" (arrivals)."""

    summary: str
    paper: str
    protocol: str
    knobs: dict[str, Knob]
    static: dict[str, Static]


STRATEGIES: dict[str, Strategy] = {
    "sync": Strategy(
        summary="Every round waits for all workers that are alive.",
        paper="Chen et al. 2016, Revisiting Distributed Synchronous SGD",
        protocol="barrier",
        knobs={
            "detection_timeout_steps": Knob(
                10.0, 0, 1e9, "reference steps until a mid-round failure is noticed"
            ),
            "overlap": OVERLAP,
        },
        static={},
    ),
    "async": Strategy(
        summary="Every arrival updates the model; too stale ones are rejected.",
        paper="Recht et al. 2011, Hogwild!; Ho et al. 2013, Stale Synchronous Parallel",
        protocol="events",
        knobs={
            "max_staleness": Knob(
                None,
                0,
                1_000_000_000,
                "server updates since the fetch beyond which a contribution is rejected",
                optional=True,
            ),
            "overlap": OVERLAP,
        },
        static={},
    ),
}
