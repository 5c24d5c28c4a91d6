"""Rows: from a chunk's arrays to the result columns, in float64 on the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxwan.columns import IDENTITY, typed
from jaxwan.engine import Output
from jaxwan.experiment.devices import fits, memory_bytes
from jaxwan.experiment.lower import (
    budget,
    compress_s,
    config_id,
    is_barrier,
    local_steps,
    own_steps,
    run_id,
)
from jaxwan.experiment.messages import Sizes, sizes
from jaxwan.experiment.prices import CPU, GIGABYTE, NETWORK_J_PER_BYTE, PROVIDERS, device, hourly
from jaxwan.experiment.resolved import Resolved, Worker
from jaxwan.experiment.rounds import fragments
from jaxwan.world.spells import FAILURES
from jaxwan.world.state import NO_WORKERS, OUTAGE_BOUND

DIVERGED = 10.0  # times the initial loss
STATUS = {NO_WORKERS: "no_workers", OUTAGE_BOUND: "outage_bound"}


class Facts(NamedTuple):
    """What the rows of one configuration share."""

    position: int
    resolved: Resolved
    config_id: str
    sizes: Sizes
    memory_bytes: float
    fits: bool


def facts_of(index: int, resolved: Resolved) -> Facts:
    """Work out what the rows of a configuration share."""
    own = config_id(resolved), sizes(resolved), memory_bytes(resolved), fits(resolved)
    return Facts(index, resolved, *own)


def _seconds(instant: Any) -> np.ndarray:
    return np.asarray(instant.seconds, np.float64) + np.asarray(instant.fraction) / 2.0**20


def _ratio(top: Any, bottom: Any, otherwise: float = np.nan) -> np.ndarray:
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    out = np.full(np.broadcast(top, bottom).shape, otherwise)
    return np.divide(top, bottom, out=out, where=bottom > 0)


def _identity(facts: list[Facts], seeds: np.ndarray) -> dict[str, Any]:
    named = {
        "scenario": [f.resolved.scenario.name for f in facts],
        "challenge": [f.resolved.challenge for f in facts],
        "network": [f.resolved.network for f in facts],
        "strategy": [f.resolved.strategy.kind for f in facts],
        "compressor": [f.resolved.compressor.kind for f in facts],
        "aggregator": [f.resolved.aggregator.kind for f in facts],
        "attack": [f.resolved.attack.kind if f.resolved.attack else "none" for f in facts],
    }
    return {
        "run_id": [run_id(f.config_id, int(s)) for f, s in zip(facts, seeds, strict=True)],
        "config_id": [f.config_id for f in facts],
        "config_index": [f.position for f in facts],
        "seed": seeds.astype(np.int64),
        **named,
    }


def _swept(facts: list[Facts]) -> dict[str, Any]:
    names: dict[str, None] = {}
    for f in facts:
        names |= dict.fromkeys(f.resolved.labels)
    hidden = {*IDENTITY, *(f"{name}.kind" for name in IDENTITY)}
    return {
        name: [f.resolved.labels.get(name) for f in facts] for name in names if name not in hidden
    }


def _throughput(facts: list[Facts], out: Output) -> dict[str, Any]:
    total, time_s = out.outcome.totals, _seconds(out.outcome.now)
    batch = np.array([f.resolved.scenario.batch for f in facts], np.float64)
    steps = np.zeros(total.contributions.shape)
    for run, f in enumerate(facts):
        steps[run, : len(f.resolved.workers)] = own_steps(f.resolved)
    usual = np.array([np.mean(own_steps(f.resolved)) for f in facts])
    barrier = np.array([is_barrier(f.resolved) for f in facts])
    ticks = np.array([budget(f.resolved).ticks for f in facts])
    samples_per_s = _ratio(np.sum(total.contributions * steps, axis=1) * batch, time_s, 0.0)
    free = _ratio(out.free_accepted * batch * usual, _seconds(out.free_now))
    return {
        "steps": out.outcome.version,
        "rounds": np.where(barrier & (out.outcome.status == 0), ticks, out.outcome.version),
        "time_s": time_s,
        "steps_per_s": _ratio(out.outcome.version, time_s, 0.0),
        "samples_per_s": samples_per_s,
        "throughput_ratio": _ratio(samples_per_s, free, 0.0),
        "compute_utilization": _ratio(
            _seconds(total.busy), np.sum(out.outcome.up_s, axis=1, dtype=np.float64), 0.0
        ),
    }


def _network(facts: list[Facts], out: Output) -> dict[str, Any]:
    total = out.outcome.totals
    barrier = np.array([is_barrier(f.resolved) for f in facts])
    cut_off = np.where(barrier, 0, total.rejected)  # a round's late ones never arrive
    arrivals = np.asarray(total.accepted, np.int64) + cut_off
    update = np.array([f.sizes.update_bytes for f in facts], np.int64)
    dense = np.array([f.sizes.dense_bytes for f in facts], np.int64)
    online = np.sum(out.outcome.up_s, axis=1, dtype=np.float64)
    on_wire = _seconds(total.on_wire_up) + _seconds(total.on_wire_down)
    uploading = _seconds(total.latency)
    sent = np.round(_seconds(total.payloads) * update)
    peers = np.array([bool(f.resolved.peers) for f in facts])
    whole = update * np.array([fragments(f.resolved) for f in facts])
    fetch = np.array([f.sizes.fetch_bytes for f in facts], np.int64)
    fetched = total.dense_fetches * dense + total.missed_updates * fetch
    return {
        "bytes_sent": sent,
        "bytes_received": fetched + np.where(peers, sent, 0.0),
        "goodput_bps": _ratio(sent * 8.0, uploading),
        "link_utilization": _ratio(on_wire, 2.0 * online, 0.0),
        "latency_mean_s": _ratio(uploading, arrivals),
        "compression_ratio": dense / whole,
        "bytes_saved_ratio": 1.0 - whole / dense,
    }


def _contributions(out: Output) -> dict[str, Any]:
    total = out.outcome.totals
    submitted = total.accepted + total.rejected + total.lost
    largest = np.where(total.accepted > 0, total.staleness_max, np.nan)
    return {
        "submitted": submitted,
        "accepted": total.accepted,
        "rejected": total.rejected,
        "lost": total.lost,
        "rejection_rate": _ratio(total.rejected, submitted, 0.0),
        "staleness_mean": _ratio(total.staleness_sum, total.accepted),
        "staleness_max": largest,
    }


def _per_region(facts: list[Facts], out: Output) -> np.ndarray:
    """Count regional outages once a region: all its workers share them."""
    own = out.outcome.failures[:, :, FAILURES.index("regional")]
    counts = []
    for f, row in zip(facts, own, strict=True):
        workers = zip(f.resolved.workers, row, strict=False)
        counts.append(sum({worker.region: int(count) for worker, count in workers}.values()))
    return np.array(counts)


def _failures(facts: list[Facts], out: Output) -> dict[str, Any]:
    counts = np.sum(out.outcome.failures, axis=1)
    kinds = {f"failures_{name}": counts[:, i] for i, name in enumerate(FAILURES)}
    attackers = np.array(
        [sum(w.attacker for w in f.resolved.workers) if f.resolved.attack else 0 for f in facts]
    )
    onset_s = np.array([f.resolved.failures.onset_s for f in facts])
    kinds["failures_byzantine"] = np.where(_seconds(out.outcome.now) >= onset_s, attackers, 0)
    kinds["failures_regional"] = _per_region(facts, out)
    apart = FAILURES.index("partition")  # one partition cuts many workers
    kinds["failures_partition"] = np.max(out.outcome.failures[:, :, apart], axis=1)
    return {"failures": sum(kinds.values()), **kinds}


def _workers(facts: list[Facts], out: Output) -> dict[str, Any]:
    count = np.array([len(f.resolved.workers) for f in facts])
    online = np.sum(out.outcome.up_s, axis=1, dtype=np.float64)
    time_s = _seconds(out.outcome.now)
    arrivals = np.asarray(out.outcome.totals.arrivals, np.float64)
    rates = _ratio(out.outcome.totals.contributions, arrivals)
    return {
        "active_workers_mean": _ratio(online, time_s, 0.0),
        "availability": _ratio(online, time_s * count, 0.0),
        "worker_contributions": [row[:n] for row, n in zip(arrivals, count, strict=True)],
        "worker_acceptance_rate": [row[:n] for row, n in zip(rates, count, strict=True)],
    }


def _learning(facts: list[Facts], out: Output) -> dict[str, Any]:
    names = ("loss_initial", "loss_final", "loss_best", "loss_floor", "train_loss_final",
             "accuracy_final", "accuracy_best", "time_to_target_s")  # fmt: skip
    if out.curve is None:
        return dict.fromkeys(names, np.nan) | {"reached": False}
    loss = np.asarray(out.curve.loss, np.float64)
    accuracy = np.asarray(out.curve.accuracy, np.float64)
    target = np.array([f.resolved.target_loss or -np.inf for f in facts], np.float64)
    below = loss <= target[:, None]
    reached, first = below.any(axis=1), below.argmax(axis=1)
    when = np.take_along_axis(_seconds(out.curve_now), first[:, None], axis=1)[:, 0]
    finite = np.where(np.isfinite(loss), loss, np.inf)
    known = np.where(np.isnan(accuracy), -np.inf, accuracy).max(axis=1)
    return {
        "loss_initial": loss[:, 0],
        "loss_final": loss[:, -1],
        "loss_best": finite.min(axis=1),
        "loss_floor": np.asarray(out.floor, np.float64),
        "train_loss_final": np.asarray(out.curve.train_loss, np.float64)[:, -1],
        "accuracy_final": accuracy[:, -1],
        "accuracy_best": np.where(np.isfinite(known), known, np.nan),
        "time_to_target_s": np.where(reached, when, np.nan),
        "reached": reached,
    }


def _diverged(columns: dict[str, Any]) -> np.ndarray:
    """Tell which runs end without a number, or far above where they began."""
    final = np.nan_to_num(columns["loss_final"], nan=np.inf)
    return final > DIVERGED * columns["loss_initial"]


def _verdict(facts: list[Facts], columns: dict[str, Any], out: Output) -> dict[str, Any]:
    status = np.asarray(out.outcome.status)
    diverged = _diverged(columns) if out.curve is not None else np.zeros(len(facts), bool)
    success, reasons, states = [], [], []
    for i, f in enumerate(facts):
        names = [name for bit, name in STATUS.items() if status[i] & bit]
        names += ["diverged"] if diverged[i] else []
        limits = f.resolved.criteria
        checks = {
            "min_steps": columns["steps"][i] >= limits.min_steps,
            "max_rejection": columns["rejection_rate"][i] <= limits.max_rejection,
            "min_throughput_ratio": columns["throughput_ratio"][i] >= limits.min_throughput_ratio,
            "status": not names,
        }
        failed = [name for name, met in checks.items() if not met]
        success.append(not failed)
        reasons.append(",".join(failed))
        states.append(",".join(names) or "ok")
    return {"success": success, "failed_criteria": reasons, "status": states}


def _per_worker(
    facts: list[Facts], width: int, figure: Callable[[Resolved, Worker], float]
) -> np.ndarray:
    """Return one figure of every worker `[run, worker]`."""
    table = np.zeros((len(facts), width))
    for run, f in enumerate(facts):
        own = [figure(f.resolved, worker) for worker in f.resolved.workers]
        table[run, : len(own)] = own
    return table


def _shares(weight: np.ndarray) -> np.ndarray:
    return _ratio(weight, weight.sum(axis=1, keepdims=True), 0.0)


def _cycle_s(resolved: Resolved, worker: Worker) -> float:
    """Return the computing of one usual cycle."""
    slow = resolved.scenario.cpu_slowdown if worker.device == CPU else 1.0
    return resolved.scenario.step_s * local_steps(resolved) * slow / worker.speed + compress_s(
        resolved
    )


def _resources(facts: list[Facts], out: Output, columns: dict[str, Any]) -> dict[str, Any]:
    """Return energy, cost and memory by the figures of each worker's device and provider.

    The time spent computing is shared among workers by arrivals and usual cycles, the bytes moved
    by arrivals; both directions are charged as egress.
    """
    up_s = np.asarray(out.outcome.up_s, np.float64)
    figure = partial(_per_worker, facts, up_s.shape[1])
    arrivals = np.asarray(out.outcome.totals.arrivals, np.float64)
    watts = figure(lambda _, worker: device(worker.device).busy_w)
    rest = figure(lambda _, worker: device(worker.device).idle_w)
    price = figure(lambda own, worker: hourly(worker.device, own.pricing))
    egress = figure(lambda _, worker: PROVIDERS[worker.provider].usd_per_gb)
    busy_s = _seconds(out.outcome.totals.busy)[:, None] * _shares(arrivals * figure(_cycle_s))
    idle_s = np.maximum(up_s - busy_s, 0.0)
    peers = np.array([bool(f.resolved.peers) for f in facts])  # one's bytes sent another's received
    moved = columns["bytes_received"] + np.where(peers, 0.0, columns["bytes_sent"])
    own_bytes = moved[:, None] * _shares(arrivals + figure(lambda *_: 1e-9))
    machines = np.sum(busy_s * watts + idle_s * rest, axis=1)
    hours = np.sum(up_s * price, axis=1) / 3600.0
    return {
        "energy_j": machines + moved * NETWORK_J_PER_BYTE,
        "cost_usd": hours + np.sum(own_bytes * egress, axis=1) / GIGABYTE,
        "memory_peak_bytes": np.array([f.memory_bytes for f in facts], np.float64),
        "memory_fits": pd.array([f.fits for f in facts], dtype="boolean"),
    }


def rows(facts: list[Facts], seeds: np.ndarray, out: Output) -> pd.DataFrame:
    """Return one row per run, every column of `COLUMNS`; `out` in NumPy `[run, ...]`."""
    columns: dict[str, Any] = {
        **_throughput(facts, out),
        **_network(facts, out),
        **_contributions(out),
        **_failures(facts, out),
        **_workers(facts, out),
        **_learning(facts, out),
    }
    columns |= _resources(facts, out, columns)
    verdict = _verdict(facts, columns, out)
    return typed(pd.DataFrame({**_identity(facts, seeds), **columns, **verdict, **_swept(facts)}))


def curves(facts: list[Facts], seeds: np.ndarray, out: Output) -> pd.DataFrame | None:
    """Return the curves of the runs as a long frame, or None where nothing was learned."""
    if out.curve is None:
        return None
    points = np.asarray(out.curve_version).shape[1]
    ids = [run_id(f.config_id, int(s)) for f, s in zip(facts, seeds, strict=True)]
    return pd.DataFrame(
        {
            "run_id": np.repeat(ids, points),
            "config_id": np.repeat([f.config_id for f in facts], points),
            "step": np.asarray(out.curve_version, np.int64).ravel(),
            "time_s": _seconds(out.curve_now).ravel(),
            "loss": np.asarray(out.curve.loss, np.float64).ravel(),
            "accuracy": np.asarray(out.curve.accuracy, np.float64).ravel(),
            "train_loss": np.asarray(out.curve.train_loss, np.float64).ravel(),
        }
    )
