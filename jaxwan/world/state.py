"""What both protocols carry from tick to tick, and what they count."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import pytree
from jaxwan.core.tick import Tick
from jaxwan.world import failures
from jaxwan.world.failures import Outages
from jaxwan.world.plan import WorldKnobs, WorldPlan

NO_WORKERS = 1  # nobody is alive, and nobody ever will be again
_FAILURES = (*failures.PROCESSES, *failures.SLOWDOWN)
OUTAGE_BOUND = 2  # more outages in one piece of work than the loop bound


@pytree
class WorldKeys:
    """One key per worker and purpose."""

    compute: jax.Array  # [worker, 2]
    link: jax.Array  # [worker, 2]
    outages: jax.Array  # [worker, process, 2]
    slowdown: jax.Array  # [worker, 1, 2]


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
    contributions: jax.Array  # [worker]; accepted
    arrivals: jax.Array  # [worker]; accepted and rejected


class Outcome(NamedTuple):
    """Everything a finished world tells."""

    now: Instant
    version: jax.Array
    totals: Totals
    failures: jax.Array  # int32 [worker, process + slowdown]
    up_s: jax.Array  # [worker]; time online
    status: jax.Array


class Moment(NamedTuple):
    """When a tick ended and which version it left."""

    tick: Tick
    now: Instant
    version: jax.Array


def make_keys(key: jax.Array, workers: int) -> WorldKeys:
    """Derive the world's keys from a run key `[2]`."""

    purposes = ("compute", "link", *(f"failure.{name}" for name in _FAILURES))
    compute, link, *spells = keys.fleet_keys(key, purposes, workers)
    processes = len(failures.PROCESSES)
    spell_keys = jnp.stack(spells, axis=1)
    return WorldKeys(
        compute=compute,
        link=link,
        outages=spell_keys[:, :processes],
        slowdown=spell_keys[:, processes:],
    )


def no_totals(workers: int) -> Totals:
    """Return totals of nothing."""
    zero = jnp.int32(0)
    start = clock.start_of_time()
    none = jnp.zeros(workers, jnp.int32)
    return Totals(zero, zero, zero, zero, zero, zero, zero, start, start, start, start, start,
                  none, none)  # fmt: skip


def first_outages(knobs: WorldKnobs, world_keys: WorldKeys) -> tuple[Outages, Outages]:
    """Return each worker's first outages `[worker, process]` and slowdowns `[worker, 1]`.

    A worker that starts offline is in the down phase of its churn.
    """
    churns = np.array([name == "churn" for name in failures.PROCESSES])
    away = ~knobs.online[:, None] & churns[None]
    outages = jax.vmap(failures.first_outages, in_axes=(None, 0, 0))(
        knobs.outages, world_keys.outages, away
    )
    never_down = jnp.zeros((knobs.online.shape[0], 1), bool)
    slow = jax.vmap(failures.first_outages, in_axes=(None, 0, 0))(
        knobs.slowdown, world_keys.slowdown, never_down
    )
    return outages, slow


def conclude(
    plan: WorldPlan,
    knobs: WorldKnobs,
    world_keys: WorldKeys,
    now: Instant,
    version: jax.Array,
    totals: Totals,
    status: jax.Array,
) -> Outcome:
    """Replay the failures until the end of the run and close the books."""
    outages, slow = first_outages(knobs, world_keys)
    replay = jax.vmap(failures.history, in_axes=(None, 0, 0, None))
    down = replay(knobs.outages, world_keys.outages, outages, now)
    slowed = replay(knobs.slowdown, world_keys.slowdown, slow, now)
    count = jnp.concatenate([down.count, slowed.count], axis=1)
    present = knobs.present
    return Outcome(
        now=now,
        version=version,
        totals=totals,
        failures=jnp.where(present[:, None], count, 0),
        up_s=jnp.where(present, down.up_s, 0.0),
        status=status,
    )
