"""Tool lists as GBNF grammars: what makes an invalid tool call impossible.

A grammar names every tool, and after a name only arguments of that tool's schema can follow: required ones
and chosen optional ones in the schema's order, typed values, Python's JSON spacing. What the grammar does not
know of JSON Schema (number ranges, patterns, formats) it lets through as the plain type.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh_models.chat import JsonValue, ToolSpec
from agentmesh_models.errors import ModelError
from agentmesh_models.toolformat import CLOSER, OPENER, PREAMBLE, dumps

MAX_DEPTH: Final = 12
MAX_RULES: Final = 4_000
MAX_REPEAT: Final = 256

# A string holds no raw control characters and no surrogates, which could not be written as UTF-8. The class
# says what may stand there, not what may not: of an excluding class llama.cpp refuses many a first byte of a
# longer character.
_BASE: Final[Mapping[str, str]] = {
    "char": (
        r"[\x20\x21\x23-\x5B\x5D-\x7E\x80-\uD7FF\uE000-\U0010FFFF]"
        r' | "\\" (["\\/bfnrt] | "u" ([0-9a-cefA-CEF] hex{3} | [dD] [0-7] hex{2}))'
    ),
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,14})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,14}) ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "string | number | boolean | null | array | object",
    "array": '"[" (value (", " value)*)? "]"',
    "object": r'"{" (string ": " value (", " string ": " value)*)? "}"',
}
_NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "char": ("hex",),
    "string": ("char",),
    "value": ("string", "number", "boolean", "null", "array", "object"),
    "array": ("value",),
    "object": ("string", "value"),
}


def call_grammar(tools: Sequence[ToolSpec], *, lead: str = "") -> str:
    """The grammar of one call of one of `tools`, opener and closer included, after the text `lead`.

    Raises:
        ModelError: reason "bad_request" when there is no tool, or the schemas are beyond all measure.
    """
    if not tools:
        raise ModelError("bad_request", "a tool call is required, and there are no tools")
    rules = _Rules()
    choices = []
    for number, tool in enumerate(tools):
        arguments = rules.arguments(tool.parameters, f"t{number}")
        name = literal(f'{dumps(tool.name)[1:-1]}", "arguments": ')
        choices.append(f"{name} {arguments}")
    root = f"{literal(lead + PREAMBLE)} ({' | '.join(choices)}) {literal('}' + chr(10) + CLOSER)}"
    return rules.text(root)


def silent_grammar() -> str:
    """The grammar of any text in which the opener of a tool call never occurs.

    One rule for each number of its characters just seen; works because its first character occurs in it only
    once.
    """
    first, rest = OPENER[0], OPENER[1:]
    escaped = [_escape_in_class(each) for each in OPENER]
    lines = [f"root ::= [^{escaped[0]}] root | {literal(first)} s1 | {literal('')}"]
    for at, char in enumerate(rest, 1):
        parts = [f"[^{escaped[0]}{escaped[at]}] root", f"{literal(first)} s1", literal("")]
        if at < len(OPENER) - 1:
            parts.insert(0, f"{literal(char)} s{at + 1}")
        lines.append(f"s{at} ::= {' | '.join(parts)}")
    return "\n".join(lines) + "\n"


def grammar_digest(grammar: str) -> str:
    """The hex SHA-256 of a grammar's text."""
    return hashlib.sha256(grammar.encode("utf-8", "replace")).hexdigest()


