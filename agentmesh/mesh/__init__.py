"""The mesh file: what it may say, and `load_mesh`, which reads it and tells every mistake with file, key and line."""

from __future__ import annotations

from agentmesh.mesh.load import FILE_NAME, find_log, load_mesh
from agentmesh.mesh.spec import AgentSpec, DialogueSpec, Layout, Limits, Mesh, ModelSpec, Overflow, ServerSpec

__all__ = [
    "FILE_NAME",
    "AgentSpec",
    "DialogueSpec",
    "Layout",
    "Limits",
    "Mesh",
    "ModelSpec",
    "Overflow",
    "ServerSpec",
    "find_log",
    "load_mesh",
]
