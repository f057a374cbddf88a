"""What each host wants to read of one server, and how it is told of an environment variable without its value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.quoting import Entry, is_text
from agentmesh.hosts.server import OWN_VARIABLES, Launch, Remote, Server

# Codex gives a server ten seconds to start, and a mesh may have models to load.
_START_SECONDS: Final = 60
_GOOSE_SECONDS: Final = 300
# Who sets one of these runs what they like, so Goose and Gemini CLI take none of them from their files.
_LOADERS: Final = frozenset({"PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "NODE_OPTIONS", "CLASSPATH"})
_NOT_GOOSE: Final = _LOADERS | {"PATH", "PYTHONHOME", "TMP", "TEMP", "LOCALAPPDATA", "USERPROFILE"}
_NOT_GEMINI: Final = _LOADERS | {"PYTHONSTARTUP", "BASH_ENV", "ENV"}
# What an entry says of how its server is reached is ours; whatever else stands there is the person's.
_OURS: Final = frozenset(
    {"command", "cmd", "args", "type", "url", "httpUrl", "uri", "headers", "name", "description"}
    | {"env_keys", "env_vars", "bearer_token_env_var"}
)
_ENVIRONMENTS: Final = ("env", "envs")


def claude_desktop(name: str, server: Server) -> Entry:
    """`command`, `args`, `env`; servers that run elsewhere are added in its settings, not in the file."""
    if isinstance(server, Remote):
        hint = "add the address in Claude Desktop under Settings, Connectors; or give a mesh, which it starts itself"
        raise AgentMeshError("usage", "Claude Desktop's file takes only servers that it starts", hint=hint)
    return _started(server, None, "Claude Desktop")


def claude_code(name: str, server: Server) -> Entry:
    """`type`; `${NAME}` is filled in from the environment."""
    if isinstance(server, Remote):
        return {"type": "http", "url": server.url} | _headers(server, "${%s}")
    return {"type": "stdio"} | _started(server, "${%s}", "Claude Code")


def cursor(name: str, server: Server) -> Entry:
    """As Claude Desktop, with `url`; `${env:NAME}` is filled in."""
    if isinstance(server, Remote):
        return {"url": server.url} | _headers(server, "${env:%s}")
    return _started(server, "${env:%s}", "Cursor")


def vscode(name: str, server: Server) -> Entry:
    """`type`; `${env:NAME}` is filled in."""
    if isinstance(server, Remote):
        return {"type": "http", "url": server.url} | _headers(server, "${env:%s}")
    return {"type": "stdio"} | _started(server, "${env:%s}", "VS Code")


def lm_studio(name: str, server: Server) -> Entry:
    """Cursor's notation; it is not known to fill anything in."""
    if isinstance(server, Remote):
        if server.token_env is not None:
            hint = "leave --token-env out and write the header into LM Studio's mcp.json yourself"
            raise AgentMeshError(
                "usage", "LM Studio is not known to read a variable of the environment", hint=hint
            )
        return {"url": server.url}
    return _started(server, None, "LM Studio")


def gemini(name: str, server: Server) -> Entry:
    """`httpUrl` is streamable HTTP (`url` would be the older SSE); `${NAME}` is filled in."""
    if isinstance(server, Remote):
        return {"httpUrl": server.url} | _headers(server, "${%s}")
    _require_handed_on(server, _NOT_GEMINI, "Gemini CLI")
    return _started(server, "${%s}", "Gemini CLI")


def codex(name: str, server: Server) -> Entry:
    """`bearer_token_env_var` and `env_vars` name variables; their values come from Codex's own environment."""
    if isinstance(server, Remote):
        entry: Entry = {"url": server.url}
        return entry if server.token_env is None else entry | {"bearer_token_env_var": server.token_env}
    entry = {"command": server.command, "args": list(server.args)}
    if server.env:
        entry["env"] = dict(server.env)
    if server.secrets:
        entry["env_vars"] = list(server.secrets)
    return entry | {"startup_timeout_sec": _START_SECONDS}


def goose(name: str, server: Server) -> Entry:
    """An extension; `env_keys` names variables, whose values come from its keyring or its environment."""
    entry: Entry = {"enabled": True, "type": "stdio", "name": name, "description": server.about}
    if isinstance(server, Remote):
        keys = [] if server.token_env is None else [server.token_env]
        entry |= {"type": "streamable_http", "uri": server.url, "envs": {}, "env_keys": keys}
        return entry | (_headers(server, "${%s}") or {"headers": {}}) | {"timeout": _GOOSE_SECONDS}
    _require_handed_on(server, _NOT_GOOSE, "Goose")
    entry |= {"cmd": server.command, "args": list(server.args), "envs": dict(server.env)}
    return entry | {"env_keys": list(server.secrets), "timeout": _GOOSE_SECONDS}


def _require_handed_on(server: Launch, refused: frozenset[str], title: str) -> None:
    for name in sorted(set(server.env) & refused):
        hint = "install AgentMesh into the Python that is to run it, and leave the variable out"
        raise AgentMeshError("usage", f"{title} hands on no {name} from its file", hint=hint)


def with_additions(entry: Entry, old: Mapping[object, object]) -> dict[str, object]:
    """`entry` with what a person has added to the older one of ours: switches, timeouts, variables of their own.

    Variables are for a server that is started; beside an address some hosts take them for a mistake.
    """
    found: dict[str, object] = dict(entry)
    is_started = "command" in entry or "cmd" in entry
    for key, value in old.items():
        if not isinstance(key, str) or key in _OURS:
            continue
        if key not in _ENVIRONMENTS:
            found[key] = value
        elif is_started and isinstance(value, dict):
            added = {name: held for name, held in value.items() if name not in OWN_VARIABLES}
            fresh = entry.get(key)
            known = fresh if isinstance(fresh, dict) else {}
            if added or known:
                found[key] = added | known
    return found


def require_as_written(server: Server, fills_in: re.Pattern[str] | None, title: str) -> None:
    """Refuses a text that the host would read as another one, or that no file in UTF-8 can hold.

    Raises: AgentMeshError.
    """
    for text in _texts(server):
        if not is_text(text):
            shown = text.encode("utf-8", "replace").decode()
            raise AgentMeshError("usage", f"{shown}: no file in UTF-8 can name this", hint="rename it")
        if fills_in is not None and fills_in.search(text):
            message = f"{text}: {title} would take the $ in this for a variable"
            raise AgentMeshError("usage", message, hint="move it to a path without $")


def _texts(server: Server) -> Iterator[str]:
    if isinstance(server, Remote):
        yield server.url
        return
    yield server.command
    yield from server.args
    yield from server.env.values()


def _started(server: Launch, reference: str | None, title: str) -> Entry:
    env = dict(server.env)
    if server.secrets and reference is None:
        hint = f"--env {server.secrets[0]}=VALUE writes it into the file, where every program of yours can read it"
        message = f"{title} cannot be told to take {', '.join(server.secrets)} from the environment"
        raise AgentMeshError("usage", message, hint=hint)
    if reference is not None:
        env |= {name: reference % name for name in server.secrets}
    return {"command": server.command, "args": list(server.args), "env": env}


def _headers(server: Remote, reference: str) -> Entry:
    if server.token_env is None:
        return {}
    return {"headers": {"Authorization": "Bearer " + reference % server.token_env}}
