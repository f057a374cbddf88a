"""Access tokens of an OAuth issuer: a real one on the loopback interface, real keys, real signatures."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import jwt
import pytest
from anyio.abc import SocketStream
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from agentmesh.errors import AgentMeshError
from agentmesh.serving.http.guard import Access
from agentmesh.serving.http.oauth import Issuer, JwtVerifier

pytestmark = pytest.mark.anyio

Serve = Callable[..., Any]
RESOURCE = "https://agents.example/mcp"
ECDSA = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGER = ec.generate_private_key(ec.SECP256R1())


def _jwk(key: Any, algorithm: str, kid: str) -> dict[str, Any]:
    made = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, "alg": algorithm, "use": "sig"}


class Authority:
    """An issuer of tokens over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.keys = [_jwk(ECDSA, "ES256", "ec"), _jwk(ED25519, "EdDSA", "ed"), _jwk(RSA, "RS256", "rsa")]
        self.answers: dict[str, Any] = {}
        self.down = False

    async def handle(self, stream: SocketStream) -> None:
        async with stream:
            path = (await stream.receive()).split()[1].decode()
            self.asked.append(path)
            body = self.answers.get(path)
            if path == "/keys":
                body = {"keys": self.keys}
            status = "500 Broken" if self.down else "404 Not Found" if body is None else "200 OK"
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            await stream.send(f"HTTP/1.1 {status}\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)

    def token(self, key: Any = ECDSA, algorithm: str = "ES256", kid: str = "ec", **claims: Any) -> str:
        now = int(time.time())
        usual = {"iss": self.url, "aud": RESOURCE, "sub": "anna", "client_id": "desk", "exp": now + 60}
        head: dict[str, Any] = {"kid": kid, "typ": claims.pop("typ", "at+jwt")}
        kept = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(kept, key, algorithm=algorithm, headers=head)


@asynccontextmanager
async def _issuing() -> AsyncIterator[Authority]:
    authority = Authority()
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    authority.url = f"http://127.0.0.1:{port}"
    authority.answers = {
        "/.well-known/oauth-authorization-server": {
            "issuer": authority.url,
            "jwks_uri": f"{authority.url}/keys",
        }
    }
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, authority.handle)
        yield authority
        group.cancel_scope.cancel()


def _issuer(authority: Authority, **more: Any) -> Issuer:
    return Issuer(url=authority.url, resource=RESOURCE, **more)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(ECDSA, "ES256", "ec"), (ED25519, "EdDSA", "ed"), (RSA, "RS256", "rsa")]
)
async def test_a_token_of_the_issuer_for_this_server_is_known(key: Any, algorithm: str, kid: str) -> None:
    async with _issuing() as authority:
        verifier = JwtVerifier(_issuer(authority))
        token = authority.token(key, algorithm, kid, scope="mesh:talk mesh:read", aud=["x", RESOURCE])
        found = await verifier.verify_token(token)
        assert found is not None
        assert (found.client_id, found.subject, found.scopes) == ("desk", "anna", ["mesh:talk", "mesh:read"])
        assert (found.claims, found.token) == ({"iss": authority.url}, "")
        again = await verifier.verify_token(authority.token(scp=["a", 1], client_id=None, typ="JWT"))
        assert again is not None and (again.client_id, again.scopes) == ("anna", ["a"])
        # The keys were fetched once.
        assert authority.asked == ["/.well-known/oauth-authorization-server", "/keys"]


def _unsigned(authority: Authority) -> str:
    head = _base64(json.dumps({"alg": "none", "kid": "ec"}).encode())
    return f"{head}.{authority.token().split('.')[1]}."


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed_with_the_public_key(authority: Authority) -> str:
    public = RSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # By hand: PyJWT makes no such token.
    head = _base64(json.dumps({"alg": "HS256", "kid": "rsa"}).encode())
    signed = f"{head}.{authority.token().split('.')[1]}"
    return f"{signed}.{_base64(hmac.digest(public, signed.encode(), 'sha256'))}"


