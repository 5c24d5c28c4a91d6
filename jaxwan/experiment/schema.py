"""Validated settings: pydantic models generated from the facts of a family."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Strict,
    ValidationError,
    create_model,
)
from pydantic_core import core_schema

from jaxwan.core.families import Knob, Static
from jaxwan.experiment.errors import InputError, shown, translate, unknown_name
from jaxwan.experiment.resolved import Choice

HUGE = 1e9  # a bound from here on only guards the arithmetic
SPELLING = {
    "none": "NoCompression",
    "topk": "TopK",
    "fp16": "FP16",
    "bf16": "BF16",
    "randk": "RandK",
    "chunk_topk": "ChunkTopK",
    "dgc": "DGC",
    "demo": "DeMo",
    "powersgd": "PowerSGD",
    "sparseloco": "SparseLoCo",
    "fp8_e4m3": "FP8E4M3",
    "fp8_e5m2": "FP8E5M2",
    "fp4": "FP4",
    "qsgd": "QSGD",
    "terngrad": "TernGrad",
    "onebit": "OneBit",
    "diloco": "DiLoCo",
    "local_sgd": "LocalSGD",
    "streaming_diloco": "StreamingDiLoCo",
    "gossip_sgd": "GossipSGD",
    "hierarchical_sgd": "HierarchicalSGD",
    "async_local_sgd": "AsyncLocalSGD",
    "fedbuff": "FedBuff",
    "alie": "ALIE",
    "ipm": "IPM",
    "alie_optimal": "ALIEOptimal",
    "ipm_optimal": "IPMOptimal",
    "nan": "NaNSender",
    "inf": "InfSender",
    "zero": "ZeroSender",
    "random": "RandomSender",
    "mda": "MDA",
    "caf": "CAF",
    "dnc": "DnC",
    "nnm": "NNM",
    "arc": "ARC",
    "sgd": "SGD",
    "adamw": "AdamW",
    "adagrad": "AdaGrad",
    "rmsprop": "RMSProp",
}


def plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python number, everything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


class Settings(BaseModel):
    """A frozen model without unknown fields, whose errors are one line (InputError)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**{name: plain(value) for name, value in data.items()})
        except ValidationError as error:
            raise translate(error, type(self).model_fields) from None


@dataclass(frozen=True)
class Range:
    """Annotation of a strict number that refuses NaN and everything outside its bounds."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    @property
    def text(self) -> str:
        """Return the range as text: `(0, 1]`, `> 0` or `>= 0`."""
        if self.high >= HUGE:
            return f"{'>' if self.open_low else '>='} {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"

    def check(self, value: float) -> float:
        """Return the number.

        Raises:
            InputError: for NaN and for a number outside the bounds.
        """
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        if not (above and below):
            raise InputError(f"{shown(value)} is not allowed (allowed: {self.text})")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        whole = source is int
        strict = (
            core_schema.int_schema(strict=True) if whole else core_schema.float_schema(strict=True)
        )
        return core_schema.no_info_after_validator_function(self.check, strict)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        facts = dict(handler(schema))
        if math.isfinite(self.low):
            facts["exclusiveMinimum" if self.open_low else "minimum"] = self.low
        if math.isfinite(self.high):
            facts["exclusiveMaximum" if self.open_high else "maximum"] = self.high
        return facts


def is_integer(knob: Knob) -> bool:
    """Say whether the knob counts: an integer default, or no default between integer bounds."""
    ends = (knob.low, knob.high) if knob.default is None else (knob.default,)
    return all(isinstance(end, int) for end in ends)


def knob_field(knob: Knob) -> tuple[Any, Any]:
    """Return the pydantic field of a traced number."""
    if isinstance(knob.default, bool):
        return Annotated[bool, Strict()], Field(default=knob.default, description=knob.meaning)
    bounds = Range(knob.low, knob.high, open_low=knob.open_low)
    kind: Any = Annotated[int if is_integer(knob) else float, bounds]
    kind = kind | None if knob.optional or knob.default is None else kind
    return kind, Field(default=knob.default, description=knob.meaning)


def static_type(value: Any, low: float | None, high: float | None) -> Any:
    """Return the annotation of a compile-time argument that has this default."""
    if isinstance(value, tuple | list):
        entry: Any = static_type(value[0], low, high) if len(value) else Any
        return tuple.__class_getitem__((entry, ...))
    if isinstance(value, bool | str):
        return Annotated[type(value), Strict()]
    if isinstance(value, int | float):
        bounds = Range(-math.inf if low is None else low, math.inf if high is None else high)
        return Annotated[type(value), bounds]
    return Any


def static_field(static: Static) -> tuple[Any, Any]:
    """Return the pydantic field of a compile-time argument."""
    named = bool(static.choices) and not isinstance(static.default, tuple | list)
    kind: Any = (
        Literal[static.choices] if named else static_type(static.default, static.low, static.high)
    )
    return kind, Field(default=static.default, description=static.meaning)


def class_name(kind: str) -> str:
    """Return the constructor's name: trimmed_mean -> TrimmedMean, topk+int8 -> TopK+Int8."""
    if "+" in kind:
        return "+".join(map(class_name, kind.split("+")))
    return SPELLING.get(kind) or "".join(part[:1].upper() + part[1:] for part in kind.split("_"))


