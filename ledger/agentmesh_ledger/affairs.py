"""The log's own affairs: keys registered, rotated and revoked, content erased. What such a message must say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentmesh_ledger.encoding import decode64, decode_hash
from agentmesh_ledger.envelope import pae
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, is_signed, public_key
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.text import has_controls

LOG_DIALOGUE: Final = "log"
REGISTER: Final = "key.register"
ROTATE: Final = "key.rotate"
REVOKE: Final = "key.revoke"
ERASE: Final = "erase"
AFFAIRS: Final = frozenset({REGISTER, ROTATE, REVOKE, ERASE})
MAX_ERASED: Final = 64
MAX_REASON: Final = 1000
ROTATION_TYPE: Final = "application/vnd.agentmesh.rotation.v1+json"


def rotation_statement(log: str, old: AgentId, new: AgentId) -> bytes:
    """The bytes that the new key signs to say that it takes the old one's place in this log (SPEC L-15).

    A pre-authentication encoding with a type of its own, so that no signature of it passes for a message.
    """
    return pae(ROTATION_TYPE, canonical({"log": log, "new": new, "old": old}))


def require_consent(log: str, old: AgentId, facts: Mapping[str, JsonValue]) -> None:
    """Holds the consent of a `key.rotate` of sound shape against the new key (SPEC L-15).

    Without it anyone could take a key that is not theirs for their own.
    Raises: LedgerError(signature).
    """
    new = AgentId(str(facts["new"]))
    consent = decode64(str(facts["consent"]), "message", "the consent")
    if not is_signed(public_key(new), rotation_statement(log, old, new), consent):
        raise LedgerError("signature", f"the new key {new} did not sign the rotation")


def require_affair(kind: str, index: int, facts: Mapping[str, JsonValue]) -> None:
    """Refuses facts out of shape for the kind; any other kind may have whatever facts it likes.

    Raises: LedgerError(message, identity).
    """
    if kind == REGISTER:
        name = facts.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 64 or has_controls(name):
            raise LedgerError("message", "a key.register does not name its agent")
    elif kind == ROTATE:
        _require_rotation(facts)
    elif kind == REVOKE:
        _require_fields(kind, facts, {"agent", "after"})
        _agent(kind, facts["agent"])
        _require_before(kind, "after", facts["after"], index)
    elif kind == ERASE:
        _require_fields(kind, facts, {"entry", "hashes"})
        _require_before(kind, "entry", facts["entry"], index)
        _require_hashes(facts["hashes"])


def _require_rotation(facts: Mapping[str, JsonValue]) -> None:
    if set(facts) != {"new", "consent"}:
        raise LedgerError("message", "the facts of a key.rotate are not new and consent")
    _agent(ROTATE, facts["new"])
    consent = facts["consent"]
    if not isinstance(consent, str) or len(decode64(consent, "message", "the consent")) != 64:
        raise LedgerError("message", "the consent of a key.rotate is not 64 bytes")


def _require_fields(kind: str, facts: Mapping[str, JsonValue], wanted: set[str]) -> None:
    if set(facts) - {"reason"} != wanted:
        raise LedgerError("message", f"the facts of {kind} are not {', '.join(sorted(wanted))} and a reason")
    if "reason" in facts:
        reason = facts["reason"]
        if not isinstance(reason, str) or not 0 < len(reason) <= MAX_REASON or has_controls(reason):
            raise LedgerError(
                "message", f"the reason of {kind} is not a text of 1 to {MAX_REASON} characters"
            )


def _require_before(kind: str, name: str, value: JsonValue, index: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < index:
        raise LedgerError("message", f"{name} of {kind} is not the index of an entry before it")


def _require_hashes(value: JsonValue) -> None:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ERASED:
        raise LedgerError("message", f"the hashes of an erase are not a list of 1 to {MAX_ERASED}")
    for each in value:
        if not isinstance(each, str):
            raise LedgerError("message", "a hash of an erase is not a text")
        decode_hash(each, "message", "a hash of an erase")
    if len(set(value)) != len(value):
        raise LedgerError("message", "an erase names one hash twice")


def _agent(kind: str, value: JsonValue) -> None:
    if not isinstance(value, str):
        raise LedgerError("message", f"the agent of {kind} is not a text")
    public_key(value)
