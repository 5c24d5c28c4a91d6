"""Aggregators: how the updates of the slots of one tick become one update."""

from jaxwan.learning.aggregators.base import Aggregator, Knobs, PreAggregator
from jaxwan.learning.aggregators.clipping import CLIPPING
from jaxwan.learning.aggregators.coordinate import COORDINATE, trim_count
from jaxwan.learning.aggregators.distance import DISTANCE
from jaxwan.learning.aggregators.pre import PRE_AGGREGATORS
from jaxwan.learning.aggregators.spectral import SPECTRAL
from jaxwan.learning.aggregators.subset import SUBSET
from jaxwan.learning.aggregators.weighted import WEIGHTED

__all__ = ["AGGREGATORS", "PRE_AGGREGATORS", "Aggregator", "Knobs", "PreAggregator", "trim_count"]

AGGREGATORS: dict[str, Aggregator] = (
    COORDINATE | WEIGHTED | DISTANCE | SUBSET | CLIPPING | SPECTRAL
)
