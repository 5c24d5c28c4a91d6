"""Compressors: what a worker sends instead of its update, and how many bits that takes."""

from jaxwan.learning.compressors.base import Compressor, Form, Knobs, Layout, Wire
from jaxwan.learning.compressors.dense import DENSE
from jaxwan.learning.compressors.floats import FLOATS
from jaxwan.learning.compressors.quantizers import QUANTIZERS
from jaxwan.learning.compressors.signs import SIGNS
from jaxwan.learning.compressors.sparse import SPARSE, topk_count

__all__ = ["COMPRESSORS", "Compressor", "Form", "Knobs", "Layout", "Wire", "topk_count"]

COMPRESSORS: dict[str, Compressor] = DENSE | FLOATS | QUANTIZERS | SIGNS | SPARSE
