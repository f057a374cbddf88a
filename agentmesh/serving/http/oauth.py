"""An OAuth 2 resource server: access tokens are JWTs (RFC 9068) that an issuer signed for this server and no other."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from mcp.server.auth.provider import AccessToken

from agentmesh.errors import AgentMeshError

# Signatures only an issuer can make. Never `none`, never a shared secret: with one, whoever verifies could sign too, and
# an RSA key's public bytes would do as the secret.
_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
# RFC 9068, and the plain type that most issuers write. An ID token for a client is not told by it, but by its audience.
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt", "jwt"})
_LEEWAY_SECONDS: Final = 30
_KEPT_SECONDS: Final = 3600.0
_ASK_AGAIN_SECONDS: Final = 30.0
_FETCH_SECONDS: Final = 10.0
_MOST_BYTES: Final = 1024 * 1024
_Key: TypeAlias = dict[str, Any]
WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who issues tokens for which resource: `url` as it stands in `iss`, `resource` in `aud`; `jwks` is found where unset."""

    url: str
    resource: str
    scopes: tuple[str, ...] = ()
    jwks: str | None = None

    def __post_init__(self) -> None:
        for name, url in (("--oauth-issuer", self.url), ("--resource", self.resource), ("--jwks", self.jwks)):
            if url is not None:
                _require_safe(name, url)
        for scope in self.scopes:
            if not scope or not all("!" <= letter <= "~" and letter not in '"\\' for letter in scope):
                raise AgentMeshError("usage", f"--scope {scope!r} is not a scope")

    @property
    def metadata_path(self) -> str:
        """Where this server tells how to get a token (RFC 9728, section 3.1)."""
        return WELL_KNOWN + urlsplit(self.resource).path.rstrip("/")

    @property
    def metadata_url(self) -> str:
        """The same, as clients find it."""
        parts = urlsplit(self.resource)
        return f"{parts.scheme}://{parts.netloc}{self.metadata_path}"

    def metadata(self) -> dict[str, object]:
        """What is told there."""
        told: dict[str, object] = {
            "resource": self.resource,
            "authorization_servers": [self.url],
            "bearer_methods_supported": ["header"],
        }
        if self.scopes:
            told["scopes_supported"] = list(self.scopes)
        return told


