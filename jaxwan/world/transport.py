"""Transports: how long a payload takes over a link, as a distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core import keys
from jaxwan.core.families import Knob, Static
from jaxwan.world.transports import table
from jaxwan.world.transports.table import Path, handshake_s

__all__ = ["TRANSPORTS", "Path", "Transport", "handshake_s", "serialisation_s"]


Draw = Callable[[jax.Array, jax.Array, Path, jax.Array, jax.Array], jax.Array]


class Transport(NamedTuple):
    """A transport.

    `transfer_s(word, bits, path, prepared, start)` draws the seconds from the first bit sent until
    the sender knows that the last has arrived, on open connections, and `delivery_s` those until
    its receipt; `prepared[start : start + size]` is what depends on the link alone, of `prepare`.
    Where all payloads are the same, `fixed_delivery_s` needs only `fix(path, bits)`, `fixed_size`
    numbers.
    """

    summary: str
    paper: str
    size: int
    prepare: Callable[[Path], jax.Array]
    transfer_s: Draw
    delivery_s: Draw
    fixed_size: int
    fix: Callable[[Path, jax.Array], jax.Array]
    fixed_delivery_s: Draw
    knobs: Mapping[str, Knob] = MappingProxyType({})
    static: Mapping[str, Static] = MappingProxyType({})


def serialisation_s(bits: jax.Array, bandwidth_bps: jax.Array) -> jax.Array:
    """Return the seconds that `bits` occupy the link; nothing to send takes no time."""
    return jnp.where(bits > 0, bits / bandwidth_bps, 0.0)


def one_way_s(word: jax.Array, path: Path) -> jax.Array:
    """Return one jittered one-way delay."""
    return jnp.maximum(path.delay_s + path.jitter_s * keys.to_normal(word), 0.0)


def nothing(path: Path, bits: jax.Array | None = None) -> jax.Array:
    """Prepare nothing."""
    return jnp.zeros(0)


def ideal_delivery_s(
    word: jax.Array, bits: jax.Array, path: Path, prepared: jax.Array, start: jax.Array
) -> jax.Array:
    """Return serialisation plus one jittered one-way delay: no handshake, no loss."""
    return serialisation_s(bits, path.bandwidth_bps) + one_way_s(word, path)


def ideal_transfer_s(
    word: jax.Array, bits: jax.Array, path: Path, prepared: jax.Array, start: jax.Array
) -> jax.Array:
    """Return the delivery, and one delay for the acknowledgement."""
    return ideal_delivery_s(word, bits, path, prepared, start) + path.delay_s


def received_s(draw: Draw) -> Draw:
    """Return the draw of the receipt: a delay before the sender knows; nothing takes one delay."""

    def receipt_s(
        word: jax.Array, bits: jax.Array, path: Path, prepared: jax.Array, start: jax.Array
    ) -> jax.Array:
        told_s = draw(word, bits, path, prepared, start)
        return jnp.where(bits > 0, told_s - path.delay_s, one_way_s(word, path))

    return receipt_s


def _tcp(algorithm: str, summary: str, paper: str) -> Transport:
    return Transport(
        summary, paper, table.SIZE, partial(table.curve, algorithm), table.transfer_s,
        received_s(table.transfer_s), table.LEVELS, partial(table.fixed, algorithm),
        received_s(table.fixed_transfer_s),
    )  # fmt: skip


TRANSPORTS = {
    "ideal": Transport(
        summary="Bandwidth and delay only: no handshake, no losses, jitter on the delay.",
        paper="store-and-forward model: size / bandwidth + delay",
        size=0,
        prepare=nothing,
        transfer_s=ideal_transfer_s,
        delivery_s=ideal_delivery_s,
        fixed_size=0,
        fix=nothing,
        fixed_delivery_s=ideal_delivery_s,
    ),
    "reno": _tcp(
        "reno",
        "TCP Reno: slow start, half the window at a loss, one segment more a round trip.",
        "RFC 5681; simulated flight by flight with the recovery of RFC 6298, 6937 and 8985",
    ),
    "cubic": _tcp(
        "cubic",
        "TCP CUBIC, the default of Linux: 0.7 of the window at a loss, a cubic function of time.",
        "RFC 9438 (Xu et al. 2023); HyStart of Ha and Rhee 2011",
    ),
    "bbr": _tcp(
        "bbr",
        "BBR v1: sends at the delivery rate it has measured, whatever is lost at random.",
        "Cardwell et al. 2016, BBR: Congestion-Based Congestion Control",
    ),
}
