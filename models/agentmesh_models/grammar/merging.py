"""JSON Schemas as values: two made one, references followed, a value held against the simple keywords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import lcm
from typing import Final

from agentmesh_models.chat import JsonValue
from agentmesh_models.toolformat.mending import fits
from agentmesh_models.toolformat.schema import is_list, is_object

Schema = Mapping[str, JsonValue]
MAX_BRANCHES: Final = 64
ANNOTATIONS: Final = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$comment",
        "$defs",
    }
    | {"definitions", "$schema", "$id", "$anchor", "contentEncoding", "contentMediaType", "contentSchema"}
)
KINDS: Final = ("string", "integer", "number", "boolean", "null", "array", "object")
_GREATEST: Final = frozenset(
    {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
)
_LEAST: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_BY_KIND: Final[Mapping[str, str]] = {
    **dict.fromkeys(("pattern", "minLength", "maxLength", "format"), "string"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"), "array"),
    **dict.fromkeys(("properties", "required", "additionalProperties", "patternProperties"), "object"),
    **dict.fromkeys(("minProperties", "maxProperties", "propertyNames", "dependentRequired"), "object"),
}


def kinds_of(schema: Schema) -> tuple[str, ...]:
    """The types that a schema names, or that its keywords speak of; none where it says nothing."""
    given = schema.get("type")
    if isinstance(given, str):
        return (given,)
    if is_list(given):
        return tuple(each for each in given if isinstance(each, str))
    return tuple(dict.fromkeys(_BY_KIND[key] for key in schema if key in _BY_KIND))[:1]


def merge(left: JsonValue, right: JsonValue, note: Callable[[str], None]) -> JsonValue:
    """A schema for what fits both; `note` is told what it could not join."""
    if left is False or right is False:
        return False
    if not is_object(left) or not is_object(right):
        return dict(right) if is_object(right) else dict(left) if is_object(left) else True
    if "const" in left and "const" in right and not same(left["const"], right["const"]):
        return False
    out = dict(left)
    for key, value in right.items():
        out[key] = _joined(key, out[key], value, note) if key in out else value
    for key in ("enum", "type"):
        if out.get(key) == [] and left.get(key) and right.get(key):
            return False  # what fits both is nothing
    if "properties" in left or "properties" in right:
        out["properties"] = _properties(left, right, note)
    return out


def _joined(key: str, one: JsonValue, two: JsonValue, note: Callable[[str], None]) -> JsonValue:
    if one == two or key in ANNOTATIONS or key in ("properties", "const"):
        return two
    if key == "type":
        return _both_kinds(one, two)
    if key == "enum" and is_list(one) and is_list(two):
        return [each for each in one if any(same(each, other) for other in two)]
    if isinstance(one, int | float) and isinstance(two, int | float):
        if key in _GREATEST:
            return max(one, two)
        if key in _LEAST:
            return min(one, two)
        if key == "multipleOf" and isinstance(one, int) and isinstance(two, int) and one > 0 and two > 0:
            return lcm(one, two)
    if key == "required" and is_list(one) and is_list(two):
        return list(dict.fromkeys(each for each in [*one, *two] if isinstance(each, str)))
    if key in ("items", "additionalProperties", "propertyNames"):
        return merge(one, two, note)
    if key in ("anyOf", "oneOf") and is_list(one) and is_list(two):
        return [merge(each, other, note) for each in one for other in two][:MAX_BRANCHES]
    if key in ("allOf", "prefixItems") and is_list(one) and is_list(two):
        return (
            [*one, *two] if key == "allOf" else [merge(*pair, note) for pair in zip(one, two, strict=False)]
        )
    if key in ("patternProperties", "dependentRequired") and is_object(one) and is_object(two):
        return {**one, **two}
    note(f"{key} of one of several schemas that hold together")
    return one


def _properties(left: Schema, right: Schema, note: Callable[[str], None]) -> JsonValue:
    """Members of both; a member that only one names must fit what the other says of further members."""
    one, two = left.get("properties"), right.get("properties")
    ours, theirs = (one if is_object(one) else {}), (two if is_object(two) else {})
    out: dict[str, JsonValue] = {}
    for name in dict.fromkeys([*ours, *theirs]):
        mine = ours[name] if name in ours else _further(left)
        yours = theirs[name] if name in theirs else _further(right)
        out[name] = merge(mine, yours, note)
    return out


def _further(schema: Schema) -> JsonValue:
    return True if "patternProperties" in schema else schema.get("additionalProperties", True)


def _both_kinds(one: JsonValue, two: JsonValue) -> JsonValue:
    ours = [one] if isinstance(one, str) else list(one) if is_list(one) else []
    theirs = [two] if isinstance(two, str) else list(two) if is_list(two) else []
    out: list[JsonValue] = [each for each in ours if each in theirs]
    if "integer" not in out and {"integer", "number"} <= {*map(str, ours), *map(str, theirs)}:
        out.append("integer")
    return out


def same(one: JsonValue, two: JsonValue) -> bool:
    """Whether JSON Schema holds two values for equal: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if is_list(one) and is_list(two):
        return len(one) == len(two) and all(same(a, b) for a, b in zip(one, two, strict=True))
    if is_object(one) and is_object(two):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return one == two


def admits(schema: Schema, value: JsonValue) -> bool:
    """Whether a listed value fits the simple keywords beside the list."""
    kinds = schema.get("type")
    named = [kinds] if isinstance(kinds, str) else list(kinds) if is_list(kinds) else []
    if named and not any(isinstance(kind, str) and fits(value, kind) for kind in named):
        return False
    if "const" in schema and not same(schema["const"], value):
        return False
    if isinstance(value, str):
        return _inside(len(value), schema, "minLength", "maxLength")
    if isinstance(value, int | float) and not isinstance(value, bool):
        above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        strict = (not isinstance(above, int | float) or value > above) and (
            not isinstance(below, int | float) or value < below
        )
        return strict and _inside(value, schema, "minimum", "maximum")
    return True


def _inside(value: float, schema: Schema, low: str, high: str) -> bool:
    least, most = schema.get(low), schema.get(high)
    return (not isinstance(least, int | float) or value >= least) and (
        not isinstance(most, int | float) or value <= most
    )


def target(root: Schema, ref: str) -> JsonValue:
    """What a local reference points to; None where there is nothing, or it is not local."""
    if ref == "#":
        return dict(root)
    if not ref.startswith("#/"):
        return None
    found: JsonValue = dict(root)
    for step in ref[2:].split("/"):
        name = step.replace("%24", "$").replace("%25", "%").replace("~1", "/").replace("~0", "~")
        if is_object(found):
            found = found.get(name)
        elif is_list(found) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found
