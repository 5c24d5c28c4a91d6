"""Resolve: look every name up and fill every default in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from jaxwan.experiment.catalog import (
    ChallengeEntry,
    NetworkEntry,
    ScenarioEntry,
    load_challenge,
    load_network,
    load_scenario,
)
from jaxwan.experiment.choices import ATTACK_MODELS, EXCHANGE_MODELS, FAMILIES, OPTIMIZER_MODELS
from jaxwan.experiment.devices import misfit
from jaxwan.experiment.errors import InputError
from jaxwan.experiment.exchanges import links_of
from jaxwan.experiment.fleets import WorkerEntry
from jaxwan.experiment.prices import REFERENCE, relative_speed
from jaxwan.experiment.processes import failures_of, replay_of
from jaxwan.experiment.resolved import Choice, Failures, Resolved, Scenario, Worker
from jaxwan.experiment.rounds import check_rounds, surely_there
from jaxwan.experiment.schema import as_choice
from jaxwan.experiment.spec import ComputeTable, Experiment, LinkTable, LuckTable
from jaxwan.experiment.weather import hazy, weather_of

MOST_CYCLES = 10**8  # workers x steps of one run
LINK = ("up_bps", "down_bps", "delay_s", "loss", "jitter_s")


def label(name: str) -> str:
    """Return the name under which a catalog entry or file stands in the results."""
    return Path(name).stem if name.endswith((".toml", ".csv")) else name


def link_of(table: NetworkEntry | WorkerEntry | LinkTable) -> dict[str, float]:
    """Return the link fields that a table states; bandwidth_bps means both directions."""
    both = {"up_bps": table.bandwidth_bps, "down_bps": table.bandwidth_bps}
    own = {name: getattr(table, name) for name in LINK}
    stated = both | {name: value for name, value in own.items() if value is not None}
    return {name: value for name, value in stated.items() if value is not None}


def speed_of(entry: WorkerEntry, compute: ComputeTable) -> float:
    """Return a worker's speed: stated, else its device's.

    A device for the whole fleet is as much faster than the reference as the fleet's workers are.
    """
    if compute.speed is not None:
        return compute.speed
    if compute.device is not None:
        return (entry.speed or 1.0) * relative_speed(compute.device, compute.precision)
    return entry.speed or relative_speed(entry.device or REFERENCE, compute.precision)


def worker_of(entry: WorkerEntry, name: str, experiment: Experiment) -> Worker:
    """Return one worker of the challenge on its own link."""
    network = link_of(load_network(entry.network)) if entry.network is not None else {}
    link = {"delay_s": 0.0, "loss": 0.0, "jitter_s": 0.0} | network | link_of(entry)
    return Worker(
        name=name,
        speed=speed_of(entry, experiment.compute),
        region=entry.region or entry.network or "here",
        device=experiment.compute.device or entry.device or REFERENCE,
        provider=experiment.provider or entry.provider or "aws",
        online=entry.online,
        attacker=entry.attacker,
        **link,
    )


def fleet_of(challenge: ChallengeEntry, experiment: Experiment) -> list[Worker]:
    """Return the challenge's workers, in order."""
    fleet: list[Worker] = []
    for number, entry in enumerate(challenge.worker):
        for copy in range(entry.count):
            own = entry.name and (entry.name if entry.count == 1 else f"{entry.name}-{copy}")
            try:
                fleet.append(worker_of(entry, own or f"worker-{len(fleet)}", experiment))
            except InputError as error:
                raise error.at(f"worker[{number}].network") from None
    return fleet


def resized(fleet: list[Worker], count: int | None) -> list[Worker]:
    """Repeat the fleet cyclically to `count` workers; later copies carry their round."""
    if count is None:
        return fleet
    size = len(fleet)
    names = [fleet[i % size].name + (f"#{i // size}" if i >= size else "") for i in range(count)]
    return [replace(fleet[i % size], name=name) for i, name in enumerate(names)]


