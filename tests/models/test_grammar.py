"""Grammars of tools: what they let through is valid, what they say is whole, and what they leave they name."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError, ToolSpec, binding
from agentmesh_models.grammar import CallGrammar, call_grammar, left_to_tools, literal
from agentmesh_models.grammar.automaton import Automaton
from agentmesh_models.grammar.expression import Node, Rules

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema says what is valid")
Derive = Callable[[Rules, Node, random.Random], str]


def tool_of(**properties: Any) -> ToolSpec:
    required: Any = [name for name in properties if not name.startswith("maybe")]
    return ToolSpec(
        name="tool", parameters={"type": "object", "properties": properties, "required": required}
    )


def grammar_of(**properties: Any) -> CallGrammar:
    return call_grammar([tool_of(**properties)])


def arguments_of(text: str) -> Any:
    """The arguments as they stand there; `split_calls` would take stray spaces off."""
    return json.JSONDecoder().raw_decode(text.partition("\n")[2])[0]["arguments"]


def samples(derive: Derive, schema: Any, count: int = 40) -> list[Any]:
    """Values that the grammar of an argument lets through, each checked by jsonschema."""
    grammar = grammar_of(x=schema)
    rng = random.Random(5)
    values = [arguments_of(derive(grammar.rules, grammar.root, rng))["x"] for _ in range(count)]
    checker = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for value in values:
        assert checker.is_valid(value), (schema, value)
    return values


def test_a_grammar_spells_the_opener_every_name_and_the_closer() -> None:
    tools = [ToolSpec(name="add", parameters={}), ToolSpec(name='odd"name', parameters={})]
    text = call_grammar(tools).text()
    assert r'"<tool_call>\n{\"name\": \"" (' in text
    assert r'"add\", \"arguments\": "' in text
    assert r'"odd\\\"name\", \"arguments\": "' in text
    assert r' "}\n</tool_call>"' in text


def test_required_arguments_come_in_the_schema_s_order_and_are_all_there_is_at_the_shortest() -> None:
    grammar = grammar_of(b={"type": "string"}, maybe={"type": "integer"}, a={"type": "integer"})
    assert arguments_of(grammar.shortest) == {"b": "", "a": 0}
    assert list(arguments_of(grammar.shortest)) == ["b", "a"]


SCHEMAS: dict[str, Any] = {
    "listed": {"enum": ["eco", 3, None, "é\n", {"a": [1]}, 1.5, True]},
    "listed and typed": {"type": ["string", "null"], "enum": ["a", 1, None]},
    "constant": {"const": {"k": ["v", 1]}},
    "integer": {"type": "integer"},
    "from": {"type": "integer", "minimum": 17},
    "to": {"type": "integer", "maximum": -3},
    "between": {"type": "integer", "minimum": -12, "maximum": 1234},
    "strictly between": {"type": "integer", "exclusiveMinimum": 9, "exclusiveMaximum": 12},
    "between halves": {"type": "integer", "minimum": 0.5, "maximum": 2.5},
    "old strictness": {"type": "integer", "minimum": 2, "maximum": 9007199254740991},
    "multiples": {"type": "integer", "multipleOf": 7},
    "bounded multiples": {"type": "integer", "multipleOf": 5, "minimum": -11, "maximum": 22},
    "number": {"type": "number"},
    "share": {"type": "number", "minimum": 0, "maximum": 1},
    "open share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "not negative": {"type": "number", "minimum": 0},
    "negative": {"type": "number", "exclusiveMaximum": 0},
    "odd bounds": {"type": "number", "minimum": -273.15, "maximum": 98.6},
    "narrow": {"type": "number", "minimum": 0.25, "exclusiveMaximum": 0.3},
    "tiny": {"type": "number", "minimum": 0.001, "maximum": 1000},
    "whole number": {"type": "number", "multipleOf": 1, "minimum": 1, "maximum": 100},
    "cents": {"type": "number", "multipleOf": 0.5},
    "text": {"type": "string", "minLength": 2, "maxLength": 5},
    "long": {"type": "string", "minLength": 600, "maxLength": 3000},
    "short list": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False},
    "tuple and more": {
        "type": "array",
        "prefixItems": [{"const": 1}],
        "items": {"type": "boolean"},
        "minItems": 2,
        "maxItems": 3,
    },
    "set": {"type": "array", "items": {"enum": ["a", "b", "c", "d"]}, "uniqueItems": True, "minItems": 2},
    "never an item": {"type": "array", "items": False},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1, "maxProperties": 1},
    "patterned map": {"type": "object", "patternProperties": {"^x_": {"type": "integer"}}, "additionalProperties": False},
    "named map": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$", "maxLength": 4}},
    "at least one": {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "minProperties": 1},
    "at most one": {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "maxProperties": 1},
    "dependent": {
        "type": "object",
        "properties": {"card": {"type": "integer"}, "address": {"type": "string"}},
        "dependentRequired": {"card": ["address"]},
    },
    "either": {"anyOf": [{"type": "integer", "minimum": 5}, {"type": "string", "pattern": "^a+$"}, {"type": "null"}]},
    "one of": {"oneOf": [{"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]}, {"type": "null"}]},
    "shared beside": {
        "type": "object",
        "properties": {"id": {"type": "integer"}},
        "required": ["id"],
        "anyOf": [{"required": ["a"], "properties": {"a": {"type": "null"}}}, {"properties": {"b": {"const": 1}}, "required": ["b"]}],
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "number", "minimum": 1}}, "required": ["a"]},
            {"properties": {"a": {"type": "integer", "maximum": 3}, "b": {"type": "null"}}, "required": ["b"]},
        ]
    },
    "closed all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": False},
            {"type": "object", "properties": {"a": {}, "b": {}}},
        ]
    },
    "untyped": {"minLength": 3},
    "anything": {},
    "true": True,
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_a_grammar_lets_through_is_valid(derive: Derive, name: str) -> None:
    values = samples(derive, SCHEMAS[name])
    assert len({json.dumps(value) for value in values}) > 1 or name in ("constant", "never an item")
    assert left_to_tools([tool_of(x=SCHEMAS[name])]) == ()


def test_every_value_of_a_small_range_can_be_written(derive: Derive) -> None:
    schema = {"type": "integer", "minimum": -12, "maximum": 13}
    assert {*samples(derive, schema, 900)} == {*range(-12, 14)}
    assert {*samples(derive, {"type": "integer", "multipleOf": 3, "minimum": -4, "maximum": 9}, 90)} == {
        -3,
        0,
        3,
        6,
        9,
    }


@settings(deadline=None, max_examples=80)
@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), st.booleans(), st.booleans(), st.integers(0, 3))
def test_numbers_keep_within_any_bounds(
    derive: Derive, low: int, width: int, above: bool, below: bool, places: int
) -> None:
    scale = 10**places
    bounds = {
        "exclusiveMinimum" if above else "minimum": low / scale if places else low,
        "exclusiveMaximum" if below else "maximum": (low + width + 2) / scale if places else low + width + 2,
    }
    samples(derive, {"type": "number", **bounds}, 12)
    if not places:
        samples(derive, {"type": "integer", **bounds}, 12)


PATTERNS = [
    r"^[a-z]+$", r"^\d{3}-\d{4}$", r"^(foo|ba[rz])(\.\w+)*$", r"abc", r"^x", r"x$", r"^[^/\s]+/[^/\s]+$",
    r"^#[0-9a-fA-F]{6}$", r"^(?:\+|00)\d{1,3}[ -]?\d+$", r"^(?<year>\d{4})$", r"^v?\d+\.\d+(?:-[\w.]+)?$", r"^.{3,5}$",
    r'^"[^"\\]*"$', r"^\$\{\w+\}$", r"^[\w.%+-]+@[\w-]+\.[a-z]{2,}$", r"^$", r"^a|b$", r"^\u00e9\x41[\u4e00-\u4e10]$",
    r"^\p{Lu}\p{L}*$", r"^\S+ \D\W$", r"^a*?b+?c??$", r"^[\]\-a]+$", r"^(a|b|)c$", r"^[-+]?[0-9]*\.?[0-9]+$",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_strings_of_a_pattern_are_found_by_it(derive: Derive, pattern: str) -> None:
    grammar = grammar_of(x={"type": "string", "pattern": pattern})
    python = re.compile(
        pattern.replace("(?<", "(?P<").replace(r"\p{Lu}", "[A-Z]").replace(r"\p{L}", "[A-Za-z]")
    )
    rng = random.Random(2)
    for _ in range(60):
        value = arguments_of(derive(grammar.rules, grammar.root, rng))["x"]
        assert python.search(value), value
    assert grammar.left == ()


@pytest.mark.parametrize(
    ("low", "high", "pattern"),
    [(3, 8, "^[a-z]+$"), (5, 9, r"^\w+(-\w+)*$"), (0, 3, "^(ab)*$"), (10, 12, "b"), (4, 6, "^a*(b|c+)d*$")],
)
def test_a_pattern_and_a_length_hold_together(derive: Derive, low: int, high: int, pattern: str) -> None:
    values = samples(derive, {"type": "string", "pattern": pattern, "minLength": low, "maxLength": high})
    assert len({*values}) > 1


FORMATS = ["date", "email", "ipv4", "ipv6", "uuid"]


@pytest.mark.parametrize("form", FORMATS)
def test_formats_are_kept(derive: Derive, form: str) -> None:
    samples(derive, {"type": "string", "format": form}, 300)
    samples(derive, {"type": "string", "format": form, "maxLength": 64}, 60)


LEFT: list[tuple[Any, str]] = [
    ({"type": "string", "pattern": r"^(?!x)\w+$"}, "pattern"),
    ({"type": "string", "pattern": r"(a)\1"}, "pattern"),
    ({"type": "string", "pattern": r"\bword\b"}, "pattern"),
    ({"type": "string", "pattern": "("}, "pattern"),
    ({"type": "string", "pattern": "(a*)*"}, "pattern"),
    ({"type": "string", "pattern": "a{2}{3}"}, "pattern"),
    ({"type": "string", "format": "regex"}, "format"),
    ({"type": "string", "format": "uuid", "maxLength": 8}, "length"),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
    ({"type": "array", "contains": {"const": 1}}, "contains"),
    ({"type": "integer", "not": {"const": 3}}, "not"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf"),
    ({"type": "number", "multipleOf": 0.3333}, "multipleOf"),
    ({"$ref": "https://example.org/schema"}, "reference"),
    ({"$ref": "#/$defs/missing"}, "reference"),
    ({"type": "strange"}, "type"),
    ({"if": {"type": "integer"}, "then": {"minimum": 3}}, "if"),
]


@pytest.mark.parametrize(("schema", "what"), LEFT)
def test_what_a_grammar_cannot_tell_is_left_to_the_tool_and_named(schema: Any, what: str) -> None:
    left = left_to_tools([tool_of(x=schema)])
    assert any(each.startswith("tool.x") and what in each for each in left), left


def rules_of(text: str) -> dict[str, str]:
    pairs = (line.split(" ::= ", 1) for line in text.split("\n") if line)
    return {name: body for name, body in pairs}


def check_names(text: str) -> None:
    rules = rules_of(text)
    for body in rules.values():
        bare = re.sub(r'"(\\.|[^"\\])*"|\[(\\.|[^\]\\])*\]|\{\d*,?\d*\}', " ", body)
        assert set(re.findall(r"[a-z]\w*", bare)) <= rules.keys()


TREES: dict[str, Any] = {
    "Tree": {"type": "object", "properties": {"left": {"$ref": "#/$defs/Tree"}, "n": {"type": "integer"}}},
    "List": {
        "anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/List"}, "maxItems": 2}]
    },
}


def test_references_to_themselves_are_followed_as_deep_as_they_go(derive: Derive) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Tree"}, "list": {"$ref": "#/$defs/List", "title": "L"}},
        "required": ["tree", "list"],
        "$defs": TREES,
    }
    grammar = call_grammar([ToolSpec(name="grow", parameters=schema)])
    check_names(grammar.text())
    rng, deepest = random.Random(1), 0
    for _ in range(200):
        value = arguments_of(derive(grammar.rules, grammar.root, rng))
        assert jsonschema.Draft202012Validator(schema).is_valid(value)
        deepest = max(deepest, json.dumps(value).count('"left"'))
    assert deepest >= 3 and arguments_of(grammar.shortest) == {"tree": {}, "list": []}


def test_what_can_never_be_written_is_not_begun() -> None:
    endless: dict[str, Any] = {
        "type": "object",
        "properties": {
            "never": {"$ref": "#/$defs/Endless"},
            "either": {"anyOf": [{"$ref": "#/$defs/Endless"}, {"const": 1}]},
        },
        "required": ["either"],
        "$defs": {
            "Endless": {
                "type": "object",
                "properties": {"more": {"$ref": "#/$defs/Endless"}},
                "required": ["more"],
            }
        },
    }
    grammar = call_grammar([ToolSpec(name="tool", parameters=endless)])
    assert "never" not in grammar.text() and arguments_of(grammar.shortest) == {"either": 1}
    with pytest.raises(ModelError, match="no arguments can fit"):
        call_grammar([ToolSpec(name="tool", parameters={**endless, "required": ["never"]})])


def test_a_reference_that_leads_to_itself_and_nowhere_else_is_named() -> None:
    schema: dict[str, Any] = {
        "properties": {"loop": {"$ref": "#/$defs/Loop"}},
        "$defs": {"Loop": {"$ref": "#/$defs/Loop"}},
    }
    assert "reference" in left_to_tools([ToolSpec(name="tool", parameters=schema)])[0]


@pytest.mark.parametrize("ref", ["#", "#/nowhere", "https://example.org/schema"])
def test_arguments_are_an_object_whatever_their_schema_refers_to(derive: Derive, ref: str) -> None:
    grammar = call_grammar([ToolSpec(name="t", parameters={"$ref": ref})])
    for seed in range(20):
        call = derive(grammar.rules, grammar.root, random.Random(seed))
        body = call.removeprefix("<tool_call>").removesuffix("</tool_call>")
        assert isinstance(json.loads(body)["arguments"], dict)


def test_a_tool_that_names_no_arguments_gets_none_unless_it_says_otherwise() -> None:
    assert '"tool' in call_grammar([ToolSpec(name="tool", parameters={})]).text()
    bare = call_grammar([ToolSpec(name="tool", parameters={"type": "object"})])
    free = call_grammar(
        [ToolSpec(name="tool", parameters={"type": "object", "additionalProperties": {"type": "null"}})]
    )
    assert "null" not in bare.text() and "null" in free.text()


def test_no_tools_make_no_grammar() -> None:
    with pytest.raises(ModelError) as caught:
        call_grammar([])
    assert caught.value.reason == "bad_request"


def test_a_schema_beyond_all_measure_is_refused() -> None:
    huge = {f"p{number}": {"type": "string"} for number in range(12_000)}
    with pytest.raises(ModelError, match="more than"):
        grammar_of(**huge)
    deep: Any = {"type": "string"}
    for _ in range(3_000):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ModelError) as caught:
        grammar_of(x=deep)
    assert caught.value.reason == "bad_request"


HOSTILE: dict[str, Any] = {
    "a long text": {"type": "string", "minLength": 10**9},
    "a long list": {"type": "array", "items": {"type": "null"}, "minItems": 10**9},
    "long lists of long lists": {
        "type": "array",
        "minItems": 5_000,
        "items": {"type": "array", "minItems": 5_000, "items": {"type": "array", "minItems": 5_000}},
    },
    "a long pattern": {"type": "string", "pattern": "^((a{3000}){3000}){3000}$"},
    "a number of many digits": {"type": "integer", "minimum": 10**4_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_for_ever_to_write_counts_as_impossible(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        grammar_of(x=HOSTILE[name])
    assert caught.value.reason == "bad_request"
    assert arguments_of(grammar_of(maybe=HOSTILE[name]).shortest) == {}


def test_schemas_that_unfold_without_end_are_refused() -> None:
    definitions: dict[str, Any] = {"D24": {"type": "null"}}
    for at in range(24):
        branch = {"$ref": f"#/$defs/D{at + 1}"}
        definitions[f"D{at}"] = {"anyOf": [{**branch, "minLength": 1}, {**branch, "minLength": 2}]}
    schema = {"properties": {"x": {"$ref": "#/$defs/D0"}}, "required": ["x"], "$defs": definitions}
    with pytest.raises(ModelError) as caught:
        call_grammar([ToolSpec(name="tool", parameters=schema)])  # type: ignore[dict-item]
    assert caught.value.reason == "bad_request"


def test_the_greatest_floating_point_number_is_a_bound_like_any_other(derive: Derive) -> None:
    for kind in ("number", "integer"):
        samples(derive, {"type": kind, "minimum": -1.7976931348623157e308, "maximum": 1.7976931348623157e308})
        samples(derive, {"type": kind, "exclusiveMinimum": 0, "maximum": 1.7976931348623157e308})


@given(st.text())
def test_a_literal_is_one_line_and_closed(text: str) -> None:
    made = literal(text)
    assert re.fullmatch(r'"(\\.|[^"\\])*"', made, re.DOTALL) and not re.search(r"[\x00-\x1f\x7f]", made)


kinds = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
leaves = (
    st.builds(lambda kind: {"type": kind}, kinds)
    | st.just({})
    | st.builds(lambda values: {"enum": values}, st.lists(st.text() | st.integers() | st.none(), min_size=1, max_size=3))
    | st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, st.integers(0, 4), st.integers(0, 4))
    | st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(), st.integers(0, 99))
    | st.builds(lambda pattern: {"type": "string", "pattern": pattern}, st.sampled_from(PATTERNS[:9]))
)  # fmt: skip
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.builds(
            lambda item, low: {"type": "array", "items": item, "minItems": low}, inner, st.integers(0, 2)
        )
        | st.builds(lambda each: {"anyOf": each}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda each: {"allOf": each}, st.lists(inner, min_size=1, max_size=2))
        | st.builds(lambda each: {"type": "object", "additionalProperties": each}, inner)
        | st.builds(
            lambda each, some: {"type": "object", "properties": each, "required": list(each)[:some]},
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
            st.integers(0, 3),
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(max_size=5), schemas, max_size=4))
def test_any_schema_makes_a_grammar_that_is_whole_and_lets_through_what_is_valid(
    derive: Derive, properties: dict[str, Any]
) -> None:
    try:
        grammar = grammar_of(**properties)
    except ModelError as error:
        assert "no arguments can fit" in str(error) and "allOf" in json.dumps(properties)
        return
    check_names(grammar.text())
    checker = jsonschema.Draft202012Validator(tool_of(**properties).parameters)
    rng = random.Random(9)
    for text in (grammar.shortest, *(derive(grammar.rules, grammar.root, rng) for _ in range(4))):
        if grammar.left == ():
            assert checker.is_valid(arguments_of(text)), text


@pytest.fixture(scope="module")
def weights(random_model: Path) -> Iterator[binding.Weights]:
    pytest.importorskip("llama_cpp", reason="llama.cpp reads the same grammar")
    binding.load()
    weights = binding.Weights(random_model, gpu_layers=0)
    yield weights
    weights.close()


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.text("abé", max_size=3), schemas, min_size=1, max_size=3),
    st.randoms(use_true_random=False),
)
def test_the_automaton_and_llama_cpp_read_a_grammar_alike(
    weights: binding.Weights, derive: Derive, properties: dict[str, Any], rng: random.Random
) -> None:
    try:
        grammar = grammar_of(**properties)
    except ModelError:
        return
    theirs = binding.Grammar(weights, grammar.text(exact=False))
    ours = Automaton(grammar.rules, grammar.root)
    position = ours.start
    text = derive(grammar.rules, grammar.root, rng)
    for token in weights.tokenize(text, special=False)[:120]:
        for other in [token, *(rng.randrange(weights.n_vocab) for _ in range(6))]:
            piece = weights.piece(other)
            if piece and ours.advance(position, piece) is not None:
                assert theirs.allows(other), (text, piece)  # what llama.cpp lets through may be more
        after = ours.advance(position, weights.piece(token))
        assert after is not None, (text, weights.piece(token))
        whole = ours.advance(after, ours.closing(after))
        assert whole is not None and whole.complete
        theirs.accept(token)
        position = after
    theirs.close()


def test_bytes_that_are_no_utf_8_are_refused_wherever_a_token_is_cut() -> None:
    grammar = grammar_of(x={"type": "string"})
    ours = Automaton(grammar.rules, grammar.root)
    start = ours.advance(ours.start, grammar.shortest.partition('""')[0].encode() + b'"')
    assert start is not None
    for good in ("é", "漢", "🙂", "\uffff"):
        position = start
        for byte in good.encode():
            after = ours.advance(position, bytes([byte]))
            assert after is not None
            closed = ours.advance(after, ours.closing(after))
            assert closed is not None and closed.complete
            position = after
    for bad in (
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xff",
        b"\xc3\x28",
    ):
        at = start
        refused = False
        for byte in bad:
            following = ours.advance(at, bytes([byte]))
            refused = following is None
            if following is None:
                break
            at = following
        assert refused, bad
