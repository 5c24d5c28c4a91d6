"""WorldPlan (static) and WorldKnobs (traced): everything that decides who contributes when."""

from __future__ import annotations

import jax

from jaxwan.core.pytrees import pytree
from jaxwan.world.closing import ClosingKnobs
from jaxwan.world.durations import DurationKnobs, RenewalKnobs
from jaxwan.world.spells import USUAL, TraceKnobs
from jaxwan.world.weather import WeatherKnobs


@pytree
class WorldPlan:
    """Shapes and the protocol; a change recompiles.

    `slots` is the number of contributions per tick: the workers (barrier) or the buffer (events).
    """

    protocol: str  # "barrier" or "events"
    transport: str
    workers: int
    slots: int
    ticks: int  # room for ticks; each run has its own number in its knobs
    processes: tuple[str, ...] = USUAL  # outages that any run may have, in the order of PROCESSES
    stationary: bool = False  # some process starts in its stationary state
    connect: bool = False  # every transfer opens its connections
    intervals: int = 0  # room for a worker's recorded outages
    exchange: str = "star"  # or one of COLLECTIVES, or "hierarchical"
    early: bool = False  # barrier: some rule may close a round before everybody has arrived
    shared: bool = False  # barrier: the coordinator's own link is shared
    blocking: bool = False  # events: a worker too far ahead waits, and nothing is rejected
    weather: bool = False  # links change with time
    points: int = 0  # room for the pieces of recorded bandwidth
    merged: bool = False  # the server sends one merged update a version, not every contribution
    stages: int = 1  # sizes of an update while its compressor warms up, the final one included
    watched: bool = False  # ticks also tell what the workers lived through


@pytree
class ServerKnobs:
    """The coordinator's own link, shared by all transfers. Scalars."""

    ingress_bps: jax.Array
    egress_bps: jax.Array


@pytree
class SiteKnobs:
    """The network within a region; the rest are scalars."""

    region: jax.Array  # int32 [worker]; equal for the workers of one region
    bandwidth_bps: jax.Array
    delay_s: jax.Array
    outer_every: jax.Array  # int32; rounds from one exchange among the regions to the next


SOURCES = ("failures", "links", "stragglers")  # of randomness, each of which may take other luck


@pytree
class WorldKnobs:
    """Every number of one run's world; a change never recompiles."""

    present: jax.Array  # bool [worker]; False pads the fleet to the plan's width
    online: jax.Array  # bool [worker]; online at time zero
    attacker: jax.Array  # bool [worker]
    onset_s: jax.Array  # attackers are honest until then
    cut: jax.Array  # bool [worker]; on the far side of a network partition
    speed: jax.Array  # [worker]; relative to the reference device
    up_bps: jax.Array  # [worker]
    down_bps: jax.Array  # [worker]
    delay_s: jax.Array  # [worker]; one way
    loss: jax.Array  # [worker]
    jitter_s: jax.Array  # [worker]
    step_s: jax.Array  # one local step on the reference device
    compute_noise: DurationKnobs  # scalars; a factor on every cycle's computation
    local_steps: jax.Array  # gradient steps in one cycle, for all or of each [worker]
    overlap: jax.Array  # bool; the upload streams out during the last backward pass
    overlap_steps: jax.Array  # steps' worth of computation behind which the exchange hides
    update_bits: jax.Array  # one compressed update
    dense_bits: jax.Array  # the whole model
    max_staleness: jax.Array  # int32; server updates since the fetch that are still accepted
    detection_s: jax.Array  # until a failure in mid-round is noticed
    cycle_ends: jax.Array  # int32; event protocols: arrivals and losses before the run ends
    ticks: jax.Array  # int32; ticks of this run
    outages: RenewalKnobs  # [process of the plan]
    slowdown: RenewalKnobs  # [1]
    slowdown_factor: jax.Array
    compress_s: jax.Array | None = None  # of one update, after the computation; None takes no time
    region: jax.Array | None = None  # int32 [worker]; CRC-32 of its name, for regional outages
    streams: jax.Array | None = None  # parallel connections of a transfer; None = one
    window_bytes: jax.Array | None = None  # largest window of a connection; None = no limit
    trace: TraceKnobs | None = None  # recorded outages, for the process "replay"
    closing: ClosingKnobs | None = None  # barrier: what may close a round early
    server: ServerKnobs | None = None  # barrier: the coordinator's own link, where it has a limit
    site: SiteKnobs | None = None  # the network within a region, for the hierarchical exchange
    warmup: jax.Array | None = None  # int32; cycles of a worker in which its updates shrink
    stage_bits: jax.Array | None = None  # [stage]; one compressed update, in the end update_bits
    fetch_bits: jax.Array | None = None  # of one update downloaded; None = update_bits
    weather: WeatherKnobs | None = None  # what time does to the links
    luck: jax.Array | None = None  # uint32 [source]; added to the seed; None = 0 for all SOURCES
