"""Synthetic result frames for tests of the store, the tables and the plots."""

import itertools

import numpy as np
import pandas as pd

from jaxwan.columns import COLUMNS, CURVE_COLUMNS, typed


def rows_and_curves(
    seeds=16,
    challenges=("wan_bandwidth", "unreliable"),
    compressors=("none", "topk"),
    points=12,
    timing_only=False,
    **constants,
):
    """Make plausible rows and curves; every value is a function of configuration and seed."""
    rows, curves = [], []
    for index, (challenge, compressor) in enumerate(itertools.product(challenges, compressors)):
        for seed in range(seeds):
            row, curve = _run(index, seed, challenge, compressor, points, timing_only)
            rows.append(row | constants)
            curves.append(curve)
    frame = typed(pd.DataFrame(rows))
    return frame, typed(pd.concat(curves, ignore_index=True), CURVE_COLUMNS)


def _run(index, seed, challenge, compressor, points, timing_only):
    rng = np.random.default_rng([index, seed])
    scale = 5000.0 if challenge == "unreliable" else 60.0
    speed = 8.0 if compressor == "topk" else 1.0
    time = np.sort(np.cumsum(rng.uniform(0.5, 1.5, points))) * scale / speed
    time -= time[0]
    floor = 0.05
    loss = floor + 2.2 * np.exp(-np.arange(points) / 2.5) * rng.lognormal(0, 0.15, points)
    target = floor + 0.3
    hit = np.flatnonzero(loss <= target)
    reached = bool(len(hit)) and not timing_only and rng.random() < 0.7
    ratio = float(np.clip(rng.normal(0.12 * speed**0.8, 0.04), 0.01, 1))
    ids = {"run_id": f"run-{index}-{seed}", "config_id": f"config-{index}"}
    row = {name: _filler(column.dtype) for name, column in COLUMNS.items()} | ids
    row |= {
        "config_index": index, "seed": seed, "scenario": "moderate", "challenge": challenge,
        "network": "typical_wan", "strategy": "async", "compressor": compressor,
        "aggregator": "mean", "attack": "none", "steps": 400, "time_s": float(time[-1]),
        "throughput_ratio": ratio, "rejection_rate": float(rng.beta(2, 20)),
        "staleness_mean": 3 + float(rng.normal(0, 0.1)), "loss_final": float(loss[-1]),
        "loss_floor": floor, "reached": reached,
        "time_to_target_s": float(time[hit[0]]) if reached else np.nan,
        "success": ratio > 0.4, "failed_criteria": "" if ratio > 0.4 else "throughput_ratio",
        "status": "ok", "worker_contributions": [100.0, 100.0, 99.0, 101.0],
        "worker_acceptance_rate": [1.0, 0.9, np.nan, 1.0],
    }  # fmt: skip
    if timing_only:
        learned = ("loss_", "train_loss_", "accuracy_")
        row |= {name: np.nan for name in row if name.startswith(learned)}
    nothing = np.full(points, np.nan)
    curve = pd.DataFrame({"step": np.arange(points), "time_s": time})
    loss = nothing if timing_only else loss
    curve = curve.assign(loss=loss, accuracy=nothing, train_loss=loss, **ids)
    return row, curve


def _filler(dtype):
    fillers = {"str": "", "int64": 1, "bool": True, "boolean": True, "list<float>": [1.0]}
    return fillers.get(dtype, 0.5)
