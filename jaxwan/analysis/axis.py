"""Long axes: a number swept over many values, which a curve shows better than a line each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxwan.columns import identity_columns, varying

MANY = 10  # values from which on a setting is an axis
_ROWS = 11  # of them a table shows


class Axis(NamedTuple):
    """A swept number and its values, rising."""

    name: str
    values: np.ndarray


def long_axis(table: pd.DataFrame, names: list[str] | None = None) -> Axis | None:
    """Return the swept number with most values, or None where no setting has many."""
    found = []
    for name in varying(table, names or identity_columns(table)):
        if pd.api.types.is_numeric_dtype(table[name]):
            values = np.unique(table[name].dropna().to_numpy(np.float64))
            found.append(Axis(name, values))
    longest = max(found, key=lambda axis: len(axis.values), default=None)
    return longest if longest is not None and len(longest.values) > MANY else None


def thinned(summary: pd.DataFrame, names: list[str]) -> tuple[pd.DataFrame, str]:
    """Keep evenly chosen values of a long axis, and say so; else everything and ""."""
    axis = long_axis(summary, names) if len(summary) > 2 * MANY else None
    if axis is None:
        return summary, ""
    places = np.unique(np.linspace(0, len(axis.values) - 1, _ROWS).round().astype(int))
    some = summary[summary[axis.name].isin(axis.values[places])].reset_index(drop=True)
    count = len(axis.values)
    return some, f"{len(places)} of {count} values of {axis.name} shown; --json has all"
