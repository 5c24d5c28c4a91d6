"""Transports: how long a payload takes over a link, as a distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxwan.core.families import Knob, Static


class Path(NamedTuple):
    """One direction of a link."""

    bandwidth_bps: jax.Array
    delay_s: jax.Array  # one way
    loss: jax.Array
    jitter_s: jax.Array  # standard deviation of the delay


class Transport(NamedTuple):
    """A transport: `delivery_s(normal, bits, path)` is seconds from first bit sent to receipt."""

    summary: str
    paper: str
    delivery_s: Callable[[jax.Array, jax.Array, Path], jax.Array]
    knobs: Mapping[str, Knob] = MappingProxyType({})
    static: Mapping[str, Static] = MappingProxyType({})


def serialisation_s(bits: jax.Array, bandwidth_bps: jax.Array) -> jax.Array:
    """Return the seconds that `bits` occupy the link; nothing to send takes no time."""
    return jnp.where(bits > 0, bits / bandwidth_bps, 0.0)


def ideal_delivery_s(normal: jax.Array, bits: jax.Array, path: Path) -> jax.Array:
    """Return serialisation plus one jittered one-way delay: no handshake, no loss."""
    delay_s = jnp.maximum(path.delay_s + path.jitter_s * normal, 0.0)
    return serialisation_s(bits, path.bandwidth_bps) + delay_s


TRANSPORTS = {
    "ideal": Transport(
        summary="Bandwidth and delay only: no handshake, no losses, jitter on the delay.",
        paper="store-and-forward model: size / bandwidth + delay",
        delivery_s=ideal_delivery_s,
    ),
}
