"""Settings blocks: a recommended setting in the words of training frameworks.

Names as in torchtitan's fault-tolerance table and torchft's DiLoCo, OpenDiLoCo's `HvConfig`, and
Flower's `flwr.serverapp.strategy`.
"""

from __future__ import annotations

from typing import Any

from jaxwan.experiment.resolved import Resolved

OPENDILOCO = {"fp16": "fp16", "int8": "uniform8bit"}
QUANTIZED = ("int8", "fp8_e4m3", "fp8_e5m2")
ABSENT = "# no equal setting: {}"
ASYNC = ("async", "async_local_sgd", "fedbuff")


def blocks(chosen: Resolved, steps: int) -> dict[str, str]:
    """Return a block for each framework; `steps` are those of every worker in a whole training."""
    return {
        "torchtitan with torchft": torchft(chosen),
        "OpenDiLoCo": opendiloco(chosen, steps),
        "Flower": flower(chosen, steps),
        "jaxwan": jaxwan(chosen),
    }


def _outer(chosen: Resolved) -> tuple[int, float, float]:
    """Return H, and the server's step and momentum."""
    strategy = chosen.strategy
    numbers = [float(strategy.knobs.get(f"outer_{name}") or 0.0) for name in ("lr", "momentum")]
    return int(strategy.static.get("local_steps", 1)), numbers[0] or 1.0, numbers[1]


def _unsent(chosen: Resolved, known: tuple[str, ...], what: str) -> list[str]:
    """Say that a framework cannot send what the compressor makes."""
    kind = chosen.compressor.kind
    return [] if kind in ("none", *known) else [ABSENT.format(f"the {kind} compressor in {what}")]


def torchft(chosen: Resolved) -> str:
    """Return torchtitan's table and torchft's optimizers."""
    kind = chosen.strategy.kind
    if kind in ASYNC:
        return ABSENT.format(f"torchft has no {kind}")
    steps, lr, momentum = _outer(chosen)
    lines = ["[fault_tolerance]", "enable = true"]
    if steps > 1:
        method = "local_sgd" if kind == "local_sgd" else "diloco"
        lines += [f'semi_sync_method = "{method}"', f"sync_steps = {steps}"]
    if steps > 1 and kind != "local_sgd":
        lines += [f"should_quantize = {str(chosen.compressor.kind in QUANTIZED).lower()}"]
    if kind == "streaming_diloco":
        parts, knobs = chosen.strategy.static["fragments"], chosen.strategy.knobs
        lines += [f"num_fragments = {parts}",
                  f"fragment_sync_delay = {round(knobs['overlap_steps'])}",
                  f"fragment_update_alpha = {knobs['mixing']:g}"]  # fmt: skip
    if steps > 1 and kind != "local_sgd":
        nesterov = bool(chosen.strategy.static.get("nesterov"))
        lines += [f"# torchft.local_sgd.DiLoCo(..., sync_every={steps}, outer_optimizer=torch.optim"
                  f".SGD(\n#   params, lr={lr:g}, momentum={momentum:g}, nesterov={nesterov}))"]
    if chosen.compressor.kind in QUANTIZED:
        lines.append("# its quantization is to 8-bit floats")
    return "\n".join(lines + _unsent(chosen, QUANTIZED, "torchft"))


def opendiloco(chosen: Resolved, steps: int) -> str:
    """Return the arguments of OpenDiLoCo's `train_fsdp.py`."""
    kind = chosen.strategy.kind
    if kind not in ("diloco", "local_sgd"):
        return ABSENT.format(f"OpenDiLoCo has no {kind}")
    every, lr, momentum = _outer(chosen)
    lines = [f"--total-steps {steps}", f"--hv.local-steps {every}", f"--hv.outer-lr {lr:g}"]
    name = OPENDILOCO.get(chosen.compressor.kind)
    lines += [f"--hv.hivemind-compression {name}"] if name else []
    if momentum != 0.9:
        lines.append(f"# its outer momentum is 0.9 (Nesterov), here {momentum:g}")
    return "\n".join(lines + _unsent(chosen, tuple(OPENDILOCO), "OpenDiLoCo"))


def flower(chosen: Resolved, steps: int) -> str:
    """Return the strategy of a Flower ServerApp and what its clients are told."""
    kind = chosen.strategy.kind
    if kind in ASYNC or kind == "streaming_diloco":
        return ABSENT.format(f"Flower's strategies have no {kind}")
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
    return "\n".join(lines + _unsent(chosen, (), "Flower; put it into a client mod"))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def jaxwan(chosen: Resolved) -> str:
    """Return the grid of a sweep file."""
    lines = []
    for name in ("strategy", "compressor", "exchange"):
        own = getattr(chosen, name)
        stated = {"kind": own.kind, **own.static, **own.knobs}
        pairs = [f"{key} = {_toml(value)}" for key, value in stated.items()
                 if value is not None and value != ""]  # fmt: skip
        if len(pairs) == 1:
            lines.append(f'{name} = "{own.kind}"')
        else:
            lines.append(f"{name} = {{ {', '.join(pairs)} }}")
    return "\n".join(lines)
