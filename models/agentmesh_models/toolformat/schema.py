"""The schemas of tools in the one form that models are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeGuard

from agentmesh_models.chat import JsonValue

_DROPPED: Final = frozenset({"title", "$schema", "default", "examples"})
_KEPT_DEFS: Final = ("$defs", "definitions")
_KEPT_RULES: Final = (
    *("anyOf", "oneOf", "allOf", "additionalProperties", "patternProperties", "propertyNames"),
    *("dependentRequired", "minProperties", "maxProperties"),
)
_LEAD: Final = ("type", "description", "enum")
_EXACT: Final = frozenset({"enum", "const", "minLength", "pattern", "format", "allOf", "$ref"})
MAX_DEPTH: Final = 16


def normalise_schema(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema of a tool's arguments in the one form that models are shown.

    Top level: exactly `type`, `properties`, `required`, then what binds members together and shared definitions,
    if there are any. Each property: `type`, `description`, `enum` first, other keywords after. Titles, defaults
    and dialect marks are dropped.
    """
    raw = schema.get("properties", {})
    properties = raw if is_object(raw) else {}
    given = schema.get("required", ())
    required = [name for name in given if name in properties] if is_list(given) else []
    out: dict[str, JsonValue] = {
        "type": "object",
        "properties": {name: _normalise(each, 1) for name, each in properties.items()},
        "required": required,
    }
    out.update(_members_of(_normalise({key: schema[key] for key in _KEPT_RULES if key in schema}, 0)))
    for key in _KEPT_DEFS:
        definitions = schema.get(key)
        if is_object(definitions) and definitions:
            out[key] = {name: _normalise(each, 1) for name, each in definitions.items()}
    return out


def _members_of(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if is_object(value) else {}


def _normalise(schema: JsonValue, depth: int) -> JsonValue:
    if not is_object(schema) or depth > MAX_DEPTH:
        return schema
    keys = [key for key in _LEAD if key in schema]
    keys += [key for key in schema if key not in _LEAD and key not in _DROPPED]
    out: dict[str, JsonValue] = {}
    for key in keys:
        value = schema[key]
        if key == "properties" and is_object(value):
            out[key] = {name: _normalise(each, depth + 1) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf", "prefixItems") and is_list(value):
            out[key] = [_normalise(each, depth + 1) for each in value]
        elif key == "items":
            out[key] = _normalise(value, depth + 1)
        elif key == "additionalProperties":
            if is_object(value) and value:  # true and false tell a model nothing
                out[key] = _normalise(value, depth + 1)
        else:
            out[key] = value
    return out


def trim(arguments: Mapping[str, JsonValue], schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Arguments without the spaces that small models add around text; spelled-out values stay as they are."""
    raw = schema.get("properties", {})
    properties = raw if is_object(raw) else {}
    return {key: _trim(value, properties.get(key)) for key, value in arguments.items()}


def _trim(value: JsonValue, schema: JsonValue) -> JsonValue:
    return value.strip(" ") if isinstance(value, str) and _is_plain(schema) else value


def _is_plain(schema: JsonValue) -> bool:
    """Whether a text may lose its outer spaces without ceasing to fit."""
    if not is_object(schema):
        return True
    branches = [*_list(schema.get("anyOf")), *_list(schema.get("oneOf"))]
    return not schema.keys() & _EXACT and all(_is_plain(each) for each in branches)


def is_object(value: object) -> TypeGuard[Mapping[str, JsonValue]]:
    """Whether a value is what JSON calls an object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[JsonValue]]:
    """Whether a value is what JSON calls an array."""
    return isinstance(value, list | tuple)


def _list(value: JsonValue) -> Sequence[JsonValue]:
    return value if is_list(value) else ()
