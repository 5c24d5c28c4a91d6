"""The manifest: what a results folder says about itself, and whether that can be believed.

A damaged one is no loss while there are parts: their stamps name the sweep, and running it again
into the folder writes the manifest anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jaxwan.parts import SAFE_NAME, STAMP, TEMP, BadPart, Stamp, read_stamp, replace, sync_folder

MANIFEST = "manifest.json"
ANEW = "run the same sweep into that folder again, which writes it anew"
NEEDED = ("sweep", "sweep_hash", "chunks")
KINDS: dict[str, type] = {
    "sweep": dict, "sweep_hash": str, "question": str, "warnings": list, "versions": dict,
    "chunks": list, "runs": int,
}  # fmt: skip


class BadManifest(ValueError):
    """A manifest that cannot be read, or is not what a manifest is."""

    def __init__(self, file: Path, why: str, what: str = "is not a jaxwan manifest") -> None:
        remedy = ANEW if most_of(file.parent) else "choose another folder"
        super().__init__(f"{file} {what} ({why}); {remedy}")
        self.file, self.why = file, why


def sweep_hash(sweep: Mapping[str, Any]) -> str:
    """Digest a sweep given as plain data, whatever the order of its keys."""
    text = json.dumps(sweep, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions that rows may depend on."""
    found = {}
    for package in ("jaxwan", "jax", "jaxlib"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def stamps(parts: Path) -> list[Stamp]:
    """Read those stamps of a folder of parts that can be read."""
    found = []
    for file in sorted(parts.glob("*" + STAMP)):
        try:
            found.append(read_stamp(parts, file.name.removesuffix(STAMP)))
        except BadPart:
            continue
    return found


def most_of(folder: Path) -> str:
    """Return the hash of the sweep that most parts of a folder are of; blank without any."""
    owners = Counter(stamp.sweep for stamp in stamps(folder / "parts"))
    return owners.most_common(1)[0][0] if owners else ""


def check_unclaimed(folder: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ValueError: naming what is there.
    """
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a results folder.

    Raises:
        ValueError: where there is none.
        BadManifest: where it is damaged.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        lost = f"; {ANEW}" if most_of(folder) else ""
        told = f"{folder} holds no jaxwan results ({MANIFEST} is missing){lost}"
        raise ValueError(told) from None
    except NotADirectoryError:
        raise ValueError(f"{folder} is a file, not a results folder") from None
    except (OSError, ValueError) as error:
        raise BadManifest(file, f"{type(error).__name__}", "cannot be read") from None
    problem = manifest_problem(manifest)
    if problem:
        raise BadManifest(file, problem)
    own: dict[str, Any] = manifest
    return own


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Put a manifest in place."""
    replace(folder / MANIFEST, as_json(manifest))
    sync_folder(folder)


def as_json(manifest: Mapping[str, Any]) -> bytes:
    """Encode a manifest: a line per chunk, the rest indented."""
    chunks = [json.dumps(chunk, default=str) for chunk in manifest.get("chunks", [])]
    rest = {name: value for name, value in manifest.items() if name != "chunks"}
    text = json.dumps({**rest, "chunks": []}, indent=1, default=str)
    listed = "[\n  " + ",\n  ".join(chunks) + "\n ]" if chunks else "[]"
    return (text.removesuffix("[]\n}") + listed + "\n}\n").encode()


def manifest_problem(manifest: Any) -> str | None:
    """Say what is not as a manifest has it, or None."""
    if not isinstance(manifest, dict):
        return "it is no table"
    for name, kind in KINDS.items():
        if not isinstance(manifest.get(name, kind()), kind):
            return f"{name} is {type(manifest[name]).__name__}, not {kind.__name__}"
    for chunk in manifest.get("chunks", []):
        own = chunk.get("name") if isinstance(chunk, dict) else None
        if not (isinstance(own, str) and SAFE_NAME.fullmatch(own)):
            return "a chunk has no name"
        if not isinstance(chunk.get("runs", 0), int):
            return f"runs of chunk {own} are no number"
    lacking = [name for name in NEEDED if name not in manifest]
    if lacking:
        return f"it has no {lacking[0]}"
    sweep = manifest["sweep"]
    for name, kind in (("configurations", str), ("seeds", int)):
        values = sweep.get(name)
        if isinstance(values, list) and not all(isinstance(each, kind) for each in values):
            return f"{name} of the sweep are not all {kind.__name__}"
    if sweep_hash(sweep) != manifest["sweep_hash"]:
        return f"sweep_hash is {manifest['sweep_hash']}, that of its sweep {sweep_hash(sweep)}"
    return None