def with_attackers(fleet: list[Worker], attackers: int | None) -> list[Worker]:
    """Let the last `attackers` workers attack, and nobody else."""
    if attackers is None:
        return fleet
    if attackers > len(fleet):
        raise InputError(f"{attackers} is above the fleet of {len(fleet)} workers", "attackers")
    first = len(fleet) - attackers
    return [replace(worker, attacker=i >= first) for i, worker in enumerate(fleet)]


def workers_of(experiment: Experiment, challenge: ChallengeEntry) -> tuple[Worker, ...]:
    """Return the fleet with the experiment's overrides."""
    try:
        fleet = fleet_of(challenge, experiment)
    except InputError as error:
        raise InputError(f"{experiment.challenge}: {error}", "challenge") from None
    fleet = with_attackers(resized(fleet, experiment.workers), experiment.attackers)
    network = link_of(load_network(experiment.network)) if experiment.network is not None else {}
    changes: dict[str, Any] = network | link_of(experiment.link)
    return tuple(replace(worker, **changes) for worker in fleet)


def scenario_of(name: str, entry: ScenarioEntry) -> Scenario:
    """Return the scenario with its members as choices."""
    problems = FAMILIES["problem"]
    model = as_choice(entry.model, problems)
    if "batch" not in entry.model.model_fields_set:
        model.static.pop("batch", None)  # the scenario's own counts, not the problem's default
    return Scenario(
        name=label(name),
        description=entry.description,
        stars=entry.stars,
        batch=entry.batch,
        step_s=entry.step_s,
        cpu_slowdown=entry.cpu_slowdown,
        model=model,
        proxy=as_choice(entry.proxy, problems),
        optimizer=as_choice(entry.optimizer, FAMILIES["optimizer"]),
        target_loss=entry.target_loss,
    )


def picked(experiment: Experiment, challenge: ChallengeEntry, family: str) -> Any:
    """Return the experiment's own member of a family, or the recommended one."""
    return getattr(experiment, family) or getattr(challenge.recommended, family)


def buffer_of(
    experiment: Experiment, challenge: ChallengeEntry, size: int, kind: str, warnings: list[str]
) -> int:
    """Return the buffer: the experiment's or its strategy's, the strategy's usual, the challenge's.

    Raises:
        InputError: for a stated buffer above the number of workers, or two that differ.
    """
    inner = getattr(experiment.strategy, "buffer", None)
    stated = {
        place: value
        for place, value in (("strategy.buffer", inner), ("buffer", experiment.buffer))
        if value
    }
    if len(set(stated.values())) > 1:
        raise InputError(f"{experiment.buffer} differs from strategy.buffer {inner}", "buffer")
    for place, value in stated.items():
        if value > size:
            raise InputError(
                f"{value} is above the fleet of {size} workers (allowed: 1 to {size})", place
            )
        return value
    own = FAMILIES["strategy"][kind].buffer or challenge.recommended.buffer
    barrier = FAMILIES["strategy"][kind].protocol == "barrier"
    if own > size and not barrier:
        warnings.append(f"buffer: the challenge's {own} is above the {size} workers; {size} used")
    return min(own, size)


def left_of(before: Choice | None, slots: int) -> int:
    """Return how many of so many contributions the pre-aggregator hands on."""
    if before is None:
        return slots
    settings = {**before.knobs, **before.static}
    return FAMILIES["pre_aggregator"][before.kind].leaves(settings, slots)


def check_aggregator(
    aggregator: Choice, before: Choice | None, slots: int, warnings: list[str]
) -> None:
    """Refuse an aggregator that needs more slots than it gets; warn where it is the mean.

    Raises:
        InputError: naming the number of slots it needs.
    """
    member = FAMILIES["aggregator"][aggregator.kind]
    settings = {**aggregator.knobs, **aggregator.static}
    needed, left = member.needs(settings), left_of(before, slots)
    if member.most is not None and slots > member.most:
        raise InputError(
            f"{aggregator.kind!r} searches through subsets and takes at most {member.most} "
            f"contributions per update, not {slots}", "aggregator",
        )  # fmt: skip
    if left < needed:
        enough = next(n for n in count(slots) if left_of(before, n) >= needed)
        of = f", which {before.kind!r} makes of {slots}" if before and left < slots else ""
        raise InputError(
            f"{aggregator.kind!r} needs at least {needed} contributions per update and gets "
            f"{left}{of}; set buffer = {enough} or more, or use sync with {enough} workers",
            "aggregator",
        )
    if aggregator.kind != "mean" and member.is_mean(settings, left):
        warnings.append(f"aggregator: {aggregator.kind} of {left} equals the mean")


