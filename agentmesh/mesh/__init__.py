"""The mesh file: what it may say, and `load_mesh`, which reads it and tells every mistake with file, key and line."""

from __future__ import annotations

from agentmesh.mesh.load import FILE_NAME, OutsideEyes, find_log, find_outside, load_mesh
from agentmesh.mesh.spec import (
    AgentSpec,
    AnchorSpec,
    DialogueSpec,
    Layout,
    Limits,
    Mesh,
    ModelSpec,
    Overflow,
    ServerSpec,
    WitnessSpec,
)

__all__ = [
    "FILE_NAME",
    "AgentSpec",
    "AnchorSpec",
    "DialogueSpec",
    "Layout",
    "Limits",
    "Mesh",
    "ModelSpec",
    "OutsideEyes",
    "Overflow",
    "ServerSpec",
    "WitnessSpec",
    "find_log",
    "find_outside",
    "load_mesh",
]
