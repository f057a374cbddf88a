"""A usage receipt: who asked whom, what it took, and the price; signed by both (SPEC L-145 to L-148).

Amounts are whole micro-units of the unit, never fractions: two readers must come to the same sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.encoding import decode64, decode_hash, encode64
from agentmesh_ledger.envelope import pae
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, is_signed, public_key
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.text import is_dialogue, is_origin, shown

USAGE: Final = "usage"
USAGE_TYPE: Final = "application/vnd.agentmesh.usage.v1+json"
MICRO: Final = 1_000_000
"""So many micro-units are one unit."""
MAX_AMOUNT: Final = 10**15
"""The most of anything that one receipt may name: a thousand million units, or as many tokens and milliseconds."""

_UNIT: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}\Z")
# fmt: off
_TEXTS: Final = ("asker", "asker_log", "dialogue", "provider", "provider_log", "request", "unit")
_NUMBERS: Final = ("milliseconds", "price", "tokens")
# fmt: on
_FIELDS: Final = frozenset({*_TEXTS, *_NUMBERS, "v"})
_SIGNATURES: Final = ("asker_signature", "provider_signature")


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReceipt:
    """What one answer cost. `price` is in micro-units of `unit`.

    `request` names the question: within one log the leaf hash of its entry, between two the digest of the request's
    statement, in hex; `dialogue` is the asker's, empty where there is none. `asker_log` and `provider_log` are the
    origins of the logs that the two write to.
    """

    asker: AgentId
    asker_log: str
    provider: AgentId
    provider_log: str
    dialogue: str
    request: str
    tokens: int
    milliseconds: int
    price: int
    unit: str

    def __post_init__(self) -> None:
        """Raises: LedgerError(usage, identity)."""
        public_key(self.asker)
        public_key(self.provider)
        if self.asker == self.provider:
            raise LedgerError("usage", "nobody gives a receipt to himself")
        if not is_origin(self.asker_log) or not is_origin(self.provider_log):
            raise LedgerError("usage", "a log of the receipt is not an origin")
        if self.dialogue and not is_dialogue(self.dialogue):
            raise LedgerError("usage", f"{shown(self.dialogue)!r} is not a dialogue id")
        decode_hash(self.request, "usage", "the receipt's request")
        if not is_unit(self.unit):
            raise LedgerError("usage", f"{shown(self.unit)!r} is not a unit")
        for name, amount in (
            ("tokens", self.tokens),
            ("milliseconds", self.milliseconds),
            ("price", self.price),
        ):
            number: object = (
                amount  # no checker may have seen the caller: 1.0 and True would be signed as numbers
            )
            if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_AMOUNT:
                raise LedgerError("usage", f"{name} is not a whole number from 0 to {MAX_AMOUNT}")

    def to_json(self) -> dict[str, JsonValue]:
        """The receipt as it stands in facts and on the wire."""
        return {
            "asker": self.asker,
            "asker_log": self.asker_log,
            "dialogue": self.dialogue,
            "milliseconds": self.milliseconds,
            "price": self.price,
            "provider": self.provider,
            "provider_log": self.provider_log,
            "request": self.request,
            "tokens": self.tokens,
            "unit": self.unit,
            "v": 1,
        }

    def statement(self) -> bytes:
        """The bytes that both sign (SPEC L-146)."""
        return pae(USAGE_TYPE, canonical(self.to_json()))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedReceipt:
    """A receipt with the signatures that there are, each found good; None where one side has not signed."""

    receipt: UsageReceipt
    asker_signature: bytes | None = None
    provider_signature: bytes | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """As it stands in the facts of a `usage` entry, and on the wire (SPEC L-147)."""
        found: dict[str, JsonValue] = {"receipt": self.receipt.to_json()}
        for name, signature in zip(_SIGNATURES, (self.asker_signature, self.provider_signature), strict=True):
            if signature is not None:
                found[name] = encode64(signature)
        return found

    def signed_by(self, key: AgentKey) -> SignedReceipt:
        """The same with one more signature: that of the asker or of the provider, whichever the key is.

        Raises: LedgerError(usage) for any other key.
        """
        asker, provider = self.asker_signature, self.provider_signature
        if key.id == self.receipt.asker:
            asker = key.sign(self.receipt.statement())
        elif key.id == self.receipt.provider:
            provider = key.sign(self.receipt.statement())
        else:
            raise LedgerError("usage", "the key is neither the asker's nor the provider's")
        return SignedReceipt(receipt=self.receipt, asker_signature=asker, provider_signature=provider)


def is_unit(text: str) -> bool:
    """Whether amounts may be in a unit of this name (SPEC L-145)."""
    return _UNIT.match(text) is not None


def read_receipt(value: object) -> UsageReceipt:
    """The receipt of a JSON object, held to every rule of its shape (SPEC L-145).

    Raises: LedgerError(usage, identity), and nothing else, whatever the value.
    """
    if not isinstance(value, Mapping) or value.keys() != _FIELDS:
        raise LedgerError("usage", f"the receipt's fields are not {', '.join(sorted(_FIELDS))}")
    if value["v"] != 1 or not isinstance(value["v"], int) or isinstance(value["v"], bool):
        raise LedgerError("usage", "the receipt is not of version 1")
    texts: dict[str, str] = {}
    for name in _TEXTS:
        text: object = value[name]
        if not isinstance(text, str):
            raise LedgerError("usage", f"the receipt's {name} is not a text")
        texts[name] = text
    return UsageReceipt(
        asker=AgentId(texts["asker"]),
        asker_log=texts["asker_log"],
        provider=AgentId(texts["provider"]),
        provider_log=texts["provider_log"],
        dialogue=texts["dialogue"],
        request=texts["request"],
        tokens=value["tokens"],
        milliseconds=value["milliseconds"],
        price=value["price"],
        unit=texts["unit"],
    )


def read_signed(value: object) -> SignedReceipt:
    """The receipt with its signatures, those that there are found good (SPEC L-146, L-147).

    Raises: LedgerError(usage, identity) for what is malformed, LedgerError(signature) for a signature that does not hold.
    """
    if not isinstance(value, Mapping) or not {"receipt"} <= value.keys() <= {"receipt", *_SIGNATURES}:
        raise LedgerError("usage", "what is offered is not a receipt with its signatures")
    receipt = read_receipt(value["receipt"])
    statement = receipt.statement()
    found: list[bytes | None] = []
    for name, signer in zip(_SIGNATURES, (receipt.asker, receipt.provider), strict=True):
        text: object = value.get(name)
        if name not in value:
            found.append(None)
            continue
        if not isinstance(text, str) or len(text) > 128:
            raise LedgerError("usage", f"the receipt's {name} is not a text of a signature's length")
        signature = decode64(text, "usage", f"the receipt's {name}")
        if not is_signed(public_key(signer), statement, signature):
            raise LedgerError("signature", f"the receipt is not signed by {signer}")
        found.append(signature)
    return SignedReceipt(receipt=receipt, asker_signature=found[0], provider_signature=found[1])
