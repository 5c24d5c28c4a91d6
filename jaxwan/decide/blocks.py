"""Settings blocks: a recommended setting in the words of training frameworks.

Names as in torchtitan's fault-tolerance table and torchft's DiLoCo, OpenDiLoCo's `HvConfig`, and
Flower's `flwr.serverapp.strategy`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxwan.experiment.choices import FAMILIES
from jaxwan.experiment.resolved import Resolved

OPENDILOCO = {"fp16": "fp16", "int8": "uniform8bit"}
QUANTIZED = ("int8", "fp8_e4m3", "fp8_e5m2")
ABSENT = "# no equal setting: {}"
ASYNC = ("async", "async_local_sgd", "fedbuff")


class Other(NamedTuple):
    """Another plan that was raced, to be told where a framework cannot express the choice."""

    name: str
    resolved: Resolved
    apart: str  # how much worse than the choice


class Framework(NamedTuple):
    """A training framework: what it has no setting for, and how it writes what it has.

    `unknown` returns the part of a plan that it cannot do at all, `unsent` the compressor that it
    does not have, "" for none.
    """

    unknown: Callable[[Resolved], str]
    unsent: Callable[[Resolved], str]
    write: Callable[[Resolved, int], list[str]]


def blocks(chosen: Resolved, steps: int, others: Sequence[Other] = ()) -> dict[str, str]:
    """Return a block for each framework; `steps` are those of every worker in a whole training.

    Where a framework cannot express the choice, its block is that of the first of `others` that it
    can, else of the first plan of which it lacks the compressor only, and says so.
    """
    told = {name: _block(one, chosen, steps, others) for name, one in FRAMEWORKS.items()}
    return told | {"jaxwan": jaxwan(chosen)}


def _block(own: Framework, chosen: Resolved, steps: int, others: Sequence[Other]) -> str:
    missing = own.unknown(chosen) or own.unsent(chosen)
    if not missing:
        return "\n".join(own.write(chosen, steps))
    lines = [ABSENT.format(missing)]
    part = [one for one in others if not own.unknown(one.resolved)]
    whole = [one for one in part if not own.unsent(one.resolved)]
    if not whole and not own.unknown(chosen):
        return "\n".join(lines + own.write(chosen, steps))
    for one in [*whole, *part][:1]:
        apart = f"; {one.apart}" if one.apart else ""
        lines.append(f"# nearest plan it can express: {one.name}{apart}")
        lines += [f"# but for {own.unsent(one.resolved)}"] if not whole else []
        lines += own.write(one.resolved, steps)
    return "\n".join(lines)


def _outer(chosen: Resolved) -> tuple[int, float, float]:
    """Return H, and the server's step and momentum."""
    strategy = chosen.strategy
    numbers = [float(strategy.knobs.get(f"outer_{name}") or 0.0) for name in ("lr", "momentum")]
    return int(strategy.static.get("local_steps", 1)), numbers[0] or 1.0, numbers[1]


def _unsent(chosen: Resolved, known: Sequence[str], what: str) -> str:
    kind = chosen.compressor.kind
    return "" if kind in ("none", *known) else f"the {kind} compressor in {what}"


def _torchft_unknown(chosen: Resolved) -> str:
    kind = chosen.strategy.kind
    return f"torchft has no {kind}" if kind in ASYNC else ""


def _torchft_unsent(chosen: Resolved) -> str:
    averaged = chosen.strategy.kind in ("sync", "local_sgd")  # quantized in DiLoCo only
    return _unsent(chosen, () if averaged else QUANTIZED, "torchft")


