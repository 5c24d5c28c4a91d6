"""Rows: from a chunk's arrays to the result columns, in float64 on the host."""

from __future__ import annotations

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
from jaxwan.experiment.messages import sizes
from jaxwan.experiment.prices import CPU, GIGABYTE, NETWORK_J_PER_BYTE, PROVIDERS, device, hourly
from jaxwan.experiment.resolved import Resolved
from jaxwan.experiment.rounds import fragments
from jaxwan.world.spells import FAILURES
from jaxwan.world.state import NO_WORKERS, OUTAGE_BOUND

DIVERGED = 10.0  # times the initial loss
STATUS = {NO_WORKERS: "no_workers", OUTAGE_BOUND: "outage_bound"}


class Facts(NamedTuple):
    """What the rows of one configuration share; `numbers` by name, `fleet` by name and worker."""

    position: int
    resolved: Resolved
    config_id: str
    names: dict[str, str | None]
    numbers: dict[str, Any]
    fleet: dict[str, np.ndarray]


def _cycles_s(resolved: Resolved) -> list[float]:
    """Return the computing of one usual cycle of every worker."""
    scenario, steps, packing_s = resolved.scenario, local_steps(resolved), compress_s(resolved)
    slow = [scenario.cpu_slowdown if w.device == CPU else 1.0 for w in resolved.workers]
    return [
        scenario.step_s * steps * factor / worker.speed + packing_s
        for factor, worker in zip(slow, resolved.workers, strict=True)
    ]


def _fleet(resolved: Resolved) -> dict[str, np.ndarray]:
    """Return the figures of every worker, `[worker]` each."""
    workers = resolved.workers
    last = {worker.region: place for place, worker in enumerate(workers)}
    figures: dict[str, list[Any]] = {
        "steps": own_steps(resolved),
        "busy_w": [device(worker.device).busy_w for worker in workers],
        "idle_w": [device(worker.device).idle_w for worker in workers],
        "usd_per_h": [hourly(worker.device, resolved.pricing) for worker in workers],
        "usd_per_gb": [PROVIDERS[worker.provider].usd_per_gb for worker in workers],
        "cycle_s": _cycles_s(resolved),
        "here": [1e-9] * len(workers),
        "speaks": [place in last.values() for place in range(len(workers))],  # for its region
    }
    return {name: np.array(values, np.float64) for name, values in figures.items()}


def _numbers(resolved: Resolved) -> dict[str, Any]:
    message, limits = sizes(resolved), resolved.criteria
    return {
        "batch": float(resolved.scenario.batch),
        "usual_steps": float(np.mean(own_steps(resolved))),
        "barrier": is_barrier(resolved),
        "ticks": budget(resolved).ticks,
        "workers": len(resolved.workers),
        "update_bytes": message.update_bytes,
        "dense_bytes": message.dense_bytes,
        "fetch_bytes": message.fetch_bytes,
        "peers": bool(resolved.peers),
        "fragments": fragments(resolved),
        "attackers": sum(w.attacker for w in resolved.workers) if resolved.attack else 0,
        "onset_s": resolved.failures.onset_s,
        "target_loss": resolved.target_loss or -np.inf,
        "min_steps": limits.min_steps,
        "max_rejection": limits.max_rejection,
        "min_throughput_ratio": limits.min_throughput_ratio,
        "memory_bytes": float(memory_bytes(resolved)),
        "fits": fits(resolved),
    }


def facts_of(index: int, resolved: Resolved) -> Facts:
    """Work out what the rows of a configuration share."""
    names = {
        "scenario": resolved.scenario.name,
        "challenge": resolved.challenge,
        "network": resolved.network,
        "strategy": resolved.strategy.kind,
        "compressor": resolved.compressor.kind,
        "aggregator": resolved.aggregator.kind,
        "attack": resolved.attack.kind if resolved.attack else "none",
    }
    shared = _numbers(resolved), _fleet(resolved)
    return Facts(index, resolved, config_id(resolved), names, *shared)


