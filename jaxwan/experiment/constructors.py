"""Constructors generated from the families: TopK(ratio=0.01), Async(max_staleness=5), …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jaxwan.experiment.choices import (
    AGGREGATOR_MODELS,
    ATTACK_MODELS,
    COMPRESSOR,
    COMPRESSOR_MODELS,
    EXCHANGE_MODELS,
    OPTIMIZER_MODELS,
    PRE_AGGREGATOR_MODELS,
    STRATEGY_MODELS,
)
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.schema import Settings
from jaxwan.learning.compressors import COMPRESSORS
from jaxwan.learning.compressors.chain import JOINT, linked

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


def chain(first: Any, second: Any) -> Settings:
    """Return the settings of a chain: what `first` keeps is sent as `second` sends it.

    Each is a compressor's name, table or settings; what they say of error feedback is the chain's.

    Raises:
        InputError: for two that do not fit, or that want different error feedback.

    Example:
        >>> chain("topk", "int8").kind
        'topk+int8'
    """
    told: list[dict[str, Any]] = [
        half.model_dump(exclude_unset=True) | {"kind": half.model_dump()["kind"]}
        if (half := COMPRESSOR.parse(member)) is not None
        else {"kind": "recommended"}
        for member in (first, second)
    ]
    kind = JOINT.join(half["kind"] for half in told)
    model, values = COMPRESSOR_MODELS[kind], {"kind": kind}
    links = linked(told[0]["kind"], told[1]["kind"], COMPRESSORS)
    for link, own in zip(links, told, strict=True):
        for name in own.keys() - {"kind"}:
            field = link.names.get(name, name)
            if values.setdefault(field, own[name]) != own[name]:
                raise InputError(f"the two members of {kind!r} differ", field)
    return model(**values)


CONSTRUCTORS = by_name()
globals().update(CONSTRUCTORS)
__all__ = ["CONSTRUCTORS", "chain", *CONSTRUCTORS]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
