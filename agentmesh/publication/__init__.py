"""What a live mesh shows of its log to eyes outside: witnesses cosign its checkpoints, a chain holds them."""

from __future__ import annotations

from agentmesh.publication.course import Publication, published
from agentmesh.publication.opening import open_publication, told_of_chain
from agentmesh.publication.ports import Anchors, Witnesses

__all__ = ["Anchors", "Publication", "Witnesses", "open_publication", "published", "told_of_chain"]
