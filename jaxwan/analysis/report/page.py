"""The report as one HTML page: script, style and data inside, nothing fetched."""

from __future__ import annotations

import json
from html import escape
from importlib import resources

from jaxwan.analysis.report.figures import Figure
from jaxwan.analysis.report.matter import Matter, verdict
from jaxwan.analysis.report.provenance import span
from jaxwan.analysis.report.sections import PANELS, Section, sections

# The browser itself refuses whatever would leave the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


def page(matter: Matter) -> str:
    """Return the whole page as text; every name in it that a user chose is escaped."""
    told = sections(matter)
    drawn = [figure for section in told for figure in section.figures]
    numbers = iter(range(len(drawn)))
    body = "".join(_section(section, numbers) for section in told)
    title = matter.question or f"Results of {matter.source or 'a sweep'}"
    links = "".join(f'<a href="#{each.name}">{escape(each.title)}</a>' for each in told)
    notes = "".join(f"<p class=warning>{escape(text)}</p>" for text in matter.warnings)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel=icon href="data:,">'
        f"<title>{escape(title)}</title><style>{_file('page.css')}</style></head><body>"
        f"<header><p class=kicker>jaxwan report</p><h1>{escape(title)}</h1>"
        f"<p class=verdict>{escape(verdict(matter))}</p><p class=meta>{_meta(matter)}</p>"
        f"{notes}<nav>{links}</nav></header><main>{body}</main>"
        f'<script type="application/json" id=figures>{_data(drawn)}</script>'
        f"<script>{_plotly() if drawn else ''}</script><script>{_file('page.js')}</script>"
        "</body></html>\n"
    )


def _meta(matter: Matter) -> str:
    frame = matter.frame
    seeds = sorted(int(seed) for seed in frame["seed"].unique())
    facts = [f"{len(frame):,} runs", f"{frame['config_id'].nunique():,} configurations",
             f"seeds {span(seeds)}"]  # fmt: skip
    version = matter.manifest.get("versions", {}).get("jaxwan")
    return escape(" · ".join([*facts, *([f"jaxwan {version}"] if version else [])]))


def _section(section: Section, numbers: object) -> str:
    frames = [_frame(figure, next(numbers)) for figure in section.figures]  # type: ignore[call-overload]
    some = "".join(frames[:PANELS])
    if frames[PANELS:]:
        some += (
            f"<details><summary>{len(frames) - PANELS} more</summary>"
            f"<div class=panels>{''.join(frames[PANELS:])}</div></details>"
        )
    kind = "panels" if len(frames) > 1 else "panel"
    body = section.body.replace("{figures}", f"<div class={kind}>{some}</div>", 1)
    return f"<section id={section.name}><h2>{escape(section.title)}</h2>{body}</section>"


def _frame(figure: Figure, number: int) -> str:
    title = f"<figcaption>{escape(figure.title)}</figcaption>" if figure.title else ""
    kind = " class=whole" if figure.wide else ""
    return (
        f"<figure{kind}>{title}<div class=plot data-figure={number} "
        f'style="height:{figure.height}px"></div></figure>'
    )


def _data(drawn: list[Figure]) -> str:
    """Write the figures as JSON that no name can end: `<` becomes an escape."""
    plain = [{"data": figure.data, "layout": figure.layout} for figure in drawn]
    text = json.dumps(plain, separators=(",", ":"), allow_nan=False, default=float)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    return str(get_plotlyjs())


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
