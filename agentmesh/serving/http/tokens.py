"""Bearer tokens that the owner of a server gave out: from the environment or a file, kept as hashes."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from mcp.server.auth.provider import AccessToken

from agentmesh.errors import AgentMeshError

_LEAST: Final = 16
# RFC 6750's b64token. The length stops a file of something else.
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{1,512}=*")
_NAME: Final = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_MOST_BYTES: Final = 256 * 1024
_MAKE_ONE: Final = "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"


class Tokens:
    """Who holds which token. Knows only their hashes, and takes the same time whichever one is shown."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._hashes = {name: _hash(token) for name, token in tokens.items()}

    def __len__(self) -> int:
        return len(self._hashes)

    async def verify_token(self, token: str) -> AccessToken | None:
        """Who shows this token, or None. Fulfils the SDK's `TokenVerifier`."""
        shown, holder = _hash(token), None
        for name, kept in self._hashes.items():
            if hmac.compare_digest(shown, kept):
                holder = name
        # Nobody behind this point needs the token itself.
        return None if holder is None else AccessToken(token="", client_id=holder, scopes=[], subject=holder)


def read_tokens(
    variables: Iterable[str] = (),
    file: Path | None = None,
    *,
    environment: MutableMapping[str, str] = os.environ,
) -> Tokens:
    """The tokens in these environment variables, each named after its variable, and in the lines of a file.

    A variable is taken out of the environment: no child needs it. A line is `TOKEN` or `NAME TOKEN`; empty ones and
    those that begin with # are comments. The file must be its owner's alone.

    Raises: AgentMeshError
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(variables):
        token = environment.pop(name, "").strip()
        if not token:
            raise AgentMeshError("usage", f"--token-env: the variable {name} is not set", hint=_MAKE_ONE)
        found[name] = _checked(token, f"the variable {name}")
    if file is not None:
        for number, (name, token) in enumerate(_lines(file), start=1):
            where = f"{file}: token {number}"
            name = name or f"token-{number}"
            if not _NAME.fullmatch(name) or name in found:
                raise AgentMeshError(
                    "usage", f"{where} has no name of its own", hint="letters, digits and _ . @ -"
                )
            found[name] = _checked(token, where)
    if len(set(found.values())) < len(found):
        raise AgentMeshError("usage", "two names have the same token", hint=_MAKE_ONE)
    return Tokens(found)


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open("rb") as opened:
            # Of the file opened, not of its name: that may mean another one by now.
            state = os.fstat(opened.fileno())
            _require_private(file, state)
            text = opened.read(_MOST_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise AgentMeshError("usage", f"--token-file {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AgentMeshError("usage", f"--token-file {file} is not text") from error
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) > 2:
            raise AgentMeshError("usage", f"--token-file {file}: a line is TOKEN or NAME TOKEN")
        found.append((words[0] if len(words) == 2 else "", words[-1]))
    if not found:
        raise AgentMeshError("usage", f"--token-file {file} holds no token", hint=_MAKE_ONE)
    return found


def _require_private(file: Path, state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode) or state.st_size > _MOST_BYTES:
        raise AgentMeshError("usage", f"--token-file {file} is not a file of tokens")
    if sys.platform == "win32":
        return
    if state.st_uid not in (os.geteuid(), 0):
        raise AgentMeshError("usage", f"--token-file {file} belongs to somebody else")
    if state.st_mode & 0o077:
        raise AgentMeshError(
            "usage", f"--token-file {file}: others may read or write it", hint=f"chmod 600 {file}"
        )


def _checked(token: str, where: str) -> str:
    if len(token) < _LEAST or not _TOKEN.fullmatch(token):
        # The token itself is told nowhere.
        raise AgentMeshError(
            "usage",
            f"{where} is no bearer token: at least {_LEAST} letters, digits and - . _ ~ + /",
            hint=_MAKE_ONE,
        )
    return token


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
