"""The star exchange: every worker talks to one coordinator, up and down its own link."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import clock, keys
from jaxwan.core.clock import Instant
from jaxwan.core.pytrees import replace
from jaxwan.core.schedule import stage_of
from jaxwan.world.compute import hidden_s
from jaxwan.world.plan import WorldKnobs, WorldPlan
from jaxwan.world.tape import met_bps
from jaxwan.world.transport import TRANSPORTS, Path, handshake_s, serialisation_s
from jaxwan.world.weather import Sky, blended, factor, is_bad, weathered_s


class Link(NamedTuple):
    """One worker's link to the coordinator, and the key of its jitter."""

    key: jax.Array  # [2]
    up_bps: jax.Array
    down_bps: jax.Array
    delay_s: jax.Array
    loss: jax.Array
    jitter_s: jax.Array
    sky: Sky | None = None  # where links change with time


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


BLOCK = 16  # runs whose links are prepared side by side


class Ready(NamedTuple):
    """What the transport needs of all links, flat `[row x worker x size]`, shared by all runs."""

    down: jax.Array  # for any payload
    up: jax.Array  # for the one update
    row: jax.Array  # int32; the run's own


def paths(knobs: WorldKnobs, link: Link) -> tuple[Path, Path]:
    """Return the way down and the way up of a link."""
    streams = jnp.float32(1) if knobs.streams is None else knobs.streams
    window = jnp.float32(jnp.inf) if knobs.window_bytes is None else knobs.window_bytes

    def path(bandwidth_bps: jax.Array) -> Path:
        return Path(bandwidth_bps, link.delay_s, link.loss, link.jitter_s, streams, window)

    return path(link.down_bps), path(link.up_bps)


def _prepare(plan: WorldPlan, knobs: WorldKnobs) -> tuple[jax.Array, jax.Array]:
    """Work out what the transport needs of one run's links, down and up, `[worker, size]`."""
    transport = TRANSPORTS[plan.transport]

    def one(link: Link) -> tuple[jax.Array, jax.Array]:
        down, up = paths(knobs, link)
        if knobs.stage_bits is None:
            return transport.prepare(down), transport.fix(up, knobs.update_bits)
        each = jax.vmap(transport.fix, in_axes=(None, 0))(up, knobs.stage_bits)
        return transport.prepare(down), each.ravel()

    no_luck = jnp.zeros((plan.workers, 2), jnp.uint32)
    return jax.vmap(one)(links(knobs, no_luck))


def _distinct(knobs: WorldKnobs) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Number the runs `[run]` so that neighbours with the same links share a row.

    Returns (row of each run, a run of each row, how many rows).
    """
    runs = knobs.update_bits.shape[0]
    link = links(knobs, knobs.speed)
    own = (link.up_bps, link.down_bps, link.delay_s, link.loss, link.jitter_s)
    facts = (*own, knobs.update_bits, knobs.stage_bits, knobs.streams, knobs.window_bytes)
    table = jnp.concatenate([x.reshape(runs, -1) for x in facts if x is not None], axis=1)
    new = jnp.any(table[1:] != table[:-1], axis=1)
    row = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
    first = jnp.zeros(runs, jnp.int32).at[row].max(jnp.arange(runs, dtype=jnp.int32))
    return row, first, row[-1] + 1


def prepare(plan: WorldPlan, knobs: WorldKnobs) -> Ready:
    """Work out what the transport needs of all links of runs `[run, ...]`, once for equal runs."""
    own, first, count = _distinct(knobs)
    width = min(BLOCK, len(own))
    room = -len(own) % width
    first = jnp.pad(first, (0, room))
    one = jax.vmap(partial(_prepare, plan))
    shapes = jax.eval_shape(one, knobs)
    empty = jax.tree.map(lambda x: jnp.zeros((x.shape[0] + room, *x.shape[1:])), shapes)

    def block(index: jax.Array, rows: Any) -> Any:
        start = index * width
        some = jax.lax.dynamic_slice_in_dim(first, start, width)
        made = one(jax.tree.map(lambda x: x[some], knobs))
        write = partial(jax.lax.dynamic_update_slice_in_dim, start_index=start, axis=0)
        return jax.tree.map(write, rows, made)

    down, up = jax.lax.fori_loop(0, (count + width - 1) // width, block, empty)
    return Ready(down.ravel(), up.ravel(), own)


def prepare_one(plan: WorldPlan, knobs: WorldKnobs) -> Ready:
    """Work out what the transport needs of the links of one run."""
    down, up = _prepare(plan, knobs)
    return Ready(down.ravel(), up.ravel(), jnp.int32(0))


def staged(plan: WorldPlan, knobs: WorldKnobs, cycle: jax.Array) -> tuple[WorldKnobs, jax.Array]:
    """Return the knobs with the size of an update in a worker's cycle, and which stage that is."""
    if plan.stages == 1:
        return knobs, jnp.int32(0)
    assert knobs.warmup is not None
    assert knobs.stage_bits is not None
    stage = stage_of(knobs.warmup, cycle)
    return replace(knobs, update_bits=knobs.stage_bits[stage]), stage


