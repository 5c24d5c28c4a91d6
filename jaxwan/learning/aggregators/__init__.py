"""Aggregators: how the updates of the slots of one tick become one update."""

from jaxwan.learning.aggregators.base import Aggregator, Knobs
from jaxwan.learning.aggregators.coordinate import COORDINATE, trim_count
from jaxwan.learning.aggregators.distance import DISTANCE

__all__ = ["AGGREGATORS", "Aggregator", "Knobs", "trim_count"]

AGGREGATORS: dict[str, Aggregator] = COORDINATE | DISTANCE
