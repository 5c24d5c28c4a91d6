"""One call of a compressor, an aggregator or an attack, for notebooks: NumPy arrays in and out.

Everything is float32, as in a simulation. A call compiles the first time that a member meets a
shape and its static arguments; knobs may change freely after that.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxwan.arrays import column, count_of, key_of, mask_of, matrix, tensors
from jaxwan.calls import Aggregation, Compression, Corruption, Fixed, Preparation
from jaxwan.engine import once
from jaxwan.experiment.choices import (
    AGGREGATOR,
    AGGREGATOR_MODELS,
    ATTACK_MODELS,
    COMPRESSOR_MODELS,
    PRE_AGGREGATOR,
    PRE_AGGREGATOR_MODELS,
)
from jaxwan.experiment.errors import InputError, unknown_name
from jaxwan.experiment.resolve import left_of, memory_of
from jaxwan.experiment.resolved import Choice
from jaxwan.experiment.schema import OneOf, Settings, as_choice
from jaxwan.learning.aggregators import AGGREGATORS, PRE_AGGREGATORS
from jaxwan.learning.attacks import ATTACKS
from jaxwan.learning.compressors import COMPRESSORS


class Forget:
    """The mark of a call that keeps no memory."""

    def __repr__(self) -> str:
        """Say so in a signature."""
        return "FORGET"


FORGET: Any = Forget()


class Memory(NamedTuple):
    """What a member keeps from call to call, as NumPy arrays; hand it back as it is."""

    of: Any  # the call it belongs to
    calls: int
    state: Any


def _settings(
    what: str, name: Any, models: Mapping[str, type[Settings]], knobs: Mapping[str, Any]
) -> Settings:
    """Return a member's validated settings.

    Raises:
        InputError: for an unknown name or knob, or a value that is not allowed.
    """
    if not isinstance(name, str) or name not in models:
        raise unknown_name(what, name, models)
    allowed = [field for field in models[name].model_fields if field != "kind"]
    for knob in knobs:
        if knob not in allowed and not allowed:
            raise InputError(f"unknown knob {knob!r} (it has none)", name)
        if knob not in allowed:
            raise unknown_name("knob", knob, allowed, name)
    try:
        return models[name](**knobs)
    except InputError as error:
        raise error.at(name) from None


def _member(place: str, value: Any, one_of: OneOf, family: Mapping[str, Any]) -> Choice | None:
    """Return a member given as a name, a table or an object; None for none."""
    try:
        found = one_of.parse(value)
    except InputError as error:
        raise error.at(place) from None
    return as_choice(found, family) if found and getattr(found, "kind", "") in family else None


def _fixed(choice: Choice) -> Fixed:
    return tuple(sorted(choice.static.items()))


def _numbers(choice: Choice) -> dict[str, np.float32]:
    return {name: np.float32(value) for name, value in choice.knobs.items() if value is not None}


def _recall(memory: Any, call: Any) -> tuple[int, Any]:
    """Return of how many calls a memory is, and its state.

    Raises:
        InputError: for the memory of another call.
    """
    if memory is None or memory is FORGET:
        return 0, call.start()
    if not isinstance(memory, Memory) or memory.of != call:
        raise InputError(
            "expected None, or what the last call of this member returned with the same shapes and "
            "static arguments", "memory",
        )  # fmt: skip
    return memory.calls, memory.state


def compress(
    name: str, x: Any, *, key: Any = None, memory: Any = FORGET, **knobs: Any
) -> tuple[Any, ...]:
    """Compress once: return what arrives and the size of the message in bits.

    `x` is an array of any shape, or a list, tuple or dict of arrays, which are the tensors of one
    update; what arrives has its form, in float32. `key` is a seed or a key of JAX; None is seed 0.
    `knobs` are the member's knobs and static arguments (docs/families.md).

    With `memory` the result is (y, bits, memory) and errors are fed back: None begins, and each
    call takes what the last one returned. The k-th call then draws from `fold_in(key, k)`, the
    first from `key` itself; `error_feedback` and `error_decay` are as in an experiment.

    Raises:
        InputError: for an unknown name or knob, a value that is not allowed, or NaN in `x`.

    Warns:
        UserWarning: where errors are fed back to a compressor that may send more than it got.

    Example:
        >>> y, bits = jw.compress("topk", x, ratio=0.1)
        >>> memory = None
        >>> for gradient in gradients:
        ...     y, bits, memory = jw.compress("topk", gradient, memory=memory)
    """
    settings: Any = _settings("compressor", name, COMPRESSOR_MODELS, knobs)
    for knob in ("error_feedback", "error_decay"):
        if memory is FORGET and knob in knobs:
            raise InputError("matters from call to call; begin with memory=None", f"{name}.{knob}")
    parts, tree = tensors(x, "x")
    choice = as_choice(settings, COMPRESSORS)
    told: list[str] = []
    feedback = "" if memory is FORGET else memory_of(settings, told)
    for text in told:
        warnings.warn(text, stacklevel=2)
    call = Compression(name, tuple(part.shape for part in parts), _fixed(choice), feedback)
    calls, state = _recall(memory, call)
    luck = key_of(key, "key")
    luck = jax.random.fold_in(luck, calls) if calls else luck
    flat = np.concatenate([part.ravel() for part in parts])
    decay = np.float32(settings.error_decay)
    sent, state = once(call, decay, _numbers(choice), state, luck, flat)
    ends = np.cumsum([part.size for part in parts])[:-1]
    pieces = [p.reshape(part.shape) for p, part in zip(np.split(sent, ends), parts, strict=True)]
    y = jax.tree.unflatten(tree, pieces)
    wire = COMPRESSORS[name].wire(call.form, choice.knobs)
    return (y, wire.bits) if memory is FORGET else (y, wire.bits, Memory(call, calls + 1, state))


def _prepared(
    name: str, knobs: Mapping[str, Any], key: jax.Array, updates: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the updates after a pre-aggregator alone."""
    settings = _settings("pre_aggregator", name, PRE_AGGREGATOR_MODELS, knobs)
    choice = as_choice(settings, PRE_AGGREGATORS)
    call = Preparation(name, _fixed(choice))
    return once(call, _numbers(choice), key, updates, weights)[0]


