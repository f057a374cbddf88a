"""Local language models behind one interface: GGUF files through llama.cpp, and a scripted model for tests.

Importing this package imports neither llama.cpp nor jinja2; opening a model does.
"""

from __future__ import annotations

from agentmesh_models.catalogue import list_models, open_model
from agentmesh_models.chat import (
    Engine,
    JsonValue,
    Message,
    ModelInfo,
    Piece,
    Profile,
    ReasoningDelta,
    Reply,
    Request,
    Rescored,
    Sampling,
    TextDelta,
    ToolCall,
    ToolSpec,
    Usage,
)
from agentmesh_models.digest import file_digest
from agentmesh_models.errors import ModelError
from agentmesh_models.threads import MOST_THREADS
from agentmesh_models.toolformat import normalise_schema

__all__ = [
    "MOST_THREADS",
    "Engine",
    "JsonValue",
    "Message",
    "ModelError",
    "ModelInfo",
    "Piece",
    "Profile",
    "ReasoningDelta",
    "Reply",
    "Request",
    "Rescored",
    "Sampling",
    "TextDelta",
    "ToolCall",
    "ToolSpec",
    "Usage",
    "file_digest",
    "list_models",
    "normalise_schema",
    "open_model",
]