def attack_of(
    experiment: Experiment, workers: tuple[Worker, ...], scenario: Scenario, warnings: list[str]
) -> Choice | None:
    """Return the attack, or None where nobody attacks.

    Raises:
        InputError: for an attack on labels where the task has none.
    """
    attack: Any = experiment.attack or ATTACK_MODELS["sign_flip"]()
    if attack.kind == "none":
        return None
    if any(worker.attacker for worker in workers):
        poisons = FAMILIES["attack"][attack.kind].poison_batch is not None
        if poisons and not FAMILIES["problem"][scenario.proxy.kind].labelled:
            raise InputError(f"{attack.kind!r} needs labels, and {scenario.proxy.kind!r} has none",
                             "attack")  # fmt: skip
        return as_choice(attack, FAMILIES["attack"])
    if experiment.attack is not None:
        warnings.append("attack: nobody attacks in this challenge; set attackers = 1 or more")
    return None


def failures_for(
    challenge: ChallengeEntry, experiment: Experiment, workers: Sequence[Worker], step_s: float
) -> Failures:
    """Return the challenge's failures with the experiment's own laid over them."""
    tables = challenge.failures, experiment.failures
    replay = replay_of(*tables, [worker.name for worker in workers])
    return replace(failures_of(*tables, step_s), replay=replay)


def optimizer_of(own: Any, strategy: Choice, scenario: Scenario) -> Choice:
    """Return the optimizer (with local steps, the inner one): stated, usual, or the scenario's."""
    usual = FAMILIES["strategy"][strategy.kind].inner
    if own is None and usual is None:
        return scenario.optimizer
    if own is None:
        kind, knobs = usual
        own = OPTIMIZER_MODELS[kind](**knobs)
    return as_choice(own, FAMILIES["optimizer"])


def memory_of(compressor: Any, warnings: list[str]) -> str:
    """Return how errors are fed back ("" for not at all); warn where that may diverge."""
    member = FAMILIES["compressor"][compressor.kind]
    stated: bool | str | None = compressor.error_feedback
    chosen = member.feedback if stated is None else stated
    memory = "plain" if chosen is True else chosen or ""
    if memory and not member.contractive:
        warnings.append(f"compressor: {compressor.kind} may send more than it got, so its error "
                        "memory may grow without bound; set error_feedback = false")  # fmt: skip
    return memory


def downlink_of(experiment: Experiment, warnings: list[str]) -> Choice | None:
    """Return the compressor of the merged update; warn where its error memory may diverge."""
    if experiment.downlink is None:
        return None
    chosen = as_choice(experiment.downlink, FAMILIES["compressor"])
    if not FAMILIES["compressor"][chosen.kind].contractive:
        warnings.append(f"downlink: {chosen.kind} may send more than it got, so the server's error "
                        "memory may grow without bound; choose a contractive one")  # fmt: skip
    return chosen


def peers_of(exchange: Choice, workers: tuple[Worker, ...]) -> tuple[tuple[float, float], ...]:
    """Return the links that the workers' messages to one another meet; none in a star.

    Raises:
        InputError: for a matrix that cannot be read or does not know a region.
    """
    if FAMILIES["exchange"][exchange.kind].server:
        return ()
    try:
        return tuple(links_of(exchange, workers))
    except InputError as error:
        raise error.at("exchange.matrix") from None


def steps_of(experiment: Experiment, challenge: ChallengeEntry, count: int) -> int:
    """Return the local steps of each of `count` workers.

    Raises:
        InputError: for more cycles than a run can count.
    """
    steps = experiment.steps or challenge.criteria.min_steps
    if steps * count > MOST_CYCLES:
        raise InputError(f"{steps} steps of {count} workers are more than {MOST_CYCLES}", "steps")
    return steps


