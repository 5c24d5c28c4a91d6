"""Lower resolved experiments to Plan and Knobs, grouped so that one program serves each group."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan.core.pytrees import replace
from jaxwan.experiment.messages import sizes, warmup_sizes
from jaxwan.experiment.outages import (
    failure_knobs,
    intervals_of,
    is_stationary,
    may_start_down,
    processes_of,
)
from jaxwan.experiment.prices import CPU
from jaxwan.experiment.resolved import SEED_LUCK, Choice, Resolved
from jaxwan.experiment.rounds import (
    blocks,
    fragments,
    is_balanced,
    is_shared,
    keeps_own,
    links,
    region_codes,
    round_knobs,
    setting,
    steps_between,
    traits,
)
from jaxwan.experiment.skies import points_of, weather_knobs
from jaxwan.experiment.strategies import STRATEGIES
from jaxwan.learning.optimizers import OPTIMIZERS
from jaxwan.learning.plan import LearnKnobs, LearnPlan, Statics
from jaxwan.learning.problems import PROBLEMS, with_defaults
from jaxwan.world.durations import DurationKnobs
from jaxwan.world.plan import WorldKnobs, WorldPlan

UNBOUNDED = 2**30  # a staleness nobody reaches
PADDING = {"up_bps": math.inf, "down_bps": math.inf, "delay_s": 0.0, "loss": 0.0, "jitter_s": 0.0}
NOBODY = Choice("sign_flip", {"scale": 1.0})  # where nobody attacks: an empty mask, no extra plan


class Budget(NamedTuple):
    """How long a run is."""

    ticks: int
    cycle_ends: int


class Group(NamedTuple):
    """Experiments that share one program."""

    world: WorldPlan
    learn: LearnPlan | None
    members: tuple[int, ...]  # positions among the experiments
    world_knobs: WorldKnobs  # NumPy [member, ...]
    learn_knobs: LearnKnobs | None


def _static(values: dict[str, Any]) -> Statics:
    def frozen(value: Any) -> Any:
        return tuple(frozen(item) for item in value) if isinstance(value, list | tuple) else value

    return tuple(sorted((name, frozen(value)) for name, value in values.items()))


def problem_of(resolved: Resolved) -> Choice:
    """Return the problem that is trained: the proxy, or the full model."""
    full = resolved.fidelity == "full"
    chosen = resolved.scenario.model if full else resolved.scenario.proxy
    static = with_defaults(chosen.kind, chosen.static)
    if full and "batch" in static and "batch" not in chosen.static:
        static["batch"] = resolved.scenario.batch
    return Choice(chosen.kind, chosen.knobs, static)


def is_barrier(resolved: Resolved) -> bool:
    """Tell whether the strategy's protocol is a barrier."""
    return STRATEGIES[resolved.strategy.kind].protocol == "barrier"


def local_steps(resolved: Resolved) -> int:
    """Return the gradient steps of a learning worker's cycle."""
    return resolved.strategy.static.get("local_steps", 1) // fragments(resolved)


def own_steps(resolved: Resolved) -> list[float]:
    """Return the gradient steps of each worker's cycle: in proportion to speed where balanced."""
    most, speeds = steps_between(resolved), own_speeds(resolved)
    if not is_balanced(resolved):
        return [most] * len(speeds)
    return [float(max(round(most * speed / max(speeds)), 1)) for speed in speeds]


def budget(resolved: Resolved) -> Budget:
    """Return a run's ticks and cycle ends: `steps` local steps per worker slot."""
    workers, cycles = len(resolved.workers), math.ceil(resolved.steps / steps_between(resolved))
    if is_barrier(resolved):
        return Budget(cycles, cycles * workers)
    ends = cycles * workers
    late = may_start_down(resolved.failures)
    joins = sum(late or not worker.online for worker in resolved.workers)
    between = ends if blocks(resolved) or is_shared(resolved) else 0  # woken, or sent
    return Budget(math.ceil((ends + joins + between) / resolved.buffer), ends)


def optimizers(resolved: Resolved) -> tuple[Choice, Choice | None]:
    """Return the server's optimizer, and the workers' where they take local steps."""
    strategy = resolved.strategy
    if "local_steps" not in strategy.static:
        return resolved.optimizer, None
    if "outer" not in strategy.static:  # no server
        return Choice("sgd", {"lr": 1.0}), resolved.optimizer
    kind = strategy.static["outer"]
    member = OPTIMIZERS[kind]
    stated = {name.removeprefix("outer_"): value for name, value in strategy.knobs.items()}
    knobs = {name: stated.get(name, knob.default) for name, knob in member.knobs.items()}
    static = {name: strategy.static.get(name, fact.default) for name, fact in member.static.items()}
    return Choice(kind, knobs, static), resolved.optimizer


def data_differ(resolved: Resolved) -> bool:
    """Return whether workers have different data."""
    problem = problem_of(resolved)
    return problem.knobs[PROBLEMS[problem.kind].apart] > 0


