"""Integrity: whether every part of a store is whole, its own, and holds the runs it should."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.columns import COLUMNS
from jaxwan.parts import CURVES, ROWS, BadPart, Stamp, frame_of
from jaxwan.store import ASIDE, Store

AGAIN = "run the same sweep again to fill it in"
REPAIR = f"run verify --repair, which moves it to {ASIDE}/, then {AGAIN}"


class Finding(NamedTuple):
    """One thing wrong with a store: what, where, and what helps."""

    kind: str  # missing, unfinished, damaged, foreign or wrong
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
        yield Finding("unfinished", name, place, "its stamp is missing", AGAIN)
    rest = [name for name in absent if name not in set(begun)]
    if rest:
        some = ", ".join(rest[:3]) + (", …" if len(rest) > 3 else "")
        count = f"{len(rest)} of {len(store.chunks)} chunks"
        yield Finding("missing", some, str(store.parts), f"{count} are not stored", AGAIN)


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
    return [*found, *_absent(store)]


def repair(store: Store, findings: list[Finding]) -> list[str]:
    """Set the chunks aside that are damaged, foreign or wrong, and name them."""
    bad = [f.chunk for f in findings if f.kind not in ("missing", "unfinished")]
    chunks = list(dict.fromkeys(bad))
    for chunk in chunks:
        store.set_aside(chunk)
    return chunks