def torchft(chosen: Resolved, steps: int) -> list[str]:
    """Return torchtitan's table and torchft's optimizers."""
    kind = chosen.strategy.kind
    every, lr, momentum = _outer(chosen)
    lines = ["[fault_tolerance]", "enable = true"]
    if every > 1:
        method = "local_sgd" if kind == "local_sgd" else "diloco"
        lines += [f'semi_sync_method = "{method}"', f"sync_steps = {every}"]
    if every > 1 and kind != "local_sgd":
        lines += [f"should_quantize = {str(chosen.compressor.kind in QUANTIZED).lower()}"]
    if kind == "streaming_diloco":
        parts, knobs = chosen.strategy.static["fragments"], chosen.strategy.knobs
        lines += [f"num_fragments = {parts}",
                  f"fragment_sync_delay = {round(knobs['overlap_steps'])}",
                  f"fragment_update_alpha = {knobs['mixing']:g}"]  # fmt: skip
    if every > 1 and kind != "local_sgd":
        nesterov = bool(chosen.strategy.static.get("nesterov"))
        lines += [f"# torchft.local_sgd.DiLoCo(..., sync_every={every}, outer_optimizer=torch.optim"
                  f".SGD(\n#   params, lr={lr:g}, momentum={momentum:g}, nesterov={nesterov}))"]
    if chosen.compressor.kind in QUANTIZED:
        lines.append("# its quantization is to 8-bit floats")
    return lines


def _opendiloco_unknown(chosen: Resolved) -> str:
    kind = chosen.strategy.kind
    return "" if kind in ("diloco", "local_sgd") else f"OpenDiLoCo has no {kind}"


def _opendiloco_unsent(chosen: Resolved) -> str:
    return _unsent(chosen, tuple(OPENDILOCO), "OpenDiLoCo")


def opendiloco(chosen: Resolved, steps: int) -> list[str]:
    """Return the arguments of OpenDiLoCo's `train_fsdp.py`."""
    every, lr, momentum = _outer(chosen)
    lines = [f"--total-steps {steps}", f"--hv.local-steps {every}", f"--hv.outer-lr {lr:g}"]
    name = OPENDILOCO.get(chosen.compressor.kind)
    lines += [f"--hv.hivemind-compression {name}"] if name else []
    if momentum != 0.9:
        lines.append(f"# its outer momentum is 0.9 (Nesterov), here {momentum:g}")
    return lines


def _flower_unknown(chosen: Resolved) -> str:
    kind = chosen.strategy.kind
    streams = kind in ASYNC or kind == "streaming_diloco"
    return f"Flower's strategies have no {kind}" if streams else ""


def _flower_unsent(chosen: Resolved) -> str:
    return _unsent(chosen, (), "Flower; put it into a client mod")


def flower(chosen: Resolved, steps: int) -> list[str]:
    """Return the strategy of a Flower ServerApp and what its clients are told."""
    every, lr, momentum = _outer(chosen)
    count, rounds = len(chosen.workers), max(round(steps / every), 1)
    lines = [
        "strategy = flwr.serverapp.strategy.FedAvgM(",
        f"    fraction_train=1.0, min_train_nodes={count}, min_available_nodes={count},",
        f"    server_learning_rate={lr:g}, server_momentum={momentum:g})",
        f'strategy.start(grid, arrays, num_rounds={rounds},',
        f'               train_config=ConfigRecord({{"local-steps": {every}}}))',
    ]
    if momentum and chosen.strategy.static.get("nesterov"):
        lines.append("# its momentum is not Nesterov's")
    return lines


FRAMEWORKS = {
    "torchtitan with torchft": Framework(_torchft_unknown, _torchft_unsent, torchft),
    "OpenDiLoCo": Framework(_opendiloco_unknown, _opendiloco_unsent, opendiloco),
    "Flower": Framework(_flower_unknown, _flower_unsent, flower),
}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def jaxwan(chosen: Resolved) -> str:
    """Return lines for the grid of a sweep file: what differs from the members' defaults."""
    lines = []
    for name in ("strategy", "compressor", "exchange"):
        own = getattr(chosen, name)
        member = FAMILIES[name][own.kind]
        usual = {key: one.default for key, one in {**member.static, **member.knobs}.items()}
        stated = {key: value for key, value in {**own.static, **own.knobs}.items()
                  if value is not None and value != usual[key]}  # fmt: skip
        if not stated:
            lines.append(f'{name} = "{own.kind}"')
            continue
        lines += [f"{name}.{key} = {_toml(value)}" for key, value in
                  {"kind": own.kind, **stated}.items()]  # fmt: skip
    return "\n".join(lines)
