"""Columns of the result frame: order, group, type and meaning of each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd


class Column(NamedTuple):
    """One result column; `dtype` is a pandas dtype or `list<float>` (one value per worker)."""

    group: str
    dtype: str
    meaning: str


def _group(name: str, dtype: str, **meanings: str) -> dict[str, Column]:
    return {column: Column(name, dtype, meaning) for column, meaning in meanings.items()}


COLUMNS: dict[str, Column] = {
    **_group(
        "identity",
        "str",
        run_id="hash of the lowered experiment and the seed",
        config_id="hash of the lowered experiment",
    ),
    **_group(
        "identity",
        "int64",
        config_index="position of the configuration in its sweep",
        seed="root of the run's random numbers",
    ),
    **_group(
        "identity",
        "str",
        scenario="training task",
        challenge="workers, failures and success criteria",
        network="network all workers share, where one was named",
        strategy="who waits for whom",
        compressor="what shrinks an update",
        aggregator="how contributions become one update",
        attack="what Byzantine workers send",
    ),
    **_group(
        "throughput",
        "int64",
        steps="optimizer updates",
        rounds="barrier rounds or event buffers",
    ),
    **_group(
        "throughput",
        "float64",
        time_s="simulated duration",
        steps_per_s="optimizer updates per simulated second",
        samples_per_s="accepted training samples per simulated second",
        throughput_ratio="samples per second over the same run on a free network without failures",
        compute_utilization="time online workers compute over their online time",
    ),
    **_group(
        "network",
        "float64",
        bytes_sent="bytes workers sent",
        bytes_received="bytes workers received",
        goodput_bps="payload bits delivered over time spent in transfer",
        link_utilization="payload bits over bandwidth times online time",
        latency_mean_s="mean time from send to receipt",
        compression_ratio="dense bytes over bytes sent",
        bytes_saved_ratio="share of the dense bytes that was not sent",
    ),
    **_group(
        "contributions",
        "int64",
        submitted="contributions that workers finished",
        accepted="contributions that entered the model",
        rejected="contributions refused as too stale or too late",
        lost="contributions that failures destroyed",
    ),
    **_group(
        "contributions",
        "float64",
        rejection_rate="rejected over submitted",
        staleness_mean="mean versions between fetch and merge",
        staleness_max="largest number of versions between fetch and merge",
    ),
    **_group(
        "failures",
        "int64",
        failures="failures of every kind",
        failures_crash="workers that stopped for good",
        failures_transient="outages a worker came back from",
        failures_slowdown="slowdown episodes",
        failures_byzantine="workers that attacked before the end",
        failures_partition="network partitions",
        failures_churn="departures that ended a session",
        failures_regional="outages of a whole region",
        failures_replay="recorded outages that were replayed",
    ),
    **_group(
        "workers",
        "float64",
        active_workers_mean="time average of the workers online",
        availability="online time over total time, over workers",
    ),
    **_group(
        "workers",
        "list<float>",
        worker_contributions="contributions that arrived, per worker",
        worker_acceptance_rate="accepted over arrived, per worker",
    ),
    **_group(
        "learning",
        "float64",
        loss_initial="held-out loss before training",
        loss_final="held-out loss at the end",
        loss_best="smallest held-out loss seen",
        loss_floor="held-out loss no model of the task can beat",
        train_loss_final="loss at the end where data come as to the workers",
        accuracy_final="held-out accuracy at the end",
        accuracy_best="largest held-out accuracy seen",
        time_to_target_s="first time the held-out loss is at the target; missing if never",
    ),
    **_group("learning", "bool", reached="the target loss was reached"),
    **_group(
        "resources",
        "float64",
        energy_j="energy of all workers, busy and idle",
        cost_usd="machine hours and egress",
        memory_peak_bytes="largest memory of any worker",
    ),
    **_group("resources", "boolean", memory_fits="every worker's memory fits its device"),
    **_group("verdict", "bool", success="every criterion of the challenge is met"),
    **_group(
        "verdict",
        "str",
        failed_criteria="criteria not met, joined by commas",
        status="ok, or why the run ended early",
    ),
}

CURVE_COLUMNS: dict[str, Column] = {
    **_group("identity", "str", run_id="run of the point", config_id="configuration of the run"),
    **_group("learning", "int64", step="optimizer updates so far"),
    **_group(
        "learning",
        "float64",
        time_s="simulated time",
        loss="held-out loss",
        accuracy="held-out accuracy",
        train_loss="loss where data come as to the workers",
    ),
}

IDENTITY = ("scenario", "challenge", "network", "strategy", "compressor", "aggregator", "attack")


def swept_columns(frame: pd.DataFrame) -> list[str]:
    """List the columns a sweep added: those that `COLUMNS` does not know."""
    return [name for name in frame.columns if name not in COLUMNS]


def identity_columns(frame: pd.DataFrame) -> list[str]:
    """List the columns that tell configurations apart: names first, then swept settings."""
    return [name for name in IDENTITY if name in frame.columns] + swept_columns(frame)


def varying(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """Keep the names whose column holds more than one value; a missing value is a value."""
    return [name for name in names if len(set(map(str, frame[name].unique()))) > 1]


def keyed(frame: pd.DataFrame, names: list[str]) -> pd.Series:
    """Return each row's values in some columns as one text; written once for all equal rows."""
    if not names:
        return pd.Series("", index=frame.index)
    numbers = frame.groupby(names, sort=False, dropna=False).ngroup()
    first = frame.loc[(~numbers.duplicated()).to_numpy(), names]
    texts = ["\x1f".join(map(str, row)) for row in first.itertuples(index=False, name=None)]
    return pd.Series(np.array(texts, object)[numbers.to_numpy()], index=frame.index)


def typed(frame: pd.DataFrame, columns: dict[str, Column] = COLUMNS) -> pd.DataFrame:
    """Cast known columns to their dtype and order them; swept columns follow as they came.

    Raises:
        ValueError: when a count, a flag or a number cannot be one, naming the column.
    """
    known = [name for name in columns if name in frame.columns]
    rest = [name for name in frame.columns if name not in columns]
    cast = {name: _cast(frame[name], columns[name].dtype) for name in known}
    cast |= {name: uniform(frame[name]) for name in rest}
    return pd.DataFrame(cast, index=frame.index)


def _cast(values: pd.Series, dtype: Any) -> pd.Series:
    if dtype == "list<float>":
        return values.map(lambda per_worker: np.asarray(per_worker, np.float64)).astype(object)
    if dtype in ("int64", "bool") and values.isna().any():
        raise ValueError(f"column {values.name!r} holds a missing value; {dtype} has none")
    try:
        return values.astype(dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {values.name!r} is not {dtype}: {error}") from None


def uniform(values: pd.Series) -> pd.Series:
    """Give a column of mixed settings one storable type: numbers stay numbers, else text."""
    if values.dtype != object:
        return values
    present = values.dropna()
    if all(isinstance(value, (int, float)) for value in present):
        return values.astype("float64")
    return values.map(lambda value: str(value), na_action="ignore").astype("str")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn rows into JSON-ready dicts: plain Python values, NaN and inf as None."""
    columns = {str(name): [plain_json(value) for value in frame[name]] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain_json(value: Any) -> Any:
    """Turn one value into what JSON has: lists for arrays, None for NaN, inf and NA."""
    if isinstance(value, (list, tuple, np.ndarray)) and np.ndim(value) > 0:
        return [plain_json(item) for item in value]
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA or value is pd.NaT else value
