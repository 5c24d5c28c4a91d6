"""What every contract test gives the members of a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from helpers.members import fixed

from jaxwan.core.families import Knob
from jaxwan.learning.compressors import COMPRESSORS, Form

DIM = 203
LAYOUT = ((17, 11), (11,), (5, 1))  # of DIM entries
CHUNK = 64  # so that an update has several chunks and a ragged last one


def contract_form(name: str) -> Form:
    """Return a compressor's view of an update [DIM], with default settings but for wide chunks."""
    static = fixed(COMPRESSORS[name].static)
    if static.get("chunk", 0) > CHUNK:
        static["chunk"] = CHUNK
    return Form(LAYOUT, static)


def host(knobs: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in knobs.items()}


def other(knob: Knob) -> jax.Array:
    """Return an allowed value that is not the default."""
    assert knob.default is not None
    low = knob.low + (1e-6 if knob.open_low else 0.0)
    return jnp.float32(low if knob.default != low else (knob.low + knob.high) / 2)
