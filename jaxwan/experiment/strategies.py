"""Strategies: who waits for whom. The protocol itself lives in the world."""

from __future__ import annotations

from typing import NamedTuple

from jaxwan.core.families import Knob, Static
from jaxwan.learning.optimizers import OPTIMIZERS

DETECTION = Knob(10.0, 0, 1e9, "reference steps until a mid-round failure is noticed")
AHEAD = Knob(0.0, 0.0, 1e6, "steps behind which the exchange hides")
DILOCO_INNER = ("adamw", {"lr": 0.01})
OVERLAP = Knob(False, 0, 1, "the upload streams out during the last backward pass")


ROUND = {
    "quorum": Knob(1.0, 0.0, 1.0, "share of the workers that closes a round", open_low=True),
    "backup": Knob(0, 0, 1_000_000, "workers of a round that need not arrive"),
    "deadline_s": Knob(None, 0.0, 1e9, "seconds after which a round closes", open_low=True,
                       optional=True),
    "mad": Knob(None, 0.0, 1e6, "median absolute deviations above the median arrival that "
                "close a round", optional=True),
    "overlap_steps": AHEAD,
    "detection_timeout_steps": DETECTION,
    "overlap": OVERLAP,
}  # fmt: skip
FRAGMENTS = Static(1, "equal parts of the model that are exchanged in turn", low=1, high=100_000)
BALANCE = Static(False, "workers take steps in proportion to their speed, the fastest all of them")
OUTER = Static("momentum", "the server's optimizer", choices=tuple(OPTIMIZERS))
MIXING = "share of its own model that a worker keeps when it takes the server's over"


class Strategy(NamedTuple):
    """A coordination rule: its protocol is "barrier" (rounds) or "events" (arrivals).

    Where `static` has `local_steps`, workers take so many steps of the inner optimizer and the
    server applies the optimizer `outer` to their mean difference, with the knobs `outer_…`. `inner`
    is the usual inner optimizer (kind, knobs); None is the scenario's. `exchange` and `buffer` are
    the usual ones. `own` says that workers keep models of their own (see LearnPlan).
    """

    summary: str
    paper: str
    protocol: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    inner: tuple[str, dict[str, float]] | None = None
    exchange: str = "star"
    buffer: int | None = None
    own: str = ""


def outer(lr: float, momentum: float) -> dict[str, Knob]:
    """Return the knobs of the server's optimizer."""
    return {
        "outer_lr": Knob(lr, 0.0, 100.0, "server step on the workers' mean difference",
                         open_low=True),
        "outer_momentum": Knob(momentum, 0.0, 0.9999, "momentum of the server"),
    }  # fmt: skip


def local(lr: float, momentum: float, mixing: float = 0.0) -> dict[str, Knob]:
    """Return the knobs of a strategy with rounds of local steps."""
    return {**outer(lr, momentum), "mixing": Knob(mixing, 0.0, 1.0, MIXING), **ROUND}


def steps(local_steps: int, nesterov: bool, **more: Static) -> dict[str, Static]:
    """Return the static arguments of a strategy with local steps."""
    return {
        "local_steps": Static(local_steps, "gradient steps between two exchanges", low=1,
                              high=100_000),
        "outer": OUTER,
        "nesterov": Static(nesterov, "Nesterov's form of the server's momentum"),
        "balance": BALANCE,
        **more,
    }  # fmt: skip


STALENESS = {
    "max_staleness": Knob(
        None,
        0,
        1_000_000_000,
        "server updates since the fetch beyond which a contribution is rejected",
        optional=True,
    ),
    "staleness_power": Knob(0.0, 0.0, 10.0, "an update of age a is shrunk by (1 + a)**-power"),
    "overlap": OVERLAP,
}
ON_STALE = Static(
    "reject",
    "what a worker beyond the bound meets: its update is rejected, or it waits for the slowest "
    "(max_staleness then counts cycles ahead)",
    choices=("reject", "block"),
)
OUTER_DELAY = Knob(4, 1, 1_000_000, "updates between two momenta of delayed_nesterov")
OUTER_SPREAD = Knob(0.0, 0.0, 1.0, "share of the momentum that delayed_nesterov applies at once")


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
        knobs=STALENESS,
        static={"on_stale": ON_STALE},
    ),
    "local_sgd": Strategy(
        summary="Rounds of several local steps; the server merges the differences.",
        paper="Stich 2019, Local SGD Converges Fast and Communicates Little",
        protocol="barrier",
        knobs=local(1.0, 0.0),
        static=steps(8, False, fragments=FRAGMENTS),
    ),
    "diloco": Strategy(
        summary="Local AdamW steps; the server takes Nesterov steps on the differences.",
        paper="Douillard et al. 2023, DiLoCo, algorithm 1",
        protocol="barrier",
        knobs=local(0.7, 0.9),
        static=steps(50, True, fragments=FRAGMENTS),
        inner=DILOCO_INNER,
    ),
    "streaming_diloco": Strategy(
        summary="DiLoCo that exchanges a part of the model at a time, behind the next steps.",
        paper="Douillard et al. 2025, Streaming DiLoCo, algorithm 2",
        protocol="barrier",
        knobs=local(0.4, 0.9, 0.5) | {"overlap_steps": AHEAD._replace(default=5.0)},
        static=steps(48, True, fragments=FRAGMENTS._replace(default=4)),
        inner=DILOCO_INNER,
        exchange="ring",
    ),
    "elastic": Strategy(
        summary="Workers keep their own models; they and the server's pull at one another.",
        paper="Zhang, Choromanska and LeCun 2015, Elastic averaging SGD, equations 5 and 6",
        protocol="barrier",
        knobs=local(0.9, 0.0, 0.8),
        static=steps(8, False),
        own="elastic",
    ),
    "gossip_sgd": Strategy(
        summary="No server: after its local steps every worker averages with a random other.",
        paper="Boyd et al. 2006, Randomized gossip algorithms; Lian et al. 2017",
        protocol="barrier",
        knobs=ROUND,
        static={"local_steps": Static(1, "gradient steps between two exchanges", low=1,
                                      high=100_000)},
        exchange="gossip",
        own="gossip",
    ),
    "hierarchical_sgd": Strategy(
        summary="Regions average in every round and merge with one another now and then.",
        paper="Jaghouar et al. 2024, INTELLECT-1; Lin et al. 2020, hierarchical local SGD",
        protocol="barrier",
        knobs=outer(0.7, 0.9) | {
            "outer_every": Knob(10, 1, 1_000_000, "rounds between two merges of the regions")
        } | ROUND,
        static=steps(1, True),
        exchange="hierarchical",
        own="regions",
    ),
    "async_local_sgd": Strategy(
        summary="Every arrival of a worker's local steps updates the model.",
        paper="Liu et al. 2024, Asynchronous local-SGD training for language modeling",
        protocol="events",
        knobs=outer(0.7, 0.9) | {"outer_delay": OUTER_DELAY, "outer_spread": OUTER_SPREAD}
        | STALENESS,
        static=steps(8, True, on_stale=ON_STALE),
    ),
    "fedbuff": Strategy(
        summary="Local steps, merged K at a time; the older an update, the less it counts.",
        paper="Nguyen et al. 2022, Federated learning with buffered asynchronous aggregation",
        protocol="events",
        knobs=outer(1.0, 0.0) | STALENESS | {
            "staleness_power": STALENESS["staleness_power"]._replace(default=0.5)
        },
        static=steps(4, False),
        buffer=10,
    ),
}  # fmt: skip
