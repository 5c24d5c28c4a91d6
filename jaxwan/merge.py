"""Merge: put the parts of several folders of one sweep into one store."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from jaxwan.parts import BadPart
from jaxwan.rounds import round_folders
from jaxwan.store import Store


class Merged(NamedTuple):
    """What a merge did and what it met."""

    store: Store
    taken: int  # chunks
    doubles: list[str]  # chunks that several folders hold, alike
    differing: list[str]  # the same, but not bit for bit; the first one met is kept
    bad: list[str]  # parts left out, in words
    missing: list[str]  # chunks that no folder holds


def _check_alike(stores: Sequence[Store], any_version: bool) -> None:
    first = stores[0]
    for other in stores[1:]:
        if other.sweep != first.sweep:
            raise ValueError(
                f"{other.path} holds another sweep than {first.path} ({other.sweep}, not "
                f"{first.sweep}); merge shards of one sweep file, seeds and steps included"
            )
        if other.manifest.get("chunks") != first.manifest.get("chunks"):
            raise ValueError(
                f"{other.path} and {first.path} are cut into other chunks, by other versions; "
                "run those shards again with one version"
            )
        began, own = first.manifest.get("versions"), other.manifest.get("versions")
        if began != own and not any_version:
            raise ValueError(
                f"{other.path} was begun with {own}, {first.path} with {began}: rows may differ; "
                "run those shards again with one version, or merge with --any-version"
            )


def merge(
    out: str | os.PathLike[str],
    folders: Sequence[str | os.PathLike[str]],
    any_version: bool = False,
) -> Merged:
    """Copy the parts of `folders` into the store `out`, new or begun; what is there stays.

    Checksums are verified; a part is renamed into place, so a merge may be killed and repeated.
    Once all planned chunks are there, the sweep is marked as finished.

    Raises:
        ValueError: for folders without a store or of different sweeps or versions; nothing is
            written then.
        OSError: when the disk refuses.
    """
    for folder in folders:
        if round_folders(folder):
            raise ValueError(
                f"{folder} holds rounds (--until), which cannot be merged: who gets more seeds is "
                "decided on all runs; run such a sweep into one folder"
            )
    stores = [Store(folder) for folder in folders]
    if not stores:
        raise ValueError("give at least one folder to merge")
    _check_alike(stores, any_version)
    rest = {name: value for name, value in stores[0].manifest.items() if name != "finished"}
    target = Store.open(out, rest)
    _check_alike([target, *stores], any_version)
    sums = {name: target.stamp(name).files for name in target.resume(set(target.chunks))}
    found = Merged(target, 0, [], [], [], [])
    before = len(sums)
    for store in stores:
        if store.path.resolve() != target.path.resolve():
            _take(store, found, sums)
    missing = target.missing()
    if not missing:
        target.finish()
    return found._replace(taken=len(sums) - before, missing=missing)


def _take(store: Store, found: Merged, sums: dict[str, dict[str, tuple[int, str]]]) -> None:
    """Copy the chunks of one folder that the target lacks."""
    for name in store.stored():
        try:
            stamp, content = store.content(name)
        except BadPart as error:
            found.bad.append(f"{error.file} is {error.kind} ({error.why})")
            continue
        if name in sums:
            alike = sums[name] == stamp.files
            (found.doubles if alike else found.differing).append(name)
            continue
        found.store.put(name, stamp.runs, content)
        sums[name] = stamp.files
