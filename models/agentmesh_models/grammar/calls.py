"""Tool lists as grammars: what makes an invalid tool call impossible.

A grammar names every tool, and after a name only arguments of that tool's schema can follow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from agentmesh_models.chat import JsonValue, ToolSpec
from agentmesh_models.errors import ModelError
from agentmesh_models.grammar import gbnf
from agentmesh_models.grammar.compiler import Compiler
from agentmesh_models.grammar.dialect import JSON, Gemma
from agentmesh_models.grammar.expression import Node, Repeat, Rules, Text, alt, seq
from agentmesh_models.grammar.pattern import read_pattern
from agentmesh_models.toolformat.form import Form, Shape
from agentmesh_models.toolformat.hermes import HERMES


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CallGrammar:
    """The grammar of a reply's calls. `left` is what of the schemas it does not enforce: the tools must."""

    rules: Rules
    root: Node
    left: tuple[str, ...]
    digest: str

    @property
    def shortest(self) -> str:
        """The shortest call that there is."""
        return self.rules.shortest(self.root) or ""

    def text(self, *, lead: str = "", exact: bool = True) -> str:
        """The grammar in GBNF, after the text `lead`; unless `exact`, without the bounds of long repetitions."""
        return gbnf.write(self.rules, seq(lead, self.root), exact=exact)


def call_grammar(tools: Sequence[ToolSpec], form: Form = HERMES, *, parallel: bool = False) -> CallGrammar:
    """The grammar of one call of one of `tools`, or of several where `parallel` and the form has them.

    Raises:
        ModelError: reason "bad_request" when there is no tool, when the schemas are beyond all measure, or when
        no value fits those of any tool.
    """
    if not tools:
        raise ModelError("bad_request", "a tool call is required, and there are no tools")
    try:
        schemas = tuple((tool.name, json.dumps(dict(tool.parameters))) for tool in tools)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError("bad_request", f"a tool's schema is no JSON: {error}") from error
    return _grammar(schemas, form.shape, parallel and form.parallel)


def left_to_tools(tools: Sequence[ToolSpec], form: Form = HERMES) -> tuple[str, ...]:
    """What of the tools' schemas no grammar enforces, as `tool.member: keyword`."""
    return call_grammar(tools, form).left


@lru_cache(maxsize=32)
def _grammar(schemas: tuple[tuple[str, str], ...], shape: Shape, parallel: bool) -> CallGrammar:
    dialect = JSON if shape.string_mark is None else Gemma(shape.string_mark)
    compiler = Compiler(dialect)
    choices: list[Node] = []
    middle = _node(shape.middle)
    try:
        for name, text in schemas:
            schema: dict[str, JsonValue] = json.loads(text)
            written = json.dumps(name, ensure_ascii=False)[1:-1] if shape.before.endswith('"') else name
            choices.append(seq(written, middle, compiler.arguments(name, schema)))
        call = compiler.rule("call", seq(_node(shape.before), alt(choices), _node(shape.after)))
        more = seq(_node(shape.joint), call)
        root = seq(_node(shape.start), call, Repeat(more, 0, None if parallel else 0), _node(shape.end))
        compiler.rules.settle()
    except RecursionError as error:
        raise ModelError("bad_request", "the tools' schemas nest too deeply") from error
    if compiler.rules.shortest(root) is None:
        raise ModelError("bad_request", "no arguments can fit the tools' schemas")
    exact = gbnf.write(compiler.rules, root)
    digest = hashlib.sha256(exact.encode("utf-8", "replace")).hexdigest()
    return CallGrammar(rules=compiler.rules, root=root, left=tuple(compiler.left), digest=digest)


def _node(expression: str) -> Node:
    return read_pattern(f"^{expression}$") if expression else Text("")
