"""Arguments brought to the types that their schema asks for, where what was meant is beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from agentmesh_models.chat import JsonValue
from agentmesh_models.toolformat.loose import Unreadable, parse
from agentmesh_models.toolformat.schema import is_list, is_object
from agentmesh_models.toolformat.words import dumps

MAX_DEPTH: Final = 24
_TRUE: Final = frozenset({"true", "True", "yes"})
_FALSE: Final = frozenset({"false", "False", "no"})
_NULL: Final = frozenset({"null", "None", ""})


def mend(arguments: Mapping[str, JsonValue], schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """`arguments` with numbers, lists and objects that were given as text made what `schema` wants.

    What fits, or cannot be understood, stays as it is; the tool has the last word about it.
    """
    mended = _mend(dict(arguments), {**schema, "type": "object"}, schema, 0)
    return mended if isinstance(mended, dict) else dict(arguments)


def _mend(value: JsonValue, schema: JsonValue, root: Mapping[str, JsonValue], depth: int) -> JsonValue:
    schema = _resolved(schema, root)
    if not is_object(schema) or depth > MAX_DEPTH:
        return value
    for key in ("anyOf", "oneOf"):
        branches = schema.get(key)
        if is_list(branches):
            return _branch(value, [_resolved(each, root) for each in branches], root, depth)
    kinds = _kinds(schema)
    if kinds and not any(fits(value, kind) for kind in kinds):
        value = _converted(value, kinds)
    if isinstance(value, float) and "number" not in kinds and "integer" in kinds and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        known = schema.get("properties")
        rest = schema.get("additionalProperties")
        properties = known if is_object(known) else {}
        return {key: _mend(each, properties.get(key, rest), root, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [_mend(each, schema.get("items"), root, depth + 1) for each in value]
    return value


def _branch(
    value: JsonValue, branches: list[JsonValue], root: Mapping[str, JsonValue], depth: int
) -> JsonValue:
    """By the first branch whose type it has, or else the first that makes something of it."""
    for branch in branches:
        if is_object(branch) and any(fits(value, kind) for kind in _kinds(branch)):
            return _mend(value, dict(branch), root, depth + 1)
    for branch in branches:
        mended = _mend(value, branch, root, depth + 1)
        if is_object(branch) and any(fits(mended, kind) for kind in _kinds(branch)):
            return mended
    return value


def fits(value: JsonValue, kind: str) -> bool:
    """Whether `value` is of the JSON Schema type `kind`."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    if value is None:
        return kind == "null"
    if isinstance(value, str):
        return kind == "string"
    return kind == ("array" if isinstance(value, list) else "object")


def _converted(value: JsonValue, kinds: list[str]) -> JsonValue:
    if isinstance(value, str):
        for kind in kinds:
            made = _from_text(value.strip(), kind)
            if made is not None or (kind == "null" and value.strip() in _NULL):
                return made
    if "string" in kinds and isinstance(value, int | float) and not isinstance(value, bool):
        return dumps(value)
    if "array" in kinds and not isinstance(value, list | dict) and value is not None:
        return [value]
    return value


def _from_text(text: str, kind: str) -> JsonValue:
    """What `text` says as a value of `kind`; None for nothing."""
    if kind == "boolean":
        return True if text in _TRUE else False if text in _FALSE else None
    try:
        value = parse(text)
    except Unreadable:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is not None and fits(value, kind) else None


def _kinds(schema: Mapping[str, JsonValue]) -> list[str]:
    kind = schema.get("type")
    if isinstance(kind, str):
        return [kind]
    return [each for each in kind if isinstance(each, str)] if is_list(kind) else []


def _resolved(schema: JsonValue, root: Mapping[str, JsonValue]) -> JsonValue:
    """What a local reference points to; the schema itself where it is none."""
    for _ in range(MAX_DEPTH):
        if not is_object(schema) or not isinstance(schema.get("$ref"), str):
            return schema
        found: JsonValue = dict(root)
        for step in str(schema["$ref"]).removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if is_object(found) else None
        schema = found
    return None
