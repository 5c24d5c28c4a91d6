"""What a compressor is: its facts, and the size of its messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan.core.families import Knob, Static

Layout = tuple[tuple[int, ...], ...]
Knobs = Mapping[str, Any]


class Wire(NamedTuple):
    """The size of one message: `values` of `bits_per_value` bits and `side_bits` beside them."""

    values: int
    bits_per_value: float
    side_bits: int

    @property
    def bits(self) -> int:
        """Return the size of the message in bits."""
        return math.ceil(self.values * self.bits_per_value) + self.side_bits

    @property
    def bytes(self) -> int:
        """Return the size of the message in whole bytes."""
        return -(-self.bits // 8)


class Compressor(NamedTuple):
    """A compressor and its facts.

    `apply(knobs, memory, key, update [dim]) -> (sent [dim], memory)` is pure JAX. `wire(knobs,
    layout)`, `pack(knobs, key, sent) -> bytes` and `unpack(knobs, blob, dim)` run on the host with
    plain numbers; `pack` gets the key that `apply` got and is as long as `wire` claims; `unpack`
    has the message alone. `unbiased`: E sent = update. `contractive`: |sent − update| ≤ c·|update|
    with c < 1; error feedback around any other compressor may diverge. `sums`: packed messages of
    several workers can be added without decoding, so a ring can reduce them. `feedback`: error
    feedback is on by default.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    init: Callable[[int], Any]
    apply: Callable[[Knobs, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    wire: Callable[[Knobs, Layout], Wire]
    pack: Callable[[Knobs, jax.Array, np.ndarray], bytes]
    unpack: Callable[[Knobs, bytes, int], np.ndarray]
    unbiased: bool
    contractive: bool
    sums: bool
    feedback: bool


def dim_of(layout: Layout) -> int:
    """Return the number of entries of all tensors of a layout."""
    return sum(math.prod(shape) for shape in layout)


def no_memory(dim: int) -> tuple[()]:
    """Return the memory of a compressor that keeps none."""
    return ()
