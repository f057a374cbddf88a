"""Who makes the request that is being answered, where the wire is signed; recorded with what the request begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol, cast

from agentmesh_ledger import JsonValue


class Exchange(Protocol):
    """What is known of a signed request. `author` is a did:key, None for a host that does not sign."""

    @property
    def author(self) -> str | None: ...
    @property
    def subject(self) -> str: ...
    @property
    def dialogue(self) -> str: ...
    @property
    def digest(self) -> str: ...


def asked_by() -> Mapping[str, JsonValue]:
    """The facts of who asks; none where nothing is signed."""
    exchange = _current()
    if exchange is None or exchange.author is None:
        return {}
    return {
        "asked_by": {
            "author": exchange.author,
            "subject": exchange.subject,
            "dialogue": exchange.dialogue,
            "exchange": exchange.digest,
        }
    }


def _current() -> Exchange | None:
    try:
        signing = import_module("agentmesh.serving.signing")
    except ModuleNotFoundError:
        return None
    current = cast("Callable[[], Exchange | None]", signing.current_exchange)
    return current()
