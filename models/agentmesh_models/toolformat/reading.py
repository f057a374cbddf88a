"""Calls read out of a reply over which a family's grammar watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentmesh_models.chat import ToolCall, ToolSpec
from agentmesh_models.toolformat.form import Form
from agentmesh_models.toolformat.hermes import HERMES
from agentmesh_models.toolformat.schema import trim


def split_calls(
    text: str, tools: Sequence[ToolSpec] = (), form: Form = HERMES
) -> tuple[str, tuple[ToolCall, ...]]:
    """The words of a reply and the calls in it; a call that cannot be read is not among them.

    Marks inside a call's own text are text. With a grammar in force every call can be read, unless the reply
    was cut at its length limit.
    """
    at = form.find(text, fresh=True)
    if at < 0:
        return text, ()
    scan = form.scan(text[at:])
    known = {tool.name: tool.parameters for tool in tools}
    calls = tuple(
        replace(call, arguments=trim(call.arguments, known.get(call.name, {}))) for call in scan.calls
    )
    return (text[:at] + scan.rest).strip(), calls
