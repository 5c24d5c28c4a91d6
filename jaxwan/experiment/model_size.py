"""The user's model: "1B", "350M" or a Hugging Face config.json, and a scenario of that size."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxwan.experiment.errors import InputError, shown
from jaxwan.experiment.prices import DEVICES, REFERENCE
from jaxwan.experiment.resolved import Scenario

UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
SMALLEST, LARGEST = 10**6, 10**13  # parameters
VOCABULARY, CONTEXT, HEAD = 32_000, 1024, 64
SLIMNESS = 100  # width / layers of a usual decoder: 768 / 12 to 4096 / 32
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
NAMES = {  # what GPT-2 calls the same
    "hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
    "intermediate_size": "n_inner", "max_position_embeddings": "n_positions",
}  # fmt: skip
PROXY = {"width": 8, "layers": 1, "heads": 1, "vocabulary": 16, "context": 8, "topics": 4}
PROXY_TARGET, PROXY_FLOOR, PROXY_START = 1.35, 1.16, 2.8  # nats, held out


class Model(NamedTuple):
    """A model as the simulation sees it."""

    name: str
    parameters: int
    assumed: str  # how the count was come by


def model_of(text: str) -> Model:
    """Read a model: a size such as "1B" or "350M", or the path of a Hugging Face config.json.

    Raises:
        InputError: for a size that cannot be read, a missing or wrong file, or an architecture
            that is not counted.
    """
    path = Path(text).expanduser()
    if text.endswith(".json") or path.is_file():
        return _from_config(path)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([KMBT]?)\s*", text, re.IGNORECASE)
    if found is None:
        raise InputError(f"expected a size such as 1B or 350M, or a config.json, got {shown(text)}",
                         "model")  # fmt: skip
    count = float(found[1]) * UNITS[found[2].upper()]
    if not SMALLEST <= count <= LARGEST:
        raise InputError(f"{text.strip()} is not between 1M and 10T parameters", "model")
    return Model(text.strip(), round(count), "as stated")


def _from_config(path: Path) -> Model:
    if not path.is_file():
        raise InputError(f"no such file: {path}", "model")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not JSON in UTF-8 ({error})", "model") from None
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected a table of fields", "model")
    try:
        count, assumed = count_parameters(table)
    except InputError as error:
        raise InputError(f"{path}: {error}", "model") from None
    kind = str(table.get("model_type", "decoder"))
    name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    return Model(f"{name} ({kind})", count, assumed)


def _whole(table: Mapping[str, Any], name: str, otherwise: int | None = None) -> int:
    """Return a field, under GPT-2's name too.

    Raises:
        InputError: for a missing field, or one that is no whole number above zero.
    """
    value = table.get(name, table.get(NAMES.get(name, name)))
    value = otherwise if value is None else value
    if value is None:
        raise InputError(f"{name!r} is missing")
    if type(value) is not int or not 0 < value < 2**31:
        raise InputError(f"expected a whole number above 0, got {shown(value)}", name)
    return value


def count_parameters(table: Mapping[str, Any]) -> tuple[int, str]:
    """Count the parameters of a decoder from the fields of its config.json, and say how.

    Three shapes are known: GPT-2's (biases, learned places, tied), GPT-NeoX's (biases, untied) and
    Llama's (gated dense layers, grouped queries, no biases; Qwen 2 has biases on q, k and v, Qwen 3
    norms on q and k), which any other name is counted as.

    Raises:
        InputError: for a missing or wrong field, or a mixture of experts.
    """
    for name in EXPERTS:
        if table.get(name):
            raise InputError("mixtures of experts are not counted; give --model a size", name)
    kind = str(table.get("model_type", ""))
    width, layers = _whole(table, "hidden_size"), _whole(table, "num_hidden_layers")
    vocabulary = _whole(table, "vocab_size")
    if kind == "gpt2" or "n_embd" in table:
        inner = _whole(table, "intermediate_size", 4 * width)
        places = _whole(table, "max_position_embeddings", 1024)
        one = 4 * width * width + 2 * width * inner + inner + 9 * width
        total = (vocabulary + places + 2) * width + layers * one
        return total, "counted as GPT-2: biases, learned places, tied embeddings"
    tied = bool(table.get("tie_word_embeddings", False))
    words = vocabulary * width * (1 if tied else 2)
    inner = _whole(table, "intermediate_size")
    if kind == "gpt_neox":
        one = 4 * width * width + 2 * width * inner + inner + 9 * width
        return words + layers * one + 2 * width, "counted as GPT-NeoX: biases"
    total = words + layers * _gated_layer(table, kind, width, inner) + width
    known = kind in ("llama", "mistral", "qwen2", "qwen3")
    usual = kind if known else f"Llama, as {kind or 'a nameless model'} is not known"
    ends = "tied" if tied else "untied"
    return total, f"counted as {usual}: gated dense layers, grouped queries, {ends} embeddings"


def _gated_layer(table: Mapping[str, Any], kind: str, width: int, inner: int) -> int:
    """Count one layer of a decoder such as Llama's."""
    heads = _whole(table, "num_attention_heads")
    groups = _whole(table, "num_key_value_heads", heads)
    head = _whole(table, "head_dim", max(width // heads, 1))
    query, value = heads * head, groups * head
    biased = kind == "qwen2" or bool(table.get("attention_bias", False))
    extra = (query + 2 * value + (0 if kind == "qwen2" else width)) * biased
    extra += 2 * head * (kind == "qwen3")
    return 2 * width * query + 2 * width * value + extra + 3 * width * inner + 2 * width


def decoder_of(parameters: int) -> dict[str, int]:
    """Return a plain decoder with so many parameters, to half a width: what is sent and held.

    Width and layers are in the usual proportion; the vocabulary takes up what is left.
    """
    best: tuple[float, dict[str, int]] | None = None
    for heads in (*range(1, 33), *range(34, 513, 2)):
        width = HEAD * heads
        one, rest = 12 * width * width + 13 * width, (CONTEXT + 2) * width
        words = min(VOCABULARY, parameters // (3 * width))
        layers = (parameters - rest - words * width) // one
        if layers < 1:
            break
        odd = abs(math.log(width / layers / SLIMNESS))
        if best is None or odd < best[0]:
            left = round((parameters - rest - layers * one) / width)
            shape = {"width": width, "layers": layers, "heads": heads, "vocabulary": left}
            best = (odd, shape | {"context": CONTEXT, "topics": 1})
    if best is None:
        raise InputError(f"no decoder has {parameters:,} parameters", "model")
    return best[1]


def step_seconds(parameters: int, tokens: int) -> float:
    """Return the seconds of a step on the reference device: 6 N operations a token.

    Kaplan et al. 2020, section 2.1; the device reaches a fixed share of its peak.
    """
    return 6.0 * parameters * tokens / DEVICES[REFERENCE].bf16_flops


def scenario_for(
    model: Model, tokens: int, base: Scenario, target: float | None = None
) -> Scenario:  # fmt: skip
    """Return the scenario of a model: its size and step time, and a small decoder that learns.

    `tokens` are those of one worker's step; `base` is a decoder's scenario, whose optimizer and
    data are kept; `target` is a held-out loss of the proxy.
    """
    return replace(
        base,
        name=model.name,
        description=f"{model.parameters:,} parameters, {tokens:,} tokens a step and worker",
        batch=max(tokens // CONTEXT, 1),
        step_s=step_seconds(model.parameters, tokens),
        model=replace(base.model, static=base.model.static | decoder_of(model.parameters)),
        proxy=replace(base.proxy, static=base.proxy.static | PROXY),
        target_loss=PROXY_TARGET if target is None else target,
    )
