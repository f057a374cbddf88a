"""Where an endpoint is: what `openai:URL#MODEL` means, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agentmesh_models.catalogue import ENDPOINT
from agentmesh_models.errors import ModelError

_LOOPBACK: Final = ("localhost", "::1")
_EXAMPLE: Final = "openai:http://127.0.0.1:8080/v1#MODEL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An endpoint's base URL without a slash at its end, host and port for people, and the model asked for, or none."""

    url: str
    host: str
    model: str | None
    is_local: bool
    is_private: bool
    """Whether nobody on the way can read what is sent: https, or this machine itself."""


class Key:
    """An endpoint's key, which no repr shows: tracebacks with local variables are pasted into reports."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Key(...)"


def parse_address(spec: str) -> Address:
    """The endpoint that `spec` names.

    Raises:
        ModelError: reason "bad_request"; the message holds no part of the URL that could be a secret.
    """
    url, _, model = spec.removeprefix(ENDPOINT).partition("#")
    if any(not letter.isprintable() or letter.isspace() for letter in url) or "\\" in url:
        raise ModelError("bad_request", "the endpoint's URL has blanks or characters that no URL has")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if "@" in parts.netloc:
        raise ModelError(
            "bad_request",
            "an endpoint's URL must not hold a user or a password: it is recorded; name the environment "
            "variable that holds the key with api_key_env",
        )
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ModelError(
            "bad_request",
            f"an endpoint's address begins with http:// or https:// and names a host: {_EXAMPLE}",
        )
    if parts.query:
        raise ModelError(
            "bad_request",
            "an endpoint's URL must have no ? part: it is recorded, and a key may stand there; the key's "
            "environment variable is named with api_key_env",
        )
    is_local = host in _LOOPBACK or host.startswith("127.")
    return Address(
        url=url.rstrip("/"),
        host=parts.netloc,
        model=model.strip() or None,
        is_local=is_local,
        is_private=is_local or parts.scheme == "https",
    )
