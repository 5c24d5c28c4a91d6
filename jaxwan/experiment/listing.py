"""Listings: what is built in, as plain records for tables and for JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from jaxwan.core.families import Knob, Static
from jaxwan.experiment.catalog import (
    ChallengeEntry,
    ScenarioEntry,
    challenges,
    load_challenge,
    load_network,
    load_scenario,
    networks,
    presets,
    scenarios,
)
from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.errors import unknown_name
from jaxwan.experiment.kinds import FAMILY_OF, plural
from jaxwan.experiment.prices import DEVICES, GIGABYTE, PROVIDERS, relative_speed
from jaxwan.experiment.processes import load_preset, renewal
from jaxwan.experiment.schema import Range, Settings, as_choice, is_integer

Record = dict[str, Any]
PRICED: dict[str, Mapping[str, Any]] = {"devices": DEVICES, "providers": PROVIDERS}


def gradient(scenario: ScenarioEntry) -> tuple[int, int]:
    """Return the parameters of the full model and the bytes of its gradient in fp32."""
    from jaxwan.learning.problems import parameter_count

    model = as_choice(scenario.model, FAMILIES["problem"])
    parameters = parameter_count(model.kind, **model.static)
    return parameters, 4 * parameters


def fleet_text(challenge: ChallengeEntry) -> str:
    """Return the workers as text: `2 × typical_wan, slow_wan ×0.8 off`."""
    kinds: Counter[str] = Counter()
    for worker in challenge.worker:
        speed = f" ×{worker.speed:g}" if worker.speed not in (None, 1.0) else ""
        state = f"{'' if worker.online else ' off'}{' attacker' if worker.attacker else ''}"
        kinds[f"{worker.network or worker.region or 'worker'}{speed}{state}"] += worker.count
    return ", ".join(text if times == 1 else f"{times} × {text}" for text, times in kinds.items())


def knob_text(name: str, knob: Knob) -> str:
    """Return a traced number as text: `ratio = 0.01 in (0, 1]`."""
    if isinstance(knob.default, bool):
        return f"{name} = {str(knob.default).lower()}"
    default = "none" if knob.default is None else f"{knob.default:g}"
    bounds = Range(knob.low, knob.high, open_low=knob.open_low).text
    allowed = f" ({bounds})" if bounds.startswith(">") else f" in {bounds}"
    return f"{name} = {default}{allowed}"


def network_rows() -> list[Record]:
    """Return the built-in networks."""
    fields = ("bandwidth_bps", "delay_s", "loss", "jitter_s", "description")
    return [
        {"name": name} | {field: getattr(entry, field) for field in fields}
        for name, entry in networks().items()
    ]


def scenario_rows() -> list[Record]:
    """Return the built-in scenarios with the size of their full models."""
    rows = []
    for name, entry in scenarios().items():
        parameters, gradient_bytes = gradient(entry)
        rows.append(
            {
                "name": name,
                "stars": entry.stars,
                "parameters": parameters,
                "gradient_bytes": gradient_bytes,
                "batch": entry.batch,
                "step_s": entry.step_s,
                "description": entry.description,
            }
        )
    return rows


def challenge_rows() -> list[Record]:
    """Return the built-in challenges."""
    return [
        {
            "name": name,
            "difficulty": entry.difficulty,
            "tests": entry.tests,
            "workers": entry.size,
            "fleet": fleet_text(entry),
            "description": entry.description,
        }
        for name, entry in challenges().items()
    ]


def preset_rows() -> list[Record]:
    """Return the built-in availability presets."""
    found = []
    for name, entry in presets().items():
        process = renewal(entry.laws, 1.0, "")
        found.append(
            {
                "name": name,
                "up_s": process.up_mean,
                "down_s": process.down_mean,
                "availability": round(entry.availability, 3),
                "law": process.up_law,
                "summary": entry.description,
                "paper": entry.source,
            }
        )
    return found


def device_rows() -> list[Record]:
    """Return the devices."""
    return [
        {
            "name": name,
            "bf16_speed": round(relative_speed(name, "bf16"), 2),
            "memory_gb": entry.memory_bytes / GIGABYTE,
            "busy_w": entry.busy_w,
            "usd_per_hour": entry.usd_per_hour,
            "spot": entry.spot_usd_per_hour,
            "summary": entry.summary,
            "paper": entry.source,
        }
        for name, entry in DEVICES.items()
    ]


def provider_rows() -> list[Record]:
    """Return the providers and their egress prices."""
    return [
        {"name": name, "usd_per_gb": entry.usd_per_gb, "summary": entry.summary,
         "paper": entry.source}
        for name, entry in PROVIDERS.items()
    ]  # fmt: skip


def family_rows(family: str) -> list[Record]:
    """Return the members of a family with their settings."""
    return [
        {
            "name": name,
            "summary": member.summary,
            "settings": [knob_text(*knob) for knob in getattr(member, "knobs", {}).items()]
            + [f"{arg} = {static.default}" for arg, static in member_static(member).items()],
            "paper": member.paper,
        }
        for name, member in FAMILIES[family].items()
    ]


def member_static(member: Any) -> dict[str, Static]:
    """Return the compile-time arguments of a member."""
    return getattr(member, "static", {})


ROWS: dict[str, Callable[[], list[Record]]] = {
    "networks": network_rows,
    "scenarios": scenario_rows,
    "challenges": challenge_rows,
    "failures": preset_rows,
    "devices": device_rows,
    "providers": provider_rows,
}


def rows(kind: str) -> list[Record]:
    """Return what is built in of one kind, one record each."""
    name = plural(kind)
    return ROWS[name]() if name in ROWS else family_rows(FAMILY_OF[name])


def knob_record(knob: Knob) -> Record:
    """Return the facts of a traced number."""
    if isinstance(knob.default, bool):
        return {"default": knob.default, "meaning": knob.meaning}
    allowed = Range(knob.low, knob.high, open_low=knob.open_low).text
    facts = {"default": knob.default, "allowed": allowed, "meaning": knob.meaning}
    return facts | ({"whole": True} if is_integer(knob) else {})


def static_record(arg: Static) -> Record:
    """Return the facts of a compile-time argument."""
    facts: Record = {"default": arg.default}
    if arg.choices:
        facts["allowed"] = arg.choices
    elif arg.low is not None or arg.high is not None:
        low = -math.inf if arg.low is None else arg.low
        facts["allowed"] = Range(low, math.inf if arg.high is None else arg.high).text
    return facts | {"meaning": arg.meaning}


def member_record(family: str, name: str) -> Record:
    """Return the facts of a family member.

    Raises:
        InputError: for a name that no member has.
    """
    members = FAMILIES[family]
    if name not in members:
        raise unknown_name(family, name, members)
    member = members[name]
    knobs = {key: knob_record(knob) for key, knob in getattr(member, "knobs", {}).items()}
    settings = knobs | {key: static_record(arg) for key, arg in member_static(member).items()}
    facts = {"name": name, "summary": member.summary, "paper": member.paper}
    return facts | ({"settings": settings} if settings else {})


def detail(kind: str, name: str) -> Record:
    """Return everything that is known of one entry or member, by name or file.

    Raises:
        InputError: for a kind or name that does not exist.
    """
    which = plural(kind)
    if which in FAMILY_OF:
        return member_record(FAMILY_OF[which], name)
    if which in PRICED:
        entries = PRICED[which]
        if name not in entries:
            raise unknown_name(which[:-1], name, entries)
        return {"name": name} | entries[name]._asdict()
    load: dict[str, Callable[[str], Settings]] = {
        "networks": load_network,
        "scenarios": load_scenario,
        "challenges": load_challenge,
        "failures": load_preset,
    }
    entry = load[which](name)
    sizes = {}
    if isinstance(entry, ScenarioEntry):
        sizes = dict(zip(("parameters", "gradient_bytes"), gradient(entry), strict=True))
    return {"name": name} | sizes | entry.model_dump(exclude_none=True)
