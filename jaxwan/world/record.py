"""What a tick tells, beside who contributed, to those who watch one run."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxwan.core.clock import Instant


class Lived(NamedTuple):
    """The cycles that begin in a tick, with what is known then of their course, `[slot]`.

    A worker computes without a break in the `busy_s` seconds before `computed`.
    """

    began: jax.Array  # bool; else the slot is empty
    worker: jax.Array  # int32
    cycle: jax.Array  # int32
    begin: Instant
    busy_s: jax.Array
    computed: Instant
    sends: Instant  # from here on its update is on the way
    ended: Instant  # when the cycle of the tick's slot ended, which may be an earlier one
    lost: jax.Array  # bool
    cancelled: jax.Array  # bool
    slowed: jax.Array  # bool
    down_bits: jax.Array
    up_bits: jax.Array
