"""Which family's form a model follows, told by the marks in its chat template."""

from __future__ import annotations

from typing import Final

from agentmesh_models.toolformat.form import Form, ToolFormat
from agentmesh_models.toolformat.gemma import FUNCTION_GEMMA, GEMMA_4
from agentmesh_models.toolformat.hermes import GENERIC, HERMES
from agentmesh_models.toolformat.llama3 import LLAMA3
from agentmesh_models.toolformat.mistral import MistralArgs, MistralList
from agentmesh_models.toolformat.words import OPENER

_OTHER_CALLS: Final = ("<function=", "<arg_key>", "<invoke", "yaml objects")
"""What else families write between Hermes' marks: Qwen3-Coder and its kin XML, Apriel YAML. They are told in words."""


def form_of(template: str) -> Form:
    """The form of a chat template. One that knows no tools, or a family that we do not, gets the generic form."""
    if "tools" not in template:
        return GENERIC
    if "<|tool_call>call:" in template:
        return GEMMA_4
    if "<start_function_call>" in template and "<escape>" in template:
        return FUNCTION_GEMMA
    if "[TOOL_CALLS]" in template:
        if "[ARGS]" in template:
            return MistralArgs(ids="[CALL_ID]" in template, thought="[THINK]" in template)
        return MistralList()
    if OPENER in template:
        return GENERIC if any(mark in template for mark in _OTHER_CALLS) else HERMES
    if "<|start_header_id|>" in template and '"parameters"' in template and "ipython" in template:
        return LLAMA3
    return GENERIC


def detect(template: str) -> ToolFormat:
    """The name of a chat template's form."""
    return form_of(template).name
