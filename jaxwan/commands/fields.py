"""An experiment's fields as options of the command line, and members in them.

A member is written `kind:knob=value,knob=value`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from jaxwan.experiment.errors import InputError

Member = Annotated[
    str | None,
    typer.Option(metavar="KIND[:KNOB=VALUE,…]", help="The challenge's own unless told."),
]
Scenario = Annotated[str, typer.Option(help="A scenario's name or file.")]
Challenge = Annotated[str, typer.Option(help="A challenge's or fleet's.")]
Network = Annotated[str | None, typer.Option(help="Replaces every link.")]
Buffer = Annotated[int | None, typer.Option(help="Contributions per update.")]
Steps = Annotated[int | None, typer.Option(help="Local steps per worker.")]


def value_of(text: str) -> Any:
    """Return a knob's value as typed on the command line."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def member_of(option: str, text: str | None) -> Any:
    """Return `kind` or `kind:knob=value,knob=value` as the front door takes it.

    Raises:
        InputError: where a knob has no value.
    """
    if text is None or ":" not in text:
        return text
    kind, _, knobs = text.partition(":")
    table: dict[str, Any] = {"kind": kind}
    for knob in filter(None, knobs.split(",")):
        name, equals, value = knob.partition("=")
        if not equals:
            raise InputError(f"{knob!r} has no value; write {kind}:{name}=VALUE", f"--{option}")
        table[name.strip()] = value_of(value.strip())
    return table
