"""The person at a login page, played by a program: follows the link and says yes; and a memory for what comes of it."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

_BACK: Final = "http://localhost:3000/callback"
# The suite knows this address and fetches nothing from it.
_SELF: Final = "https://conformance-test.local/client-metadata.json"


class Memory(TokenStorage):
    """Tokens and a registration, for as long as the process lives."""

    def __init__(self, client: OAuthClientInformationFull | None = None) -> None:
        self._tokens: OAuthToken | None = None
        self._client = client

    async def get_tokens(self) -> OAuthToken | None:
        """What was kept."""
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep them."""
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """What was kept."""
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep it."""
        self._client = client_info


class Person:
    """Opens the page of the authorization server, which sends back at once."""

    def __init__(self) -> None:
        self._came_back = ""

    async def open(self, url: str) -> None:
        """Follow the link as far as the redirection."""
        async with httpx2.AsyncClient() as browser:
            page = await browser.get(url, follow_redirects=False)
        self._came_back = page.headers["location"]

    async def result(self) -> AuthorizationCodeResult:
        """What the redirection carried."""
        found = parse_qs(urlsplit(self._came_back).query)
        first = {key: values[0] for key, values in found.items()}
        return AuthorizationCodeResult(code=first["code"], state=first.get("state"), iss=first.get("iss"))


def login(url: str, context: dict[str, Any]) -> httpx2.Auth:
    """How the client of this scenario gets its token. `context` is what the suite says of it."""
    person = Person()
    return OAuthClientProvider(
        url,
        OAuthClientMetadata(client_name="agentmesh", redirect_uris=[AnyUrl(_BACK)]),
        Memory(_registered(context)),
        redirect_handler=person.open,
        callback_handler=person.result,
        client_metadata_url=_SELF,
    )


def _registered(context: dict[str, Any]) -> OAuthClientInformationFull | None:
    """A registration from before, where the scenario has one."""
    if "client_id" not in context:
        return None
    return OAuthClientInformationFull(
        client_id=context["client_id"],
        client_secret=context.get("client_secret"),
        redirect_uris=[AnyUrl(_BACK)],
        token_endpoint_auth_method="client_secret_basic",
        issuer=context.get("issuer"),
    )


def read_context(text: str | None) -> dict[str, Any]:
    """The context of a scenario, as the suite passes it in the environment."""
    read = json.loads(text) if text else {}
    assert isinstance(read, dict)
    return read