def learn_plan(resolved: Resolved, workers: int, apart: bool = False) -> LearnPlan | None:
    """Return the static half of the learner for a fleet padded to `workers`."""
    if resolved.timing_only:
        return None
    barrier = is_barrier(resolved)
    problem, attack = problem_of(resolved), resolved.attack or NOBODY
    optimizer, inner = optimizers(resolved)
    before = resolved.pre_aggregator
    return LearnPlan(
        problem=problem.kind,
        problem_static=_static(problem.static),
        compressor=resolved.compressor.kind,
        compressor_static=_static(resolved.compressor.static),
        feedback=resolved.error_feedback,
        aggregator=resolved.aggregator.kind,
        aggregator_static=_static(resolved.aggregator.static),
        pre_aggregator=before.kind if before else "",
        pre_aggregator_static=_static(before.static) if before else (),
        attack=attack.kind,
        attack_static=_static(attack.static),
        optimizer=optimizer.kind,
        optimizer_static=_static(optimizer.static),
        inner=inner.kind if inner else "",
        inner_static=_static(inner.static) if inner else (),
        local_steps=local_steps(resolved),
        workers=workers,
        slots=workers if barrier else resolved.buffer,
        stale=not barrier,
        eval_points=resolved.eval_points,
        attack_first=resolved.attack_first and resolved.attack is not None,
        downlink=resolved.downlink.kind if resolved.downlink else "",
        downlink_static=_static(resolved.downlink.static) if resolved.downlink else (),
        own=keeps_own(resolved),
        fragments=fragments(resolved),
        uneven=is_balanced(resolved),
        apart=apart,
    )


def world_plan(resolved: Resolved, workers: int, ticks: int) -> WorldPlan:
    """Return the static half of the world for a fleet padded to `workers`."""
    barrier = is_barrier(resolved)
    return WorldPlan(
        protocol="barrier" if barrier else "events",
        transport=resolved.transport,
        connect=resolved.connect and resolved.transport != "ideal",
        workers=workers,
        slots=workers if barrier else resolved.buffer,
        ticks=ticks,
        weather=resolved.weather is not None,
        **traits(resolved),
    )


def group_plan(members: Sequence[Resolved]) -> WorldPlan:
    """Return the world's plan of experiments that share one, with room for each of them."""
    width = max(len(resolved.workers) for resolved in members)
    ticks = max(budget(resolved).ticks for resolved in members)
    return replace(
        world_plan(members[0], width, ticks),
        processes=processes_of(members),
        stationary=any(is_stationary(resolved.failures) for resolved in members),
        intervals=intervals_of(members),
        points=points_of(members),
    )


def _f32(value: Any) -> np.ndarray:
    return np.asarray(value, np.float32)


def compress_s(resolved: Resolved) -> float:
    """Return the seconds that compressing one update takes."""
    rate = resolved.compression_bytes_per_s
    idle = rate is None or resolved.compressor.kind == "none"
    part = sizes(resolved).dense_bytes / fragments(resolved)
    return 0.0 if idle else part / rate  # type: ignore[operator]


def _column(resolved: Resolved, field: str, width: int, dtype: Any, pad: Any) -> np.ndarray:
    values = [getattr(worker, field) for worker in resolved.workers]
    return np.asarray(values + [pad] * (width - len(values)), dtype)


def own_speeds(resolved: Resolved) -> list[float]:
    """Return the workers' speeds relative to the reference device."""
    slow = resolved.scenario.cpu_slowdown
    return [w.speed / (slow if w.device == CPU else 1.0) for w in resolved.workers]


def _padded(values: list[float], width: int) -> np.ndarray:
    return np.asarray(values + [1.0] * (width - len(values)), np.float32)


def _cut(resolved: Resolved, width: int) -> np.ndarray:
    """Return who is on the far side of a partition: the last workers of the fleet."""
    count, place = len(resolved.workers), np.arange(width)
    far = math.floor(resolved.failures.cut_share * count + 1e-6)
    return (place >= count - far) & (place < count) & (resolved.failures.partition is not None)


def _peers(resolved: Resolved, width: int) -> dict[str, Any]:
    """Return the links of a peer-to-peer exchange, padded."""
    return {
        name: _f32(own + [PADDING[name]] * (width - len(own)))
        for name, own in links(resolved).items()
    }


