"""Errors become exit codes and messages here, and nowhere else.

0 done · 1 failed, or not verified · 2 usage or configuration · 3 unreadable · 4 a limit reached, with a partial
result · 130 cancelled.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Final, cast

from agentmesh.errors import AgentMeshError, MeshFileError, ToolboxError
from agentmesh.view.text import clean

if TYPE_CHECKING:
    from agentmesh.events import EndReason

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREADABLE: Final = 3
LIMIT: Final = 4
CANCELLED: Final = 130

# Which extra brings a module that is not there.
_EXTRAS: Final = {
    "sqlalchemy": "store",
    "psycopg": "postgres",
    "typer": "run",
    "rich": "run",
    "pydantic": "run",
    "pydantic_core": "run",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "anyio": "mcp",
    "llama_cpp": "llama",
    "jinja2": "llama",
    "numpy": "llama",
    "huggingface_hub": "hub",
    "ruamel": "hosts",
    "web3": "chain",
    "opentimestamps": "ots",
    "uvicorn": "witness",
    "httptools": "witness",
}
_USAGE_REASONS: Final = frozenset(
    {"usage", "exists", "no_such_agent", "no_such_dialogue", "ambiguous_dialogue", "no_key"}
)
# What the mesh file says of a server is wrong; a server that does not start is a failure.
_TOOLBOX_USAGE: Final = frozenset(
    {
        "no_such_tool",
        "no_such_server",
        "bad_url",
        "no_token",
        "no_command",
        "no_folder",
        "unknown_server",
        "bad_option",
        "missing_extra",
    }
)
_MODEL_USAGE: Final = frozenset(
    {
        "not_found",
        "unsupported",
        "no_template",
        "template",
        "no_backend",
        "load_failed",
        "no_memory",
        "bad_request",
    }
)
# A damaged models.lock ("catalogue") cannot be read. The rest are failures, "not_checkable" too: nothing was shown.
_MODEL_UNREADABLE: Final = frozenset(
    {"unreadable", "not_gguf", "truncated", "malformed", "script_file", "catalogue"}
)
_LEDGER_UNREADABLE: Final = frozenset({"not_found", "unreadable", "worker", "permissions"})
_LEDGER_USAGE: Final = frozenset({"no_store", "no_extra", "origin"})


def code_after(reason: EndReason) -> int:
    """The exit code of a run whose dialogue was closed with `reason`."""
    if reason == "done":
        return DONE
    if reason == "cancelled":
        return CANCELLED
    return FAILED if reason == "failed" else LIMIT


def code_for(error: BaseException) -> int:
    """The exit code of a command that ended with `error`."""
    error = innermost(error)
    reason = str(getattr(error, "reason", ""))
    if isinstance(error, KeyboardInterrupt):
        return CANCELLED
    if isinstance(error, MeshFileError):
        return USAGE
    if isinstance(error, AgentMeshError):
        return _code_for_own(error)
    if missing_extra(error):
        return USAGE
    if _is(error, "agentmesh_models", "ModelError"):
        if reason in _MODEL_UNREADABLE:
            return UNREADABLE
        if reason == "cancelled":
            return CANCELLED
        return USAGE if reason in _MODEL_USAGE else FAILED
    if _is(error, "agentmesh_ledger", "LedgerError"):
        # Damaged content is a verdict; only what cannot be looked at is unreadable.
        if reason in _LEDGER_UNREADABLE:
            return UNREADABLE
        return USAGE if reason in _LEDGER_USAGE else FAILED
    if _is(error, "agentmesh_servers.errors", "ServersError"):
        return USAGE
    if isinstance(error, BrokenPipeError):
        return FAILED
    return UNREADABLE if isinstance(error, OSError) else FAILED


def explain(error: BaseException) -> str:
    """What went wrong, for a person: no traceback, and what to do where that is known."""
    error = innermost(error)
    extra = missing_extra(error)
    if extra:
        return f"this needs the extra '{extra}': pip install 'agentmesh-runtime[{extra}]'"
    if isinstance(error, KeyboardInterrupt):
        return "stopped"
    hint = error.hint if isinstance(error, AgentMeshError) else None
    text = str(error)
    if isinstance(error, MeshFileError) and len(error.mistakes) > 1:
        text = f"{len(error.mistakes)} mistakes in the mesh file:\n{text}"
    if isinstance(error, OSError) and not isinstance(error, AgentMeshError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if not _expected(error):
        text = f"unexpected {type(error).__name__}: {text}"
        hint = "AGENTMESH_DEBUG=1 shows where; a report with that is welcome"
    if _is(error, "agentmesh_ledger", "LedgerError") and getattr(error, "is_check", False):
        others: tuple[BaseException, ...] = getattr(error, "others", ())
        told = [f"check {getattr(each, 'reason', '')}: {each}" for each in (error, *others)]
        if getattr(error, "more", False):
            told.append(f"there is more: the list ends after {len(told)}")
        text = "NOT VERIFIED, " + "\n".join(told)
    lines = clean(text).strip()
    return f"{lines}\n{clean(hint)}" if hint else lines


def report(error: BaseException) -> int:
    """Say on standard error what went wrong. Returns the exit code."""
    if os.environ.get("AGENTMESH_DEBUG") not in (None, "", "0"):
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(innermost(error), BrokenPipeError):
        return FAILED  # whoever read our output has gone, as with `| head -1`; there is nobody to tell
    try:
        print(f"agentmesh: {explain(error)}", file=sys.stderr)
    except OSError:
        pass  # nobody is there to read it; the exit code still speaks
    return code_for(error)


def innermost(error: BaseException) -> BaseException:
    """The error inside groups: task groups wrap what one task raised, and of several the first explains the rest."""
    while isinstance(error, BaseExceptionGroup):
        inner = cast(BaseExceptionGroup[BaseException], error).exceptions
        error = next((each for each in inner if _expected(innermost(each))), inner[0])
    return error


def missing_extra(error: BaseException) -> str | None:
    """The extra that brings a module which could not be imported; None for any other error."""
    reason = getattr(error, "reason", None)
    if reason == "no_store" and _is(error, "agentmesh_ledger", "LedgerError"):
        return "store,postgres" if "psycopg" in str(error) else "store"
    if _is(error, "agentmesh_servers.errors", "ServersError"):
        return cast(str | None, getattr(error, "extra", None))
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _EXTRAS.get(error.name.partition(".")[0])
    return None


def _code_for_own(error: AgentMeshError) -> int:
    if error.reason in ("no_ledger", "unreadable", "pins_unreadable"):
        return UNREADABLE
    if error.reason == "not_verified":
        return FAILED
    if error.reason.startswith("limit_"):
        return LIMIT
    if isinstance(error, ToolboxError):
        return USAGE if error.reason in _TOOLBOX_USAGE else FAILED
    return USAGE if error.reason in _USAGE_REASONS else FAILED


def _expected(error: BaseException) -> bool:
    """Whether an error is one that is told to people as it is, rather than a fault of this program."""
    return (
        isinstance(error, AgentMeshError | OSError | KeyboardInterrupt)
        or missing_extra(error) is not None
        or _is(error, "agentmesh_models", "ModelError")
        or _is(error, "agentmesh_ledger", "LedgerError")
        or _is(error, "agentmesh_servers.errors", "ServersError")
    )


def _is(error: BaseException, module: str, name: str) -> bool:
    """Whether `error` is of a leaf's class, without importing the leaf: what was never imported raised nothing."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None) if loaded else None
    return isinstance(kind, type) and isinstance(error, kind)
