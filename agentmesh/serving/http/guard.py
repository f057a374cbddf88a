"""Who is let in over HTTP: whoever shows a bearer token that a verifier knows, with the scopes that are wanted."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Final, Protocol

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.authentication import AuthCredentials
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from agentmesh.errors import AgentMeshError
from agentmesh.serving.http.refusals import refusal

_LONGEST_TOKEN: Final = 16 * 1024


class Verifier(Protocol):
    """Knows bearer tokens."""

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whose token it is, or None where it is nobody's. Raises: AgentMeshError where that cannot be known now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What must be shown: a token that `verifier` knows, with all of `scopes`. `metadata` is where it is told how to get one."""

    verifier: Verifier
    scopes: tuple[str, ...] = ()
    metadata: str | None = None


class Guard:
    """Lets in who shows the token that is wanted, and tells the application who it is.

    The SDK keeps to it what it keeps by caller: a session of the older era is its opener's alone.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = AuthContextMiddleware(app)
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            refused = await self._admit(scope)
        except AgentMeshError:
            # Whom it is that asks cannot be known: the issuer of the tokens is not to be reached.
            refused = refusal(503, "tokens cannot be verified at this time", shut=True)
        await (self._app if refused is None else refused)(scope, receive, send)

    async def _admit(self, scope: Scope) -> Response | None:
        shown = Headers(scope=scope).getlist("authorization")
        if not shown:
            return self._challenge(401, None, "a bearer token is wanted")
        kind, _, token = shown[0].partition(" ")
        token = token.strip()
        if len(shown) > 1 or kind.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN:
            return self._challenge(401, "invalid_request", "one bearer token is wanted")
        found = await self._access.verifier.verify_token(token)
        if found is None or (found.expires_at is not None and found.expires_at < time.time()):
            return self._challenge(401, "invalid_token", "the token is not valid here")
        if not set(self._access.scopes) <= set(found.scopes):
            return self._challenge(403, "insufficient_scope", "the token lacks a scope")
        scope["user"] = AuthenticatedUser(found)
        scope["auth"] = AuthCredentials(found.scopes)
        return None

    def _challenge(self, status: int, error: str | None, told: str) -> Response:
        """RFC 6750: what is wrong, what is wanted; RFC 9728: where one is told how to get it."""
        parts = [] if error is None else [f'error="{error}"', f'error_description="{told}"']
        if self._access.scopes:
            parts.append(f'scope="{" ".join(self._access.scopes)}"')
        if self._access.metadata is not None:
            parts.append(f'resource_metadata="{self._access.metadata}"')
        body = {"error": error or "unauthorized", "error_description": told}
        return Response(
            json.dumps(body),
            status_code=status,
            headers={"www-authenticate": f"Bearer {', '.join(parts)}".strip(), "cache-control": "no-store"},
            media_type="application/json",
        )
