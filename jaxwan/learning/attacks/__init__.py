"""Attacks: what Byzantine workers send instead of their updates."""

from jaxwan.learning.attacks.adaptive import ADAPTIVE
from jaxwan.learning.attacks.base import Aggregate, Attack, Knobs
from jaxwan.learning.attacks.omniscient import OMNISCIENT, little_z
from jaxwan.learning.attacks.simple import SIMPLE

__all__ = ["ATTACKS", "Aggregate", "Attack", "Knobs", "little_z"]

ATTACKS: dict[str, Attack] = SIMPLE | OMNISCIENT | ADAPTIVE
