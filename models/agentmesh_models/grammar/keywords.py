"""Single keywords of JSON Schemas: what they bound, what they require, and whether branches are apart."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import ceil, floor

from agentmesh_models.chat import JsonValue
from agentmesh_models.grammar.merging import KINDS, Schema, admits, kinds_of, same
from agentmesh_models.toolformat.schema import is_list, is_object


def always(schema: Schema) -> set[str]:
    """The members that are always written; with them those that others depend on."""
    given = schema.get("required")
    out = {each for each in given if isinstance(each, str)} if is_list(given) else set()
    depending = schema.get("dependentRequired")
    for needed in depending.values() if is_object(depending) else ():
        out |= {each for each in needed if isinstance(each, str)} if is_list(needed) else set()
    return out


def count(schema: Schema, key: str) -> int | None:
    value = schema.get(key)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def bound(schema: Schema, key: str, strict: str, tighter: object) -> tuple[Decimal | None, bool]:
    """A bound and whether it is itself left out; also in the old form where `exclusiveMinimum` is true."""
    given, other = schema.get(key), schema.get(strict)
    value = Decimal(repr(given)) if isinstance(given, int | float) and not isinstance(given, bool) else None
    if other is True:
        return value, value is not None
    if not isinstance(other, int | float) or isinstance(other, bool):
        return value, False
    edge = Decimal(repr(other))
    if value is None or edge == value or (edge > value) == (tighter is max):
        return edge, True
    return value, False


def whole_bounds(
    low: Decimal | None, above: bool, high: Decimal | None, below: bool
) -> tuple[int | None, int | None]:
    least = None if low is None else ceil(low)
    most = None if high is None else floor(high)
    if least is not None and above and least == low:
        least += 1
    if most is not None and below and most == high:
        most -= 1
    return least, most


def whole_step(step: float) -> int | None:
    """A whole number all of whose multiples are multiples of `step`."""
    return next((each for each in range(1, 101) if (each / step).is_integer()), None)


def apart(branches: Sequence[JsonValue]) -> bool:
    """Whether no value can fit two of the branches: by their types, or by a member that names its kind."""
    return all(_differ(one, two) for at, one in enumerate(branches) for two in branches[at + 1 :])


def _differ(one: JsonValue, two: JsonValue) -> bool:
    if not is_object(one) or not is_object(two):
        return one is False or two is False
    ours, theirs = _values(one), _values(two)
    if ours is not None and theirs is not None:
        return not any(same(a, b) for a in ours for b in theirs)
    mine, yours = _all_kinds(one), _all_kinds(two)
    if not mine & yours:
        return True
    if mine & yours != {"object"}:
        return False
    left, right = one.get("properties"), two.get("properties")
    if not is_object(left) or not is_object(right):
        return False
    if always(one) - right.keys() and always(two) - left.keys():
        return True  # members that the schema does not name are not written
    shared = always(one) & always(two) & left.keys() & right.keys()
    return any(_differ(left[name], right[name]) for name in shared)


def _values(schema: Schema) -> Sequence[JsonValue] | None:
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    return values if is_list(values) else None


def _all_kinds(schema: Schema) -> set[str]:
    values = _values(schema)
    if values is not None and "type" not in schema:
        return {kind for kind in KINDS for value in values if admits({"type": kind}, value)}
    kinds = {each for each in kinds_of(schema)} or set(KINDS)
    return kinds | {"integer"} if "number" in kinds else kinds
