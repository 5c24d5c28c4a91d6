"""The star exchange: every worker talks to one coordinator, up and down its own link."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.world.compute import hidden_s
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.transport import TRANSPORTS, Path, serialisation_s


class Link(NamedTuple):
    """One worker's link to the coordinator, and the key of its jitter."""

    key: jax.Array  # [2]
    up_bps: jax.Array
    down_bps: jax.Array
    delay_s: jax.Array
    loss: jax.Array
    jitter_s: jax.Array


class Fetch(NamedTuple):
    """What a worker must download to be up to date."""

    dense: jax.Array  # bool; the whole model
    updates: jax.Array  # int32; else so many updates, one by one
    bits: jax.Array


class Transfers(NamedTuple):
    """Seconds of one cycle's exchange."""

    download_s: jax.Array
    upload_s: jax.Array  # the part that does not hide behind the backward pass
    wire_down_s: jax.Array  # serialisation alone
    wire_up_s: jax.Array


def links(knobs: WorldKnobs, link_keys: jax.Array) -> Link:
    """Return all workers' links `[worker]`."""
    return Link(
        link_keys, knobs.up_bps, knobs.down_bps, knobs.delay_s, knobs.loss, knobs.jitter_s
    )


def what_to_fetch(knobs: WorldKnobs, missed: jax.Array, anew: jax.Array) -> Fetch:
    """Return the smaller of the missed updates and the dense model; `anew` is always dense."""
    one_by_one = missed.astype(jnp.float32) * knobs.update_bits
    dense = anew | (one_by_one >= knobs.dense_bits)
    return Fetch(dense, jnp.where(dense, 0, missed), jnp.where(dense, knobs.dense_bits, one_by_one))


def transfers(
    plan: WorldPlan,
    knobs: WorldKnobs,
    link: Link,
    cycle: jax.Array,
    fetch: Fetch,
    compute: jax.Array,
) -> Transfers:
    """Draw one cycle's download and upload over one worker's link."""
    deliver = TRANSPORTS[plan.transport].delivery_s
    down_word, up_word = keys.threefry(link.key, cycle, jnp.uint32(0))
    down = Path(link.down_bps, link.delay_s, link.loss, link.jitter_s)
    up = Path(link.up_bps, link.delay_s, link.loss, link.jitter_s)
    download_s = deliver(keys.to_normal(down_word), fetch.bits, down)
    upload_s = deliver(keys.to_normal(up_word), knobs.update_bits, up)
    wire_up_s = serialisation_s(knobs.update_bits, link.up_bps)
    hidden = jnp.minimum(hidden_s(knobs, compute), wire_up_s)
    return Transfers(
        download_s, upload_s - hidden, serialisation_s(fetch.bits, link.down_bps), wire_up_s
    )
