"""Signed statements beside MCP requests and results, for any server or client of the SDK; see docs/signing.md."""

from agentmesh.serving.signing.client import signed_transport
from agentmesh.serving.signing.failures import CODES, SigningError, SigningReason, reason_of
from agentmesh.serving.signing.identity import KEY, LAG, USAGE_KEY, Bookkeeper, Signing, claims
from agentmesh.serving.signing.known import KnownKeys
from agentmesh.serving.signing.memory import memory_transport
from agentmesh.serving.signing.nonces import NonceStore
from agentmesh.serving.signing.policy import Mode, Policy
from agentmesh.serving.signing.server import Exchange, current_exchange, sign_server

__all__ = [
    "CODES",
    "KEY",
    "LAG",
    "USAGE_KEY",
    "Bookkeeper",
    "Exchange",
    "KnownKeys",
    "Mode",
    "NonceStore",
    "Policy",
    "Signing",
    "SigningError",
    "SigningReason",
    "claims",
    "current_exchange",
    "memory_transport",
    "reason_of",
    "sign_server",
    "signed_transport",
]
