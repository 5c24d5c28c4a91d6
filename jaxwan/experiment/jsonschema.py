"""The JSON Schema of a sweep file, so that editors complete it."""

from __future__ import annotations

from typing import Any

from jaxwan.experiment.files import built_in
from jaxwan.experiment.spec import Experiment

NAMED = ("scenario", "challenge", "network")


def shared(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a reference to the schema, which is kept once among the definitions."""
    known = next((name for name, entry in definitions.items() if entry == schema), None)
    name = known or f"field{len(definitions)}"
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}"}


def fanned(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema that also allows a list wherever the given one allows a scalar."""
    inner = dict(schema)
    if "anyOf" in inner:
        inner["anyOf"] = [with_fanned_fields(entry, definitions) for entry in inner["anyOf"]]
    inner = with_fanned_fields(inner, definitions)
    one = shared(inner, definitions)
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


def with_fanned_fields(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a table's schema in which every field may be a list."""
    if "properties" not in schema:
        return schema
    fields = {
        name: entry if name == "kind" else fanned(entry, definitions)
        for name, entry in schema["properties"].items()
    }
    return schema | {"properties": fields}


def inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return the schema with every reference replaced by what it refers to."""
    if isinstance(schema, list):
        return [inlined(entry, definitions) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        own = {key: value for key, value in schema.items() if key != "$ref"}
        return inlined(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions) | own
    return {
        key: inlined(value, definitions)
        for key, value in schema.items()
        if key != "default" or value is not None
    }


def experiment_schema() -> dict[str, Any]:
    """Return the schema of one experiment, without references and with the built-in names."""
    whole = Experiment.model_json_schema()
    schema: dict[str, Any] = inlined(whole, whole.pop("$defs", {}))
    for field in NAMED:
        names = {"enum": list(built_in(field))}
        entry = schema["properties"][field]
        schema["properties"][field] = {
            "description": entry["description"],
            "anyOf": [names, {"type": "string", "pattern": r"\.(toml|csv)$"}],
        }
    return schema


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a sweep file."""
    experiment = experiment_schema()
    fields = experiment["properties"]
    definitions: dict[str, Any] = {}
    grid = {name: fanned(entry, definitions) for name, entry in fields.items()}
    count = {"type": "integer", "minimum": 1}
    seeds = {"anyOf": [count, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}
    table = {"type": "object", "additionalProperties": False}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jaxwan sweep",
        "type": "object",
        "additionalProperties": False,
        "required": ["grid"],
        "properties": {
            "seeds": seeds | {"description": "a count or a list of seeds", "default": 1},
            "steps": count | {"description": "local gradient steps per worker slot"},
            "grid": table | {"properties": grid, "minProperties": 1},
            "overrides": table | {"properties": fields},
        },
        "$defs": definitions,
    }
