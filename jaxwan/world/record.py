"""What a tick tells, beside who contributed, to those who watch one run."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxwan.core.clock import Instant


class Lived(NamedTuple):
    """The cycles that begin in a tick, with all that becomes of them, `[slot]`.

    A worker computes without a break in the `busy_s` seconds before `computed`.
    """

    began: jax.Array  # bool; else the slot is empty
    worker: jax.Array  # int32
    cycle: jax.Array  # int32
    begin: Instant
    busy_s: jax.Array
    computed: Instant
    sends: Instant  # from here on its update is on the way
    end: Instant  # arrival, recovery from a loss, or when it was cancelled
    lost: jax.Array  # bool
    cancelled: jax.Array  # bool
    slowed: jax.Array  # bool
    down_bits: jax.Array
    up_bits: jax.Array
