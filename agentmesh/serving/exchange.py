"""Who makes the request that is being answered, where the wire is signed; recorded with what the request begins."""

from __future__ import annotations

from collections.abc import Mapping

from agentmesh.serving.signing import current_exchange
from agentmesh_ledger import JsonValue


def asked_by() -> Mapping[str, JsonValue]:
    """The facts of who asks; none where nothing is signed.

    `subject` and `dialogue` are the caller's own words, `exchange` the digest of the request that `received` holds. All of
    them are empty for a host that does not sign, and so is `author`.
    """
    exchange = current_exchange()
    if exchange is None:
        return {}
    return {
        "asked_by": {
            "author": exchange.author or "",
            "subject": exchange.subject,
            "dialogue": exchange.dialogue,
            "exchange": exchange.digest,
        }
    }
