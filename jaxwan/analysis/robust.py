"""Robust choices: one setting for a world of which one knows only what it may be."""

from __future__ import annotations

import numpy as np
import pandas as pd

from jaxwan.analysis.humane import percent
from jaxwan.analysis.places import Place, Question
from jaxwan.analysis.verdict import share
from jaxwan.stats.best import least_shares, robust
from jaxwan.stats.bootstrap import resample_weights

CRITERIA = ("mean", "worst_decile", "regret")
DRAWS = 400


def robust_choice(places: list[Place], over: str, question: Question) -> pd.DataFrame:
    """Judge every setting over all values of a given column, by three criteria.

    One row per setting and combination of what else is given: `rows` (values of the column),
    `mean` and `worst_decile` in units of the metric, `regret` as a share of each row's best, and of
    each criterion whether it is its winner and the share of bootstrap samples of the seeds in which
    it is. Only seeds that all have count; settings that lack a row are left out.

    Raises:
        ValueError: where no setting was run at every value of the column.
    """
    groups: dict[str, list[Place]] = {}
    for place in places:
        rest = {name: value for name, value in place.names.items() if name != over}
        groups.setdefault(str(rest), []).append(place)
    return pd.concat([_judge(own, over, question) for own in groups.values()], ignore_index=True)


def _judge(places: list[Place], over: str, question: Question) -> pd.DataFrame:
    sign = -1.0 if question.larger else 1.0
    names = [name for name in places[0].settings
             if all(name in place.settings for place in places)]  # fmt: skip
    if not names or len(places) < 2:
        raise ValueError(f"no setting was run at several values of {over!r}")
    tables = [place.values[[place.settings.index(name) for name in names]] for place in places]
    n = min(table.shape[1] for table in tables)
    values = np.stack([table[:, :n] for table in tables], axis=1)  # [setting, row, seed]
    values = values[:, :, ~np.isnan(values).any(axis=(0, 1))]
    if values.shape[2] < 2:
        raise ValueError("the settings share fewer than two seeds")
    found = robust(values)
    drawn = [robust(values, weights) for weights in resample_weights(values.shape[2], DRAWS)]
    rest = {name: value for name, value in places[0].names.items() if name != over}
    table = pd.DataFrame(rest, index=range(len(names))).assign(
        setting=names, rows=len(places), n=values.shape[2], mean=sign * found.mean + 0.0,
        worst_decile=sign * found.worst_decile + 0.0, regret=found.regret,
    )  # fmt: skip
    for name in CRITERIA:
        own = getattr(found, name)
        table[f"{name}_winner"] = np.arange(len(names)) == int(np.argmin(own))
        again = np.array([getattr(each, name) for each in drawn])
        table[f"{name}_probability"] = least_shares(again)
    return table


def robust_sentence(table: pd.DataFrame, over: str, question: Question) -> str:
    """Say which setting to choose over all rows, and by which criteria."""
    if table["setting"].duplicated().any():
        return f"See the table for the choice over {over} at each place."
    said: dict[str, list[str]] = {}
    words = {"mean": "the best mean", "worst_decile": "the best worst decile",
             "regret": "the smallest regret"}  # fmt: skip
    for name in CRITERIA:
        row = table[table[f"{name}_winner"]].iloc[0]
        chance = percent(row[f"{name}_probability"])
        said.setdefault(row["setting"], []).append(f"{words[name]} ({chance} of resamples)")
    least = table.loc[table["regret_winner"], "regret"].iloc[0]
    first, *others = [f"{setting} has {' and '.join(why)}" for setting, why in said.items()]
    verb = f"Over {int(table['rows'].iloc[0])} values of {over}: "
    end = f"; at no value is it worse than the best there by more than {share(least)}."
    if others:
        end = f"; the smallest regret is {share(least)}."
    return verb + "; ".join([first, *others]) + end
