"""`agentmesh serve`: the agents of a mesh as tools of an MCP host, over standard input and output or HTTP."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentmesh.cli.aside import Aside, standard_error
from agentmesh.cli.exits import CANCELLED
from agentmesh.cli.http_face import (
    AllowHostOption,
    AllowOriginOption,
    HttpOption,
    HttpOptions,
    IssuerOption,
    JwksOption,
    MaxBodyOption,
    MaxCallsOption,
    ResourceOption,
    ScopeOption,
    SigningOption,
    TokenEnvOption,
    TokenFileOption,
)
from agentmesh.cli.options import MeshArgument
from agentmesh.cli.passphrase import keys_in
from agentmesh.cli.signals import watch_signals
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    import anyio
    from mcp.server import MCPServer

    from agentmesh.mesh import Mesh
    from agentmesh.mesh.spec import SigningMode
    from agentmesh.serving.http import HttpFace
    from agentmesh.serving.http.address import Bound
    from agentmesh_ledger import KeyStore


def serve(
    mesh: MeshArgument,
    http: HttpOption = None,
    signing: SigningOption = None,
    token_env: TokenEnvOption = None,
    token_file: TokenFileOption = None,
    oauth_issuer: IssuerOption = None,
    resource: ResourceOption = None,
    scope: ScopeOption = None,
    jwks: JwksOption = None,
    allow_host: AllowHostOption = None,
    allow_origin: AllowOriginOption = None,
    max_body: MaxBodyOption = 4,
    max_calls: MaxCallsOption = 256,
) -> None:
    """Serve each agent of a mesh over MCP (stdio or HTTP), as a tool ask_AGENT."""
    from agentmesh.mesh import load_mesh

    loaded = load_mesh(mesh)
    mode = loaded.serve.signing if signing is None else _mode(signing)
    if http is None:
        given = (token_env, token_file, oauth_issuer, resource, scope, jwks, allow_host, allow_origin)
        if any(each is not None for each in given):
            raise AgentMeshError(
                "usage", "tokens, OAuth, hosts and origins go with --http", hint="add --http"
            )
        _run(loaded, mode, None)
        return
    options = HttpOptions(
        http=http,
        token_env=tuple(token_env or ()),
        token_file=token_file,
        issuer=oauth_issuer,
        resource=resource,
        scopes=tuple(scope or ()),
        jwks=jwks,
        hosts=tuple(allow_host or ()),
        origins=tuple(allow_origin or ()),
        max_body=max_body,
        max_calls=max_calls,
    )
    place = options.opened()
    with place[0].socket:
        _run(loaded, mode, place)


def _mode(written: str) -> SigningMode:
    from typing import get_args

    from agentmesh.mesh.spec import SigningMode

    modes: tuple[SigningMode, ...] = get_args(SigningMode)
    for mode in modes:
        if mode == written:
            return mode
    raise AgentMeshError("usage", f"--signing: {written!r} is none of {', '.join(modes)}")


def _run(mesh: Mesh, mode: SigningMode, place: tuple[Bound, HttpFace] | None) -> None:
    import anyio

    keys = keys_in(mesh.log_place.keys)
    with standard_error() as aside:
        signalled = anyio.run(_serve, mesh, keys, mode, place, aside)
    if signalled:
        sys.stdout.flush()
        sys.stderr.flush()
        # All is closed by now. A thread may still wait for the host's next line, and Python would wait for it.
        os._exit(CANCELLED)


async def _serve(
    mesh: Mesh, keys: KeyStore, mode: SigningMode, place: tuple[Bound, HttpFace] | None, aside: Aside
) -> bool:
    """Serve until standard input ends, or a signal comes; true for a signal."""
    import anyio

    serving = anyio.CancelScope()
    # Set once there are clients whose calls may end in their own time. Before, and on stdio, a signal cancels.
    ready, stop = anyio.Event(), anyio.Event()

    def stopped() -> None:
        stop.set()
        if ready.is_set():
            aside.say("agentmesh: stopping: calls in work may end; once more ends them at once")
        else:
            serving.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch_signals, stopped)
        with serving:
            await _answer(mesh, keys, mode, place, ready, stop, aside)
        group.cancel_scope.cancel()
    return stop.is_set()


async def _answer(
    mesh: Mesh,
    keys: KeyStore,
    mode: SigningMode,
    place: tuple[Bound, HttpFace] | None,
    ready: anyio.Event,
    stop: anyio.Event,
    aside: Aside,
) -> None:
    from contextlib import AsyncExitStack, ExitStack

    from agentmesh.outside import answering
    from agentmesh.runtime import open_mesh
    from agentmesh.serving import serve_stdio
    from agentmesh.serving.dialogues import open_dialogues
    from agentmesh.serving.mesh_server import mesh_server
    from agentmesh.serving.signing import sign_server
    from agentmesh.view.plain import PlainLines

    async with AsyncExitStack() as stack:
        with ExitStack() as output:
            output.enter_context(_standard_output_kept())
            live = await stack.enter_async_context(open_mesh(mesh, listen=PlainLines(aside.say), keys=keys))
            dialogues = await stack.enter_async_context(open_dialogues(live))
            server = mesh_server(live, dialogues)
            if mode != "off":
                signing = answering(mesh, mesh.log_place, keys, live.ledger, mode=mode)
                stack.callback(signing.policy.nonces.close)
                sign_server(server, signing)
            _collect_garbage_seldom()
            if place is not None:
                await _serve_http(mesh, server, place, ready, stop, aside)
                return
        await serve_stdio(server)


async def _serve_http(
    mesh: Mesh,
    server: MCPServer,
    place: tuple[Bound, HttpFace],
    ready: anyio.Event,
    stop: anyio.Event,
    aside: Aside,
) -> None:
    import logging

    from agentmesh.serving.http import PATH, serve_http

    if os.environ.get("AGENTMESH_DEBUG") in (None, "", "0"):
        # One line for each request that is refused would let anybody fill the disk that standard error goes to.
        logging.getLogger("mcp").setLevel(logging.CRITICAL)
    bound, face = place

    def told() -> None:
        ready.set()
        if face.access is not None and not bound.address.is_loopback:
            aside.say(
                "agentmesh: tokens and answers travel in clear text here: let a proxy with TLS stand before it"
            )
        aside.say(f"agentmesh: serving {mesh.name} at http://{bound.address}{PATH}")

    await serve_http(server, bound, face, stop=stop, ready=told)


def _collect_garbage_seldom() -> None:
    """What was loaded stays for good, and calls leave few cycles: by default the collector looks at all there is too often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextmanager
def _standard_output_kept() -> Iterator[None]:
    """While the mesh is opened, and all the time over HTTP, whatever writes to standard output goes to standard error:
    one stray line of a library that greets would end a host's session on stdio."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
