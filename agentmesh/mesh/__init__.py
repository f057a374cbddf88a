"""The mesh file: what it may say, and `load_mesh`, which reads it and tells every mistake with file, key and line."""

from __future__ import annotations

from agentmesh.mesh.load import FILE_NAME, find_log, load_mesh
from agentmesh.mesh.spec import AgentSpec, DialogueSpec, Limits, Mesh, ModelSpec, ServerSpec

__all__ = [
    "FILE_NAME",
    "AgentSpec",
    "DialogueSpec",
    "Limits",
    "Mesh",
    "ModelSpec",
    "ServerSpec",
    "find_log",
    "load_mesh",
]
