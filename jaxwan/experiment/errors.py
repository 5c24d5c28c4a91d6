"""InputError: what is wrong with the user's input, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from jaxwan.core.families import nearest

UNITS = {"_bps": "bit/s", "_s": "seconds", "_steps": "reference steps"}
WANTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "a text in quotes",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
    "model": "a table",
}


def join(*places: str) -> str:
    """Join places into one dotted place; an index like `[1]` follows without a dot."""
    out = ""
    for place in places:
        out += place if place.startswith("[") or not out or not place else f".{place}"
    return out


class InputError(ValueError):
    """A wrong input: the place it stands at and what is wrong with it, in one line."""

    def __init__(self, problem: str, place: str = "") -> None:
        self.problem = " ".join(problem.split())
        self.place = place
        super().__init__(f"{place}: {self.problem}" if place else self.problem)

    def at(self, place: str) -> InputError:
        """Return the same error seen from further outside."""
        return InputError(self.problem, join(place, self.place))


def shown(value: Any, limit: int = 60) -> str:
    """Return the value as the user would type it, cut to `limit` characters."""
    named = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    text = named or repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def unit(name: str) -> str:
    """Return the unit that a field's name ends in, or nothing."""
    return next((words for suffix, words in UNITS.items() if name.endswith(suffix)), "")


def unknown_name(what: str, name: object, names: Iterable[str], place: str = "") -> InputError:
    """Build the error for a name that is not known, with the nearest spelling and the allowed."""
    known = list(names)
    hint = nearest(str(name), known)
    meant = f"; did you mean {hint!r}?" if hint else ""
    return InputError(f"unknown {what} {shown(name)}{meant} (allowed: {', '.join(known)})", place)


def place_of(loc: Iterable[str | int]) -> str:
    """Return a pydantic location as one dotted place."""
    return join(*(f"[{part}]" if isinstance(part, int) else part for part in loc))


def translate(error: ValidationError, fields: Iterable[str]) -> InputError:
    """Turn the first of pydantic's errors into one line; `fields` are the allowed field names."""
    first = error.errors(include_url=False)[0]
    loc, kind = first["loc"], first["type"]
    place, last = place_of(loc), str(loc[-1]) if loc else ""
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):
        return cause.at(place)
    if kind == "extra_forbidden":
        return unknown_name("field", last, fields, place_of(loc[:-1]))
    if kind == "missing":
        return InputError(f"{last!r} is missing", place_of(loc[:-1]))
    value = shown(first["input"])
    if kind == "literal_error":
        expected = first["ctx"]["expected"]
        hint = nearest(str(first["input"]), re.findall(r"'([^']*)'", expected))
        meant = f"; did you mean {hint!r}?" if hint else ""
        return InputError(f"{value} is not allowed{meant} (allowed: {expected})", place)
    wanted = next((words for name, words in WANTED.items() if kind.startswith(name)), "")
    if not wanted:
        return InputError(f"{value} is not allowed; {first['msg']}", place)
    in_unit = f" in {unit(last)}" if wanted.endswith("number") and unit(last) else ""
    return InputError(f"expected {wanted}{in_unit}, got {value}", place)
