"""The page of families, written from the registries: `python -m jaxwan.families`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

from jaxwan.chapters import CHAPTERS, Cells, Chapter
from jaxwan.core.families import Knob, Static
from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.listing import member_static
from jaxwan.experiment.schema import Range, class_name, is_integer

UNMADE = ("problem", "transport")  # families without constructors
REPEATED = 3  # settings in common from which a member points to an earlier one

PAGE = """\
# Families

Every member of every family, with its paper, its traits and its settings, written from the
registries by `python -m jaxwan.families > docs/families.md`.

{links}

Wherever a member is wanted, these say the same, and a list of them fans out in a sweep:

| in | written as |
|---|---|
| a sweep file | `compressor = {{ kind = "topk", ratio = 0.1 }}`, or `"topk"` with its defaults |
| Python | `jw.TopK(ratio=0.1)`, or `"topk"` |
| the command line | `--compressor topk:ratio=0.1`, or `--compressor topk` |
| a notebook, on arrays | `jw.compress("topk", x, ratio=0.1)` |

A setting is a traced number unless it is called *fixed*: a fixed one is compiled in, so each value
costs a compilation, and a traced one never does. `jaxwan list KIND` and `jaxwan show KIND NAME`
print the same facts in a terminal.
"""


def table(rows: list[Cells]) -> Iterator[str]:
    """Write records as a table; numbers stand right."""
    columns = list(rows[0])
    right = {name for name in columns if all(row[name][:1].isdigit() for row in rows)}
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join('--:' if name in right else '---' for name in columns)}|"
    for row in rows:
        yield f"| {' | '.join(row[name].replace('|', chr(92) + '|') for name in columns)} |"


def allowed_text(setting: Knob | Static) -> str:
    """Return what a setting may be, or nothing where its default says it."""
    if isinstance(setting.default, bool):
        return ""
    if isinstance(setting, Static) and setting.choices:
        return " or ".join(value_text(choice) for choice in setting.choices)
    if setting.low is None and setting.high is None:
        return ""
    low = -math.inf if setting.low is None else setting.low
    high = math.inf if setting.high is None else setting.high
    found = Range(low, high, open_low=getattr(setting, "open_low", False)).text
    found = found.replace("e+0", "e").replace("e+", "e")
    return found.replace(">= ", "≥ ") if found.startswith(">") else f"in {found}"


def value_text(value: Any) -> str:
    """Return a default as a sweep file would hold it."""
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def setting_line(name: str, setting: Knob | Static) -> str:
    """Write one setting: default, range, meaning."""
    whole = isinstance(setting, Knob) and not isinstance(setting.default, bool)
    told = (
        f"`{name}` = {value_text(setting.default)}",
        "fixed" if isinstance(setting, Static) else "",
        "whole" if whole and is_integer(setting) else "",  # type: ignore[arg-type]
        allowed_text(setting),
    )
    return f"{', '.join(filter(None, told))}: {setting.meaning}"


def settings_of(member: Any) -> dict[str, Knob | Static]:
    """Return knobs and static arguments of a member."""
    return {**getattr(member, "knobs", {}), **member_static(member)}


def settings_lines(family: Mapping[str, Any], name: str) -> Iterator[str]:
    """Write a member's settings; several that an earlier member has too are only named."""
    own = settings_of(family[name])
    earlier: dict[str, list[str]] = {}
    for other in list(family)[: list(family).index(name)]:
        theirs = settings_of(family[other])
        earlier[other] = [key for key in own if key in theirs and theirs[key] == own[key]]
    model = max(earlier, key=lambda other: len(earlier[other]), default=None)
    same = earlier[model] if model and len(earlier[model]) >= REPEATED else []
    for key, setting in own.items():
        if key not in same:
            yield f"  - {setting_line(key, setting)}"
    if same:
        yield f"  - {', '.join(f'`{key}`' for key in same)}: as in **{model}**"


def chapter_lines(chapter: Chapter) -> Iterator[str]:
    """Write a family: what is said first, the table, then settings and papers."""
    family = FAMILIES[chapter.family]
    yield from ("", f"## {chapter.title}", "")
    yield "\n\n".join(fill(text, 100) for text in chapter.text.split("\n\n"))
    yield ""
    yield from table([
        {"member": f"`{name}`", "what it does": member.summary} | chapter.cells(name, member)
        for name, member in family.items()
    ])  # fmt: skip
    yield from ("", "Settings and sources:", "")
    for name, member in family.items():
        made = f", `jw.{class_name(name)}`" if chapter.family not in UNMADE else ""
        yield f"- **{name}**{made}{f': {member.paper}' if member.paper else ''}"
        yield from settings_lines(family, name)


def page() -> str:
    """Return the page of families as Markdown."""
    chapters = [chapter for chapter in CHAPTERS if FAMILIES[chapter.family]]
    links = " · ".join(f"[{each.title}](#{each.title.lower()})" for each in chapters)
    lines = [line for chapter in chapters for line in chapter_lines(chapter)]
    return PAGE.format(links=links) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
