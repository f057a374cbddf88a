"""What the options of `agentmesh serve --http` mean: where to listen, who is let in, how much at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer
from typer.core import TyperCommand

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.serving.http import HttpFace
    from agentmesh.serving.http.address import Address, Bound
    from agentmesh.serving.http.guard import Access
    from agentmesh.serving.http.oauth import Issuer

_PANEL: Final = "Over HTTP"
_DEFAULT: Final = "127.0.0.1:8765"
# As in agentmesh.serving.http.address, which is not imported to read a command line.
_ADDRESS: Final = re.compile(r"(\[[^\]]+\]:|[^/\[\]:]+:)?[0-9]+")

HttpOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="[HOST:PORT]",
        help=f"Serve over streamable HTTP at /mcp instead of standard input and output; alone, at {_DEFAULT}.",
        rich_help_panel=_PANEL,
    ),
]
SigningOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--signing",
        metavar="MODE",
        help="Whether callers must (require), may (prefer) or do not (off) sign. Default: the mesh file's, else prefer.",
    ),
]
TokenEnvOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--token-env",
        metavar="NAME",
        help="Ask for the bearer token in this environment variable. May be repeated.",
        rich_help_panel=_PANEL,
    ),
]
TokenFileOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Ask for one of the bearer tokens in this file, each line TOKEN or NAME TOKEN; only its owner may read it.",
        rich_help_panel=_PANEL,
    ),
]
IssuerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--oauth-issuer",
        metavar="URL",
        help="Ask for an access token of this OAuth issuer (a JWT); needs --resource.",
        rich_help_panel=_PANEL,
    ),
]
ResourceOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--resource",
        metavar="URL",
        help="The address that clients know this server by: the audience of their access tokens.",
        rich_help_panel=_PANEL,
    ),
]
ScopeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        metavar="SCOPE",
        help="A scope that an access token must have. May be repeated.",
        rich_help_panel=_PANEL,
    ),
]
JwksOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--jwks",
        metavar="URL",
        help="Where the issuer's keys are. Default: as the issuer's own metadata says.",
        rich_help_panel=_PANEL,
    ),
]
AllowHostOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        metavar="HOST[:PORT]",
        help="Answer to this name too, such as a proxy's. May be repeated.",
        rich_help_panel=_PANEL,
    ),
]
AllowOriginOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-origin",
        metavar="ORIGIN",
        help="Let web pages of this origin in, such as https://app.example. May be repeated.",
        rich_help_panel=_PANEL,
    ),
]
MaxBodyOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-body",
        metavar="MIB",
        min=1,
        max=64,
        help="The largest request, in MiB.",
        rich_help_panel=_PANEL,
    ),
]
MaxCallsOption: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-calls",
        metavar="N",
        min=1,
        max=100_000,
        help="How many requests are in work at a time; more are told to come again.",
        rich_help_panel=_PANEL,
    ),
]


class ServeCommand(TyperCommand):
    """A command whose `--http` may stand alone. Typer has no such options."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer brings click's Context under a name of its own
        """Give the lone `--http` its address. What follows it is its value only where it looks like one."""
        spelt: list[str] = []
        options = True
        for place, word in enumerate(args):
            options = options and word != "--"
            following = args[place + 1] if place + 1 < len(args) else ""
            lone = options and word == "--http" and not _ADDRESS.fullmatch(following)
            spelt.append(f"--http={_DEFAULT}" if lone else word)
        return super().parse_args(ctx, spelt)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """The options as they were given."""

    http: str
    token_env: tuple[str, ...] = ()
    token_file: Path | None = None
    issuer: str | None = None
    resource: str | None = None
    scopes: tuple[str, ...] = ()
    jwks: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 4
    max_calls: int = 256

    def opened(self) -> tuple[Bound, HttpFace]:
        """The socket, bound, and how the server shows itself there. The caller closes the socket.

        Raises: AgentMeshError for what was given wrong, and for an address that others reach and anybody may use.
        """
        from agentmesh.serving.http.address import bind, parse_address

        address = parse_address(self.http)
        issuer, access = self._access()
        bound = bind(address)
        try:
            return bound, self._face(address, bound, issuer, access)
        except BaseException:  # also a signal: nobody else would close it
            bound.socket.close()
            raise

    def _face(self, address: Address, bound: Bound, issuer: Issuer | None, access: Access | None) -> HttpFace:
        from urllib.parse import urlsplit

        from agentmesh.serving.http import HttpFace
        from agentmesh.serving.http.browsers import Visitors
        from agentmesh.serving.http.limits import HttpLimits, most_connections

        if access is None and not bound.address.is_loopback:
            raise AgentMeshError(
                "usage",
                f"{bound.address} is reached by others: without a token anyone there could use these agents",
                hint="set --token-env or --token-file, or --oauth-issuer with --resource; or serve at 127.0.0.1",
            )
        known = (*self.hosts, urlsplit(issuer.resource).netloc) if issuer is not None else self.hosts
        usual = HttpLimits()
        body = self.max_body * 1024 * 1024
        return HttpFace(
            visitors=Visitors(bound.address, hosts=known, origins=self.origins, named=address.host),
            access=access,
            issuer=issuer,
            limits=HttpLimits(
                body=body,
                bodies=max(usual.bodies, body),
                calls=self.max_calls,
                connections=most_connections(max(usual.connections, self.max_calls + usual.streams)),
            ),
        )

    def _access(self) -> tuple[Issuer | None, Access | None]:
        from agentmesh.serving.http.guard import Access
        from agentmesh.serving.http.oauth import Issuer, JwtVerifier
        from agentmesh.serving.http.tokens import read_tokens

        has_tokens = bool(self.token_env) or self.token_file is not None
        if self.issuer is None:
            if self.resource is not None or self.scopes or self.jwks is not None:
                raise AgentMeshError("usage", "--resource, --scope and --jwks go with --oauth-issuer")
            if not has_tokens:
                return None, None
            return None, Access(verifier=read_tokens(self.token_env, self.token_file))
        if has_tokens:
            raise AgentMeshError("usage", "tokens of one's own and an OAuth issuer exclude one another")
        if self.resource is None:
            raise AgentMeshError(
                "usage",
                "--oauth-issuer needs --resource",
                hint="the address that clients know this server by, such as https://agents.example/mcp",
            )
        issuer = Issuer(url=self.issuer, resource=self.resource, scopes=self.scopes, jwks=self.jwks)
        access = Access(verifier=JwtVerifier(issuer), scopes=self.scopes, metadata=issuer.metadata_url)
        return issuer, access
