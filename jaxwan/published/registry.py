"""All published claims, by their key; nothing here starts JAX."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable

from jaxwan.published.claim import Claim

MODULES = ("timing", "local", "compression", "robustness")


def claims(names: Iterable[str] = MODULES) -> dict[str, Claim]:
    """Return the `CLAIMS` of the modules that are there, in the order of their keys.

    Raises:
        ValueError: when two claims have one key or one sweep.
    """
    found: list[Claim] = []
    for name in names:
        place = f"{__package__}.{name}"
        if importlib.util.find_spec(place) is not None:
            found += importlib.import_module(place).CLAIMS
    for field in ("key", "sweep"):
        told = [getattr(claim, field) for claim in found]
        if len(set(told)) < len(told):
            raise ValueError(f"two published claims have one {field}: {sorted(told)}")
    return {claim.key: claim for claim in sorted(found, key=key_of)}


def key_of(claim: Claim) -> str:
    """Return what claims are ordered by."""
    return claim.key