def _check_size(choice: Choice, before: Choice | None, rows: int, present: int) -> None:
    """Refuse more rows than a rule can take; warn of fewer updates than it is meant for."""
    member, settings = AGGREGATORS[choice.kind], {**choice.knobs, **choice.static}
    if member.most is not None and rows > member.most:
        raise InputError(f"{choice.kind!r} searches through subsets and takes at most "
                         f"{member.most} updates, not {rows}", "updates")  # fmt: skip
    left = left_of(before, present)
    if 0 < left < member.needs(settings):
        text = f"{choice.kind!r} is meant for at least {member.needs(settings)} updates"
        warnings.warn(f"{text} and gets {left}; its promise does not hold", stacklevel=3)


def aggregate(
    name: str,
    updates: Any,
    *,
    mask: Any = None,
    weights: Any = None,
    age: Any = None,
    tokens: Any = None,
    pre_aggregator: Any = None,
    key: Any = None,
    memory: Any = FORGET,
    **knobs: Any,
) -> Any:
    """Aggregate updates [worker, dim] into one [dim]; a pre-aggregator returns [worker, dim].

    `mask` (true or 1: present) and `weights` (≥ 0) are [worker]; a row of weight 0 is ignored
    whatever it holds, and nobody present gives zeros. `age`, in server updates since the worker
    fetched its model, and `tokens`, the steps that went into its update, are [worker] too and
    matter to rules that weigh by them. NaN in `updates` is a sender's matter, as in a simulation.

    A pre-aggregator's rows of weight 0 are zeros; where it changes the weights too (buckets), name
    it as `pre_aggregator` of the rule behind it: a name, a table or an object. With `memory` (None
    begins) the result is (update, memory) for rules that remember, like centered clipping.

    Raises:
        InputError: for an unknown name or knob, a value that is not allowed, or a wrong shape.

    Warns:
        UserWarning: where fewer updates are present than the rule is meant for.

    Example:
        >>> jw.aggregate("krum", updates, f=2)
        >>> jw.aggregate("trimmed_mean", updates, mask=arrived, trim_ratio=0.2)
    """
    rows = matrix(updates, "updates")
    weight = mask_of(mask, len(rows), "mask") * column(weights, len(rows), "weights", 1.0)
    luck = key_of(key, "key")
    if isinstance(name, str) and name in PRE_AGGREGATORS:
        if memory is not FORGET or pre_aggregator is not None:
            place = "pre_aggregator" if memory is FORGET else "memory"
            raise InputError(f"{name!r} is a pre-aggregator itself and takes none", place)
        return _prepared(name, knobs, luck, rows, weight)
    models = AGGREGATOR_MODELS | {kind: PRE_AGGREGATOR_MODELS[kind] for kind in PRE_AGGREGATORS}
    choice = as_choice(_settings("aggregator", name, models, knobs), AGGREGATORS)
    before = _member("pre_aggregator", pre_aggregator, PRE_AGGREGATOR, PRE_AGGREGATORS)
    _check_size(choice, before, len(rows), int(np.sum(weight > 0)))
    prepare = Preparation(before.kind, _fixed(before)) if before else Preparation()
    call = Aggregation(name, rows.shape[1], _fixed(choice), prepare)
    calls, state = _recall(memory, call)
    found, state = once(
        call, _numbers(choice), _numbers(before) if before else {}, state,
        jax.random.fold_in(luck, calls) if calls else luck, rows, weight,
        column(age, len(rows), "age", 0.0).astype(np.int32),
        column(tokens, len(rows), "tokens", 1.0).astype(np.int32),
    )  # fmt: skip
    return found if memory is FORGET else (found, Memory(call, calls + 1, state))


