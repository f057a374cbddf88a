"""The two forms of a key file: plain (`agentmesh-key/v1`) and sealed under a passphrase (`agentmesh-key/v2`)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nacl.signing import SigningKey

from agentmesh_ledger.cosignature import CosignerKey, parse_cosigner
from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import agent_id, public_key
from agentmesh_ledger.jcs import JsonValue, canonical, parse
from agentmesh_ledger.note import VerifierKey, parse_vkey
from agentmesh_ledger.text import shown

FORMAT: Final = "agentmesh-key/v1"
SEALED_FORMAT: Final = "agentmesh-key/v2"
MAX_FILE: Final = 4096
SALT_SIZE: Final = 16
MAX_OPSLIMIT: Final = 8
MIN_MEMLIMIT: Final = 8192  # libsodium's own
MAX_MEMLIMIT: Final = 1 << 30

Role: TypeAlias = Literal["agent", "log", "witness"]

_PLAIN_FIELDS: Final = {"created", "format", "id", "name", "role", "seed"}
_SEALED_FIELDS: Final = {"box", "digest", "format", "id", "memlimit", "name", "opslimit", "role", "salt"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose key a file must hold, and where the file stands."""

    role: Role
    name: str
    path: Path

    def id_of(self, key: SigningKey) -> str:
        """The id that the file must give: an agent id or a vkey."""
        public = bytes(key.verify_key)
        if self.role == "agent":
            return agent_id(public)
        if self.role == "witness":
            return str(CosignerKey(name=self.name, public=public))
        return str(VerifierKey(name=self.name, public=public))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one guess of a passphrase costs: argon2id's passes, and its memory in bytes."""

    opslimit: int
    memlimit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainKey:
    """A key as read from a plain file; its id is that of its seed."""

    id: str
    key: SigningKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedKey:
    """A sealed key, still closed. Its id is a claim until it is opened."""

    id: str
    salt: bytes
    cost: Cost
    box: bytes


def encode_plain(key: SigningKey, owner: Owner) -> bytes:
    """The bytes of a new plain key file (SPEC L-60)."""
    fields = {
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "format": FORMAT,
        "id": owner.id_of(key),
        "name": owner.name,
        "role": owner.role,
        "seed": encode64(bytes(key)),
    }
    return canonical(fields) + b"\n"


def encode_sealed(sealed: SealedKey, owner: Owner) -> bytes:
    """The bytes of a sealed key file (SPEC L-64)."""
    fields: dict[str, JsonValue] = {
        "box": encode64(sealed.box),
        "format": SEALED_FORMAT,
        "id": sealed.id,
        "memlimit": sealed.cost.memlimit,
        "name": owner.name,
        "opslimit": sealed.cost.opslimit,
        "role": owner.role,
        "salt": encode64(sealed.salt),
    }
    return canonical({**fields, "digest": _digest(fields)}) + b"\n"


def parse_key(data: bytes, owner: Owner) -> PlainKey | SealedKey:
    """The key in these bytes, which is its owner's or none.

    Raises: LedgerError(key), and nothing else, whatever the bytes.
    """
    try:
        if len(data) > MAX_FILE or not data.endswith(b"\n"):
            raise LedgerError("canonical", "it is cut off or too long")
        value = parse(data[:-1])
        if not isinstance(value, Mapping) or value.get("format") not in (FORMAT, SEALED_FORMAT):
            raise LedgerError("canonical", f"its format is neither {FORMAT} nor {SEALED_FORMAT}")
        plain = value["format"] == FORMAT
        if set(value) != (_PLAIN_FIELDS if plain else _SEALED_FIELDS):
            raise LedgerError("canonical", "its fields are not those of a key")
        if value["role"] != owner.role or value["name"] != owner.name:
            raise LedgerError("canonical", f"it is not the {owner.role} key of {shown(owner.name)}")
        return _plain(value, owner) if plain else _sealed(value, owner)
    except LedgerError as error:
        raise damaged(owner, error) from error


def damaged(owner: Owner, error: LedgerError) -> LedgerError:
    """The error of a file whose bytes are not those of a key."""
    return LedgerError("key", f"the key file is damaged: {error.message}", path=str(owner.path))


def _plain(value: Mapping[str, JsonValue], owner: Owner) -> PlainKey:
    seed = _bytes(value, "seed")
    if len(seed) != 32:
        raise LedgerError("canonical", "its seed is not 32 bytes")
    key = SigningKey(seed)
    if value["id"] != owner.id_of(key):
        raise LedgerError("canonical", "its id is not that of its seed")
    return PlainKey(id=owner.id_of(key), key=key)


def _sealed(value: Mapping[str, JsonValue], owner: Owner) -> SealedKey:
    # Unkeyed: it tells a damaged file from a wrong passphrase, and proves nothing against an attacker.
    if value["digest"] != _digest({name: value[name] for name in value if name != "digest"}):
        raise LedgerError("canonical", "its digest is not that of its fields")
    salt, box = _bytes(value, "salt"), _bytes(value, "box")
    if len(salt) != SALT_SIZE:
        raise LedgerError("canonical", f"its salt is not {SALT_SIZE} bytes")
    # Bounds, since the file says how much time and memory its reader is to spend (SPEC L-65).
    cost = Cost(
        opslimit=_integer(value, "opslimit", 1, MAX_OPSLIMIT),
        memlimit=_integer(value, "memlimit", MIN_MEMLIMIT, MAX_MEMLIMIT),
    )
    return SealedKey(id=_public_id(value, owner), salt=salt, cost=cost, box=box)


def _public_id(value: Mapping[str, JsonValue], owner: Owner) -> str:
    """The id of a key that is still closed, held to the form and the name of its owner's."""
    text = value["id"]
    if not isinstance(text, str):
        raise LedgerError("canonical", "its id is not text")
    if owner.role == "agent":
        public_key(text)
    elif (parse_cosigner(text) if owner.role == "witness" else parse_vkey(text)).name != owner.name:
        raise LedgerError("canonical", f"its id is the vkey of another {owner.role}")
    return text


def _digest(fields: Mapping[str, JsonValue]) -> str:
    return hashlib.sha256(canonical(fields)).hexdigest()


def _bytes(value: Mapping[str, JsonValue], name: str) -> bytes:
    text = value[name]
    if not isinstance(text, str):
        raise LedgerError("canonical", f"its {name} is not text")
    return decode64(text, "canonical", f"its {name}")


def _integer(value: Mapping[str, JsonValue], name: str, least: int, most: int) -> int:
    number = value[name]
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise LedgerError("canonical", f"its {name} is not an integer from {least} to {most}")
    return number