def warming(knobs: WorldKnobs, cycle: jax.Array) -> jax.Array:
    """Tell whether a cycle belongs to the warm-up; the server then sends the dense model."""
    return jnp.array(False) if knobs.warmup is None else cycle < knobs.warmup


def payload_share(plan: WorldPlan, knobs: WorldKnobs, cycle: jax.Array) -> jax.Array:
    """Return the size of a cycle's update, in final updates."""
    own, _ = staged(plan, knobs, cycle)
    return jnp.ones(cycle.shape) if plan.stages == 1 else own.update_bits / knobs.update_bits


def fetch_bits(knobs: WorldKnobs) -> jax.Array:
    """Return the bits of one update as it is downloaded."""
    return knobs.update_bits if knobs.fetch_bits is None else knobs.fetch_bits


def what_to_fetch(knobs: WorldKnobs, missed: jax.Array, anew: jax.Array) -> Fetch:
    """Return the smaller of the missed updates and the dense model; `anew` is always dense."""
    one_by_one = missed.astype(jnp.float32) * fetch_bits(knobs)
    dense = anew | (one_by_one >= knobs.dense_bits)
    return Fetch(dense, jnp.where(dense, 0, missed), jnp.where(dense, knobs.dense_bits, one_by_one))


def _in_weather(
    plan: WorldPlan, knobs: WorldKnobs, sky: Sky | None, path: Path, bits: jax.Array, at: Instant,
    word: jax.Array, later: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array]:
    """Draw the seconds of a transfer that begins at an instant; also return its serialisation.

    The transport is drawn for the bandwidth and the loss that the transfer meets, in a burst and
    outside, with one luck.
    """
    weather, transport = knobs.weather, TRANSPORTS[plan.transport]
    assert weather is not None
    assert sky is not None

    def alone(scale: jax.Array, loss: jax.Array) -> tuple[jax.Array, jax.Array]:
        bandwidth_bps = path.bandwidth_bps * scale
        if weather.tape is not None:
            assert sky.reel is not None
            taped_bps = met_bps(weather.tape, sky.reel, scale, bits, at)
            bandwidth_bps = jnp.where(sky.reel.pieces > 0, taped_bps, bandwidth_bps)
        met = path._replace(bandwidth_bps=bandwidth_bps, loss=loss)
        prepared = transport.fix(met, bits)
        seconds = transport.fixed_delivery_s(word, bits, met, prepared, jnp.int32(0))
        if plan.connect:
            seconds += jnp.where(bits > 0, handshake_s(word, met), 0.0)
        return seconds, serialisation_s(bits, bandwidth_bps)

    usual, bad = factor(weather, sky, at), is_bad(weather, sky, at)
    good_s, good_wire_s = alone(usual, path.loss)
    bad_s, bad_wire_s = alone(
        usual * weather.bad_factor, jnp.maximum(path.loss, weather.bad_loss)
    )
    total_s, share = weathered_s(weather, bad, good_s, bad_s, later)
    return jax.lax.optimization_barrier((total_s, blended(share, good_wire_s, bad_wire_s)))


def transfers(
    plan: WorldPlan,
    knobs: WorldKnobs,
    link: Link,
    ready: Ready,
    place: jax.Array,
    cycle: jax.Array,
    fetch: Fetch,
    compute: jax.Array,
    begin: Instant,
) -> Transfers:
    """Draw one cycle's download and upload over the link of the worker at `place`.

    A draw is one word, whatever the transport: another transport leaves all other luck alone. Where
    links change with time, the upload meets what is there when the computing ends without outages.
    """
    transport = TRANSPORTS[plan.transport]
    knobs, stage = staged(plan, knobs, cycle)
    down_word, up_word = keys.threefry(link.key, cycle, jnp.uint32(0))
    # drawn once, not again in every loop that uses them
    link, bits, down_word, up_word = jax.lax.optimization_barrier(
        (link, fetch.bits, down_word, up_word)
    )
    down, up = paths(knobs, link)
    if plan.weather:
        later = [keys.threefry(link.key, cycle, jnp.uint32(i)) for i in (1, 2, 3, 4)]
        download_s, wire_down_s = _in_weather(
            plan, knobs, link.sky, down, bits, begin, down_word, later[0] + later[1]
        )
        sends = clock.add(begin, download_s + compute)
        upload_s, wire_up_s = _in_weather(
            plan, knobs, link.sky, up, knobs.update_bits, sends, up_word, later[2] + later[3]
        )
        hidden = jnp.minimum(hidden_s(knobs, compute), wire_up_s)
        return Transfers(download_s, upload_s - hidden, wire_down_s, wire_up_s)
    place = ready.row * plan.workers + place
    download_s = transport.delivery_s(down_word, bits, down, ready.down, place * transport.size)
    upload_s = transport.fixed_delivery_s(
        up_word, knobs.update_bits, up, ready.up,
        (place * plan.stages + stage) * transport.fixed_size,
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
