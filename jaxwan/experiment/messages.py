"""How large the messages of an experiment are at full size; shapes only, nothing is allocated."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from jaxwan.core.schedule import STAGES, warmed
from jaxwan.core.units import BITS_PER_BYTE, FLOAT32_BITS
from jaxwan.experiment.resolved import Choice, Resolved
from jaxwan.experiment.rounds import fragments
from jaxwan.learning.compressors import COMPRESSORS, Form, Layout, Wire
from jaxwan.learning.problems import layout_of
from jaxwan.learning.problems.flat import size


class Sizes(NamedTuple):
    """Full-size messages of one experiment, exact."""

    parameters: int
    update_bits: int
    dense_bits: int
    fetch_bits: int  # one update as it is downloaded

    @property
    def update_bytes(self) -> int:
        """Return the bytes of one compressed update."""
        return -(-self.update_bits // BITS_PER_BYTE)

    @property
    def fetch_bytes(self) -> int:
        """Return the bytes of one update as it is downloaded."""
        return -(-self.fetch_bits // BITS_PER_BYTE)

    @property
    def dense_bytes(self) -> int:
        """Return the bytes of the whole model."""
        return self.dense_bits // BITS_PER_BYTE


def wire_of(compressor: Choice, layout: Layout) -> Wire:
    """Return the size of one message about a model of this layout."""
    form = Form(layout, compressor.static)
    return COMPRESSORS[compressor.kind].wire(form, compressor.knobs)


def sizes(resolved: Resolved) -> Sizes:
    """Return the messages of the full-size model; shapes only, nothing is allocated."""
    model = resolved.scenario.model
    layout = layout_of(model.kind, **model.static)
    wire = wire_of(resolved.compressor, layout)
    count, parts = size(layout), fragments(resolved)
    up = math.ceil(wire.bits / parts)
    down = up
    if resolved.downlink is not None:
        down = math.ceil(wire_of(resolved.downlink, layout).bits / parts)
    return Sizes(count, up, count * FLOAT32_BITS, down)


def warmup_sizes(resolved: Resolved) -> dict[str, Any]:
    """Return the sizes of an update while the compressor's ratio falls to its value."""
    if not resolved.warmup:
        return {}
    model, own = resolved.scenario.model, resolved.compressor
    layout = layout_of(model.kind, **model.static)
    ratios = [warmed(own.knobs["ratio"], stage) for stage in range(STAGES)] + [own.knobs["ratio"]]
    bits = [
        wire_of(Choice(own.kind, own.knobs | {"ratio": ratio}, own.static), layout).bits
        for ratio in ratios
    ]
    parts = fragments(resolved)
    return {
        "warmup": np.asarray(resolved.warmup, np.int32),
        "stage_bits": np.asarray([math.ceil(each / parts) for each in bits], np.float32),
    }
