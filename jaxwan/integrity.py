"""Integrity: whether every part of a store is whole, its own, and holds the runs it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.columns import COLUMNS
from jaxwan.manifest import MANIFEST, stamps
from jaxwan.parts import CURVES, ROWS, STAMP, TEMP, BadPart, Stamp, frame_of
from jaxwan.store import ASIDE, Store

AGAIN = "run the same sweep again"
FILL = f"{AGAIN} to fill it in"
REPAIR = f"run verify --repair, which moves it to {ASIDE}/, then {AGAIN}"


class Finding(NamedTuple):
    """One thing wrong with a store: what, where, and what helps."""

    kind: str  # missing, unfinished, damaged, foreign, wrong or stray
    chunk: str
    place: str
    problem: str
    remedy: str


class _Plan:
    """The runs that a sweep should hold, crossed off as they are met."""

    def __init__(self, manifest: dict[str, Any]) -> None:
        sweep = manifest.get("sweep")
        own = sweep if isinstance(sweep, dict) else {}
        self.runs = {c["name"]: c.get("runs") for c in manifest.get("chunks", [])}
        configs, seeds = own.get("configurations"), own.get("seeds")
        known = isinstance(configs, list) and isinstance(seeds, list)
        self.configs = pd.Index(np.array(configs if known else [], str))
        self.seeds = pd.Index(np.array(seeds if known else [], np.int64))
        shape = len(self.configs), len(self.seeds)
        self.met = np.zeros(shape, bool) if known else None

    def problem(self, chunk: str, stamp: Stamp, rows: pd.DataFrame) -> str | None:
        """Say what is wrong with the runs of a chunk, or cross them off."""
        if self.runs and chunk not in self.runs:
            return "the manifest has no such chunk"
        wanted = self.runs.get(chunk)
        if len(rows) != stamp.runs or wanted not in (None, len(rows)):
            return f"{len(rows)} runs, not {stamp.runs if wanted is None else wanted}"
        if self.met is None:
            return "runs that stand twice" if rows["run_id"].duplicated().any() else None
        config = self.configs.get_indexer(pd.Index(rows["config_id"]))
        seed = self.seeds.get_indexer(pd.Index(rows["seed"]))
        if (config < 0).any() or (seed < 0).any():
            return "runs of configurations or seeds that the sweep does not have"
        doubles = self.met[config, seed].any() or rows[["config_id", "seed"]].duplicated().any()
        self.met[config, seed] = True
        return "runs that another part holds, too" if doubles else None


def _absent(store: Store) -> Iterator[Finding]:
    """Name the chunks without a stamp: those begun one by one, the others together."""
    absent = store.missing()
    begun = [name for name in absent if (store.parts / (name + ROWS)).exists()]
    for name in begun:
        place = str(store.parts / (name + ROWS))
        yield Finding("unfinished", name, place, "its stamp is missing", FILL)
    rest = [name for name in absent if name not in set(begun)]
    if rest:
        some = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
        count = f"{len(rest)} of {len(store.chunks)} chunks"
        yield Finding("missing", some, str(store.parts), f"{count} are not stored", FILL)


def _wrong(store: Store, plan: _Plan, name: str) -> str | None:
    """Say what is wrong with the inside of a chunk whose checksums are right."""
    stamp, content = store.content(name)
    rows = frame_of(content[name + ROWS], store.parts / (name + ROWS))
    lacking = [column for column in COLUMNS if column not in rows.columns]
    if lacking:
        return f"no column {lacking[0]!r}"
    if name + CURVES in content:
        file = store.parts / (name + CURVES)
        curves = frame_of(content[name + CURVES], file, ["run_id"])
        if not curves["run_id"].isin(rows["run_id"]).all():
            return "curves of runs that it does not hold"
    return plan.problem(name, stamp, rows)


def _stray(store: Store) -> Iterator[Finding]:
    """Name the files that are no chunk's; those that a writer has just begun are left alone."""
    names = set(store.chunks)
    own = {name + ending for name in names for ending in (STAMP, ROWS, CURVES)}
    for file in sorted(store.parts.glob("*")):
        if file.name not in own and file.suffix != TEMP:
            yield Finding("stray", file.name, str(file), "it is no chunk's", REPAIR)


def manifest_problem(store: Store) -> str | None:
    """Say so where no part is one of the manifest's chunks: then it is the manifest that is wrong.

    Setting parts aside would empty a good folder.
    """
    found, planned = stamps(store.parts), set(store.planned)
    if not found or any(s.sweep == store.sweep and s.chunk in planned for s in found):
        return None
    owners = ", ".join(sorted({stamp.sweep for stamp in found}))
    return (
        f"{store.path / MANIFEST} is of sweep {store.sweep}, or of other chunks, all parts are of "
        f"{owners}: put theirs back; or remove it, then {AGAIN}, which writes it anew"
    )


def verify(store: Store) -> list[Finding]:
    """Read every part: its checksums, its columns, and whether its runs are the planned ones."""
    found, plan = [], _Plan(store.manifest)
    for name in store.stored():
        place = str(store.parts / (name + ROWS))
        try:
            problem = _wrong(store, plan, name)
        except BadPart as error:
            found.append(Finding(error.kind, name, str(error.file), error.why, REPAIR))
            continue
        if problem:
            found.append(Finding("wrong", name, place, problem, REPAIR))
    return [*found, *_stray(store), *_absent(store)]


def repair(store: Store, findings: list[Finding]) -> list[str]:
    """Set aside the chunks that are damaged, foreign or wrong, and stray files, and name them.

    Raises:
        ValueError: where all parts would go; nothing is moved then.
    """
    problem = manifest_problem(store)
    if problem:
        raise ValueError(problem)
    bad = {f.chunk: f for f in findings if f.kind not in ("missing", "unfinished")}
    for name, finding in bad.items():
        if finding.kind == "stray":
            store.move_aside([Path(finding.place)])
        else:
            store.set_aside(name)
    return list(bad)
