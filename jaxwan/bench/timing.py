"""What the parts of the bench share: compiling apart from running, taking turns, and lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxwan.engine import compiler_options

TURNS = 5
Work = Callable[[int], Any]


def compiled(function: Any, *args: Any) -> tuple[Any, float]:
    """Compile a function for such arguments, as the engine would; also the seconds it took."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile(compiler_options())
    return program, time.perf_counter() - start


def line(name: str, value: float, unit: str, **more: Any) -> dict[str, Any]:
    """Return one line of the report; without more, nothing is compared."""
    empty: dict[str, Any] = {"ratio": None, "target": None, "ok": None}
    return {"name": name, "value": float(value), "unit": unit} | empty | more


def judged(name: str, value: float, unit: str, ratio: float, target: float) -> dict[str, Any]:
    """Return a line whose ratio must be at least the target."""
    return line(name, value, unit, ratio=float(ratio), target=target, ok=bool(ratio >= target))


def note(text: str) -> dict[str, Any]:
    """Return a line that says why something was not measured."""
    return line(text, 0.0, "skipped")


def paces(works: Sequence[Work], amounts: Sequence[float], turns: int = TURNS) -> np.ndarray:
    """Run some works in turns; return how much each did per second `[turn, work]`.

    What is compared runs next to each other, so that a busy moment of the machine meets both.
    """
    for work in works:
        jax.block_until_ready(work(0))
    found = np.empty((turns, len(works)))
    for turn in range(turns):
        for place, work in enumerate(works):
            start = time.perf_counter()
            jax.block_until_ready(work(turn + 1))
            found[turn, place] = amounts[place] / (time.perf_counter() - start)
    return found
