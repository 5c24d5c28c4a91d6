"""Chains of compressors: their contract, their names at every door, and what does not fit."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxwan as jw
from jaxwan.experiment.jsonschema import json_schema
from jaxwan.experiment.lower import config_id
from jaxwan.experiment.messages import sizes
from jaxwan.experiment.resolve import resolve
from jaxwan.experiment.sweepfile import Sweep
from jaxwan.learning.compressors import COMPRESSORS, Compressor, Form, Wire
from jaxwan.learning.compressors.chain import chain

DIM = 203
LAYOUT = ((17, 11), (11,), (5, 1))
RATIOS = (1e-6, 0.01, 0.3, 1.0)
WHERE = {"scenario": "simple", "challenge": "wan_bandwidth"}
chains = pytest.mark.parametrize("kind", ["topk+int8", "topk+fp16", "randk+int8", "dgc+bf16"])


def half_bytes(form: Form, knobs: object) -> Wire:
    return Wire(form.dim, 4.0, 0)


HALF_BYTES = COMPRESSORS["int8"]._replace(wire=half_bytes)


def form(kind: str, layout: tuple[tuple[int, ...], ...] = LAYOUT) -> Form:
    return Form(layout, {key: arg.default for key, arg in COMPRESSORS[kind].static.items()})


def updates() -> np.ndarray:
    plain = np.random.default_rng(5).normal(size=DIM).astype(np.float32)
    kinds = [plain, np.round(plain), 0 * plain, np.where(plain > 2, plain, 0)]
    return np.stack([*kinds, plain * np.float32(1e35), plain * np.float32(1e-37)])


@chains
def test_a_message_is_as_long_as_claimed_and_decodes_exactly(kind: str) -> None:
    first, second = (COMPRESSORS[name] for name in kind.split("+"))
    member, shape, key = COMPRESSORS[kind], form(kind), jax.random.key(3)
    usual = {name: float(knob.default) for name, knob in member.knobs.items()}

    def send(ratio: jax.Array, update: jax.Array) -> tuple[jax.Array, jax.Array]:
        knobs = {name: jnp.float32(value) for name, value in usual.items()} | {"ratio": ratio}
        sent, _ = member.apply(shape, knobs, member.init(shape), key, update)
        luck = [jax.random.fold_in(key, place) for place in range(2)]
        kept, _ = first.apply(shape, knobs, first.init(shape), luck[0], update)
        return sent, second.apply(shape, knobs, second.init(shape), luck[1], kept)[0]

    cases = list(itertools.product(RATIOS, updates()))
    ratios, rows = np.float32([case[0] for case in cases]), np.stack([case[1] for case in cases])
    for ratio, sent, wanted in zip(ratios, *jax.jit(jax.vmap(send))(ratios, rows), strict=True):
        knobs = usual | {"ratio": float(ratio)}
        blob, wire = member.pack(shape, knobs, key, np.asarray(sent)), member.wire(shape, knobs)
        np.testing.assert_array_equal(sent, wanted)
        assert np.count_nonzero(sent) <= wire.values == first.wire(shape, knobs).values
        assert len(blob) == wire.bytes
        np.testing.assert_array_equal(member.unpack(shape, knobs, blob), sent)


def test_the_size_is_the_positions_of_one_and_the_values_of_the_other() -> None:
    wire = COMPRESSORS["topk+int8"].wire(Form(((1000,),)), {"ratio": 0.01})
    assert wire == Wire(10, 8.0, 10 * 32 + 32)
    assert COMPRESSORS["randk+fp16"].wire(Form(((1000,),)), {"ratio": 0.01}).bits == 160 + 32
    assert chain("topk", "half", {**COMPRESSORS, "half": HALF_BYTES}).wire(
        Form(((203,),)), {"ratio": 1.0}
    ) == Wire(203, 4.0, 208), "the two halves begin at a whole byte"


def test_chains_are_built_once_and_not_listed() -> None:
    assert COMPRESSORS["topk+int8"] is COMPRESSORS["topk+int8"]
    assert "topk+int8" in COMPRESSORS
    assert "+" not in "".join(COMPRESSORS)
    for kind in ("int8+topk", "topk+sign", "topk+int8+fp16", "topkk+int8", "int9", 3):
        assert kind not in COMPRESSORS
    with pytest.raises(KeyError):
        COMPRESSORS["int9"]


def test_a_setting_of_both_gets_its_members_name() -> None:
    family = {
        "a": COMPRESSORS["topk"],
        "b": COMPRESSORS["none"]._replace(knobs=COMPRESSORS["topk"].knobs),
    }
    both: Compressor = chain("a", "b", family)
    assert list(both.knobs) == ["a_ratio", "b_ratio"]
    knobs = {"a_ratio": 0.01, "b_ratio": 0.5}
    assert both.wire(Form(((1000,),)), knobs).values == 10


def test_every_door_takes_a_chain() -> None:
    told = [
        jw.chain(jw.TopK(ratio=0.02), "int8"),  # type: ignore[attr-defined]
        {"kind": "topk+int8", "ratio": 0.02},
        jw.chain({"kind": "topk", "ratio": 0.02}, jw.Int8()),  # type: ignore[attr-defined]
    ]
    found = [resolve(jw.Experiment(**WHERE, compressor=one)) for one in told]
    assert len({config_id(one) for one in found}) == 1
    assert config_id(found[0]) != config_id(resolve(jw.Experiment(**WHERE, compressor="topk+int8")))
    assert found[0].compressor.kind == "topk+int8"
    assert found[0].error_feedback == "plain"
    count = round(0.02 * 235_146)
    assert sizes(found[0]).update_bits == count * (8 + 32) + 32
    grid = {**WHERE, "compressor": ["none", {"kind": "topk+int8", "ratio": [0.1, 0.01]}]}
    kinds = [one.compressor.kind for one in Sweep(grid=grid).resolve()[0]]
    assert kinds == ["none", "topk+int8", "topk+int8"]


def test_error_feedback_of_a_member_is_the_chains() -> None:
    told = jw.chain({"kind": "topk", "error_feedback": False}, "fp16")
    assert resolve(jw.Experiment(**WHERE, compressor=told)).error_feedback == ""
    with pytest.raises(
        jw.InputError, match=r"error_feedback: the two members of 'topk\+fp16' differ"
    ):
        jw.chain(
            {"kind": "topk", "error_feedback": False}, {"kind": "fp16", "error_feedback": True}
        )


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("int8+topk", r"'int8' cannot be the first of the chain 'int8\+topk' \(allowed: topk, "),
        ("topk+sign", r"'sign' cannot be the second of the chain 'topk\+sign' \(allowed: none, "),
        ("topk+int8+fp16", "must have two members"),
        ("topk+int9", "'int9' cannot be the second"),
        ("topkk", "did you mean 'topk'"),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, problem: str) -> None:
    with pytest.raises(jw.InputError, match=f"^compressor: .*{problem}"):
        jw.Experiment(**WHERE, compressor=kind)


def test_the_schema_of_sweep_files_knows_chains() -> None:
    text = str(json_schema())
    assert "topk|randk" in text
    assert "topk+int8" not in text
