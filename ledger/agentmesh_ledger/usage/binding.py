"""An agent's key bound to an EVM account: each key signs for the other (SPEC L-140 to L-144).

The account signs EIP-712 typed data, which a wallet shows field by field before it is signed; the agent signs the same three
facts under a pre-authentication encoding of its own. https://eips.ethereum.org/EIPS/eip-712
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.envelope import pae
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, is_signed, public_key
from agentmesh_ledger.jcs import JsonValue, canonical
from agentmesh_ledger.keys import AgentKey
from agentmesh_ledger.text import is_origin, shown
from agentmesh_ledger.usage.secp256k1 import recover_address

BIND: Final = "bind"
UNBIND: Final = "unbind"
BINDING_TYPE: Final = "application/vnd.agentmesh.binding.v1+json"
DOMAIN_NAME: Final = "AgentMesh"
DOMAIN_VERSION: Final = "1"

_ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}\Z")
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}\Z")
_FACTS: Final = frozenset({"account_signature", "address", "agent", "agent_signature"})
_DOMAIN: Final = keccak256(
    keccak256(b"EIP712Domain(string name,string version)")
    + keccak256(DOMAIN_NAME.encode())
    + keccak256(DOMAIN_VERSION.encode())
)
_BINDING: Final = keccak256(b"Binding(string agent,address account,string log)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """In one log, the account that belongs to an agent. `address` is `0x` and 40 lower-case hex digits."""

    agent: AgentId
    address: str
    log: str

    def __post_init__(self) -> None:
        """Raises: LedgerError(usage, identity)."""
        public_key(self.agent)
        if not _ADDRESS.match(self.address):
            raise LedgerError(
                "usage", f"{shown(self.address)!r} is not an address of 40 lower-case hex digits"
            )
        if not is_origin(self.log):
            raise LedgerError("usage", f"{shown(self.log)!r} is not an origin")

    def digest(self) -> bytes:
        """The 32 bytes that the account signs: the EIP-712 hash (SPEC L-141)."""
        data = keccak256(
            _BINDING
            + keccak256(self.agent.encode())
            + bytes(12)
            + bytes.fromhex(self.address[2:])
            + keccak256(self.log.encode())
        )
        return keccak256(b"\x19\x01" + _DOMAIN + data)

    def statement(self) -> bytes:
        """The bytes that the agent signs (SPEC L-142)."""
        return pae(BINDING_TYPE, canonical({"address": self.address, "agent": self.agent, "log": self.log}))

    def typed_data(self) -> dict[str, JsonValue]:
        """The same as a wallet is given it (`eth_signTypedData_v4`)."""
        text = {"type": "string"}
        return {
            "types": {
                "EIP712Domain": [{"name": "name", **text}, {"name": "version", **text}],
                "Binding": [
                    {"name": "agent", **text},
                    {"name": "account", "type": "address"},
                    {"name": "log", **text},
                ],
            },
            "primaryType": "Binding",
            "domain": {"name": DOMAIN_NAME, "version": DOMAIN_VERSION},
            "message": {"agent": self.agent, "account": self.address, "log": self.log},
        }


def binding_facts(binding: Binding, key: AgentKey, account_signature: bytes) -> dict[str, JsonValue]:
    """The facts of a `bind`: the agent's signature is made here, the account's is brought along and held.

    Raises: LedgerError(usage) where the account did not sign, or the key is another agent's.
    """
    if key.id != binding.agent:
        raise LedgerError("usage", "the binding is of another agent than the key")
    facts: dict[str, JsonValue] = {
        "agent": binding.agent,
        "address": binding.address,
        "agent_signature": encode64(key.sign(binding.statement())),
        "account_signature": "0x" + account_signature.hex(),
    }
    read_binding(facts, log=binding.log, author=key.id)
    return facts


def read_binding(facts: Mapping[str, JsonValue], *, log: str, author: AgentId) -> Binding:
    """The binding that the facts of a `bind` make in this log, both signatures held (SPEC L-140 to L-143).

    Its author must be the agent itself: others could put an old one back after it was undone.
    Raises: LedgerError(usage, identity), and nothing else, whatever the facts.
    """
    texts = _texts(facts, _FACTS)
    binding = Binding(agent=AgentId(texts["agent"]), address=texts["address"], log=log)
    if author != binding.agent:
        raise LedgerError("usage", "a binding is recorded by its agent alone")
    signed = decode64(texts["agent_signature"], "usage", "the agent's signature")
    if not is_signed(public_key(binding.agent), binding.statement(), signed):
        raise LedgerError("usage", f"the binding is not signed by {binding.agent}")
    if not _SIGNATURE.match(texts["account_signature"]):
        raise LedgerError("usage", "the account's signature is not 130 lower-case hex digits behind 0x")
    found = recover_address(binding.digest(), bytes.fromhex(texts["account_signature"][2:]))
    if found.hex() != binding.address[2:]:
        raise LedgerError("usage", f"the binding is not signed by the account {binding.address}")
    return binding


def read_unbinding(facts: Mapping[str, JsonValue], *, author: AgentId) -> AgentId:
    """The agent whose binding the facts of an `unbind` end; its author must be that agent (SPEC L-144).

    Raises: LedgerError(usage, identity).
    """
    agent = _texts(facts, frozenset({"agent"}))["agent"]
    public_key(agent)
    if author != agent:
        raise LedgerError("usage", "a binding is undone by its agent alone")
    return AgentId(agent)


def _texts(facts: Mapping[str, JsonValue], wanted: frozenset[str]) -> dict[str, str]:
    if facts.keys() != wanted:
        raise LedgerError("usage", f"the facts are not {', '.join(sorted(wanted))}")
    found: dict[str, str] = {}
    for name, value in facts.items():
        if not isinstance(value, str):
            raise LedgerError("usage", f"{name} is not a text")
        found[name] = value
    return found
