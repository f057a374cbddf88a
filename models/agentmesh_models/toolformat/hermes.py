"""The form of Hermes and Qwen models, which is also ours for templates that know no tools."""

from __future__ import annotations

import re
from typing import Final

from agentmesh_models.chat import ToolCall
from agentmesh_models.toolformat.form import Form, Scan, Shape, ToolFormat, call_of, decode_json
from agentmesh_models.toolformat.words import CLOSER, OPENER, PREAMBLE, call_text


class Hermes(Form):
    """`<tool_call>`, a line of JSON, `</tool_call>`; several calls are several such blocks."""

    parallel = True
    openers = (OPENER,)
    marks = (OPENER, CLOSER)
    shape: Shape = Shape(
        before=re.escape(PREAMBLE),
        middle='", "arguments": ',
        after=rf"\}}\n{CLOSER}",
        joint=r"\n",
    )

    def __init__(self, name: ToolFormat = "hermes") -> None:
        self.name = name

    def scan(self, text: str) -> Scan:
        calls: list[ToolCall] = []
        rest, at, whole = "", 0, False
        while True:
            opened = text.find(OPENER, at)
            if opened < 0:
                return Scan(calls=tuple(calls), whole=whole, over=False, rest=rest + text[at:])
            rest += text[at:opened]
            value, end = decode_json(text, opened + len(OPENER))
            closed = text.find(CLOSER, end) if end >= 0 else -1
            if closed < 0:  # not closed yet, or no JSON: then nobody can tell where it ends
                return Scan(calls=tuple(calls), whole=False, over=False, rest=rest)
            call = call_of(value, "arguments") if not text[end:closed].strip() else None
            if call is not None:
                calls.append(call)
            at, whole = closed + len(CLOSER), True

    def write(self, call: ToolCall) -> str:
        return call_text(call)


HERMES: Final = Hermes()
GENERIC: Final = Hermes("generic")
