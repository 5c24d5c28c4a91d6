"""Single transfers: how long a payload takes over a link, without an experiment around it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BeforeValidator, Field

from jaxwan.core.keys import run_key
from jaxwan.core.units import BITS_PER_BYTE
from jaxwan.engine import sample_transfers
from jaxwan.experiment.choices import TRANSPORT_NAMES
from jaxwan.experiment.errors import InputError, shown
from jaxwan.experiment.fleets import Delay, Loss
from jaxwan.experiment.schema import Range, Settings
from jaxwan.experiment.spec import transport_name
from jaxwan.world.transport import Path

MOST_SAMPLES = 10_000_000


class Link(Settings):
    """One direction of a link and what runs over it; bandwidth in bit/s, times in seconds.

    Example:
        >>> Link(bandwidth_bps=50e6, delay_s=0.1, loss=0.01, transport="cubic").streams
        1

    Raises:
        InputError: for anything wrong, in one line.
    """

    bandwidth_bps: Annotated[float, Range(0.0)] = Field(description="bit/s; 0 is a dead link")
    delay_s: Delay = Field(default=0.0, description="one way, seconds")
    loss: Loss = Field(default=0.0, description="probability that a packet is lost")
    jitter_s: Delay = Field(default=0.0, description="standard deviation of the delay, seconds")
    transport: Annotated[Literal[TRANSPORT_NAMES], BeforeValidator(transport_name)] = "ideal"  # type: ignore[valid-type]
    streams: Annotated[int, Range(1, 256)] = Field(
        default=1, description="parallel connections that share a transfer"
    )
    window_bytes: Annotated[float, Range(1024.0)] | None = Field(
        default=None, description="largest window of a connection; no limit unless told"
    )


def _key(key: Any) -> jax.Array:
    """Return a seed or a JAX key, old or typed, as a key `[2]`."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if not 0 <= key < 2**32:
            raise InputError(f"{key} is not a seed (allowed: 0 to 2**32 - 1)", "key")
        return run_key(np.uint32(key))  # type: ignore[arg-type]
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    data = np.asarray(key)
    if data.shape != (2,) or data.dtype != np.uint32:
        raise InputError(f"expected a whole number or a JAX key, got {shown(key)}", "key")
    return jnp.asarray(data)


def transfer_time(
    key: Any, payload_bytes: float, link: Link, samples: int = 512, connect: bool = False
) -> np.ndarray:
    """Draw the seconds `[samples]` that a payload takes over a link.

    They run from the first byte written to the receiver's last acknowledgement, back at the sender,
    on fresh connections; setting these up is excluded unless `connect`. The key is a whole number
    or a JAX key. The models are those of `jaxwan list transports`.

    Example:
        >>> link = Link(bandwidth_bps=50e6, delay_s=0.1, loss=0.01, transport="cubic")
        >>> bool(np.median(transfer_time(0, 4e6, link)) > 10)
        True

    Raises:
        InputError: for a payload, key or number of samples that makes no sense.
    """
    number = isinstance(payload_bytes, int | float | np.number) and not isinstance(
        payload_bytes, bool
    )
    if not number or not 0 < payload_bytes < math.inf:
        raise InputError(f"expected more than 0 bytes, got {shown(payload_bytes)}", "payload_bytes")
    if not isinstance(link, Link):
        raise InputError(f"expected a Link, got {shown(link)}", "link")
    whole = isinstance(samples, int | np.integer) and not isinstance(samples, bool)
    if not whole or not 1 <= samples <= MOST_SAMPLES:
        raise InputError(f"{shown(samples)} is not in 1 to {MOST_SAMPLES}", "samples")
    numbers = (link.bandwidth_bps, link.delay_s, link.loss, link.jitter_s, link.streams,
               link.window_bytes or math.inf)  # fmt: skip
    path = Path(*map(jnp.float32, numbers))
    bits = jnp.float32(payload_bytes * BITS_PER_BYTE)
    drawn = sample_transfers(link.transport, int(samples), bool(connect), _key(key), bits, path)
    return np.asarray(drawn)
