"""Files: entries of the catalog and the user's own, found by name or path, read and validated."""

from __future__ import annotations

import tomllib
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.fleets import read_csv
from jaxwan.experiment.schema import Settings

ROOT = Path(__file__).parent / "catalog"
FOLDERS = {
    "network": ("networks",),
    "scenario": ("scenarios",),
    "challenge": ("challenges", "fleets"),
    "fleet": ("fleets",),
    "failure": ("failures",),
}
FILE_KEYS = ("preset", "file")  # of a table of failures
Entry = TypeVar("Entry", bound=Settings)


@cache
def built_in(kind: str) -> dict[str, Path]:
    """Return the files of the built-in entries of one kind by name."""
    files = (path for folder in FOLDERS[kind] for path in (ROOT / folder).glob("*.toml"))
    return {path.stem: path for path in sorted(files)}


def locate(kind: str, name: str) -> Path:
    """Return the file of a name or path.

    Raises:
        InputError: for a name that is not built in and no file either.
    """
    known = built_in(kind)
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.suffix in (".toml", ".csv") or "/" in name:
        raise InputError(f"no such file: {name}")
    raise unknown_name(kind, name, known)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        InputError: for wrong syntax, naming the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


def near(name: Any, base: Path) -> Any:
    """Return a file's name as seen from a folder, where there is such a file."""
    known = not isinstance(name, str) or name in built_in("failure")
    return str(base / name) if not known and (base / name).is_file() else name


def _linked(worker: Any, base: Path) -> Any:
    """Return a worker's table with its network file as seen from a folder."""
    if not isinstance(worker, dict) or worker.get("network") in built_in("network"):
        return worker
    return worker | {"network": near(worker["network"], base)} if "network" in worker else worker


def _beside(table: dict[str, Any], base: Path) -> dict[str, Any]:
    """Let files be relative to a folder first, where a table names them or tables that do."""
    return {
        kind: {key: near(value, base) if key in FILE_KEYS else value for key, value in own.items()}
        if isinstance(own, dict)
        else near(own, base)
        for kind, own in table.items()
    }


def beside(table: dict[str, Any], base: Path) -> dict[str, Any]:
    """Let the files that a table's parts name be relative to a folder first."""
    workers = table.get("worker")
    if isinstance(workers, list):
        table = table | {"worker": [_linked(own, base) for own in workers]}
    exchange = table.get("exchange")
    if isinstance(exchange, dict) and isinstance(exchange.get("matrix"), str):
        table = table | {"exchange": exchange | {"matrix": near(exchange["matrix"], base)}}
    link = table.get("link")
    if isinstance(link, dict) and isinstance(link.get("weather"), dict):
        table = table | {"link": link | {"weather": _beside(link["weather"], base)}}
    failures = table.get("failures")
    if not isinstance(failures, dict):
        return table
    return table | {"failures": _beside(failures, base)}


@lru_cache(maxsize=1024)
def read(model: type[Entry], path: Path, stamp: tuple[int, int]) -> Entry:
    """Read and validate one file; `stamp` is its time and size, so that a change is seen."""
    try:
        if path.suffix == ".csv":
            return model(worker=read_csv(path))
        return model(**beside(read_toml(path), path.parent))
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def load(kind: str, model: type[Entry], name: str) -> Entry:
    """Load an entry by name or path."""
    path = locate(kind, name)
    if path.suffix == ".csv" and kind not in ("challenge", "fleet"):
        raise InputError(f"{path}: a {kind} is a TOML file")
    facts = path.stat()
    return read(model, path, (facts.st_mtime_ns, facts.st_size))