class Shared:
    """The facts of a chunk's configurations, worked out once each and spread over its runs."""

    def __init__(self, facts: list[Facts]) -> None:
        places: dict[int, int] = {}
        self.row = np.array([places.setdefault(id(own), len(places)) for own in facts], np.intp)
        self.distinct = [facts[first] for first in np.unique(self.row, return_index=True)[1]]

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one number of every run `[run]`."""
        return np.array([own.numbers[name] for own in self.distinct])[self.row]

    def spread(self, values: list[Any]) -> np.ndarray:
        """Return one value per configuration, whatever it is, as one per run."""
        table = np.empty(len(values), object)
        table[:] = values
        return table[self.row]

    def fleet(self, name: str, width: int) -> np.ndarray:
        """Return one figure of every worker `[run, worker]`, 0 where there is none."""
        table = np.zeros((len(self.distinct), width))
        for place, own in enumerate(self.distinct):
            table[place, : len(own.fleet[name])] = own.fleet[name]
        return table[self.row]


def _seconds(instant: Any) -> np.ndarray:
    return np.asarray(instant.seconds, np.float64) + np.asarray(instant.fraction) / 2.0**20


def _ratio(top: Any, bottom: Any, otherwise: float = np.nan) -> np.ndarray:
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    out = np.full(np.broadcast(top, bottom).shape, otherwise)
    return np.divide(top, bottom, out=out, where=bottom > 0)


def _run_ids(facts: list[Facts], seeds: np.ndarray) -> list[str]:
    return [run_id(own.config_id, seed) for own, seed in zip(facts, seeds.tolist(), strict=True)]


def _identity(facts: list[Facts], shared: Shared, seeds: np.ndarray) -> dict[str, Any]:
    own = shared.distinct
    named = {name: shared.spread([f.names[name] for f in own]) for name in IDENTITY}
    return {
        "run_id": _run_ids(facts, seeds),
        "config_id": shared.spread([f.config_id for f in own]),
        "config_index": np.array([f.position for f in own])[shared.row],
        "seed": seeds.astype(np.int64),
        **named,
    }


def _swept(shared: Shared) -> dict[str, Any]:
    names: dict[str, None] = {}
    for f in shared.distinct:
        names |= dict.fromkeys(f.resolved.labels)
    hidden = {*IDENTITY, *(f"{name}.kind" for name in IDENTITY)}
    return {
        name: shared.spread([f.resolved.labels.get(name) for f in shared.distinct]).tolist()
        for name in names
        if name not in hidden
    }


def _throughput(shared: Shared, out: Output) -> dict[str, Any]:
    total, time_s = out.outcome.totals, _seconds(out.outcome.now)
    batch, usual, ticks = shared["batch"], shared["usual_steps"], shared["ticks"]
    steps = shared.fleet("steps", total.contributions.shape[1])
    barrier = shared["barrier"]
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


def _network(shared: Shared, out: Output) -> dict[str, Any]:
    total = out.outcome.totals
    cut_off = np.where(shared["barrier"], 0, total.rejected)  # a round's late ones never arrive
    arrivals = np.asarray(total.accepted, np.int64) + cut_off
    update, dense, fetch = (
        shared[f"{name}_bytes"].astype(np.int64) for name in ("update", "dense", "fetch")
    )
    online = np.sum(out.outcome.up_s, axis=1, dtype=np.float64)
    on_wire = _seconds(total.on_wire_up) + _seconds(total.on_wire_down)
    uploading = _seconds(total.latency)
    sent = np.round(_seconds(total.payloads) * update)
    whole = update * shared["fragments"]
    fetched = total.dense_fetches * dense + total.missed_updates * fetch
    return {
        "bytes_sent": sent,
        "bytes_received": fetched + np.where(shared["peers"], sent, 0.0),
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


def _per_region(shared: Shared, out: Output) -> np.ndarray:
    """Count regional outages once a region: all its workers share them."""
    own = out.outcome.failures[:, :, FAILURES.index("regional")]
    speaks = shared.fleet("speaks", own.shape[1])
    return np.sum(np.where(speaks > 0, own, 0), axis=1)


def _failures(shared: Shared, out: Output) -> dict[str, Any]:
    counts = np.sum(out.outcome.failures, axis=1)
    kinds = {f"failures_{name}": counts[:, i] for i, name in enumerate(FAILURES)}
    attackers, onset_s = shared["attackers"], shared["onset_s"]
    kinds["failures_byzantine"] = np.where(_seconds(out.outcome.now) >= onset_s, attackers, 0)
    kinds["failures_regional"] = _per_region(shared, out)
    apart = FAILURES.index("partition")  # one partition cuts many workers
    kinds["failures_partition"] = np.max(out.outcome.failures[:, :, apart], axis=1)
    return {"failures": sum(kinds.values()), **kinds}


def _workers(shared: Shared, out: Output) -> dict[str, Any]:
    count = shared["workers"]
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


def _learning(shared: Shared, out: Output) -> dict[str, Any]:
    names = ("loss_initial", "loss_final", "loss_best", "loss_floor", "train_loss_final",
             "accuracy_final", "accuracy_best", "time_to_target_s")  # fmt: skip
    if out.curve is None:
        return dict.fromkeys(names, np.nan) | {"reached": False}
    loss = np.asarray(out.curve.loss, np.float64)
    accuracy = np.asarray(out.curve.accuracy, np.float64)
    below = loss <= shared["target_loss"][:, None]
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


def _joined(flags: dict[str, np.ndarray], none: str) -> np.ndarray:
    """Name the flags that stand, joined by commas, for every run."""
    code = sum(np.asarray(flag, np.int64) << bit for bit, flag in enumerate(flags.values()))
    table = [
        ",".join(name for bit, name in enumerate(flags) if number >> bit & 1) or none
        for number in range(1 << len(flags))
    ]
    return np.array(table, object)[code]


def _verdict(shared: Shared, columns: dict[str, Any], out: Output) -> dict[str, Any]:
    status = np.asarray(out.outcome.status)
    states = {name: (status & bit) != 0 for bit, name in STATUS.items()}
    states["diverged"] = (
        _diverged(columns) if out.curve is not None else np.zeros(len(status), bool)
    )
    failed = {
        "min_steps": ~(np.asarray(columns["steps"]) >= shared["min_steps"]),
        "max_rejection": ~(columns["rejection_rate"] <= shared["max_rejection"]),
        "min_throughput_ratio": ~(columns["throughput_ratio"] >= shared["min_throughput_ratio"]),
        "status": np.any(list(states.values()), axis=0),
    }
    return {
        "success": ~np.any(list(failed.values()), axis=0),
        "failed_criteria": _joined(failed, ""),
        "status": _joined(states, "ok"),
    }


def _shares(weight: np.ndarray) -> np.ndarray:
    return _ratio(weight, weight.sum(axis=1, keepdims=True), 0.0)


def _resources(shared: Shared, out: Output, columns: dict[str, Any]) -> dict[str, Any]:
    """Return energy, cost and memory by the figures of each worker's device and provider.

    The time spent computing is shared among workers by arrivals and usual cycles, the bytes moved
    by arrivals; both directions are charged as egress.
    """
    up_s = np.asarray(out.outcome.up_s, np.float64)
    names = ("busy_w", "idle_w", "usd_per_h", "usd_per_gb", "cycle_s", "here")
    watts, rest, price, egress, cycle_s, here = (
        shared.fleet(name, up_s.shape[1]) for name in names
    )
    arrivals = np.asarray(out.outcome.totals.arrivals, np.float64)
    busy_s = _seconds(out.outcome.totals.busy)[:, None] * _shares(arrivals * cycle_s)
    idle_s = np.maximum(up_s - busy_s, 0.0)
    # one peer's bytes sent are another's received
    moved = columns["bytes_received"] + np.where(shared["peers"], 0.0, columns["bytes_sent"])
    own_bytes = moved[:, None] * _shares(arrivals + here)
    machines = np.sum(busy_s * watts + idle_s * rest, axis=1)
    hours = np.sum(up_s * price, axis=1) / 3600.0
    return {
        "energy_j": machines + moved * NETWORK_J_PER_BYTE,
        "cost_usd": hours + np.sum(own_bytes * egress, axis=1) / GIGABYTE,
        "memory_peak_bytes": shared["memory_bytes"],
        "memory_fits": pd.array(shared["fits"], dtype="boolean"),
    }


def rows(facts: list[Facts], seeds: np.ndarray, out: Output) -> pd.DataFrame:
    """Return one row per run, every column of `COLUMNS`; `out` in NumPy `[run, ...]`."""
    shared = Shared(facts)
    columns: dict[str, Any] = {
        **_throughput(shared, out),
        **_network(shared, out),
        **_contributions(out),
        **_failures(shared, out),
        **_workers(shared, out),
        **_learning(shared, out),
    }
    columns |= _resources(shared, out, columns)
    verdict = _verdict(shared, columns, out)
    identity = _identity(facts, shared, seeds)
    return typed(pd.DataFrame({**identity, **columns, **verdict, **_swept(shared)}))


def curves(facts: list[Facts], seeds: np.ndarray, out: Output) -> pd.DataFrame | None:
    """Return the curves of the runs as a long frame, or None where nothing was learned."""
    if out.curve is None:
        return None
    points = np.asarray(out.curve_version).shape[1]
    ids = _run_ids(facts, seeds)
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