class JwtVerifier:
    """Verifies access tokens against the keys that their issuer publishes. These are fetched when a token needs them,
    kept for an hour, and asked for again at most twice a minute, whatever tokens are shown."""

    def __init__(self, issuer: Issuer, *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        self._issuer = issuer
        self._transport = transport
        self._keys: Mapping[str, _Key] = {}
        self._fetched = self._asked = -_KEPT_SECONDS
        self._fetching = anyio.Lock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """Whose token it is, or None where it is not one for this server, at this time, from this issuer.

        Raises: AgentMeshError where the issuer's keys cannot be had.
        """
        try:
            head = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):
            return None
        algorithm, kid, kind = head.get("alg"), head.get("kid", ""), head.get("typ", "jwt")
        if algorithm not in _ALGORITHMS or not isinstance(kid, str):
            return None
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            return None
        if "crit" in head:
            return None  # RFC 7515, section 4.1.11: what must be understood, and nothing of it is here
        key = await self._key(kid)
        if key is None:
            return None
        try:
            claims = jwt.decode(
                token,
                _key_for(key, algorithm),
                algorithms=[algorithm],
                audience=self._issuer.resource,
                issuer=self._issuer.url,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # Beside its own errors PyJWT lets through what its parsers of keys and claims raise.
            return None
        return _holder(claims, self._issuer)

    async def _key(self, kid: str) -> _Key | None:
        now = time.monotonic()
        if now - self._fetched > _KEPT_SECONDS or self._chosen(kid) is None:
            async with self._fetching:
                now = time.monotonic()
                stale = now - self._fetched > _KEPT_SECONDS
                # Tokens with key ids of somebody's invention must not make us ask the issuer for each.
                if (stale or self._chosen(kid) is None) and now - self._asked > _ASK_AGAIN_SECONDS:
                    self._asked = now
                    self._keys = await self._fetch_keys()
                    self._fetched = now
                elif stale:
                    raise AgentMeshError("oauth", "the issuer's keys could not be fetched a moment ago")
        return self._chosen(kid)

    def _chosen(self, kid: str) -> _Key | None:
        if not kid and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _fetch_keys(self) -> Mapping[str, _Key]:
        try:
            with anyio.fail_after(_FETCH_SECONDS):
                url = self._issuer.jwks or await self._discovered()
                document = await self._fetch(url)
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
            raise AgentMeshError("oauth", f"the keys of {self._issuer.url} cannot be fetched") from error
        found: dict[str, _Key] = {}
        listed = document.get("keys")
        for each in listed if isinstance(listed, list) else []:
            if not isinstance(each, dict) or each.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK(each)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                continue  # of a kind that is not known here: others may be
            if key.algorithm_name in _ALGORITHMS:
                found[key.key_id or ""] = each
        if not found:
            raise AgentMeshError("oauth", f"{self._issuer.url} publishes no key that can be used")
        return found

    async def _discovered(self) -> str:
        """Where the issuer's metadata says that its keys are: RFC 8414, or OpenID Connect as far as it differs."""
        parts = urlsplit(self._issuer.url)
        path = parts.path.rstrip("/")
        root = f"{parts.scheme}://{parts.netloc}"
        places = (
            f"{root}/.well-known/oauth-authorization-server{path}",
            f"{root}/.well-known/openid-configuration{path}",
            f"{root}{path}/.well-known/openid-configuration",
        )
        for place in dict.fromkeys(places):
            try:
                document = await self._fetch(place)
            except (httpx2.HTTPStatusError, ValueError):
                continue  # not published there
            keys = document.get("jwks_uri")
            # RFC 8414, section 3.3: metadata that names another issuer is not this one's.
            if document.get("issuer") == self._issuer.url and isinstance(keys, str):
                _require_safe("jwks_uri", keys)
                return keys
        raise ValueError("no metadata")

    async def _fetch(self, url: str) -> Mapping[str, object]:
        async with (
            httpx2.AsyncClient(
                transport=self._transport, follow_redirects=False, timeout=_FETCH_SECONDS
            ) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as answer,
        ):
            answer.raise_for_status()
            data = bytearray()
            async for piece in answer.aiter_bytes():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise ValueError("too long")
        try:
            document = json.loads(data)
        except RecursionError as error:
            raise ValueError("too deep") from error
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
        return document


def _key_for(key: _Key, algorithm: str) -> jwt.PyJWK:
    """The key for a token of this algorithm: a key may leave its own out, and PyJWT would then take the usual one of its kind.

    Raises: jwt.PyJWTError where it is a key of another kind.
    """
    return jwt.PyJWK(key, key.get("alg") or algorithm)


def _holder(claims: Mapping[str, object], issuer: Issuer) -> AccessToken | None:
    subject = claims.get("sub")
    client = claims.get("client_id") or claims.get("azp") or subject
    expires = claims.get("exp")
    if (
        not isinstance(client, str)
        or not isinstance(subject, str | None)
        or not isinstance(expires, int | float)
    ):
        return None
    # Two spellings are in use: a text with spaces (RFC 9068), and a list.
    written = claims.get("scope", claims.get("scp", ""))
    words = written.split() if isinstance(written, str) else written if isinstance(written, list) else []
    return AccessToken(
        token="",
        client_id=client,
        scopes=[word for word in words if isinstance(word, str)],
        expires_at=int(expires) + _LEEWAY_SECONDS,
        resource=issuer.resource,
        subject=subject,
        claims={"iss": issuer.url},
    )


def _require_safe(name: str, url: str) -> None:
    """Keys that come in clear text over a network may be anybody's."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        plain = host == "localhost" or (bool(host) and _is_loopback(host))
        good = (
            bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and plain)) and parts.port != 0
        )
    except ValueError:
        good = False
    if not good or parts.fragment or parts.query and name != "--jwks":
        raise AgentMeshError("usage", f"{name}: {url!r} is no https address")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