@pytest.mark.parametrize(
    "bad",
    [
        lambda a: a.token(aud="https://other.example/mcp"),
        lambda a: a.token(aud=None),
        lambda a: a.token(aud="desk"),
        lambda a: a.token(iss="https://evil.example"),
        lambda a: a.token(iss=None),
        lambda a: a.token(exp=int(time.time()) - 60),
        lambda a: a.token(exp=None),
        lambda a: a.token(nbf=int(time.time()) + 600),
        lambda a: a.token(STRANGER),
        lambda a: a.token(STRANGER, kid="unknown"),
        lambda a: a.token(ECDSA, kid="rsa"),
        lambda a: a.token(typ="dpop+jwt"),
        lambda a: a.token(client_id=None, sub=None),
        lambda a: a.token()[:-4],
        lambda a: a.token().replace(".", ".A", 1),
        lambda a: _with_head(a, b'{"alg":"ES256","kid":"ec","x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        lambda a: jwt.encode(
            {"iss": a.url, "aud": RESOURCE, "sub": "anna", "exp": int(time.time()) + 60},
            ECDSA,
            algorithm="ES256",
            headers={"kid": "ec", "crit": ["x"], "x": 1},
        ),
        _unsigned,
        _signed_with_the_public_key,
        lambda a: "no.jwt.at.all",
        lambda a: "",
    ],
)
async def test_any_other_token_is_nobodys(bad: Callable[[Authority], str]) -> None:
    async with _issuing() as authority:
        assert await JwtVerifier(_issuer(authority)).verify_token(bad(authority)) is None


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_a_key_that_names_no_algorithm_is_for_all_of_its_kind(algorithm: str) -> None:
    """RFC 7517, section 4.4: `alg` may be left out, as several large issuers do."""
    async with _issuing() as authority:
        for key in authority.keys:
            del key["alg"]
        verifier = JwtVerifier(_issuer(authority))
        assert await verifier.verify_token(authority.token(RSA, algorithm, "rsa")) is not None
        assert await verifier.verify_token(authority.token(ECDSA, "ES256", "ec")) is not None
        assert await verifier.verify_token(authority.token(ED25519, "EdDSA", "ed")) is not None
        assert await verifier.verify_token(authority.token(RSA, algorithm, "ec")) is None
        assert await verifier.verify_token(_signed_with_the_public_key(authority)) is None


async def test_a_key_that_names_its_algorithm_is_for_no_other() -> None:
    async with _issuing() as authority:
        assert (
            await JwtVerifier(_issuer(authority)).verify_token(authority.token(RSA, "PS256", "rsa")) is None
        )


def _with_head(authority: Authority, head: bytes) -> str:
    return f"{_base64(head)}.{authority.token().partition('.')[2]}"


async def test_unknown_keys_are_looked_up_but_not_for_every_token() -> None:
    async with _issuing() as authority:
        verifier = JwtVerifier(_issuer(authority, jwks=f"{authority.url}/keys"))
        for number in range(20):
            assert await verifier.verify_token(authority.token(kid=f"k{number}")) is None
        assert authority.asked == ["/keys"]
        assert await verifier.verify_token(authority.token()) is not None


async def test_metadata_in_the_manner_of_openid_is_found_too() -> None:
    async with _issuing() as authority:
        told = authority.answers.pop("/.well-known/oauth-authorization-server")
        authority.answers["/.well-known/openid-configuration"] = told
        assert await JwtVerifier(_issuer(authority)).verify_token(authority.token()) is not None


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example", "jwks_uri": "https://evil.example/keys"},
        {"issuer": "{url}"},
        {"issuer": "{url}", "jwks_uri": "http://evil.example/keys"},
        b"[" * 100_000,
        b"no json",
        b"x" * 2_000_000,
        ["issuer"],
    ],
    ids=lambda metadata: str(metadata)[:30],
)
async def test_metadata_that_is_anothers_or_none_gives_no_keys(metadata: Any) -> None:
    async with _issuing() as authority:
        if isinstance(metadata, dict):
            metadata = {name: value.replace("{url}", authority.url) for name, value in metadata.items()}
        authority.answers["/.well-known/oauth-authorization-server"] = metadata
        with pytest.raises(AgentMeshError):
            await JwtVerifier(_issuer(authority)).verify_token(authority.token())


