"""What a live mesh shows of its log to eyes outside: witnesses cosign its checkpoints, a chain holds them."""

from __future__ import annotations

from agentmesh.publication.course import Publication, published
from agentmesh.publication.opening import open_publication, told_at
from agentmesh.publication.ports import Anchors, Witnesses

__all__ = ["Anchors", "Publication", "Witnesses", "open_publication", "published", "told_at"]
