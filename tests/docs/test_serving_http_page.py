"""What docs/serving-http.md claims is so: its options, its limits and its answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from agentmesh.cli.app import app
from agentmesh.serving.http.address import Address
from agentmesh.serving.http.bodies import MAX_DEPTH, MAX_PARTS
from agentmesh.serving.http.limits import HttpLimits


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "serving-http.md").read_text()


def _serve() -> Any:
    return getattr(get_command(app), "commands")["serve"]  # noqa: B009  # typer's own class is no public type


def test_every_option_is_on_the_page_and_every_one_there_exists(page: str) -> None:
    options = {each for parameter in _serve().params for each in parameter.opts if each.startswith("--")}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) == options - {"--help"}


def test_the_address_shown_is_the_default(page: str) -> None:
    assert f"http://{Address()}/mcp" in page
    (http,) = (each for each in _serve().params if "--http" in each.opts)
    assert str(Address()) in http.help


def test_the_limits_shown_are_the_defaults(page: str) -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| [^|]+ \|$", page, re.MULTILINE))
    limits = HttpLimits()
    mib = 1024 * 1024
    assert {name: value for name, value in rows.items() if name not in ("what", "---")} == {
        "one request's body (`--max-body MIB`)": f"{limits.body // mib} MiB",
        "all bodies at one time": f"{limits.bodies // mib} MiB",
        "requests in work (`--max-calls N`)": f"{limits.calls}",
        "streams that only listen": f"{limits.streams}",
        "sessions of the older era": f"{limits.sessions}",
        "a session without a request": f"{limits.session_idle:.0f} s",
        "connections": f"{limits.connections}",
        "a request's head": f"{limits.head:.0f} s, 32 KiB",
        "its body, once the head is there": f"{limits.upload:.0f} s",
        "a client that reads nothing": f"{limits.stall:.0f} s",
        "depth of a body; lists, objects and values in it": f"{MAX_DEPTH}; {MAX_PARTS}",
    }
    assert f"gives calls in work {limits.drain:.0f} s" in page.replace("\n", " ")
    defaults = {parameter.name: parameter.default for parameter in _serve().params}
    assert (defaults["max_body"] * mib, defaults["max_calls"]) == (limits.body, limits.calls)
