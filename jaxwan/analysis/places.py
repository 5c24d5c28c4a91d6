"""Places: what is given and what is chosen among the runs, and the runs of each given world."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.analysis.outcomes import outcomes
from jaxwan.analysis.tables import setting_names
from jaxwan.analysis.wording import config_label
from jaxwan.columns import identity_columns, keyed, varying
from jaxwan.core.families import nearest

WORLDS = ("scenario", "challenge", "network")  # never to be chosen unless that is asked for
_GIVEN = {
    *WORLDS, "workers", "attackers", "attack", "attack_stage", "fidelity", "timing_only", "steps",
}  # fmt: skip
_GIVEN_WITHIN = ("attack.", "link.", "failures.", "learning.", "compute.")
_CHOSEN_WITHIN = ("link.transport", "link.streams", "link.connect", "compute.device",
                  "compute.precision")  # fmt: skip


class Question(NamedTuple):
    """What is asked of every place."""

    metric: str
    larger: bool
    confidence: float
    delta: float


class Place(NamedTuple):
    """The runs of one place as a table of settings and seeds."""

    names: dict[str, Any]
    settings: list[str]
    config_ids: list[str]
    values: np.ndarray  # [setting, seed], NaN where not run; smaller is better
    filled: np.ndarray  # int [setting]; runs that were told a number
    hopeful: np.ndarray  # [setting, seed]; values, but the own watch of a run still on its way
    flags: bool  # values are yes or no


def is_given(name: str) -> bool:
    """Tell whether a setting is usually the world's rather than the user's to choose."""
    if name.startswith(_CHOSEN_WITHIN):
        return False
    return name in _GIVEN or name.startswith(_GIVEN_WITHIN)


def one_each(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one run of every configuration, in order: what their settings are read from."""
    return frame.drop_duplicates("config_id") if "config_id" in frame else frame


def told_apart(
    frame: pd.DataFrame, choose: Sequence[str] = (), over: str | None = None
) -> tuple[list[str], list[str]]:
    """Split what varies into the chosen, which may be nothing, and the given.

    Where no choice varies, links and such are chosen; scenario, challenge and network never are
    unless `choose` says so.

    Raises:
        ValueError: for a column that is not there or does not vary.
    """
    known = identity_columns(frame)
    told = varying(frame, known)
    for name in [*choose, *([over] if over else [])]:
        if name not in known:
            hint = nearest(name, known)
            meant = f"; did you mean {hint!r}?" if hint else ""
            raise ValueError(f"no setting {name!r} in the results{meant} ({', '.join(known)})")
    if over is not None and over not in told:
        value = frame[over].iloc[0]
        single = "is set in no run" if pd.isna(value) else f"has a single value: {value}"
        raise ValueError(f"{over!r} {single}; what varies is {', '.join(told) or 'nothing'}")
    if choose:
        own = [name for name in told if any(_within(name, root) for root in choose)]
    else:
        own = [name for name in told if not is_given(name) and name != over]
        if over is None:
            own = own or [name for name in told if name not in WORLDS]
    if over in own:
        raise ValueError(f"{over!r} cannot be both chosen and what the choice is over")
    return own, [name for name in told if name not in own]


def roles(
    frame: pd.DataFrame, choose: Sequence[str] = (), over: str | None = None
) -> tuple[list[str], list[str]]:
    """Split what varies into the chosen and the given, as `told_apart` does.

    Raises:
        ValueError: for a column that is not there or does not vary, or where nothing is chosen.
    """
    own, given = told_apart(frame, choose, over)
    if own:
        return own, given
    if not given:
        raise ValueError("nothing to choose from: no setting varies among the runs")
    raise ValueError(f"nothing to choose from: only {', '.join(given)} varies among the runs; if "
                     f"that is the choice, name it (--choose {given[0]})")  # fmt: skip


def _within(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def by_place(frame: pd.DataFrame, given: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Split the frame by what is given, in order of first appearance."""
    if not given:
        return [({}, frame)]
    groups = [runs for _, runs in frame.groupby(keyed(frame, given), sort=False)]
    return [({name: runs[name].iloc[0] for name in given}, runs) for runs in groups]


def place_label(names: dict[str, Any]) -> str:
    """Name a place by what is given there; empty where nothing is."""
    return config_label(names, list(names))


def place_of(
    runs: pd.DataFrame,
    names: dict[str, Any],
    chosen: list[str],
    question: Question,
    bound: float | None = None,
) -> Place:
    """Lay the runs of a place out by setting and seed; `bound` is what a run without a number is.

    Raises:
        ValueError: where a seed of a configuration stands twice.
    """
    found = outcomes(runs, question.metric, question.larger, bound)
    sign = -1.0 if question.larger else 1.0
    flat = pd.DataFrame({
        "config": runs["config_id"].to_numpy(), "seed": runs["seed"].to_numpy(),
        "value": sign * found.values, "hopeful": sign * found.hopeful,
    })  # fmt: skip
    if flat.duplicated(["config", "seed"]).any():
        raise ValueError("several runs have one configuration and one seed")
    order = list(dict.fromkeys(flat["config"]))
    values, hopeful = (
        flat.pivot(index="config", columns="seed", values=name).loc[order].to_numpy(np.float64)
        for name in ("value", "hopeful")
    )
    filled = pd.Series(found.filled).groupby(flat["config"].to_numpy()).sum().loc[order]
    labels = _labels(one_each(runs), chosen)
    flags = pd.api.types.is_bool_dtype(runs[question.metric])
    return Place(names, labels, order, values, filled.to_numpy(), hopeful, flags)


def _labels(one: pd.DataFrame, chosen: list[str]) -> list[str]:
    """Name configurations by what is chosen; where two would read the same, by their id too."""
    usual = [name for name in ("strategy", "compressor") if name in one]
    rows = one.to_dict("records")
    labels = [config_label(row, chosen) or setting_names(row, usual) for row in rows]
    count = Counter(labels)
    return [
        label if label and count[label] == 1
        else " · ".join(filter(None, [label, str(row["config_id"])[:8]]))
        for label, row in zip(labels, rows, strict=True)
    ]  # fmt: skip