@pytest.mark.parametrize("keys", [[], [{"kty": "oct", "k": "AAAA", "kid": "ec"}], [{"kty": "??"}], ["x"]])
async def test_keys_that_cannot_be_used_are_none(keys: Any) -> None:
    async with _issuing() as authority:
        authority.keys = keys
        verifier = JwtVerifier(_issuer(authority))
        with pytest.raises(AgentMeshError, match="no key that can be used"):
            await verifier.verify_token(authority.token())
        # Nor is it asked again at once.
        with pytest.raises(AgentMeshError, match="a moment ago"):
            await verifier.verify_token(authority.token())


async def test_a_resource_server_tells_where_to_get_a_token_and_which(
    serve: Serve, http: httpx2.AsyncClient
) -> None:
    async with _issuing() as authority:
        issuer = _issuer(authority, scopes=("mesh:talk",))
        access = Access(verifier=JwtVerifier(issuer), scopes=issuer.scopes, metadata=issuer.metadata_url)
        async with serve(access=access, issuer=issuer) as served:
            metadata = await http.get(f"{served.root}/.well-known/oauth-protected-resource/mcp")
            assert metadata.json() == {
                "resource": RESOURCE,
                "authorization_servers": [authority.url],
                "bearer_methods_supported": ["header"],
                "scopes_supported": ["mesh:talk"],
            }
            where = 'resource_metadata="https://agents.example/.well-known/oauth-protected-resource/mcp"'
            for token, status, told in (
                (None, 401, 'Bearer scope="mesh:talk"'),
                (authority.token(aud="other"), 401, 'error="invalid_token"'),
                (authority.token(scope="mesh:read"), 403, 'error="insufficient_scope"'),
                (authority.token(scope="mesh:read mesh:talk"), 200, ""),
            ):
                request = served.call("echo", text="x")
                if token is not None:
                    request.headers["authorization"] = f"Bearer {token}"
                answer = await http.send(request)
                assert answer.status_code == status
                challenge = answer.headers.get("www-authenticate", "")
                assert told in challenge and (status == 200 or where in challenge)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_real_client_with_an_access_token_is_known_by_it(serve: Serve, mode: str) -> None:
    async with _issuing() as authority:
        access = Access(verifier=JwtVerifier(_issuer(authority)))
        bearer = {"authorization": f"Bearer {authority.token()}"}
        async with (
            serve(access=access) as served,
            httpx2.AsyncClient(headers=bearer) as http,
            Client(streamable_http_client(served.url, http_client=http), mode=mode) as client,
        ):
            told = (await client.call_tool("who", {})).structured_content
            assert told == {"result": '["desk", "anna", ""]'}


async def test_an_issuer_that_is_down_is_no_ones_wrong_token(serve: Serve, http: httpx2.AsyncClient) -> None:
    async with _issuing() as authority:
        authority.down = True
        async with serve(access=Access(verifier=JwtVerifier(_issuer(authority)))) as served:
            request = served.call("echo", text="x")
            request.headers["authorization"] = f"Bearer {authority.token()}"
            answer = await http.send(request)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://issuer.example"},
        {"url": "issuer.example"},
        {"url": "https://issuer.example#x"},
        {"url": "https://issuer.example?x=1"},
        {"resource": "http://agents.example/mcp"},
        {"resource": "ftp://agents.example/mcp"},
        {"jwks": "http://issuer.example/keys"},
        {"jwks": "https://[/keys"},
        {"scopes": ("two words",)},
        {"scopes": ('"',)},
    ],
)
def test_addresses_over_which_anyone_could_slip_in_keys_are_refused(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"url": "https://issuer.example", "resource": RESOURCE}
    Issuer(**good, jwks="https://issuer.example/keys?kind=all", scopes=("mesh:talk",))
    with pytest.raises(AgentMeshError) as caught:
        Issuer(**(good | wrong))
    assert caught.value.reason == "usage"
