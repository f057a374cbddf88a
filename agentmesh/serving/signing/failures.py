"""Why a request or a result is refused, as an error of ours and as the JSON-RPC error that the other side reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias, get_args

from mcp.shared.exceptions import MCPError
from mcp.types import ErrorData

from agentmesh.errors import AgentMeshError

SigningReason: TypeAlias = Literal[
    "unsigned",  # a statement is required, and there is none
    "malformed",  # what stands in its place is no statement
    "bad_signature",
    "unknown_key",  # not one of the keys that are known; or the server's is not known yet
    "changed_key",  # another key is pinned under this name
    "wrong_audience",  # made for somebody else
    "expired",  # its time is too far from ours, before or after
    "altered_arguments",  # the request is not the one that was signed
    "altered_result",  # the result or error is not the one that was signed
    "swapped_result",  # signed, but for another request
    "replayed",
    "too_many",  # no room to remember it: nonces, pins or requests under way
    "not_canonical",  # it has no canonical JSON, and cannot be signed or verified
    "unrecorded",  # the ledger or the nonce file did not take it
]

# JSON-RPC leaves what is below -32768 and above -32000 to applications.
CODES: Final[Mapping[SigningReason, int]] = {
    reason: -31001 - place for place, reason in enumerate(get_args(SigningReason))
}
REASON: Final = "dev.agentmesh/reason"


class SigningError(AgentMeshError):
    """A request or result that is refused, and why."""

    def __init__(self, reason: SigningReason, message: str, *, hint: str | None = None) -> None:
        super().__init__(reason, message, hint=hint)
        self.why: SigningReason = reason

    @property
    def code(self) -> int:
        """The code of the JSON-RPC error."""
        return CODES[self.why]

    def to_mcp(self) -> MCPError:
        """The error as the SDK raises it, with the reason in its data."""
        text = f"{self.message}. {self.hint}" if self.hint else self.message
        return MCPError(self.code, text, {REASON: self.why})

    def to_data(self) -> ErrorData:
        """The same as it stands in a JSON-RPC error."""
        return self.to_mcp().error


def reason_of(error: MCPError) -> str | None:
    """Why a call was refused for its signing, by either side; None for any other error."""
    data = error.data
    found = data.get(REASON) if isinstance(data, dict) else None
    return found if isinstance(found, str) else None
