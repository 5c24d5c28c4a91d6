"""Fan-out: a list stands for each of its items wherever a scalar is allowed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.errors import InputError, join
from jaxwan.experiment.schema import Settings, plain

Places = dict[str, str]  # dotted field -> where the user wrote it


def list_fields() -> frozenset[str]:
    """Return the fields that are lists themselves, such as the widths of a model."""
    return frozenset(
        f"{family}.{name}"
        for family, members in FAMILIES.items()
        for entry in members.values()
        for name, static in getattr(entry, "static", {}).items()
        if isinstance(static.default, list | tuple)
    )


LIST_FIELDS = list_fields()


def simple(value: Any) -> Any:
    """Return arrays and ranges as lists and family objects as tables."""
    if isinstance(value, Settings):
        return value.model_dump(exclude_unset=True) | {"kind": value.model_dump()["kind"]}
    if isinstance(value, tuple | range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else plain(value)


def nested(table: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the table with dotted keys as tables in tables.

    Raises:
        InputError: where one field is given twice.
    """
    out: dict[str, Any] = {}
    for key, raw in table.items():
        *outer, last = str(key).split(".")
        inner = out
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise InputError(f"{part!r} is given twice", join(place, str(key)))
        value = simple(raw)
        value = nested(value, join(place, str(key))) if isinstance(value, Mapping) else value
        both_tables = isinstance(inner.get(last), dict) and isinstance(value, dict)
        if last in inner and not (both_tables and not set(inner[last]) & set(value)):
            raise InputError(f"{last!r} is given twice", join(place, str(key)))
        inner[last] = inner[last] | value if both_tables else value
    return out


def is_one_value(value: list[Any], field: str) -> bool:
    """Say whether the list is one value of a field that is a list itself."""
    return field in LIST_FIELDS and not any(isinstance(item, list) for item in value)


def fan(value: Any, field: str, place: str) -> Iterator[tuple[Any, Places]]:
    """Yield every value that `value` stands for, with the places its parts were written at.

    Raises:
        InputError: for an empty list.
    """
    value = simple(value)
    if isinstance(value, Mapping):
        yield from fan_table(value, field, place)
    elif isinstance(value, list) and not is_one_value(value, field):
        if not value:
            raise InputError("the list is empty; give at least one value", place)
        for index, item in enumerate(value):
            inner = simple(item)
            if isinstance(inner, list):
                yield inner, {field: f"{place}[{index}]"}
            else:
                yield from fan(inner, field, f"{place}[{index}]")
    else:
        yield value, {field: place}


def fan_table(table: Mapping[str, Any], field: str, place: str) -> Iterator[tuple[Any, Places]]:
    """Yield the product over the keys of a table."""
    branches = [
        list(fan(value, join(field, key), join(place, key))) for key, value in table.items()
    ]
    for combination in product(*branches):
        values = dict(zip(table, (value for value, _ in combination), strict=True))
        places = {name: spot for _, spots in combination for name, spot in spots.items()}
        yield values, {field: place} | places


def leaves(table: Mapping[str, Any], field: str = "") -> dict[str, Any]:
    """Return the swept fields by dotted name; a table with a kind stands for that kind."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        name = field if key == "kind" else join(field, key)
        out |= leaves(value, name) if isinstance(value, Mapping) else {name: value}
    return out


def overlaid(base: Mapping[str, Any], top: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return `base` with the fields of `top` added.

    Raises:
        InputError: where both have the same field.
    """
    out = dict(base)
    for key, value in top.items():
        if key not in out:
            out[key] = value
        elif isinstance(out[key], Mapping) and isinstance(value, Mapping):
            out[key] = overlaid(out[key], value, join(place, key))
        else:
            raise InputError("is also in the grid; keep one of the two", join(place, key))
    return out
