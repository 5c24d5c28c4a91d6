"""Families: a dict of named members whose facts are data.

Compressors, aggregators, attacks, problems, strategies, transports and failure laws are all dicts
from a name to a NamedTuple of module-level functions plus facts. Schemas, constructors, help and
contract tests are generated from those dicts, so a new member touches one file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

Member = TypeVar("Member")


class Knob(NamedTuple):
    """A traced number: changing it never recompiles.

    `low` and `high` bound it inclusively, except that `low` is excluded where `open_low` says so.
    An integer default makes the knob an integer, a bool default makes it a switch. A knob whose
    `optional` is true also accepts None, meaning "no bound".
    """

    default: float | int | bool | None
    low: float
    high: float
    meaning: str
    open_low: bool = False
    optional: bool = False


class Static(NamedTuple):
    """A compile-time argument: changing it recompiles."""

    default: Any
    meaning: str
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the member of `names` spelled most like `name`, or None when nothing is close."""
    hits = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return hits[0] if hits else None


def unknown(kind: str, name: object, names: Iterable[str], place: str = "") -> ValueError:
    """Build the error for a name that no member has: place, nearest spelling, what is allowed."""
    known = sorted(names)
    hint = nearest(str(name), known)
    at = f" at {place}" if place else ""
    meant = f"; did you mean {hint!r}?" if hint else ";"
    return ValueError(f"unknown {kind} {name!r}{at}{meant} (allowed: {', '.join(known)})")


def member(kind: str, family: Mapping[str, Member], name: str, place: str = "") -> Member:
    """Look a member up by name.

    Raises:
        ValueError: when the family has no such member, naming the nearest spelling.
    """
    if name not in family:
        raise unknown(kind, name, family, place)
    return family[name]