def world_knobs(resolved: Resolved, plan: WorldPlan) -> WorldKnobs:
    """Return the numbers of one world, NumPy, in the shapes of its group's plan."""
    width = plan.workers
    count, message, length = len(resolved.workers), sizes(resolved), budget(resolved)
    sigma, step_s = resolved.compute_sigma, resolved.scenario.step_s
    floats: dict[str, Any] = {
        name: _column(resolved, name, width, np.float32, pad)
        for name, pad in PADDING.items()
    }
    attacks = resolved.attack is not None
    detection = setting(resolved, "detection_timeout_steps", 0.0)
    values: dict[str, Any] = dict(
        present=np.arange(width) < count,
        online=_column(resolved, "online", width, bool, True),
        attacker=_column(resolved, "attacker", width, bool, False) & attacks,
        onset_s=_f32(resolved.failures.onset_s),
        cut=_cut(resolved, width),
        speed=_padded(own_speeds(resolved), width),
        step_s=_f32(step_s),
        compress_s=_f32(compress_s(resolved)),
        compute_noise=DurationKnobs(
            *map(_f32, (math.exp(-0.5 * sigma * sigma), 0.0, sigma))  # type: ignore[arg-type]
        ),
        local_steps=_padded(own_steps(resolved), width),
        overlap=np.asarray(bool(setting(resolved, "overlap", False))),
        update_bits=_f32(message.update_bits),
        dense_bits=_f32(message.dense_bits),
        fetch_bits=_f32(message.fetch_bits),
        **warmup_sizes(resolved),
        max_staleness=np.asarray(setting(resolved, "max_staleness", UNBOUNDED), np.int32),
        detection_s=_f32(detection * step_s),
        cycle_ends=np.asarray(length.cycle_ends, np.int32),
        ticks=np.asarray(length.ticks, np.int32),
        streams=_f32(resolved.streams),
        window_bytes=_f32(resolved.window_bytes or math.inf),
        **failure_knobs(resolved, plan, width),
        **weather_knobs(resolved, plan),
        **round_knobs(resolved, plan),
        luck=np.asarray(resolved.luck[:3], np.uint32),
    )
    return WorldKnobs(**floats | _peers(resolved, width), **values)


def _numbers(knobs: dict[str, Any]) -> dict[str, Any]:
    return {name: _f32(value) for name, value in knobs.items() if value is not None}


def learn_knobs(resolved: Resolved, width: int) -> LearnKnobs:
    """Return the numbers of one learner, NumPy, for a fleet padded to `width`."""
    optimizer, inner = optimizers(resolved)
    own, barrier = keeps_own(resolved), is_barrier(resolved)
    extra: dict[str, Any] = {}
    if not barrier:
        extra["age_power"] = _f32(setting(resolved, "staleness_power", 0.0))
    if own in ("stream", "elastic"):
        extra["mixing"] = _f32(setting(resolved, "mixing", 0.0))
        extra["delay"] = np.asarray(round(setting(resolved, "overlap_steps", 0.0)), np.int32)
    if own == "regions":
        extra["region"] = region_codes(resolved, width)
        extra["outer_every"] = np.asarray(setting(resolved, "outer_every", 1), np.int32)
    return LearnKnobs(
        problem=_numbers(problem_of(resolved).knobs),
        compressor=_numbers(resolved.compressor.knobs)
        | ({"warmup": _f32(resolved.warmup)} if resolved.warmup else {}),
        decay=_f32(resolved.error_decay),  # type: ignore[arg-type]
        aggregator=_numbers(resolved.aggregator.knobs),
        pre_aggregator=_numbers(resolved.pre_aggregator.knobs if resolved.pre_aggregator else {}),
        attack=_numbers((resolved.attack or NOBODY).knobs),
        optimizer=_numbers(optimizer.knobs),
        inner=_numbers(inner.knobs if inner else {}),
        workers=np.asarray(len(resolved.workers), np.int32),  # type: ignore[arg-type]
        ticks=np.asarray(budget(resolved).ticks, np.int32),  # type: ignore[arg-type]
        downlink=_numbers(resolved.downlink.knobs if resolved.downlink else {}),
        luck=np.asarray(resolved.luck[3], np.uint32),  # type: ignore[arg-type]
        **extra,
    )


def _stack(records: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *records)


def group(experiments: Sequence[Resolved]) -> list[Group]:
    """Group experiments by what must be static; each group is padded to its widest fleet."""
    families: dict[Any, list[int]] = {}
    for index, resolved in enumerate(experiments):
        key = (world_plan(resolved, 0, 0), learn_plan(resolved, 0), resolved.eval_points)
        families.setdefault(key, []).append(index)
    groups = []
    for members in families.values():
        own = [experiments[index] for index in members]
        world = group_plan(own)
        plan = learn_plan(own[0], world.workers, any(map(data_differ, own)))
        groups.append(
            Group(
                world=world,
                learn=plan,
                members=tuple(members),
                world_knobs=_stack([world_knobs(resolved, world) for resolved in own]),
                learn_knobs=_stack([learn_knobs(each, world.workers) for each in own])
                if plan
                else None,
            )
        )
    return groups


def config_id(resolved: Resolved) -> str:
    """Digest an experiment: equal digests give equal rows for equal seeds."""
    plain = dataclasses.asdict(dataclasses.replace(resolved, labels={}))
    if resolved.weather is None:
        del plain["weather"]
    if resolved.luck == SEED_LUCK:
        del plain["luck"]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def run_id(config: str, seed: int) -> str:
    """Digest a configuration and a seed."""
    return hashlib.sha256(f"{config}:{seed}".encode()).hexdigest()[:16]
