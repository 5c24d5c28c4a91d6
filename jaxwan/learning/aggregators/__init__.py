"""Aggregators: how the updates of the slots of one tick become one update."""

from jaxwan.learning.aggregators.base import Aggregator, Knobs, PreAggregator
from jaxwan.learning.aggregators.coordinate import COORDINATE, trim_count
from jaxwan.learning.aggregators.distance import DISTANCE

__all__ = ["AGGREGATORS", "PRE_AGGREGATORS", "Aggregator", "Knobs", "PreAggregator", "trim_count"]

AGGREGATORS: dict[str, Aggregator] = COORDINATE | DISTANCE
PRE_AGGREGATORS: dict[str, PreAggregator] = {}
