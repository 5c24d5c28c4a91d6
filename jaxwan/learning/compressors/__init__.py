"""Compressors: what a worker sends instead of its update, and how many bits that takes."""

from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Layout, Wire
from jaxwan.learning.compressors.chain import Chained
from jaxwan.learning.compressors.chunked import CHUNKED
from jaxwan.learning.compressors.dense import DENSE
from jaxwan.learning.compressors.floats import FLOATS
from jaxwan.learning.compressors.lowrank import LOWRANK
from jaxwan.learning.compressors.momentum import MOMENTUM
from jaxwan.learning.compressors.quantizers import QUANTIZERS
from jaxwan.learning.compressors.signs import SIGNS
from jaxwan.learning.compressors.sparse import SPARSE, topk_count

__all__ = ["COMPRESSORS", "Compressor", "Form", "Knobs", "Layout", "Wire", "topk_count"]

COMPRESSORS: dict[str, Compressor] = Chained(
    DENSE | FLOATS | QUANTIZERS | SIGNS | SPARSE | CHUNKED | MOMENTUM | LOWRANK
)