def exchange_of(experiment: Experiment, strategy: str) -> Choice:
    """Return the exchange: the experiment's, else the strategy's usual one."""
    usual = EXCHANGE_MODELS[FAMILIES["strategy"][strategy].exchange]
    return as_choice(experiment.exchange or usual(), FAMILIES["exchange"])


def before_of(experiment: Experiment) -> Choice | None:
    """Return the pre-aggregator, or None."""
    before: Any = experiment.pre_aggregator
    if before is None or before.kind == "none":
        return None
    return as_choice(before, FAMILIES["pre_aggregator"])


def resolve_and_warn(
    experiment: Experiment, labels: Mapping[str, Any] | None = None
) -> tuple[Resolved, list[str]]:
    """Resolve an experiment; also return what is allowed but probably not meant.

    Raises:
        InputError: for settings that do not fit together.
    """
    warnings: list[str] = []
    challenge = load_challenge(experiment.challenge)
    scenario = scenario_of(experiment.scenario, load_scenario(experiment.scenario))
    workers = workers_of(experiment, challenge)
    chosen = {
        family: as_choice(picked(experiment, challenge, family), FAMILIES[family])
        for family in ("strategy", "compressor", "aggregator")
    }
    barrier = FAMILIES["strategy"][chosen["strategy"].kind].protocol == "barrier"
    buffer = buffer_of(experiment, challenge, len(workers), chosen["strategy"].kind, warnings)
    slots = surely_there(chosen["strategy"], len(workers)) if barrier else buffer
    before = before_of(experiment)
    check_aggregator(chosen["aggregator"], before, slots, warnings)
    compressor = picked(experiment, challenge, "compressor")
    memory = memory_of(compressor, warnings)
    exchange = exchange_of(experiment, chosen["strategy"].kind)
    resolved = Resolved(
        scenario=scenario,
        challenge=label(experiment.challenge),
        network=experiment.network and label(experiment.network),
        workers=workers,
        failures=failures_for(challenge, experiment, workers, scenario.step_s),
        criteria=challenge.limits,
        buffer=buffer,
        error_feedback=memory,
        error_decay=compressor.error_decay,
        warmup=getattr(compressor, "warmup", 0),
        pre_aggregator=before,
        attack=attack_of(experiment, workers, scenario, warnings),
        attack_first=experiment.attack_stage == "update",
        downlink=downlink_of(experiment, warnings),
        optimizer=optimizer_of(experiment.optimizer, chosen["strategy"], scenario),
        transport=experiment.link.transport,
        streams=experiment.link.streams,
        window_bytes=experiment.link.window_bytes,
        connect=experiment.link.connect,
        compute_sigma=experiment.compute.sigma,
        compression_bytes_per_s=experiment.compute.compression_bytes_per_s,
        pricing=experiment.pricing,
        steps=steps_of(experiment, challenge, len(workers)),
        timing_only=experiment.timing_only,
        fidelity=experiment.fidelity,
        eval_points=experiment.learning.eval_points,
        target_loss=experiment.learning.target_loss or scenario.target_loss,
        exchange=exchange,
        weather=weather_of(experiment.link.weather, exchange, [one.name for one in workers]),
        peers=peers_of(exchange, workers),
        labels=dict(labels or {}), luck=luck_of(experiment.luck),
        **chosen,
    )
    check_rounds(resolved)
    return resolved, [*warnings, *filter(None, [misfit(resolved), hazy(resolved)])]


def luck_of(table: LuckTable) -> tuple[int, int, int, int]:
    """Return the luck of failures, links, stragglers and data."""
    return table.failures, table.links, table.stragglers, table.data


def resolve(experiment: Experiment, labels: Mapping[str, Any] | None = None) -> Resolved:
    """Return the experiment with every name looked up and every default filled in.

    Raises:
        InputError: for settings that do not fit together.
    """
    return resolve_and_warn(experiment, labels)[0]
