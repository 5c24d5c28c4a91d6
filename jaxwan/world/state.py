"""What both protocols carry from tick to tick, and what they count."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree
from jaxwan.core.tick import Tick
from jaxwan.world.exchange import Link, Ready, links, prepare_one
from jaxwan.world.failures import History, history
from jaxwan.world.plan import SOURCES, WorldKnobs, WorldPlan
from jaxwan.world.record import Lived
from jaxwan.world.rows import pack
from jaxwan.world.spells import (
    FAILURES,
    Laws,
    Luck,
    dark_at_zero,
    everybodys_first,
    laws_of,
    spell_keys,
)
from jaxwan.world.weather import skies

NO_WORKERS = 1  # nobody is alive, and nobody ever will be again
OUTAGE_BOUND = 2  # more outages in one piece of work than the loop bound
SECONDS = ("busy", "transfer", "latency", "on_wire_up", "on_wire_down", "payloads")
EVENTS = ("accepted", "rejected", "lost", "staleness_sum", "dense_fetches", "missed_updates")


class Worker(NamedTuple):
    """One worker's own constants."""

    compute_key: jax.Array  # [2]
    spell_key: jax.Array  # [process, 2]
    link: Link
    speed: jax.Array
    attacker: jax.Array
    online: jax.Array  # at time zero; who is not waits until it is up, then joins
    steps: jax.Array  # gradient steps in one cycle


class World(NamedTuple):
    """One run's constants."""

    knobs: WorldKnobs
    laws: Laws
    workers: Worker  # [worker, ...]
    packed: jax.Array  # int32 [worker, field]; the same, one worker a row
    first: jax.Array  # int32 [worker, process, 5]; everybody's first spells
    ready: Ready  # what the transport needs of the links


BY_RUN = World(0, 0, 0, 0, 0, Ready(None, None, 0))  # type: ignore[arg-type]  # axes of many worlds


@pytree
class Totals:
    """Counts and exact sums of one run; instants serve as exact accumulators of seconds."""

    accepted: jax.Array
    rejected: jax.Array
    lost: jax.Array
    staleness_sum: jax.Array
    staleness_max: jax.Array
    dense_fetches: jax.Array
    missed_updates: jax.Array  # updates downloaded one by one instead of the dense model
    busy: Instant
    transfer: Instant
    latency: Instant
    on_wire_up: Instant  # serialisation time of delivered payloads
    on_wire_down: Instant
    payloads: Instant  # sent in delivered contributions, in updates; no seconds, but as exact
    contributions: jax.Array  # [worker]; accepted
    arrivals: jax.Array  # [worker]; accepted and rejected


class Outcome(NamedTuple):
    """Everything a finished world tells."""

    now: Instant
    version: jax.Array
    totals: Totals
    failures: jax.Array  # int32 [worker, FAILURES]
    up: Instant  # [worker]; time online, exact
    status: jax.Array

    @property
    def up_s(self) -> jax.Array:
        """Return the seconds each worker was online."""
        return self.up.seconds + self.up.fraction / clock.FRACTION


class Moment(NamedTuple):
    """When a tick ended and which version it left."""

    tick: Tick
    now: Instant
    version: jax.Array
    lived: Lived | None = None  # where the plan records


def _with_luck(key: jax.Array, knobs: WorldKnobs, source: str) -> jax.Array:
    """Return the run's key `[2]`, moved where a source of randomness has luck of its own."""
    if knobs.luck is None:
        return key
    return jnp.stack([key[0], key[1] + knobs.luck[SOURCES.index(source)]])


