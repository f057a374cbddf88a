"""A signed, chained log of what agents said, and its verification.

Verifying needs nothing but this package, PyNaCl and rfc8785. `Ledger` and `verify_ledger` want the `store` extra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.errors import LedgerError

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.evidence import Anchored
    from agentmesh_ledger.dialogue import DialogueSummary
    from agentmesh_ledger.draft import Draft, DraftPart, Ports, Receipt
    from agentmesh_ledger.export import ExportSummary
    from agentmesh_ledger.gather import Gathered
    from agentmesh_ledger.identity import AgentId
    from agentmesh_ledger.jcs import JsonValue
    from agentmesh_ledger.keys import AgentKey, KeyStore, LogKey
    from agentmesh_ledger.log import Ledger
    from agentmesh_ledger.message import Message, Part
    from agentmesh_ledger.mirror import TilesVerified, verify_tiles
    from agentmesh_ledger.policy import Policy, PolicyEvidence, parse_policy
    from agentmesh_ledger.proof import ProofEvidence, verify_proof
    from agentmesh_ledger.publish import PublishSummary, publish_tiles
    from agentmesh_ledger.record import PartContent, Record
    from agentmesh_ledger.store.audit import LedgerAudit, verify_ledger
    from agentmesh_ledger.text import shown
    from agentmesh_ledger.usage.balance_proof import BalanceEvidence, verify_balance
    from agentmesh_ledger.verify import TranscriptAudit, Verified, read_transcript, verify_transcript

__all__ = [
    "AgentId",
    "AgentKey",
    "Anchored",
    "BalanceEvidence",
    "DialogueSummary",
    "Draft",
    "DraftPart",
    "ExportSummary",
    "Gathered",
    "JsonValue",
    "KeyStore",
    "Ledger",
    "LedgerAudit",
    "LedgerError",
    "LogKey",
    "Message",
    "Part",
    "PartContent",
    "Policy",
    "PolicyEvidence",
    "Ports",
    "ProofEvidence",
    "PublishSummary",
    "Receipt",
    "Record",
    "TilesVerified",
    "TranscriptAudit",
    "Verified",
    "parse_policy",
    "publish_tiles",
    "read_transcript",
    "shown",
    "verify_balance",
    "verify_ledger",
    "verify_proof",
    "verify_tiles",
    "verify_transcript",
]

_HOMES: Final = {
    "AgentId": "agentmesh_ledger.identity",
    "AgentKey": "agentmesh_ledger.keys",
    "Anchored": "agentmesh_ledger.anchor.evidence",
    "BalanceEvidence": "agentmesh_ledger.usage.balance_proof",
    "DialogueSummary": "agentmesh_ledger.dialogue",
    "Draft": "agentmesh_ledger.draft",
    "DraftPart": "agentmesh_ledger.draft",
    "ExportSummary": "agentmesh_ledger.export",
    "Gathered": "agentmesh_ledger.gather",
    "JsonValue": "agentmesh_ledger.jcs",
    "KeyStore": "agentmesh_ledger.keys",
    "Ledger": "agentmesh_ledger.log",
    "LedgerAudit": "agentmesh_ledger.store.audit",
    "LogKey": "agentmesh_ledger.keys",
    "Message": "agentmesh_ledger.message",
    "Part": "agentmesh_ledger.message",
    "PartContent": "agentmesh_ledger.record",
    "Policy": "agentmesh_ledger.policy",
    "PolicyEvidence": "agentmesh_ledger.policy",
    "Ports": "agentmesh_ledger.draft",
    "ProofEvidence": "agentmesh_ledger.proof",
    "PublishSummary": "agentmesh_ledger.publish",
    "Receipt": "agentmesh_ledger.draft",
    "Record": "agentmesh_ledger.record",
    "TilesVerified": "agentmesh_ledger.mirror",
    "TranscriptAudit": "agentmesh_ledger.verify",
    "Verified": "agentmesh_ledger.verify",
    "parse_policy": "agentmesh_ledger.policy",
    "publish_tiles": "agentmesh_ledger.publish",
    "read_transcript": "agentmesh_ledger.verify",
    "shown": "agentmesh_ledger.text",
    "verify_balance": "agentmesh_ledger.usage.balance_proof",
    "verify_ledger": "agentmesh_ledger.store.audit",
    "verify_proof": "agentmesh_ledger.proof",
    "verify_tiles": "agentmesh_ledger.mirror",
    "verify_transcript": "agentmesh_ledger.verify",
}


def __getattr__(name: str) -> object:
    """What is imported only when asked for: nobody waits for the parts that he has no use for, a worker least of all,
    and the verifier does without the database."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "sqlalchemy":
            raise
        raise LedgerError(
            "no_store",
            f"{name} needs SQLAlchemy",
            hint="Install the extra: pip install 'agentmesh-runtime[store]'",
        ) from error
    found: object = getattr(module, name)
    globals()[name] = found
    return found
