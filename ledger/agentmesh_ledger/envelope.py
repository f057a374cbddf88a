"""An entry: one DSSE envelope with one signature, in one canonical byte string."""

from __future__ import annotations

from binascii import b2a_base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentmesh_ledger.encoding import decode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, is_signed, public_key
from agentmesh_ledger.jcs import parse

if TYPE_CHECKING:
    from agentmesh_ledger.keys import AgentKey

PAYLOAD_TYPE: Final = "application/vnd.agentmesh.message.v1+json"
_ENTRY: Final = (
    b'{"payload":"%b","payloadType":"'
    + PAYLOAD_TYPE.encode()
    + b'","signatures":[{"keyid":"%b","sig":"%b"}]}'
)
MAX_ENTRY: Final = 65_535  # a tlog-tiles entry bundle counts with 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An entry taken apart. The payload is nobody's word until `require_signed` has passed."""

    payload: bytes
    keyid: str
    signature: bytes

    def require_signed(self, author: AgentId) -> None:
        """Holds the signature against the author the payload names (SPEC L-12, L-13).

        Raises: LedgerError(signature).
        """
        if self.keyid != author:
            raise LedgerError("signature", "the envelope's keyid is not the payload's author")
        if not is_signed(public_key(author), pae(PAYLOAD_TYPE, self.payload), self.signature):
            raise LedgerError("signature", f"the signature is not that of {author}")


def pae(payload_type: str, payload: bytes) -> bytes:
    """The DSSE pre-authentication encoding: what is signed (SPEC L-12)."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(key: AgentKey, payload: bytes) -> bytes:
    """The entry: the payload under the key's signature.

    Raises: LedgerError(too_large) over 65,535 bytes.
    """
    # Its canonical form, written out: no value in it has anything to escape.
    entry = _ENTRY % (
        b2a_base64(payload, newline=False),
        key.id.encode(),
        b2a_base64(key.sign(pae(PAYLOAD_TYPE, payload)), newline=False),
    )
    if len(entry) > MAX_ENTRY:
        raise LedgerError(
            "too_large",
            "the message does not fit an entry",
            expected=f"at most {MAX_ENTRY} bytes",
            found=f"{len(entry)}",
            hint="Put long text into a part; facts are for small things",
        )
    return entry


def unseal(entry: bytes) -> Envelope:
    """The envelope of an entry's bytes (SPEC L-10, L-11).

    Raises: LedgerError(envelope, canonical).
    """
    if len(entry) > MAX_ENTRY:
        raise LedgerError("envelope", f"the entry is longer than {MAX_ENTRY} bytes")
    value = parse(entry)
    if not isinstance(value, dict) or set(value) != {"payload", "payloadType", "signatures"}:
        raise LedgerError("envelope", "the entry is not a DSSE envelope")
    payload, signatures = value["payload"], value["signatures"]
    if value["payloadType"] != PAYLOAD_TYPE:
        raise LedgerError("envelope", f"the payload type is not {PAYLOAD_TYPE}")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise LedgerError("envelope", "the envelope has not exactly one signature")
    one = signatures[0]
    if not isinstance(one, dict) or set(one) != {"keyid", "sig"}:
        raise LedgerError("envelope", "the envelope's signature is malformed")
    keyid, signature = one["keyid"], one["sig"]
    if not isinstance(payload, str) or not isinstance(keyid, str) or not isinstance(signature, str):
        raise LedgerError("envelope", "the envelope's fields are not texts")
    raw = decode64(signature, "envelope", "the signature")
    if len(raw) != 64:
        raise LedgerError("envelope", "the signature is not 64 bytes")
    return Envelope(payload=decode64(payload, "envelope", "the payload"), keyid=keyid, signature=raw)