def literal(text: str) -> str:
    """`text` as a GBNF literal."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif ord(char) < 32 or ord(char) == 127:
            out.append(f"\\x{ord(char):02X}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


class _Rules:
    """The rules of one grammar, as they are needed."""

    def __init__(self) -> None:
        self._made: dict[str, str] = {}
        self._refs: dict[tuple[str, str], str] = {}
        self._schema: Mapping[str, JsonValue] = {}
        self._tool = ""
        self._entered: set[str] = set()

    def text(self, root: str) -> str:
        lines = [f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._made.items())]
        return "\n".join(lines) + "\n"

    def arguments(self, schema: Mapping[str, JsonValue], tool: str) -> str:
        """The name of the rule for a tool's arguments object."""
        self._schema, self._tool, self._entered = schema, tool, set()
        return self._object({**schema, "type": "object"}, 0)

    def _base(self, name: str) -> str:
        if name not in self._made:
            self._made[name] = _BASE[name]
            for needed in _NEEDS.get(name, ()):
                self._base(needed)
        return name

    def _rule(self, body: str) -> str:
        if len(self._made) >= MAX_RULES:
            raise ModelError("bad_request", f"the tools' schemas need more than {MAX_RULES} grammar rules")
        name = f"r{len(self._made)}"
        self._made[name] = body
        return name

    def _value(self, schema: JsonValue, depth: int) -> str:
        """An expression for any value of `schema`; any JSON value where the schema says nothing we know."""
        if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
            return self._base("value")
        if "$ref" in schema:
            return self._ref(schema["$ref"], depth)
        fixed = _fixed(schema)
        if fixed:
            return f"({' | '.join(literal(dumps(each)) for each in fixed)})"
        for key in ("anyOf", "oneOf"):
            branches = schema.get(key)
            if isinstance(branches, list | tuple) and branches:
                rest = {name: each for name, each in schema.items() if name not in ("anyOf", "oneOf")}
                return self._either([_merged(rest, each) for each in branches], depth)
        parts = schema.get("allOf")
        if isinstance(parts, list | tuple) and parts:
            whole: JsonValue = {key: each for key, each in schema.items() if key != "allOf"}
            for part in parts:
                whole = _merged(whole, self._resolved(part))
            return self._value(whole, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list | tuple):
            return self._either([{**schema, "type": each} for each in kind], depth)
        return self._typed(kind, schema, depth)

    def _typed(self, kind: JsonValue, schema: Mapping[str, JsonValue], depth: int) -> str:
        if kind == "string":
            return self._string(schema)
        if kind == "array" or (kind is None and "items" in schema):
            return self._array(schema, depth)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind in ("integer", "number", "boolean", "null"):
            return self._base(str(kind))
        return self._base("value")

    def _either(self, branches: Sequence[JsonValue], depth: int) -> str:
        choices = dict.fromkeys(self._value(branch, depth + 1) for branch in branches)
        return f"({' | '.join(choices)})" if choices else self._base("value")

    def _ref(self, ref: JsonValue, depth: int) -> str:
        """A rule of its own for what a reference points to, so that a schema may contain itself."""
        if not isinstance(ref, str) or ref in self._entered:
            return self._base("value")  # a reference that leads to itself and to nothing else
        known = self._refs.get((self._tool, ref))
        if known is not None:
            return known
        target = self._target(ref)
        if target is None:
            return self._base("value")
        name = self._refs[self._tool, ref] = self._rule("")
        self._entered.add(ref)
        self._made[name] = self._value(target, 0 if depth <= MAX_DEPTH else depth)
        self._entered.discard(ref)
        return name

    def _target(self, ref: str) -> JsonValue:
        if not ref.startswith("#"):
            return None
        found: JsonValue = dict(self._schema)
        for step in ref[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                return None
            found = found[name]
        return found

    def _resolved(self, schema: JsonValue) -> JsonValue:
        if isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str):
            return self._target(str(schema["$ref"]))
        return schema

    def _string(self, schema: Mapping[str, JsonValue]) -> str:
        low, high = _bounds(schema, "minLength", "maxLength")
        if low == 0 and high is None:
            return self._base("string")
        self._base("char")
        return self._rule(rf'"\"" char{_repeat(low, high)} "\""')

    def _array(self, schema: Mapping[str, JsonValue], depth: int) -> str:
        low, high = _bounds(schema, "minItems", "maxItems")
        entered, self._entered = self._entered, set()
        item = self._value(schema.get("items"), depth + 1)
        self._entered = entered
        if high == 0:
            return literal("[]")
        more = f'(", " {item}){_repeat(max(low - 1, 0), None if high is None else high - 1)}'
        inner = f"{item} {more}"
        return self._rule(f'"[" {inner if low else f"({inner})?"} "]"')

    def _object(self, schema: Mapping[str, JsonValue], depth: int) -> str:
        given = schema.get("properties")
        properties = dict(given) if isinstance(given, Mapping) else {}
        asked = schema.get("required")
        required = (
            {each for each in asked if isinstance(each, str)} if isinstance(asked, list | tuple) else set()
        )
        for name in sorted(required - properties.keys()):
            properties[name] = {}
        entered, self._entered = self._entered, set()
        body = self._members(properties, required, depth) if properties else self._free(schema, depth)
        self._entered = entered
        return self._rule(body)

    def _members(self, properties: Mapping[str, JsonValue], required: set[str], depth: int) -> str:
        """Members in order: `first` is what may follow while none is written, `later` when some are."""
        first = later = literal("}")
        for name, schema in reversed(list(properties.items())):
            member = f"{literal(dumps(name) + ': ')} {self._value(schema, depth + 1)}"
            after = later if later == literal("}") else self._rule(later)
            now, then = f"{member} {after}", f"{literal(', ')} {member} {after}"
            if name in required:
                first, later = now, then
            else:
                first, later = f"({now} | {self._rule(first)})", f"({then} | {after})"
        return f"{literal('{')} {first}"

    def _free(self, schema: Mapping[str, JsonValue], depth: int) -> str:
        """An object whose members the schema does not name."""
        allowed = schema.get("additionalProperties", schema.get("type") == "object" and depth > 0)
        if allowed is False:
            return literal("{}")
        value = self._value(allowed, depth + 1)
        member = f'{self._base("string")} ": " {value}'
        return f'"{{" ({member} (", " {member})*)? "}}"'


def _fixed(schema: Mapping[str, JsonValue]) -> list[JsonValue]:
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return list(values) if isinstance(values, list | tuple) else []


def _merged(left: JsonValue, right: JsonValue) -> JsonValue:
    """Both schemas at once, as far as joining their keywords goes."""
    if not isinstance(left, Mapping) or not isinstance(right, Mapping):
        return right if isinstance(right, Mapping) else left
    out = {**left, **right}
    ours, theirs = left.get("properties"), right.get("properties")
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        out["properties"] = {**ours, **theirs}
    one, two = left.get("required"), right.get("required")
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        out["required"] = [*one, *two]
    return out


def _bounds(schema: Mapping[str, JsonValue], low_key: str, high_key: str) -> tuple[int, int | None]:
    """The bounds that the grammar enforces; larger than `MAX_REPEAT` they are left to the tool."""
    low, high = schema.get(low_key), schema.get(high_key)
    least = low if isinstance(low, int) and 0 < low <= MAX_REPEAT else 0
    most = high if isinstance(high, int) and least <= high <= MAX_REPEAT else None
    return least, most


def _repeat(low: int, high: int | None) -> str:
    if low == 0 and high is None:
        return "*"
    return f"{{{low},{'' if high is None else high}}}"


def _escape_in_class(char: str) -> str:
    return json.dumps(char)[1:-1] if char not in "]^-\\" else f"\\{char}"
