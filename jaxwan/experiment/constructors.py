"""Constructors generated from the families: TopK(ratio=0.01), Async(max_staleness=5), …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxwan.experiment.choices import (
    AGGREGATOR_MODELS,
    ATTACK_MODELS,
    COMPRESSOR_MODELS,
    EXCHANGE_MODELS,
    OPTIMIZER_MODELS,
    PRE_AGGREGATOR_MODELS,
    STRATEGY_MODELS,
)
from jaxwan.experiment.schema import Settings

GROUPS = (
    STRATEGY_MODELS, COMPRESSOR_MODELS, AGGREGATOR_MODELS, PRE_AGGREGATOR_MODELS,
    ATTACK_MODELS, OPTIMIZER_MODELS,    EXCHANGE_MODELS,
)  # fmt: skip


def by_name() -> dict[str, type[Settings]]:
    """Return the constructors by class name.

    Raises:
        TypeError: for two members of one name.
    """
    found: dict[str, type[Settings]] = {}
    for model in (model for group in GROUPS for model in group.values()):
        if model.__name__ in found:
            raise TypeError(f"two family members are called {model.__name__}")
        found[model.__name__] = model
    return found


CONSTRUCTORS = by_name()
globals().update(CONSTRUCTORS)
__all__ = ["CONSTRUCTORS", *CONSTRUCTORS]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
