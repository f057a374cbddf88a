"""How tools are written for a model, and how its calls are read out of what it says."""

from __future__ import annotations

from agentmesh_models.toolformat.families import detect, form_of
from agentmesh_models.toolformat.form import Form, Scan, Shape, ToolFormat
from agentmesh_models.toolformat.hermes import GENERIC, HERMES
from agentmesh_models.toolformat.reading import split_calls
from agentmesh_models.toolformat.schema import normalise_schema
from agentmesh_models.toolformat.words import CLOSER, OPENER, call_text, dumps, tool_json, tools_text

__all__ = [
    "CLOSER",
    "GENERIC",
    "HERMES",
    "OPENER",
    "Form",
    "Scan",
    "Shape",
    "ToolFormat",
    "call_text",
    "detect",
    "dumps",
    "form_of",
    "normalise_schema",
    "split_calls",
    "tool_json",
    "tools_text",
]
