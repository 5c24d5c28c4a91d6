"""Strategies: who waits for whom. The protocol itself lives in the world."""

from __future__ import annotations

from typing import NamedTuple

from jaxwan.core.families import Knob, Static

DETECTION = Knob(10.0, 0, 1e9, "reference steps until a mid-round failure is noticed")
OVERLAP = Knob(False, 0, 1, "the upload streams out during the last backward pass")


ROUND = {
    "quorum": Knob(1.0, 0.0, 1.0, "share of the workers that closes a round", open_low=True),
    "backup": Knob(0, 0, 1_000_000, "workers of a round that need not arrive"),
    "deadline_s": Knob(None, 0.0, 1e9, "seconds after which a round closes", open_low=True,
                       optional=True),
    "mad": Knob(None, 0.0, 1e6, "median absolute deviations above the median arrival that "
                "close a round", optional=True),
    "overlap_steps": Knob(0.0, 0.0, 1e6, "steps behind which the exchange hides; timing only"),
    "detection_timeout_steps": DETECTION,
    "overlap": OVERLAP,
}  # fmt: skip
FRAGMENTS = Static(1, "parts of the model that are exchanged in turn; timing only", low=1,
                   high=100_000)  # fmt: skip


class Strategy(NamedTuple):
    """A coordination rule: its protocol is "barrier" (rounds) or "events" (arrivals).

    Where `outer` names an optimizer, workers take `local_steps` steps of the inner optimizer and
    the server applies `outer` to their mean difference, with the knobs `outer_lr` and
    `outer_momentum`. `inner` is the usual inner optimizer (kind, knobs); None is the scenario's.
    """

    summary: str
    paper: str
    protocol: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    outer: str = ""
    inner: tuple[str, dict[str, float]] | None = None


def local(outer_lr: float, outer_momentum: float) -> dict[str, Knob]:
    """Return the knobs of a strategy with local steps."""
    return {
        "outer_lr": Knob(outer_lr, 0.0, 100.0, "server step on the workers' mean difference",
                         open_low=True),
        "outer_momentum": Knob(outer_momentum, 0.0, 0.9999, "momentum of the server"),
        **ROUND,
    }  # fmt: skip


STRATEGIES: dict[str, Strategy] = {
    "sync": Strategy(
        summary="Every round waits for all workers that are alive.",
        paper="Chen et al. 2016, Revisiting Distributed Synchronous SGD",
        protocol="barrier",
        knobs=ROUND,
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
        static={
            "on_stale": Static(
                "reject", "what a worker beyond the bound meets: its update is rejected, or it "
                "waits for the slowest (max_staleness then counts cycles ahead)",
                choices=("reject", "block"),
            ),
        },
    ),
    "local_sgd": Strategy(
        summary="Rounds of several local steps; the server merges the differences.",
        paper="Stich 2019, Local SGD Converges Fast and Communicates Little",
        protocol="barrier",
        knobs=local(1.0, 0.0),
        static={
            "local_steps": Static(8, "gradient steps between two exchanges", low=1, high=100_000),
            "fragments": FRAGMENTS,
            "nesterov": Static(False, "Nesterov's form of the server's momentum"),
        },
        outer="momentum",
    ),
    "diloco": Strategy(
        summary="Local AdamW steps; the server takes Nesterov steps on the differences.",
        paper="Douillard et al. 2023, DiLoCo, algorithm 1",
        protocol="barrier",
        knobs=local(0.7, 0.9),
        static={
            "local_steps": Static(50, "gradient steps between two exchanges", low=1, high=100_000),
            "fragments": FRAGMENTS,
            "nesterov": Static(True, "Nesterov's form of the server's momentum"),
        },
        outer="momentum",
        inner=("adamw", {"lr": 0.01}),
    ),
}
