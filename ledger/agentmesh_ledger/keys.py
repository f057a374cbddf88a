"""Secret keys in files: one for each agent, one for each log, made on first use and never overwritten."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote

from nacl.signing import SigningKey

from agentmesh_ledger.encoding import decode64, encode64
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.identity import AgentId, agent_id
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.note import VerifierKey
from agentmesh_ledger.text import is_agent_name, is_origin, shown

FORMAT: Final = "agentmesh-key/v1"
MAX_FILE: Final = 4096
Role: TypeAlias = Literal["agent", "log"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKey:
    """An agent's secret key: it signs messages and nothing else."""

    name: str
    id: AgentId
    _key: SigningKey = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return self._key.sign(data).signature


@dataclass(frozen=True, slots=True, kw_only=True)
class LogKey:
    """A log's secret key: it signs checkpoints and nothing else. Its name is the origin."""

    name: str
    public: bytes
    _key: SigningKey = field(repr=False, compare=False)

    @property
    def vkey(self) -> str:
        """The public half as C2SP writes it, for `--key` and for policies."""
        return str(VerifierKey(name=self.name, public=self.public))

    def sign(self, data: bytes) -> bytes:
        """The 64-byte Ed25519 signature."""
        return self._key.sign(data).signature


class KeyStore:
    """A folder of key files, `agents/NAME.key` and `logs/ORIGIN.key` (SPEC L-60 to L-63).

    A key that is asked for and is not there is made, unless the caller says otherwise; two processes that
    ask at once get the same one. A file that others may read is refused: its key may be known.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    def agent(self, name: str, *, create: bool = True) -> AgentKey:
        """The key of the agent with this name.

        Raises: LedgerError(refused, not_found, permissions, key, failed, unreadable).
        """
        if not is_agent_name(name):
            raise LedgerError(
                "refused",
                f"{shown(name)!r} cannot name an agent",
                hint="Use letters, digits, '.', '_' and '-', at most 64, beginning with a letter or digit",
            )
        key = self._key("agent", name, create)
        return AgentKey(name=name, id=agent_id(bytes(key.verify_key)), _key=key)

    def log(self, origin: str, *, create: bool = True) -> LogKey:
        """The key of the log with this origin.

        Raises: LedgerError(refused, not_found, permissions, key, failed, unreadable).
        """
        if not is_origin(origin):
            raise LedgerError(
                "refused",
                f"{shown(origin)!r} cannot be an origin",
                hint="Use something like example.org/desk: printable ASCII without spaces and '+', at most 200",
            )
        key = self._key("log", origin, create)
        return LogKey(name=origin, public=bytes(key.verify_key), _key=key)

    def names(self) -> tuple[str, ...]:
        """The agents that have a key here, sorted. A file whose name is not an agent's is none of ours."""
        return tuple(sorted(filter(is_agent_name, _stems(self.directory / "agents"))))

    def origins(self) -> tuple[str, ...]:
        """The logs that have a key here, sorted. A file whose name is not an origin's is none of ours."""
        pairs = [(unquote(stem), stem) for stem in _stems(self.directory / "logs")]
        # In one spelling only: what is percent-encoded otherwise is another file than the one that `log` opens.
        return tuple(
            sorted(origin for origin, stem in pairs if is_origin(origin) and _quoted(origin) == stem)
        )

    def _key(self, role: Role, name: str, create: bool) -> SigningKey:
        path = self.directory / f"{role}s" / f"{_quoted(name)}.key"
        try:
            data = _read(path)
        except FileNotFoundError as error:
            if not create:
                raise LedgerError(
                    "not_found", f"there is no {role} key for {shown(name)}", path=str(path)
                ) from error
            data = _guarded(path, lambda: _create(path, role, name))
        except OSError as error:
            raise LedgerError(
                "unreadable", f"the key file cannot be read: {error.strerror}", path=str(path)
            ) from error
        return _parse_key(data, role, name, path)


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _stems(folder: Path) -> list[str]:
    try:
        return [path.stem for path in folder.iterdir() if path.suffix == ".key"]
    except OSError:
        return []


def _guarded(path: Path, make: Callable[[], bytes]) -> bytes:
    try:
        return make()
    except OSError as error:
        raise LedgerError(
            "failed", f"the key file cannot be written: {error.strerror}", path=str(path)
        ) from error


def _read(path: Path) -> bytes:
    # Without O_NOFOLLOW a link planted in the folder could make another file's bytes the key.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise LedgerError("key", "the key file is not a regular file", path=str(path))
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise LedgerError(
                "permissions",
                "the key file is open to others",
                path=str(path),
                expected="mode 600",
                found=f"{stat.S_IMODE(mode):o}",
                hint=f"If nobody else has read it: chmod 600 '{path}'",
            )
        return file.read(MAX_FILE + 1)


def _create(path: Path, role: Role, name: str) -> bytes:
    """Writes a new key whole or not at all; where another process was first, its key is the one returned."""
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    key = SigningKey.generate()
    data = _encode_key(key, role, name)
    draft = path.parent / f".{secrets.token_hex(8)}.new"
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
        # A link appears whole and fails where the name is taken: no key is ever replaced, none half read.
        os.link(draft, path)
    except FileExistsError:
        return _read(path)
    finally:
        os.unlink(draft)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return data


def _encode_key(key: SigningKey, role: Role, name: str) -> bytes:
    public = bytes(key.verify_key)
    text = agent_id(public) if role == "agent" else str(VerifierKey(name=name, public=public))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields = {
        "created": now,
        "format": FORMAT,
        "id": text,
        "name": name,
        "role": role,
        "seed": encode64(bytes(key)),
    }
    return canonical(fields) + b"\n"


def _parse_key(data: bytes, role: Role, name: str, path: Path) -> SigningKey:
    try:
        if len(data) > MAX_FILE or not data.endswith(b"\n"):
            raise LedgerError("canonical", "it is cut off or too long")
        value = parse(data[:-1])
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise LedgerError("canonical", f"its format is not {FORMAT}")
        seed = value.get("seed")
        if set(value) != {"created", "format", "id", "name", "role", "seed"} or not isinstance(seed, str):
            raise LedgerError("canonical", "its fields are not those of a key")
        raw = decode64(seed, "canonical", "its seed")
        if len(raw) != 32 or value["role"] != role or value["name"] != name:
            raise LedgerError("canonical", f"it is not the {role} key of {shown(name)}")
        key = SigningKey(raw)
        public = bytes(key.verify_key)
        own = agent_id(public) if role == "agent" else str(VerifierKey(name=name, public=public))
        if value["id"] != own:
            raise LedgerError("canonical", "its id is not that of its seed")
    except LedgerError as error:
        raise LedgerError("key", f"the key file is damaged: {error.message}", path=str(path)) from error
    return key
