"""Rounds: one sweep whose seeds came in several goes, each a store of its own in one folder.

`DIR/round-000` holds the first seeds of every configuration, each later round more seeds of those
that needed them. A round is an ordinary store: resumable, with its own manifest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from jaxwan.columns import CURVE_COLUMNS, typed

_NAME = re.compile(r"round-\d{3,}")


def round_folder(directory: str | os.PathLike[str], number: int) -> Path:
    """Name the folder of a round."""
    return Path(directory) / f"round-{number:03d}"


def round_folders(directory: str | os.PathLike[str]) -> list[Path]:
    """List the rounds in a folder, in order; none where it holds none."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    found = [each for each in folder.iterdir() if _NAME.fullmatch(each.name)
             and (each / "manifest.json").is_file()]  # fmt: skip
    return sorted(found, key=lambda each: int(each.name.removeprefix("round-")))


def joined(
    frames: Sequence[pd.DataFrame], curves: Sequence[pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join rounds as one sweep: rows by configuration, in the first round's order, and seed."""
    own = [frame for frame in frames if len(frame)]
    if not own:
        return frames[0], pd.DataFrame()
    first = own[0].drop_duplicates("config_id").set_index("config_id")["config_index"]
    frame = typed(pd.concat(own, ignore_index=True))
    frame["config_index"] = frame["config_id"].map(first).fillna(frame["config_index"])
    frame = typed(frame.sort_values(["config_index", "seed"], kind="stable", ignore_index=True))
    parts = [part for part in curves if len(part)]
    if not parts:
        return frame, pd.DataFrame()
    long = typed(pd.concat(parts, ignore_index=True), CURVE_COLUMNS)
    place = pd.Series(frame.index, index=frame["run_id"])
    order = long["run_id"].map(place).argsort(kind="stable")
    return frame, long.iloc[order].reset_index(drop=True)
