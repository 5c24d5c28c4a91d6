"""The store: a folder that a kill at any moment leaves readable and resumable.

`manifest.json` names the sweep and its chunks; a chunk's files in `parts/` are renamed into place,
its stamp with their checksums last, so a chunk is done when its stamp is there. Several processes
may fill one folder.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from jaxwan import parts as files
from jaxwan.columns import COLUMNS, CURVE_COLUMNS, Column, typed
from jaxwan.manifest import (
    MANIFEST,
    BadManifest,
    check_unclaimed,
    most_of,
    read_manifest,
    sweep_hash,
    versions,
    write_manifest,
)
from jaxwan.parts import CURVES, ROWS, STAMP, BadPart, Stamp, write_errors

ASIDE = "set_aside"  # damaged and foreign parts, kept for a look


class Store:
    """A results folder: one manifest, and two Parquet parts for each finished chunk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an existing store for reading.

        Raises:
            ValueError: when the folder holds no store, or a damaged manifest.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Store:
        """Create a store, or resume one of the same sweep and keep its stored manifest.

        `manifest` holds `sweep` (plain data), `chunks` (mappings with a `name`, in order) and
        whatever else identifies the work; `sweep_hash` and `versions` are filled in if absent.

        Raises:
            ValueError: when the folder holds another sweep or something else; nothing is written.
        """
        folder = Path(path)
        fresh = {"sweep_hash": sweep_hash(manifest["sweep"]), "versions": versions(), **manifest}
        store = cls._begun(folder, str(fresh["sweep_hash"]))
        if store is None:
            with write_errors(folder, "the manifest"):
                folder.mkdir(parents=True, exist_ok=True)
                write_manifest(folder, {**fresh, "finished": False})
            store = cls(folder)
        else:
            store._check_same_sweep(fresh)
        with write_errors(folder, "the parts folder"):
            store.parts.mkdir(exist_ok=True)
        return store

    @classmethod
    def _begun(cls, folder: Path, sweep: str) -> Store | None:
        """Open the store that a folder holds; None where its manifest is to be written.

        That is so in a new folder, and in one whose manifest is damaged or gone while most of its
        parts are this sweep's.

        Raises:
            ValueError: when the folder holds something else.
        """
        if (folder / MANIFEST).exists():
            try:
                return cls(folder)
            except BadManifest as error:
                if most_of(folder) != sweep:
                    raise
                state = f"is damaged ({error.why})"
        elif most_of(folder) == sweep:
            state = "is missing"
        else:
            check_unclaimed(folder)
            return None
        told = f"{folder / MANIFEST} {state}; it is written anew, for the parts are this sweep's"
        warnings.warn(told, stacklevel=3)
        return None

    @property
    def parts(self) -> Path:
        """Return the folder of the Parquet parts."""
        return self.path / "parts"

    @property
    def chunks(self) -> list[str]:
        """List the chunk names in order: the manifest's, then any added later by name."""
        planned = self.planned
        return planned + sorted(self.done() - set(planned))

    @property
    def planned(self) -> list[str]:
        """List the names of the manifest's chunks, in order."""
        return [chunk["name"] for chunk in self.manifest.get("chunks", [])]

    @property
    def finished(self) -> bool:
        """Tell whether `finish` was called and no chunk was set aside since."""
        return bool(self.manifest.get("finished")) and not self.missing()

    @property
    def sweep(self) -> str:
        """Return the hash of the sweep."""
        return str(self.manifest.get("sweep_hash", ""))

    def done(self) -> set[str]:
        """Name the chunks whose stamp is in place; looks at names only."""
        return {part.name.removesuffix(STAMP) for part in self.parts.glob("*" + STAMP)}

    def stored(self) -> list[str]:
        """List the chunks that are there, in order."""
        done = self.done()
        return [name for name in self.chunks if name in done]

    def write(self, name: str, rows: pd.DataFrame, curves: pd.DataFrame | None = None) -> None:
        """Store one chunk: its rows, its curves where there are any, and its stamp.

        Raises:
            ValueError: when the name or a column cannot be stored.
            OSError: when the disk refuses; earlier chunks stay readable.
        """
        if not files.SAFE_NAME.fullmatch(name):
            raise ValueError(f"chunk name {name!r} needs letters, digits, '_' and '-' only")
        content = {name + ROWS: files.parquet(rows, COLUMNS, self.sweep, name)}
        if curves is not None:
            encoded = files.parquet(curves, CURVE_COLUMNS, self.sweep, name)
            content = {name + CURVES: encoded, **content}
        self.put(name, len(rows), content)

    def put(self, name: str, runs: int, content: dict[str, bytes]) -> None:
        """Store the encoded files of one chunk.

        Raises:
            OSError: when the disk refuses; earlier chunks stay readable.
        """
        with write_errors(self.path, f"chunk {name}"):
            files.write_chunk(self.parts, self.sweep, name, runs, content)

    @contextmanager
    def writer(self) -> Iterator[Callable[..., None]]:
        """Lend a `write` that returns at once: parts are encoded and written by a thread.

        At most two chunks wait, so memory stays flat; an error is raised by a later call or at the
        end.
        """
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1) as pool:

            def write(*part: Any) -> None:
                waiting.append(pool.submit(self.write, *part))
                while len(waiting) > 2 or (waiting and waiting[0].done()):
                    waiting.popleft().result()

            yield write
            while waiting:
                waiting.popleft().result()

    def missing(self) -> list[str]:
        """Name the planned chunks that are not stored."""
        done = self.done()
        return [name for name in self.chunks if name not in done]

    def stamp(self, name: str) -> Stamp:
        """Read the stamp of a chunk.

        Raises:
            BadPart: when it is missing, damaged or another sweep's.
        """
        stamp = files.read_stamp(self.parts, name)
        if stamp.sweep != self.sweep:
            raise BadPart("foreign", self.parts / (name + STAMP), f"of sweep {stamp.sweep}")
        return stamp

    def content(self, name: str) -> tuple[Stamp, dict[str, bytes]]:
        """Read the files of one chunk and hold them against their checksums.

        Raises:
            BadPart: naming the file that is not what the stamp says.
        """
        stamp = self.stamp(name)
        return stamp, {own: files.read_file(self.parts, stamp, own) for own in stamp.files}

    def rows(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """Read the rows of one chunk; of `columns`, those that it has.

        Raises:
            BadPart: when the part is damaged or foreign.
        """
        return self._frame(self.stamp(name), name + ROWS, columns)

    def curves(self, name: str) -> pd.DataFrame | None:
        """Read the curves of one chunk, or None where nothing was learned.

        Raises:
            BadPart: when the part is damaged or foreign.
        """
        stamp = self.stamp(name)
        return self._frame(stamp, name + CURVES, None) if name + CURVES in stamp.files else None

    def load(
        self, columns: list[str] | None = None, curves: bool = True
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Read the rows by configuration and seed, and the curves in the order of their runs.

        The order depends on what is stored, never on when or in how many goes it was written. Of
        `columns`, those that are there; without `curves` there are none.

        Raises:
            ValueError: when a part is damaged or foreign, naming it.
        """
        names = self.stored()
        keys = ["config_index", "seed", *(["run_id"] if curves else [])]
        wanted = None if columns is None else list(dict.fromkeys([*columns, *keys]))
        frame = _join([self.rows(name, wanted) for name in names], COLUMNS)
        by = [key for key in keys[:2] if key in frame.columns]
        if by:
            frame = frame.sort_values(by, kind="stable", ignore_index=True)
        found = [self.curves(name) for name in names] if curves else []
        long = _join([part for part in found if part is not None], CURVE_COLUMNS)
        if len(long) and "run_id" in frame.columns:
            place = pd.Series(frame.index, index=frame["run_id"]).groupby(level=0).first()
            order = long["run_id"].map(place).argsort(kind="stable")
            long = long.iloc[order].reset_index(drop=True)
        return (frame if columns is None else frame[_present(frame, columns)]), long

    def columns(self) -> list[str]:
        """List the columns of all parts in the order of a loaded frame: swept ones last.

        Raises:
            ValueError: when a part is damaged, naming it.
        """
        names: dict[str, None] = {}
        for name in self.stored():
            names |= dict.fromkeys(files.column_names(self.parts / (name + ROWS)))
        known = [name for name in COLUMNS if name in names]
        return known + [name for name in names if name not in COLUMNS]

    def configurations(self, columns: list[str]) -> Iterator[pd.DataFrame]:
        """Yield the runs of one configuration after another, by seed, as soon as all are read.

        Only `columns`, those that are there; a few parts are in memory at a time.

        Raises:
            ValueError: when a part is damaged or foreign, naming it.
        """
        sweep = self.manifest.get("sweep", {})
        seeds = sweep.get("seeds", ()) if isinstance(sweep, dict) else ()
        whole = len(seeds) if isinstance(seeds, list) else 0
        open_: dict[str, list[pd.DataFrame]] = {}
        for name in self.stored():
            part = self.rows(name, [*columns, "config_id", "config_index", "seed"])
            for config, runs in part.groupby("config_id", sort=False):
                held = open_.setdefault(str(config), [])
                held.append(runs)
                if whole and sum(map(len, held)) >= whole:
                    yield _by_seed(open_.pop(str(config)))
        yield from map(_by_seed, open_.values())

    def set_aside(self, name: str) -> None:
        """Move the files of a chunk out of the way, its stamp first, so that it is run again."""
        self.move_aside([self.parts / (name + ending) for ending in (STAMP, CURVES, ROWS)])

    def move_aside(self, parts: list[Path]) -> None:
        """Move those of the files that are there out of the way, in order."""
        aside = self.path / ASIDE
        with write_errors(self.path, str(parts[0].name)):
            aside.mkdir(exist_ok=True)
            for part in parts:
                if part.exists():
                    os.replace(part, aside / part.name)

    def sound(self, names: set[str]) -> tuple[set[str], list[BadPart]]:
        """Hold those of the chunks that are stored against their checksums; return both kinds."""
        good, bad = set(), []
        for name in self.stored():
            if name in names:
                try:
                    self.content(name)
                    good.add(name)
                except BadPart as error:
                    bad.append(error)
        return good, bad

    def resume(self, names: set[str]) -> set[str]:
        """Return which of the chunks are stored and whole; what is not is named and set aside.

        So are parts of no planned chunk. What killed writers of these chunks left behind is
        removed.
        """
        files.sweep_up(self.path, {MANIFEST.split(".")[0]})
        files.sweep_up(self.parts, names)
        for name in sorted(self.done() - set(self.planned)) if self.planned else ():
            file, aside = self.parts / (name + STAMP), self.path / ASIDE
            warnings.warn(f"{file} is no chunk of this sweep; moved to {aside}", stacklevel=3)
            self.set_aside(name)
        good, bad = self.sound(names)
        for error in bad:
            warnings.warn(
                f"{error.file} is {error.kind} ({error.why}); its chunk is run again, what was "
                f"there is kept in {self.path / ASIDE}",
                stacklevel=3,
            )
            self.set_aside(error.file.name.split(".", 1)[0])
        return good

    def finish(self) -> None:
        """Mark the sweep as complete.

        Raises:
            ValueError: when planned chunks are missing, saying how many.
        """
        missing = self.missing()
        if missing:
            some = ", ".join(missing[:3])
            raise ValueError(f"{self.path} lacks {len(missing)} chunks ({some}); run it again")
        self.manifest = {**self.manifest, "finished": True}
        with write_errors(self.path, "the manifest"):
            write_manifest(self.path, self.manifest)

    def _frame(self, stamp: Stamp, name: str, columns: list[str] | None) -> pd.DataFrame:
        content = files.read_file(self.parts, stamp, name)
        return files.frame_of(content, self.parts / name, columns)

    def _check_same_sweep(self, fresh: Mapping[str, Any]) -> None:
        if self.manifest.get("sweep_hash") != fresh["sweep_hash"]:
            raise ValueError(
                f"{self.path} holds another sweep ({self.manifest.get('sweep_hash')}, not "
                f"{fresh['sweep_hash']}); choose another --out or delete that folder"
            )
        begun, now = self.manifest.get("versions"), fresh["versions"]
        if begun != now:
            warnings.warn(
                f"{self.path} was begun with {begun}, now {now}: rows may differ in the last bits",
                stacklevel=3,
            )


def _join(parts: list[pd.DataFrame], columns: dict[str, Column]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    return typed(pd.concat(parts, ignore_index=True), columns)


def _present(frame: pd.DataFrame, names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name in frame.columns]


def _by_seed(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return typed(pd.concat(parts, ignore_index=True)).sort_values("seed", ignore_index=True)
