"""What a statement covers of a JSON-RPC message, and the checks that requests and answers have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mcp.types import ErrorData

from agentmesh.serving.signing.failures import SigningError
from agentmesh.serving.signing.identity import KEY
from agentmesh.serving.signing.policy import Policy
from agentmesh_ledger import AgentId, AgentKey, JsonValue, LedgerError
from agentmesh_ledger.draft import Ports, timestamp
from agentmesh_ledger.jcs import canonical
from agentmesh_ledger.statement import (
    SealedStatement,
    Statement,
    StatementType,
    content_digest,
    open_wire,
    seal_statement,
)

HANDSHAKE: Final = frozenset({"initialize", "server/discover", "ping"})
"""Requests that may be sent before the server's key is known."""
BARE: Final = frozenset({"ping", "logging/setLevel"})
"""Requests of the older era whose result must be an empty object, and so carries no statement."""

# The ledger's own: drawn many at a time, for each call to the system gives the interpreter's lock away to whoever
# commits just then, and waits long to have it back.
_random: Final = Ports().salt

_NAMED: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as both sides know it. `sealed` is None where it was not signed.

    `content` are its params without `_meta`, canonical where it was signed; `exchange` names it in a record.
    """

    method: str
    name: str
    content: bytes
    exchange: str
    dialogue: str
    sealed: SealedStatement | None

    @property
    def author(self) -> AgentId | None:
        """Whose key signed it."""
        return None if self.sealed is None else self.sealed.statement.author

    @property
    def digest(self) -> str:
        """How an answer names it; empty where it was not signed."""
        return "" if self.sealed is None else self.exchange


def name_of(method: str, params: Mapping[str, object]) -> str:
    """The tool, prompt or resource that a request names, or nothing."""
    found = params.get(_NAMED.get(method, ""))
    return found if isinstance(found, str) else ""


def without_meta(value: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What is covered of params or of a result: gateways and both eras write into `_meta`."""
    return {key: item for key, item in value.items() if key != "_meta"}


def covered_error(error: ErrorData) -> dict[str, JsonValue]:
    """What is covered of an error: everything but the statement itself, and data that is empty without it."""
    found: dict[str, JsonValue] = {"code": error.code, "message": error.message}
    data: JsonValue = error.data
    if isinstance(data, Mapping):
        data = {key: item for key, item in data.items() if key != KEY} or None
    if data is not None:
        found["data"] = data
    return found


def canonical_content(value: JsonValue) -> bytes:
    """The canonical bytes that a digest is made of.

    Raises: SigningError(not_canonical).
    """
    try:
        return canonical(value)
    except LedgerError as error:
        raise SigningError("not_canonical", f"this cannot be signed: {error.message}") from error


def plain_content(value: JsonValue) -> bytes:
    """The bytes for a record of what nobody signed: canonical where that is possible."""
    try:
        return canonical(value)
    except LedgerError:
        return json.dumps(value, ensure_ascii=True, sort_keys=True, default=repr).encode()


def new_nonce() -> str:
    """Sixteen random bytes in hex."""
    return _random().hex()


def seal(
    key: AgentKey,
    policy: Policy,
    *,
    type: StatementType,
    method: str,
    name: str,
    content: bytes,
    subject: str,
    audience: str,
    dialogue: str,
    request: str | None = None,
) -> SealedStatement:
    """A new statement about the content.

    Raises: SigningError(not_canonical) where a name or dialogue cannot stand in one.
    """
    nonce = new_nonce()
    try:
        return seal_statement(
            key,
            Statement(
                type=type,
                method=method,
                name=name,
                digest=content_digest(nonce, content),
                author=key.id,
                subject=subject,
                audience=audience,
                dialogue=dialogue,
                nonce=nonce,
                time=timestamp(datetime.fromtimestamp(policy.clock(), UTC)),
                request=request,
            ),
        )
    except LedgerError as error:
        raise SigningError("not_canonical", f"this cannot be signed: {error.message}") from error


def opened(value: object) -> SealedStatement:
    """The statement of what stands under our key, its signature checked.

    Raises: SigningError(malformed, bad_signature), whatever the value.
    """
    try:
        return open_wire(value)
    except LedgerError as error:
        if error.reason == "signature":
            raise SigningError("bad_signature", error.message) from error
        raise SigningError("malformed", f"the statement is malformed: {error.message}") from error


def require_fresh(statement: Statement, policy: Policy) -> float:
    """The second until which the statement is accepted.

    Raises: SigningError(expired) where it is over, or too far ahead.
    """
    time = datetime.fromisoformat(statement.time).timestamp()
    if abs(policy.clock() - time) > policy.max_age:
        raise SigningError(
            "expired",
            f"the statement's time {statement.time} is more than {policy.max_age:.0f} seconds away",
            hint="If it was not held back, the clocks of the two machines disagree",
        )
    return time + policy.max_age
