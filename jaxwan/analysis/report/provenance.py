"""Where results come from: versions, seeds, and the sweep as a file that runs it again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jaxwan.analysis.report.matter import Matter

_BARE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def facts(matter: Matter) -> dict[str, str]:
    """Return what identifies the results, in words."""
    manifest = matter.manifest
    seeds = sorted(int(seed) for seed in matter.frame["seed"].unique())
    runs = manifest.get("runs", len(matter.frame))
    done = len(matter.frame)
    whole = f"{done:,}" if done == runs else f"{done:,} of {runs:,}: the sweep is unfinished"
    found = {
        "results": matter.source,
        "runs": whole,
        "configurations": f"{matter.frame['config_id'].nunique():,}",
        "seeds": span(seeds),
        "versions": ", ".join(f"{k} {v}" for k, v in manifest.get("versions", {}).items()),
        "sweep hash": str(manifest.get("sweep_hash", "")),
    }
    return {name: text for name, text in found.items() if text}


def span(seeds: list[int]) -> str:
    """Write seeds as a range where they are one."""
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]} ({len(seeds)})"
    shown = ", ".join(map(str, seeds[:12]))
    return f"{shown}, … ({len(seeds)})" if len(seeds) > 12 else shown


def command(matter: Matter) -> str:
    """Return the command that runs the sweep again from the file `sweep_file` gives."""
    sweep = matter.manifest.get("sweep", {})
    if not sweep.get("grid"):
        return ""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", str(sweep.get("name", "sweep")))
    return f"jaxwan sweep {name}.toml --out results/{name}-again"


def sweep_file(matter: Matter) -> str:
    """Write the sweep of the manifest as TOML; empty where the manifest has none."""
    sweep = matter.manifest.get("sweep", {})
    if not sweep.get("grid"):
        return ""
    question = " ".join(matter.question.split())
    lines = [f"# {question}"] if question else []
    lines.append(f"seeds = {_seeds(sweep.get('seeds', [0]))}")
    if sweep.get("steps") is not None:
        lines.append(f"steps = {sweep['steps']}")
    for table in ("grid", "overrides"):
        if sweep.get(table):
            lines += ["", f"[{table}]"]
            lines += [f"{_key(k)} = {_toml(v)}" for k, v in sweep[table].items() if v is not None]
    return "\n".join(lines) + "\n"


def _seeds(seeds: Any) -> str:
    plain = list(seeds) if isinstance(seeds, list | tuple) else seeds
    if isinstance(plain, list) and plain == list(range(len(plain))):
        return str(len(plain))
    return _toml(plain)


def _key(name: Any) -> str:
    text = str(name)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, float) and value != value:
        return "nan"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False)
