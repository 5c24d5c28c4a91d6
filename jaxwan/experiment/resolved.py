"""Resolved: one experiment with every name looked up and every default filled in.

`resolve.py` makes it from a validated Experiment; `lower.py` turns it into Plan and Knobs. Units:
seconds, bit/s; rates and durations given in reference steps are still in reference steps here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A family member with its settings: `knobs` are traced numbers, `static` compile-time."""

    kind: str
    knobs: dict[str, Any] = field(default_factory=dict)
    static: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Worker:
    """One worker: relative speed, link to the coordinator, and its part in the story."""

    name: str
    speed: float
    up_bps: float
    down_bps: float
    delay_s: float  # one way
    loss: float
    jitter_s: float  # standard deviation of the delay
    region: str
    device: str
    provider: str
    online: bool  # online at time 0
    attacker: bool


@dataclass(frozen=True)
class Renewal:
    """An alternating renewal process: up for a while, down for a while.

    Means are in seconds when `unit` is "s" and in reference steps of the scenario when "steps".
    `up_shape` and `down_shape` are the Weibull shape or the lognormal sigma of their law.
    """

    up_mean: float  # inf = never
    down_mean: float  # inf = for good
    unit: str = "steps"
    up_law: str = "exponential"
    down_law: str = "deterministic"
    up_shape: float = 1.0
    down_shape: float = 1.0
    start: str = "up"  # or "stationary"


@dataclass(frozen=True)
class Replay:
    """Recorded outages (down_s, up_s) of each worker; the seed may shift who has whose."""

    spells: tuple[tuple[tuple[float, float], ...], ...]
    rotate: bool = False


@dataclass(frozen=True)
class Failures:
    """What may go wrong; None = does not happen."""

    crash: Renewal | None = None
    transient: Renewal | None = None
    churn: Renewal | None = None
    slowdown: Renewal | None = None
    slowdown_factor: float = 1.0
    partition: Renewal | None = None
    regional: Renewal | None = None
    replay: Replay | None = None
    cut_share: float = 0.5  # of the fleet, its last workers
    onset_s: float = 0.0  # attackers are honest until then


@dataclass(frozen=True)
class Tape:
    """Recorded bandwidth: pieces of constant rate that start again after a period."""

    times_s: tuple[float, ...]
    bps: tuple[float, ...]
    period_s: int


@dataclass(frozen=True)
class Weather:
    """What time does to the links."""

    depth: float = 0.0  # of the daily dip
    period_s: float = 86_400.0
    phase: float = 0.0
    spread: float = 0.0
    by: str = "region"  # or "worker"; who shares a dip
    sigma: float = 0.0  # of the drift
    correlation_s: float = 3600.0
    good_s: float = math.inf  # mean time between bursts
    bad_s: float = 1.0
    bad_loss: float = 0.0
    bad_factor: float = 1.0
    tapes: tuple[Tape, ...] = ()
    own: tuple[int, ...] = ()  # which of them each worker follows; -1 = none


@dataclass(frozen=True)
class Scenario:
    """A training task at full size (time, bytes) and its proxy (loss)."""

    name: str
    description: str
    stars: int
    batch: int  # samples in one full-size gradient step
    step_s: float  # one reference step on one reference GPU
    cpu_slowdown: float
    model: Choice  # member of PROBLEMS at full size
    proxy: Choice  # member of PROBLEMS that many replicates can train
    optimizer: Choice
    target_loss: float | None  # held-out loss that counts as reached


@dataclass(frozen=True)
class Criteria:
    """Success criteria of a challenge."""

    min_steps: int
    max_rejection: float
    min_throughput_ratio: float


SEED_LUCK = (0, 0, 0, 0)  # all randomness is the seed's own


@dataclass(frozen=True)
class Resolved:
    """One experiment, complete. Everything that shapes its rows is in here except the seed."""

    scenario: Scenario
    challenge: str
    network: str | None
    workers: tuple[Worker, ...]
    failures: Failures
    criteria: Criteria
    strategy: Choice
    buffer: int  # contributions per server update in event protocols
    compressor: Choice
    error_feedback: str  # "", "plain" or "ef21"
    error_decay: float
    warmup: int  # cycles in which the compressor's ratio falls to its value
    aggregator: Choice
    attack: Choice | None  # None where nobody attacks
    optimizer: Choice
    transport: str
    streams: int  # parallel connections of a transfer
    window_bytes: float | None  # largest window of a connection
    connect: bool  # every transfer opens its connections
    pricing: str  # "on_demand" or "spot"
    compression_bytes_per_s: float | None  # dense bytes; None takes no time
    compute_sigma: float  # sigma of the lognormal compute noise (mean 1)
    steps: int  # local gradient steps per worker slot
    timing_only: bool
    fidelity: str  # "proxy" or "full"
    eval_points: int
    target_loss: float | None
    exchange: Choice = field(default_factory=lambda: Choice("star"))
    pre_aggregator: Choice | None = None
    attack_first: bool = False  # attackers change their updates before these are compressed
    downlink: Choice | None = None  # compressor of the merged update; None sends every one on
    weather: Weather | None = None
    peers: tuple[tuple[float, float], ...] = ()  # (one-way delay, bit/s) of each worker's exchange
    luck: tuple[int, int, int, int] = SEED_LUCK  # of failures, links, stragglers, data
    labels: dict[str, Any] = field(default_factory=dict)  # swept fields, dotted name -> value
