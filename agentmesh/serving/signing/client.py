"""The calling side: a transport that signs what goes out and verifies what comes back."""

from __future__ import annotations

from mcp.client import Transport

from agentmesh.serving.signing.identity import Signing


def signed_transport(
    transport: Transport, signing: Signing, *, peer: str, audience: str | None = None
) -> Transport:
    raise NotImplementedError
