"""The store: a folder that a kill at any moment leaves readable and resumable.

`manifest.json` names the sweep and its chunks; a chunk's files in `parts/` are renamed into place,
its stamp with their checksums last, so a chunk is done when its stamp is there. Several processes
may fill one folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from jaxwan import parts as files
from jaxwan.columns import COLUMNS, CURVE_COLUMNS, Column, typed
from jaxwan.parts import CURVES, ROWS, STAMP, TEMP, BadPart, Stamp, write_errors

MANIFEST = "manifest.json"
ASIDE = "set_aside"  # damaged and foreign parts, kept for a look


def sweep_hash(sweep: Mapping[str, Any]) -> str:
    """Digest a sweep given as plain data, whatever the order of its keys."""
    text = json.dumps(sweep, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """A results folder: one manifest, and two Parquet parts for each finished chunk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open an existing store for reading.

        Raises:
            ValueError: when the folder holds no store, or a damaged manifest.
        """
        self.path = Path(path)
        self.manifest = _read_manifest(self.path)

    @classmethod
    def open(cls, path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> Store:
        """Create a store, or resume one of the same sweep and keep its stored manifest.

        `manifest` holds `sweep` (plain data), `chunks` (mappings with a `name`, in order) and
        whatever else identifies the work; `sweep_hash` and `versions` are filled in if absent.

        Raises:
            ValueError: when the folder holds another sweep or something else; nothing is written.
        """
        folder = Path(path)
        fresh = {"sweep_hash": sweep_hash(manifest["sweep"]), "versions": _versions(), **manifest}
        if (folder / MANIFEST).exists():
            store = cls(folder)
            store._check_same_sweep(fresh)
        else:
            _check_unclaimed(folder)
            with write_errors(folder, "the manifest"):
                folder.mkdir(parents=True, exist_ok=True)
                _write_manifest(folder, {**fresh, "finished": False})
            store = cls(folder)
        with write_errors(folder, "the parts folder"):
            store.parts.mkdir(exist_ok=True)
        return store

    @property
    def parts(self) -> Path:
        """Return the folder of the Parquet parts."""
        return self.path / "parts"

    @property
    def chunks(self) -> list[str]:
        """List the chunk names in order: the manifest's, then any added later by name."""
        planned = [chunk["name"] for chunk in self.manifest.get("chunks", [])]
        return planned + sorted(self.done() - set(planned))

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
        with write_errors(self.path, f"chunk {name}"):
            (self.path / ASIDE).mkdir(exist_ok=True)
            for ending in (STAMP, CURVES, ROWS):
                if (self.parts / (name + ending)).exists():
                    os.replace(self.parts / (name + ending), self.path / ASIDE / (name + ending))

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

        What killed writers of these chunks left behind is removed.
        """
        files.sweep_up(self.path, {MANIFEST.split(".")[0]})
        files.sweep_up(self.parts, names)
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
            _write_manifest(self.path, self.manifest)

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


def _versions() -> dict[str, str]:
    found = {}
    for package in ("jaxwan", "jax", "jaxlib"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _check_unclaimed(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, not a folder; choose another --out")
    foreign = [item for item in folder.glob("*") if item.suffix != TEMP]
    if (folder / MANIFEST).exists():  # another process has just begun the same sweep
        return
    if foreign:
        raise ValueError(
            f"{folder} is not empty and holds no jaxwan store ({foreign[0].name}, …); "
            "choose another --out"
        )


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no jaxwan results ({MANIFEST} is missing)") from None
    except (NotADirectoryError, IsADirectoryError, UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError(f"{folder / MANIFEST} cannot be read; choose another folder") from None
    problem = files.manifest_problem(manifest)
    if problem:
        raise ValueError(
            f"{folder / MANIFEST} is not a jaxwan manifest ({problem}); choose another folder"
        )
    own: dict[str, Any] = manifest
    return own


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    files.replace(folder / MANIFEST, files.as_json(manifest))
    files.sync_folder(folder)


def _join(parts: list[pd.DataFrame], columns: dict[str, Column]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    return typed(pd.concat(parts, ignore_index=True), columns)


def _present(frame: pd.DataFrame, names: list[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name in frame.columns]


def _by_seed(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return typed(pd.concat(parts, ignore_index=True)).sort_values("seed", ignore_index=True)
