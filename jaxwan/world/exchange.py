"""The star exchange: every worker talks to one coordinator, up and down its own link."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.world.compute import hidden_s
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.transport import TRANSPORTS, Path, handshake_s, serialisation_s


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


class Ready(NamedTuple):
    """What the transport needs of all links, flat `[worker x size]`."""

    down: jax.Array  # for any payload
    up: jax.Array  # for the one update


def paths(knobs: WorldKnobs, link: Link) -> tuple[Path, Path]:
    """Return the way down and the way up of a link."""
    streams = jnp.float32(1) if knobs.streams is None else knobs.streams
    window = jnp.float32(jnp.inf) if knobs.window_bytes is None else knobs.window_bytes

    def path(bandwidth_bps: jax.Array) -> Path:
        return Path(bandwidth_bps, link.delay_s, link.loss, link.jitter_s, streams, window)

    return path(link.down_bps), path(link.up_bps)


def prepare(plan: WorldPlan, knobs: WorldKnobs, all_links: Link) -> Ready:
    """Work out, once a run, what the transport needs of every link."""
    transport = TRANSPORTS[plan.transport]

    def one(link: Link) -> Ready:
        down, up = paths(knobs, link)
        return Ready(transport.prepare(down), transport.fix(up, knobs.update_bits))

    return jax.tree.map(jnp.ravel, jax.vmap(one)(all_links))


def what_to_fetch(knobs: WorldKnobs, missed: jax.Array, anew: jax.Array) -> Fetch:
    """Return the smaller of the missed updates and the dense model; `anew` is always dense."""
    one_by_one = missed.astype(jnp.float32) * knobs.update_bits
    dense = anew | (one_by_one >= knobs.dense_bits)
    return Fetch(dense, jnp.where(dense, 0, missed), jnp.where(dense, knobs.dense_bits, one_by_one))


def transfers(
    plan: WorldPlan,
    knobs: WorldKnobs,
    link: Link,
    ready: Ready,
    place: jax.Array,
    cycle: jax.Array,
    fetch: Fetch,
    compute: jax.Array,
) -> Transfers:
    """Draw one cycle's download and upload over the link of the worker at `place`.

    A draw is one word, whatever the transport: another transport leaves all other luck alone.
    """
    transport = TRANSPORTS[plan.transport]
    down_word, up_word = keys.threefry(link.key, cycle, jnp.uint32(0))
    # drawn once, not again in every loop that uses them
    link, bits, down_word, up_word = jax.lax.optimization_barrier(
        (link, fetch.bits, down_word, up_word)
    )
    down, up = paths(knobs, link)
    download_s = transport.delivery_s(down_word, bits, down, ready.down, place * transport.size)
    upload_s = transport.fixed_delivery_s(
        up_word, knobs.update_bits, up, ready.up, place * transport.fixed_size
    )
    if plan.connect:
        opening_s = handshake_s(down_word, down), handshake_s(up_word, up)
        download_s += jnp.where(bits > 0, opening_s[0], 0.0)
        upload_s += opening_s[1]
    download_s, upload_s = jax.lax.optimization_barrier((download_s, upload_s))
    wire_up_s = serialisation_s(knobs.update_bits, link.up_bps)
    hidden = jnp.minimum(hidden_s(knobs, compute), wire_up_s)
    return Transfers(
        download_s, upload_s - hidden, serialisation_s(fetch.bits, link.down_bps), wire_up_s
    )
