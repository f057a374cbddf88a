"""JSON Schemas (2020-12, the part that tools use) as grammar nodes: what they allow is valid.

Where a keyword cannot be told by a context-free grammar, something narrower is written, or else it is noted among what is
`left` to the tool: nothing is let through without a word. Members come in the schema's order, further members only
where no member is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from agentmesh_models.chat import JsonValue
from agentmesh_models.errors import ModelError
from agentmesh_models.grammar import numbers
from agentmesh_models.grammar.dialect import Dialect
from agentmesh_models.grammar.expression import (
    EMPTY,
    NEVER,
    Alt,
    Node,
    Ref,
    Repeat,
    Rules,
    Text,
    alt,
    optional,
    seq,
)
from agentmesh_models.grammar.formats import ANNOTATIONS as FOREIGN_FORMATS
from agentmesh_models.grammar.formats import FORMATS
from agentmesh_models.grammar.keywords import always, apart, bound, count, whole_bounds, whole_step
from agentmesh_models.grammar.lengths import fitted
from agentmesh_models.grammar.merging import (
    ANNOTATIONS,
    MAX_BRANCHES,
    Schema,
    admits,
    kinds_of,
    merge,
    same,
    target,
)
from agentmesh_models.grammar.pattern import Unsupported, read_pattern
from agentmesh_models.toolformat.schema import is_list, is_object

MAX_DEPTH: Final = 24
MAX_RULES: Final = 10_000
MAX_SCHEMAS: Final = 50_000
MAX_UNIQUE: Final = 24
ANY_DEPTH: Final = 4
"""How deep a value nests of which the schema says nothing."""
_LEFT: Final = ("not", "if", "dependentSchemas", "contains", "$dynamicRef", "dependencies")


class Compiler:
    """Makes nodes of one grammar's schemas; `rules` holds what they refer to, `left` what the tools must check."""

    def __init__(self, dialect: Dialect) -> None:
        self.rules = Rules()
        self.left: list[str] = []
        self._dialect = dialect
        self._root: Schema = {}
        self._path: list[str] = []
        self._refs: dict[str, Ref] = {}
        self._entered: set[str] = set()
        self._made = 0

    def arguments(self, name: str, schema: Schema) -> Node:
        """The arguments of the tool `name`."""
        self._root, self._path, self._refs, self._entered = schema, [name], {}, set()
        top: dict[str, JsonValue] = {**schema, "type": "object"}
        if not top.keys() & {
            "properties",
            "additionalProperties",
            "patternProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "$ref",
        }:
            top["additionalProperties"] = False  # a tool that names no arguments wants none
        return self._rule(self._value(top, 0))

    def rule(self, name: str, node: Node) -> Ref:
        """A rule of this name."""
        self.rules.named[name] = node
        return Ref(name)

    def note(self, what: str) -> None:
        """Remember that something is left to the tool."""
        told = f"{'.'.join(self._path)}: {what}"
        if told not in self.left:
            self.left.append(told)

    @contextmanager
    def _at(self, step: str) -> Iterator[None]:
        """One member deeper; a reference may then lead to itself again."""
        entered, self._entered = self._entered, set()
        self._path.append(step)
        yield
        self._path.pop()
        self._entered = entered

    def _rule(self, node: Node) -> Ref:
        if isinstance(node, Ref):
            return node
        if len(self.rules.named) >= MAX_RULES:
            raise ModelError("bad_request", f"the tools' schemas need more than {MAX_RULES} grammar rules")
        name = f"r{len(self.rules.named)}"
        self.rules.named[name] = node
        return Ref(name)

    def _value(self, schema: JsonValue, depth: int) -> Node:
        self._made += 1
        if self._made > MAX_SCHEMAS:
            raise ModelError("bad_request", f"the tools' schemas unfold to more than {MAX_SCHEMAS} schemas")
        if schema is False:
            return NEVER
        if not is_object(schema) or not schema.keys() - ANNOTATIONS:
            return self._any()
        if depth > MAX_DEPTH:
            self.note("what nests deeper")
            return self._any()
        if isinstance(schema.get("$ref"), str):
            return self._ref(schema, depth)
        if "allOf" in schema:
            return self._all(schema, depth)
        if schema.get("enum") or "const" in schema:
            return self._listed(schema)
        for key in ("anyOf", "oneOf"):  # an empty list is no schema at all: it is passed over
            if is_list(schema.get(key)) and schema[key]:
                return self._either(key, schema, depth)
        if "dependentRequired" in schema or any(key in schema for key in _LEFT):
            for key in _LEFT:
                if key in schema:
                    self.note(key)
        kinds = kinds_of(schema)
        return alt([self._typed(kind, schema, depth) for kind in kinds]) if kinds else self._any()

    def _typed(self, kind: str, schema: Schema, depth: int) -> Node:
        if kind == "string":
            return self._string(schema)
        if kind == "array":
            return self._array(schema, depth)
        if kind == "object":
            return self._object(schema, depth)
        if kind in ("integer", "number"):
            return self._number(kind, schema)
        if kind in ("boolean", "null"):
            return alt(["true", "false"]) if kind == "boolean" else Text("null")
        self.note(f"the unknown type {kind!r}")
        return self._any()

    def _any(self, depth: int = 0) -> Node:
        """Any JSON value, to a depth."""
        name = f"any{depth}"
        if name not in self.rules.named:
            d = self._dialect
            options: list[Node | str] = [d.quoted(d.unbounded), numbers.ANY_NUMBER, "true", "false", "null"]
            if depth < ANY_DEPTH:
                inner = self._any(depth + 1)
                member = seq(d.free_key, d.colon, inner)
                options += [self._listing("[", inner, 0, None, "]"), self._listing("{", member, 0, None, "}")]
            self.rules.named[name] = alt(options)
        return Ref(name)

    def _ref(self, schema: Schema, depth: int) -> Node:
        """A rule of its own for what a reference points to, so that a schema may contain itself."""
        ref = str(schema["$ref"])
        rest = {key: each for key, each in schema.items() if key != "$ref" and key not in ANNOTATIONS}
        found = target(self._root, ref)
        if found is None or ref in self._entered:
            self.note(f"the reference {ref[:80]!r}")  # to nothing, or to itself and to nothing else
            return self._value(rest, depth + 1) if rest else self._any()
        if rest:
            self._entered.add(ref)
            node = self._value(merge(found, rest, self.note), depth + 1)
            self._entered.discard(ref)
            return node
        if ref not in self._refs:
            made = self._refs[ref] = self._rule(Alt((EMPTY,)))
            self._entered.add(ref)
            self.rules.named[made.name] = self._value(found, min(depth, 1))
            self._entered.discard(ref)
        return self._refs[ref]

    def _flat(self, schema: JsonValue, depth: int = 0) -> JsonValue:
        """A schema without a reference at its top, for merging."""
        if is_object(schema) and isinstance(schema.get("$ref"), str) and depth < MAX_DEPTH:
            found = target(self._root, str(schema["$ref"]))
            if found is not None:
                rest = {key: each for key, each in schema.items() if key != "$ref"}
                return merge(self._flat(found, depth + 1), rest, self.note)
        return schema

    def _all(self, schema: Schema, depth: int) -> Node:
        parts = schema["allOf"]
        whole: JsonValue = {key: each for key, each in schema.items() if key != "allOf"}
        for part in parts if is_list(parts) else ():
            whole = merge(whole, self._flat(part), self.note)
        return self._value(whole, depth + 1)

    def _listed(self, schema: Schema) -> Node:
        values = schema.get("enum") or [schema.get("const")]
        kept = [each for each in values if admits(schema, each)] if is_list(values) else []
        for key in ("anyOf", "oneOf", "pattern", "not", "if"):
            if key in schema and kept:
                self.note(f"{key} beside a list of values")
        return self._short(alt([self._dialect.constant(each) for each in kept]))

    def _either(self, key: str, schema: Schema, depth: int) -> Node:
        given = schema[key]
        branches = list(given)[:MAX_BRANCHES] if is_list(given) else []
        rest = {name: each for name, each in schema.items() if name != key and name not in ANNOTATIONS}
        flat = [self._flat(each) for each in branches] if rest or key == "oneOf" else branches
        if key == "oneOf" and not apart(flat):
            self.note("oneOf: that no two of its branches fit")
        whole = [merge(rest, each, self.note) for each in flat] if rest else branches
        return self._short(alt([self._value(each, depth + 1) for each in whole]))

    def _short(self, node: Node) -> Node:
        """What has many options becomes a rule, so that it is written once."""
        return self._rule(node) if isinstance(node, Alt) and len(node.options) > 3 else node

    def _number(self, kind: str, schema: Schema) -> Node:
        low, above = bound(schema, "minimum", "exclusiveMinimum", max)
        high, below = bound(schema, "maximum", "exclusiveMaximum", min)
        step = schema.get("multipleOf")
        whole = kind == "integer"
        if isinstance(step, int | float) and not isinstance(step, bool) and step > 0 and step != 1:
            places = next((each for each in range(1, 10) if step == 10.0**-each), 0)
            if not whole and places and low is None and high is None:
                return numbers.shortened(places)
            if step != int(step):
                step = whole_step(step)
            if step is None:
                self.note("multipleOf")
            else:
                return self._short(
                    numbers.multiples(int(step), *whole_bounds(low, above, high, below), self._rule)
                )
        if whole or step == 1:
            return self._short(numbers.integers(*whole_bounds(low, above, high, below)))
        if low is None and high is None:
            return self._base("number", numbers.ANY_NUMBER)
        return self._short(numbers.decimals(low, high, above=above, below=below))

    def _base(self, name: str, node: Node) -> Ref:
        self.rules.named.setdefault(name, node)
        return Ref(name)

    def _string(self, schema: Schema) -> Node:
        d = self._dialect
        low, high = count(schema, "minLength") or 0, count(schema, "maxLength")
        if high is not None and low > high:
            return NEVER
        raw = self._raw_string(schema)
        if raw is not None:
            made = fitted(raw, low, high)
            if made is None:
                self.note("the length of a string that has a pattern or a format")
            return self._rule(d.quoted(d.encoded(raw if made is None else made)))
        if low == 0 and high is None:
            return self._base("string", d.quoted(d.unbounded))
        return d.quoted(Repeat(self._base("char", d.character), low, high))

    def _raw_string(self, schema: Schema) -> Node | None:
        """The raw characters that `pattern` or `format` ask for; None where neither says anything."""
        pattern, form = schema.get("pattern"), schema.get("format")
        if isinstance(pattern, str):
            if isinstance(form, str) and form not in FOREIGN_FORMATS:
                self.note(f"format {form[:40]!r} beside a pattern")
            try:
                return read_pattern(pattern)
            except Unsupported as error:
                self.note(f"pattern {pattern[:80]!r} ({error})")
        if isinstance(form, str) and form not in FOREIGN_FORMATS:
            if form in FORMATS:
                return FORMATS[form]
            self.note(f"format {form[:40]!r}")
        return None

    def _array(self, schema: Schema, depth: int) -> Node:
        low, high = count(schema, "minItems") or 0, count(schema, "maxItems")
        if high is not None and low > high:
            return NEVER
        given = schema.get("prefixItems")
        leading = list(given) if is_list(given) else []
        if schema.get("uniqueItems") is True and high != 1:
            unique = None if leading else self._unique(schema.get("items"), low, high)
            if unique is not None:
                return unique
            self.note("uniqueItems")
        with self._at("[]"):
            item = self._member(self._value(schema.get("items", True), depth + 1))
            if not leading:
                return self._listing("[", item, low, high, "]")
            nodes = [self._member(self._value(each, depth + 1)) for each in leading]
        more = None if high is None else max(0, high - len(nodes))
        tail: Node = Repeat(seq(self._dialect.comma, item), max(0, low - len(nodes)), more)
        if high is not None:
            nodes = nodes[:high]
        for at in range(len(nodes) - 1, -1, -1):
            here = seq(self._dialect.comma if at else "", nodes[at], tail)
            tail = here if at < low else optional(here)
        return self._rule(seq("[", tail, "]"))

    def _unique(self, items: JsonValue, low: int, high: int | None) -> Node | None:
        """Lists without repetition of few listed values: any of them, in the schema's order."""
        flat = self._flat(items)
        values = flat.get("enum") if is_object(flat) else None
        if not is_list(values) or not is_object(flat):
            return None
        kept: list[JsonValue] = []
        for value in values:
            if admits(flat, value) and not any(same(value, each) for each in kept):
                kept.append(value)
        if len(kept) > MAX_UNIQUE:
            return None
        most = len(kept) if high is None else min(high, len(kept))
        rows: list[Node] = [EMPTY if count >= low else NEVER for count in range(most + 1)]
        for value in reversed(kept):
            item = self._dialect.constant(value)
            rows = [
                self._rule(
                    alt([seq(self._dialect.comma if count else "", item, rows[count + 1]), rows[count]])
                )
                if count < most
                else rows[count]
                for count in range(most + 1)
            ]
        return self._rule(seq("[", rows[0], "]"))

    def _member(self, node: Node) -> Node:
        """A node that is written in several places."""
        return node if isinstance(node, Text | Ref) else self._rule(node)

    def _listing(self, opener: str, item: Node, low: int, high: int | None, closer: str) -> Node:
        if high is not None and low > high:
            return NEVER
        if high == 0:
            return Text(opener + closer)
        more = Repeat(seq(self._dialect.comma, item), max(low - 1, 0), None if high is None else high - 1)
        inner = seq(item, more)
        return self._rule(seq(opener, inner if low else optional(inner), closer))

    def _object(self, schema: Schema, depth: int) -> Node:
        given = schema.get("properties")
        properties = dict(given) if is_object(given) else {}
        required = always(schema)
        further = schema.get("additionalProperties", schema.get("unevaluatedProperties", True))
        for name in required:
            if name not in properties:
                properties[name] = True if "patternProperties" in schema else further
        if not properties:
            return self._free(schema, further, depth)
        least, most = count(schema, "minProperties") or 0, count(schema, "maxProperties")
        if most is not None and max(least, len(required)) > most:
            return NEVER
        spare = [name for name in properties if name not in required]
        for _ in range(max(0, least - len(required))):
            if not spare:
                self.note("minProperties")
                break
            required.add(spare.pop(0))
        if most is not None:
            kept = {*required, *spare[: max(0, most - len(required))]}
            properties = {name: each for name, each in properties.items() if name in kept}
        return self._members(properties, required, depth)

    def _members(self, properties: Mapping[str, JsonValue], required: set[str], depth: int) -> Node:
        """Members in order: `first` is what may follow while none is written, `later` when some are."""
        d = self._dialect
        first: Node = Text("}")
        later: Node = Text("}")
        for name, schema in reversed(list(properties.items())):
            with self._at(name):
                value = self._member(self._value(schema, depth + 1))
            member = seq(d.key(name), d.colon, value)
            after = later if isinstance(later, Text) else self._rule(later)
            now, then = seq(member, after), seq(d.comma, member, after)
            if name in required:
                first, later = now, then
            else:
                first, later = alt([now, self._member(first)]), alt([then, after])
        return self._rule(seq("{", first))

    def _free(self, schema: Schema, further: JsonValue, depth: int) -> Node:
        """An object whose members the schema does not name."""
        d = self._dialect
        low, high = count(schema, "minProperties") or 0, count(schema, "maxProperties")
        if low > 1:
            self.note("minProperties, where a name is written twice")
        patterns = schema.get("patternProperties")
        members: list[Node | str] = []
        for pattern, each in patterns.items() if is_object(patterns) else ():
            key = self._raw_string({"pattern": pattern})
            if key is None:
                continue
            with self._at("*"):
                members.append(
                    seq(d.key_of(d.encoded(key)), d.colon, self._member(self._value(each, depth + 1)))
                )
        if len(members) > 1:
            self.note("patternProperties: a name that fits two patterns")
        if not members:
            if is_object(patterns) and patterns:
                further = True if further is not False else False
            names = self._flat(schema.get("propertyNames"))
            raw = self._raw_string(names) if is_object(names) else None
            if is_object(names):
                raw = self._sized(raw, names)
            with self._at("*"):
                value = self._member(self._value(further, depth + 1))
            members.append(seq(d.free_key if raw is None else d.key_of(d.encoded(raw)), d.colon, value))
        elif "propertyNames" in schema:
            self.note("propertyNames")
        return self._listing("{", alt(members), low, high, "}")

    def _sized(self, raw: Node | None, names: Schema) -> Node | None:
        low, high = count(names, "minLength") or 0, count(names, "maxLength")
        if raw is None and (low or high is not None):
            raw = read_pattern("^[A-Za-z0-9_ .-]*$")
        made = None if raw is None else fitted(raw, low, high)
        if raw is not None and made is None:
            self.note("the length of a member's name")
        if names.keys() & {"enum", "const", "anyOf", "oneOf", "allOf", "not"}:
            self.note("propertyNames")
        return raw if made is None else made
