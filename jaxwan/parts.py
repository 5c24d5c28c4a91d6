"""Parts: the files of one chunk, and the stamp that says whose they are and that they are whole.

A chunk is stored once its stamp `NAME.json` is in place; the stamp is renamed last and holds the
size and the digest of `NAME.parquet` and, where something was learned, `NAME.curves.parquet`.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from jaxwan.columns import Column, typed

ROWS, CURVES, STAMP, TEMP = ".parquet", ".curves.parquet", ".json", ".tmp"
TRIES = 3  # at a file whose temporary somebody sweeps up
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SWEEP, _CHUNK = b"jaxwan.sweep", b"jaxwan.chunk"


class Stamp(NamedTuple):
    """What a chunk's stamp says; `files` maps a file's name to its bytes and BLAKE2b digest."""

    sweep: str
    chunk: str
    runs: int
    files: dict[str, tuple[int, str]]


class BadPart(ValueError):
    """A part that is not what its stamp says: damaged, foreign or missing."""

    def __init__(self, kind: str, file: Path, why: str) -> None:
        super().__init__(
            f"{file} is {kind} ({why}); run the same sweep again to fill it in, or set it aside by "
            "verify --repair"
        )
        self.kind, self.file, self.why = kind, file, why


def digest(content: bytes) -> str:
    """Return the checksum of a file's bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def parquet(frame: pd.DataFrame, columns: dict[str, Column], sweep: str, chunk: str) -> bytes:
    """Encode a frame, its sweep and chunk among the file's own facts; equal input, equal bytes."""
    table = pa.Table.from_pandas(typed(frame, columns), preserve_index=False)
    own = {_SWEEP: sweep.encode(), _CHUNK: chunk.encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_chunk(folder: Path, sweep: str, chunk: str, runs: int, files: dict[str, bytes]) -> None:
    """Put a chunk's files in place and then its stamp."""
    for name, content in files.items():
        replace(folder / name, content)
    facts = {name: [len(content), digest(content)] for name, content in files.items()}
    stamp = {"sweep": sweep, "chunk": chunk, "runs": runs, "files": facts}
    replace(folder / (chunk + STAMP), (json.dumps(stamp) + "\n").encode())
    sync_folder(folder)


def read_stamp(folder: Path, chunk: str) -> Stamp:
    """Read a chunk's stamp.

    Raises:
        BadPart: when it cannot be read or is another chunk's.
    """
    file = folder / (chunk + STAMP)
    try:
        found = json.loads(file.read_bytes())
        files = {str(name): (int(size), str(sum_)) for name, (size, sum_) in found["files"].items()}
        stamp = Stamp(str(found["sweep"]), str(found["chunk"]), int(found["runs"]), files)
    except FileNotFoundError:
        raise BadPart("missing", file, "no such file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadPart("damaged", file, f"not a stamp, {type(error).__name__}") from None
    if stamp.chunk != chunk or not set(stamp.files) <= {chunk + ROWS, chunk + CURVES}:
        raise BadPart("foreign", file, f"it belongs to chunk {stamp.chunk}")
    if chunk + ROWS not in stamp.files:
        raise BadPart("damaged", file, "it names no rows")
    return stamp


def read_file(folder: Path, stamp: Stamp, name: str) -> bytes:
    """Read one file of a chunk and hold it against the stamp.

    Raises:
        BadPart: when it is missing, another sweep's, or not the bytes that were written.
    """
    file = folder / name
    size, expected = stamp.files[name]
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        raise BadPart("damaged", file, "the file is gone, its stamp is there") from None
    except OSError as error:
        raise BadPart("damaged", file, error.strerror or str(error)) from None
    if len(content) == size and digest(content) == expected:
        return content
    sweep, chunk = owner(content)
    if sweep and (sweep, chunk) != (stamp.sweep, stamp.chunk):
        raise BadPart("foreign", file, f"it is chunk {chunk} of sweep {sweep}")
    why = f"{len(content)} bytes, not {size}" if len(content) != size else "checksum differs"
    raise BadPart("damaged", file, why)


def owner(content: bytes) -> tuple[str, str]:
    """Return the sweep and the chunk that a Parquet file says it belongs to, or two blanks."""
    try:
        own = pq.read_schema(pa.BufferReader(content)).metadata or {}
    except Exception:
        return "", ""
    return own.get(_SWEEP, b"").decode(errors="replace"), own.get(_CHUNK, b"").decode(
        errors="replace"
    )


def column_names(file: Path) -> list[str]:
    """Return the columns of a part; reads its footer only.

    Raises:
        BadPart: when it is no Parquet file.
    """
    try:
        return [str(name) for name in pq.read_schema(file).names]
    except Exception as error:
        raise BadPart("damaged", file, type(error).__name__) from error


def frame_of(content: bytes, file: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Decode a part; of `columns`, those that it has.

    Raises:
        BadPart: when it is no Parquet file.
    """
    try:
        whole = pq.ParquetFile(pa.BufferReader(content))
        names = whole.schema_arrow.names
        wanted = None if columns is None else [name for name in columns if name in names]
        return whole.read(columns=wanted).to_pandas()
    except Exception as error:
        raise BadPart("damaged", file, type(error).__name__) from error


def replace(target: Path, content: bytes) -> None:
    """Write to a temporary name of this process, force it to disk, rename it into place.

    Another process that resumes may take the temporary for a leftover: then it is written again.
    """
    own = f"{socket.gethostname()}-{os.getpid()}"
    temporary = target.with_name(f"{target.name}.{own}{TEMP}")
    for left in reversed(range(TRIES)):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            return
        except FileNotFoundError:
            if not left or not target.parent.is_dir():
                raise
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def sweep_up(folder: Path, names: set[str]) -> None:
    """Remove what killed writers of these names left behind."""
    for leftover in folder.glob("*" + TEMP):
        if leftover.name.split(".", 1)[0] in names:
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def write_errors(folder: Path, what: str) -> Iterator[None]:
    """Say in one line what could not be written, and that what is stored stays good."""
    try:
        yield
    except OSError as error:
        full = error.errno in FULL
        remedy = "make room" if full else "mend the disk"
        raise OSError(
            error.errno,
            f"cannot write {what} to {folder}: {error.strerror or error}; finished chunks stay "
            f"readable, {remedy} and run the same sweep again to go on",
        ) from error
