"""The form of Llama 3.1, 3.2 and 3.3: the whole reply is one JSON object, or follows `<|python_tag|>`."""

from __future__ import annotations

import re
from typing import Final

from agentmesh_models.chat import ToolCall
from agentmesh_models.toolformat.form import Form, Scan, Shape, call_of, decode_json
from agentmesh_models.toolformat.words import dumps

_TAG: Final = "<|python_tag|>"
_NAMED: Final = '{"name":"'
_TYPED: Final = '{"type":"function","name":"'
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_WHITE: Final = " \t\r\n"
_HEAD: Final = 64


class Llama3(Form):
    """One call a reply: `{"name": ..., "parameters": {...}}`. A JSON answer that begins otherwise is an answer."""

    name = "llama3"
    parallel = False
    openers = (_TAG,)
    marks = (_TAG,)
    shape = Shape(
        before=rf"({re.escape(_TAG)})?\{{[ \n]{{0,2}}(\"type\":[ ]?\"function\",[ \n]{{0,2}})?\"name\":[ ]?\"",
        middle='", "parameters": ',
        after=r"\}",
    )

    def find(self, text: str, *, fresh: bool) -> int:
        tagged = super().find(text, fresh=fresh)
        start = len(text) - len(text.lstrip(_WHITE))
        if fresh and (tagged < 0 or tagged > start):
            head = _SPACE.sub("", text[start : start + _HEAD])
            if head.startswith((_NAMED, _TYPED)):
                return start
        return tagged

    def undecided(self, text: str, *, fresh: bool) -> int:
        if fresh:
            start = len(text) - len(text.lstrip(_WHITE))
            head = _SPACE.sub("", text[start : start + _HEAD])
            if head and (_NAMED.startswith(head) or _TYPED.startswith(head)):
                return start
        return super().undecided(text, fresh=fresh)

    def scan(self, text: str) -> Scan:
        at = len(_TAG) if text.startswith(_TAG) else 0
        value, end = decode_json(text, at)
        call = call_of(value, "parameters") if end >= 0 else None
        rest = text[end:] if end >= 0 else ""
        return Scan(calls=(call,) if call else (), whole=end >= 0, over=end >= 0, rest=rest)

    def write(self, call: ToolCall) -> str:
        return f'{{"name": {dumps(call.name)}, "parameters": {dumps(call.arguments)}}}'


LLAMA3: Final = Llama3()
