"""Knobs of small worlds, and one compiled program per plan and batch size."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxwan.world.durations import DurationKnobs, RenewalKnobs
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.run import run_worlds

compiled_run = jax.jit(run_worlds, static_argnums=0)
EXPONENTIAL = (1.0, 1.0, 0.0)


def lognormal(sigma):
    """Return the noise law with mean 1."""
    return float(np.exp(-0.5 * sigma * sigma)), 0.0, sigma


def durations(laws):
    """Stack laws (scale, power, sigma) into `[process]`."""
    columns = np.asarray(laws, np.float32).T
    return DurationKnobs(*(jnp.asarray(column) for column in columns))


def renewal(*pairs):
    """Build one renewal process per (up law, down law)."""
    return RenewalKnobs(durations([up for up, _ in pairs]), durations([down for _, down in pairs]))


NEVER_UP = ((np.inf, 0.0, 0.0), (1.0, 0.0, 0.0))


def failing(transient=NEVER_UP, churn=NEVER_UP, crash=NEVER_UP, partition=NEVER_UP):
    """Build the outage processes in their order."""
    return renewal(transient, churn, crash, partition)


def memoryless(up, down):
    """Return exponential up and down laws."""
    return (up, 1.0, 0.0), (down, 1.0, 0.0)


def world_knobs(width, present=None, **changes):
    """Return knobs of a free network and a steady fleet, with some fields changed."""
    ones = jnp.ones(width, jnp.float32)
    here = jnp.arange(width) < (width if present is None else present)
    knobs = {
        "present": here, "online": jnp.ones(width, bool), "attacker": jnp.zeros(width, bool),
        "onset_s": 0.0,
        "cut": jnp.zeros(width, bool),
        "speed": ones, "up_bps": ones * jnp.inf, "down_bps": ones * jnp.inf, "delay_s": ones * 0,
        "loss": ones * 0, "jitter_s": ones * 0, "step_s": 1.0, "compute_noise": lognormal(0.1),
        "local_steps": 1.0, "overlap": False, "overlap_steps": 0.0,
        "update_bits": 1e6, "dense_bits": 1e7,
        "max_staleness": 10**6, "detection_s": 0.5, "cycle_ends": 10**6, "ticks": 10**6,
        "outages": failing(), "slowdown": renewal(NEVER_UP), "slowdown_factor": 5.0,
    } | changes  # fmt: skip
    noise = knobs["compute_noise"]
    knobs["compute_noise"] = DurationKnobs(*(jnp.float32(x) for x in noise))
    integers = ("max_staleness", "cycle_ends", "ticks")

    def cast(name, value):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return jnp.asarray(value, jnp.int32 if name in integers else jnp.float32)
        if isinstance(value, (list, tuple, np.ndarray)):
            kind = bool if name in ("online", "attacker", "present") else jnp.float32
            return jnp.asarray(value, kind)
        return jnp.asarray(value) if isinstance(value, bool) else value

    return WorldKnobs(**{name: cast(name, value) for name, value in knobs.items()})


def stack(rows):
    """Stack the knobs of single runs into a batch `[run, ...]`."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def repeat(knobs, runs):
    """Return `runs` copies of one run's knobs."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (runs, *leaf.shape)), knobs)


def alter(knobs, **changes):
    """Return knobs with fields replaced by arrays."""
    return dataclasses.replace(knobs, **changes)


def plan_of(protocol, width, slots, ticks):
    """Return a plan on ideal links."""
    return WorldPlan(protocol, "ideal", width, slots, ticks)


def run(plan, knobs, seeds):
    """Run a batch and hand everything over as NumPy arrays."""
    moments, outcome = compiled_run(plan, knobs, jnp.asarray(seeds, jnp.int32))
    return jax.tree.map(np.asarray, (moments, outcome))


def seconds(instant):
    """Return float64 seconds of an instant."""
    return instant.seconds.astype(np.float64) + instant.fraction / 2**20


def one(tree, index):
    """Return one run of an outcome or a batch `[run, ...]`."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def moments_of(moments, index):
    """Return one run of moments `[tick, run, ...]`."""
    return jax.tree.map(lambda leaf: leaf[:, index], moments)