def member_model(kind: str, member: Any, extra: Mapping[str, Any]) -> type[Settings]:
    """Build the model of one family member from its facts."""
    knobs = {name: knob_field(knob) for name, knob in getattr(member, "knobs", {}).items()}
    static = {name: static_field(arg) for name, arg in getattr(member, "static", {}).items()}
    fields: dict[str, Any] = {"kind": (Literal[kind], kind), **knobs, **static, **extra}
    return create_model(
        class_name(kind),
        __base__=Settings,
        __module__="jaxwan.experiment.constructors",
        __doc__=member.summary,
        **fields,
    )


def family_models(
    family: Mapping[str, Any], extra: Callable[[Any], Mapping[str, Any]] = lambda member: {}
) -> dict[str, type[Settings]]:
    """Build one model per member; `extra` adds fields that the facts do not carry."""
    return {kind: member_model(kind, member, extra(member)) for kind, member in family.items()}


@dataclass(frozen=True, eq=False)
class OneOf:
    """Annotation of a field that holds a family member: a name, a table or an object.

    The word "recommended", like None, stands for the challenge's own where `open` is true.
    """

    what: str
    models: Mapping[str, type[Settings]]
    open: bool = True

    def parse(self, value: Any) -> Settings | None:
        """Return the validated member.

        Raises:
            InputError: for an unknown kind, a wrong knob or something that is no member at all.
        """
        if self.open and (value is None or value == "recommended"):
            return None
        kind = getattr(value, "kind", None)
        if kind in self.models and isinstance(value, self.models[cast(str, kind)]):
            return value
        table = {"kind": value} if isinstance(value, str) else value
        if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
            names = ", ".join(self.models)
            raise InputError(
                f"expected a {self.what} name or a table with its kind ({names}), "
                f"got {shown(value)}"
            )
        try:
            model = self.models[table["kind"]]
        except KeyError:
            raise unknown_name(self.what, table["kind"], self.models) from None
        return model(**table)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        names = [*self.models, "recommended"] if self.open else list(self.models)
        tables = [
            model.model_json_schema() | {"required": ["kind"]} for model in self.models.values()
        ]
        return {"anyOf": [{"enum": names}, *tables, *getattr(self.models, "more_schemas", ())]}


def as_choice(settings: Settings, family: Mapping[str, Any]) -> Choice:
    """Return a validated member as the Choice that lowering takes."""
    values = settings.model_dump()
    member = family[values["kind"]]
    knobs = {name: values[name] for name in getattr(member, "knobs", {})}
    static = {name: values[name] for name in getattr(member, "static", {})}
    return Choice(values["kind"], knobs, static)
