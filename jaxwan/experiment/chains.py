"""The settings of chained compressors, such as "topk+int8", built when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxwan.experiment.errors import InputError
from jaxwan.experiment.schema import Settings, family_models, member_model
from jaxwan.learning.compressors import Compressor
from jaxwan.learning.compressors.chain import JOINT, Misfit

Extra = Callable[[Compressor], Mapping[str, Any]]


class ChainModels(dict[str, type[Settings]]):
    """One model per compressor, and one for each chain of two that is asked for.

    Iteration and length see the members alone; a chain that does not fit is an InputError.
    """

    def __init__(self, family: Mapping[str, Compressor], extra: Extra) -> None:
        super().__init__(family_models(family, extra))
        self._family, self._extra = family, extra
        self._chains: dict[str, type[Settings]] = {}

    def __missing__(self, kind: str) -> type[Settings]:
        if kind not in self._chains:
            try:
                member = self._family[kind]
            except Misfit as error:
                raise InputError(str(error)) from None
            self._chains[kind] = member_model(kind, member, self._extra(member))
        return self._chains[kind]

    def __contains__(self, kind: object) -> bool:
        return kind in self._family

    @property
    def more_schemas(self) -> list[dict[str, Any]]:
        """Return the JSON schemas of the chains: as a name, and as a table with its kind."""
        first, second = (
            "|".join(name for name, member in self._family.items() if getattr(member, trait))
            for trait in ("sparse", "keeps_zero")
        )
        kind = {"type": "string", "pattern": rf"^({first})\{JOINT}({second})$"}
        return [kind, {"type": "object", "properties": {"kind": kind}, "required": ["kind"]}]
