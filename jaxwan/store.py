"""The store: a folder that a kill at any moment leaves readable and resumable.

`manifest.json` names the sweep and its chunks; `parts/NAME.curves.parquet` and then
`parts/NAME.parquet` are renamed into place, so a chunk is done when both are there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from jaxwan.columns import COLUMNS, CURVE_COLUMNS, Column, typed

MANIFEST = "manifest.json"
_ROWS, _CURVES, _TEMP = ".parquet", ".curves.parquet", ".tmp"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
            with _write_errors(folder, "the manifest"):
                folder.mkdir(parents=True, exist_ok=True)
                _write_manifest(folder, {**fresh, "finished": False})
            store = cls(folder)
        with _write_errors(folder, "the parts folder"):
            store.parts.mkdir(exist_ok=True)
            store._sweep_up()
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
        """Tell whether `finish` was called."""
        return bool(self.manifest.get("finished"))

    def done(self) -> set[str]:
        """Name the chunks whose rows and curves are both in place."""
        names = {part.name for part in self.parts.glob("*" + _ROWS)}
        rows = {name.removesuffix(_ROWS) for name in names if not name.endswith(_CURVES)}
        return {name for name in rows if name + _CURVES in names}

    def write(self, name: str, rows: pd.DataFrame, curves: pd.DataFrame | None = None) -> None:
        """Store one chunk: the curves first, the rows last.

        Raises:
            ValueError: when the name or a column cannot be stored.
            OSError: when the disk refuses; earlier chunks stay readable.
        """
        if not _SAFE_NAME.fullmatch(name):
            raise ValueError(f"chunk name {name!r} needs letters, digits, '_' and '-' only")
        empty = pd.DataFrame({column: [] for column in CURVE_COLUMNS})
        curve_bytes = _parquet(empty if curves is None else curves, CURVE_COLUMNS)
        row_bytes = _parquet(rows, COLUMNS)
        with _write_errors(self.path, f"chunk {name}"):
            _replace(self.parts / (name + _CURVES), curve_bytes)
            _replace(self.parts / (name + _ROWS), row_bytes)

    def load(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Read the rows by configuration and seed, and the curves in the order of their runs.

        The order depends on what is stored, never on when or in how many goes it was written.

        Raises:
            ValueError: when a part is damaged, naming it.
        """
        done = self.done()
        names = [name for name in self.chunks if name in done]
        frame = _join([self._read(name + _ROWS) for name in names], COLUMNS)
        keys = [key for key in ("config_index", "seed") if key in frame.columns]
        if keys:
            frame = frame.sort_values(keys, kind="stable", ignore_index=True)
        curves = _join([self._read(name + _CURVES) for name in names], CURVE_COLUMNS)
        if len(curves) and "run_id" in frame.columns:
            place = pd.Series(frame.index, index=frame["run_id"]).groupby(level=0).first()
            order = curves["run_id"].map(place).argsort(kind="stable")
            curves = curves.iloc[order].reset_index(drop=True)
        return frame, curves

    def finish(self) -> None:
        """Mark the sweep as complete.

        Raises:
            ValueError: when planned chunks are missing, saying how many.
        """
        done = self.done()
        missing = [name for name in self.chunks if name not in done]
        if missing:
            some = ", ".join(missing[:3])
            raise ValueError(f"{self.path} lacks {len(missing)} chunks ({some}); run it again")
        self.manifest = {**self.manifest, "finished": True}
        with _write_errors(self.path, "the manifest"):
            _write_manifest(self.path, self.manifest)

    def _read(self, file_name: str) -> pd.DataFrame:
        try:
            return pd.read_parquet(self.parts / file_name)
        except Exception as error:
            raise ValueError(
                f"{self.parts / file_name} is damaged ({type(error).__name__}); "
                "delete it and run the sweep again to fill it in"
            ) from error

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

    def _sweep_up(self) -> None:
        for leftover in [*self.path.glob("*" + _TEMP), *self.parts.glob("*" + _TEMP)]:
            leftover.unlink(missing_ok=True)


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
    foreign = [item for item in folder.glob("*") if item.name != MANIFEST + _TEMP]
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
    if not isinstance(manifest, dict):
        raise ValueError(f"{folder / MANIFEST} is not a jaxwan manifest; choose another folder")
    return manifest


def _write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    text = json.dumps(manifest, indent=1, default=str) + "\n"
    _replace(folder / MANIFEST, text.encode())


def _parquet(frame: pd.DataFrame, columns: dict[str, Column]) -> bytes:
    buffer = io.BytesIO()
    typed(frame, columns).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _join(parts: list[pd.DataFrame], columns: dict[str, Column]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    return typed(pd.concat(parts, ignore_index=True), columns)


def _replace(target: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, force it to disk, rename it into place."""
    temporary = target.with_name(target.name + _TEMP)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _write_errors(folder: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {what} to {folder}: {error.strerror or error}; finished chunks stay "
            "readable, mend the disk and run the same sweep again to go on",
        ) from error
