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


class Form(NamedTuple):
    """What a compressor knows of its updates before anything is traced."""

    layout: Layout  # tensor shapes, in the order they lie in the flat update
    static: Mapping[str, Any] = {}  # compile-time arguments

    @property
    def dim(self) -> int:
        """Return the number of entries of all tensors."""
        return sum(math.prod(shape) for shape in self.layout)


class Compressor(NamedTuple):
    """A compressor and its facts.

    `init(form) -> memory` and `apply(form, knobs, memory, key, update [dim]) -> (sent [dim],
    memory)` are pure JAX; the memory is any pytree whose zeros a fresh worker starts from, `()` for
    none. `wire(form, knobs)`, `pack(form, knobs, key, sent) -> bytes` and `unpack(form, knobs,
    blob)` run on the host with plain numbers; `pack` gets the key that `apply` got and is as long
    as `wire` claims; `unpack` has the message alone and returns `sent` bit by bit, or to 1e-5 of
    its largest entry where `exact` is false. `unbiased`: E sent = update. `contractive`:
    |sent − update| ≤ c·|update| with c < 1; error feedback around any other compressor may
    diverge. `sums`: packed messages of several workers can be added without decoding, so a ring
    can reduce them. `feedback`: error feedback is on by default. `keeps_zero`: an entry of 0 stays
    0 and does not touch what the others become, so the compressor can shrink the values that a
    sparse one has kept. `sparse`: only some entries are kept, as they are but for a common factor;
    `wire().values` counts them and a message ends with them as float32.
    """

    summary: str
    paper: str
    knobs: dict[str, Knob]
    static: dict[str, Static]
    init: Callable[[Form], Any]
    apply: Callable[[Form, Knobs, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
    wire: Callable[[Form, Knobs], Wire]
    pack: Callable[[Form, Knobs, jax.Array, np.ndarray], bytes]
    unpack: Callable[[Form, Knobs, bytes], np.ndarray]
    unbiased: bool
    contractive: bool
    sums: bool = False
    feedback: bool = False
    keeps_zero: bool = False
    sparse: bool = False
    exact: bool = True
    decay: float = 1.0  # usual decay of the error memory


def no_memory(form: Form) -> tuple[()]:
    """Return the memory of a compressor that keeps none."""
    return ()