def attack(
    name: str, honest: Any, *, count: int = 1, key: Any = None, against: Any = None, **knobs: Any
) -> np.ndarray:
    """Return what `count` attackers send [count, dim] beside honest updates [worker, dim].

    All are present, so the fleet has worker + count members. Attackers that spoil an update of
    their own (`sign_flip`, `gaussian`) start from the honest rows in turn, from the first again
    after the last. An adaptive attack searches `against` an aggregator (name, table or object; the
    mean unless told) that sees the whole fleet, honest rows first.

    Raises:
        InputError: for an unknown name or knob, a value that is not allowed, NaN in `honest`, or an
            attack on the data, of which updates do not tell.

    Example:
        >>> jw.attack("ipm", honest, count=2, tau=2.0)
    """
    models = {kind: ATTACK_MODELS[kind] for kind in ATTACKS}
    choice = as_choice(_settings("attack", name, models, knobs), ATTACKS)
    member = ATTACKS[name]
    if member.poison_batch is not None:
        raise InputError("poisons the data, not the updates; simulate an Experiment with it", name)
    if against is not None and not member.adaptive:
        raise InputError(f"{name!r} does not search against an aggregator", "against")
    rows, attackers = matrix(honest, "honest", finite=True), count_of(count, "count")
    rule = _member("against", against or "mean", AGGREGATOR, AGGREGATORS)
    if rule is None:
        raise unknown_name("aggregator", against, AGGREGATORS, "against")
    fleet = np.concatenate([rows, rows[np.arange(attackers) % len(rows)]])
    server = Aggregation(rule.kind, rows.shape[1], _fixed(rule), Preparation())
    call = Corruption(name, _fixed(choice), server)
    attacking = np.arange(len(fleet)) >= len(rows)
    if member.adaptive:
        _check_size(rule, None, len(fleet), len(fleet))
    luck = key_of(key, "key")
    return once(call, _numbers(choice), _numbers(rule), luck, fleet, attacking)[len(rows) :]