def make_world(
    plan: WorldPlan, knobs: WorldKnobs, key: jax.Array, ready: Ready | None = None
) -> World:
    """Derive a run's constants from its knobs and its key `[2]`; its links may be ready already.

    A worker that starts offline is in the down phase of its churn.
    """
    names, trace = plan.processes, knobs.trace
    luck = {source: _with_luck(key, knobs, source) for source in SOURCES}
    compute = keys.worker_keys(luck["stragglers"], "compute", plan.workers)
    link = keys.worker_keys(luck["links"], "link", plan.workers)
    spell_key = spell_keys(names, luck["failures"], knobs.present, knobs.region, trace)
    laws = laws_of(names, knobs.outages, knobs.slowdown, trace)
    shares = knobs.outages.down_share, knobs.slowdown.down_share
    down_share = None if None in shares else jnp.concatenate(shares)  # type: ignore[arg-type]
    first = everybodys_first(laws, spell_key, ~knobs.online, knobs.cut, down_share)
    online = knobs.online
    if down_share is not None or trace is not None:
        online = online & ~dark_at_zero(names, first)
    own = links(knobs, link)
    if knobs.weather is not None:
        own = own._replace(sky=skies(knobs.weather, luck["links"]))
    steps = jnp.broadcast_to(knobs.local_steps, (plan.workers,))
    workers = Worker(compute, spell_key, own, knobs.speed, knobs.attacker, online, steps)
    ready = prepare_one(plan, knobs) if ready is None else ready
    return World(knobs, laws, workers, jax.vmap(pack)(workers), first, ready)


def attacking(knobs: WorldKnobs, at: Instant) -> jax.Array:
    """Tell which contributions that arrive at these instants come after the attack's onset."""
    return ~clock.is_before(at, clock.add(clock.start_of_time(at.seconds.shape), knobs.onset_s))


def applied_by(plan: WorldPlan, accepted: jax.Array) -> jax.Array:
    """Return how many updates there are to download after a version of so many contributions."""
    return (accepted > 0).astype(jnp.int32) if plan.merged else accepted


class Counts(NamedTuple):
    """Totals as they are added up: one vector a kind."""

    events: jax.Array  # int32 [EVENTS]
    staleness_max: jax.Array
    seconds: Instant  # [SECONDS]
    contributions: jax.Array  # int32 [worker]
    arrivals: jax.Array  # int32 [worker]


def no_counts(workers: int) -> Counts:
    """Return counts of nothing."""
    none = jnp.zeros(workers, jnp.int32)
    return Counts(
        jnp.zeros(len(EVENTS), jnp.int32), jnp.int32(0), clock.start_of_time((len(SECONDS),)),
        none, none,
    )  # fmt: skip


def count(
    counts: Counts,
    events: tuple[jax.Array, ...],
    seconds: tuple[jax.Array, ...],
    age: jax.Array,
    contributed: jax.Array,
    arrived: jax.Array,
) -> Counts:
    """Add what happened, in the order of EVENTS and SECONDS; the masks are `[worker]`."""
    return Counts(
        counts.events + jnp.stack([event.astype(jnp.int32) for event in events]),
        jnp.maximum(counts.staleness_max, age),
        clock.add(counts.seconds, jnp.stack(seconds)),
        counts.contributions + contributed,
        counts.arrivals + arrived,
    )


def totals_of(counts: Counts) -> Totals:
    """Name the counts."""
    named: dict[str, Any] = {name: counts.events[i] for i, name in enumerate(EVENTS)}
    for i, name in enumerate(SECONDS):
        named[name] = Instant(counts.seconds.seconds[i], counts.seconds.fraction[i])
    return Totals(
        staleness_max=counts.staleness_max,
        contributions=counts.contributions,
        arrivals=counts.arrivals,
        **named,
    )


def conclude(
    world: World,
    now: Instant,
    version: jax.Array,
    counts: Counts,
    in_flight_s: jax.Array,
    status: jax.Array,
) -> Outcome:
    """Replay the failures until the end of the run and close the books.

    `in_flight_s` is what was computed in cycles that the end cut off.
    """
    cut_off = jnp.zeros(len(SECONDS)).at[SECONDS.index("busy")].set(in_flight_s)
    counts = counts._replace(seconds=clock.add(counts.seconds, cut_off))

    def replay(own: jax.Array, first: jax.Array) -> History:
        return history(Luck(world.laws, own), first, now)

    told = jax.vmap(replay)(world.workers.spell_key, world.first)
    present = world.knobs.present
    own = (*world.laws.names, "slowdown")
    none = jnp.zeros_like(told.count[:, 0])
    counts_of = [told.count[:, own.index(name)] if name in own else none for name in FAILURES]
    bound = jnp.any(told.exhausted & present)
    return Outcome(
        now=now,
        version=version,
        totals=totals_of(counts),
        failures=jnp.where(present[:, None], jnp.stack(counts_of, axis=1), 0),
        up=clock.choose(present, told.up, clock.start_of_time(present.shape)),
        status=status | jnp.where(bound, OUTAGE_BOUND, 0),
    )
