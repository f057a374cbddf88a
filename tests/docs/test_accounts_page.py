"""Every claim of docs/accounts.md that can be tried."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from agentmesh.accounts.book import MAX_GIVEN_BACK
from agentmesh.accounts.price import price_of
from agentmesh.cli.app import app
from agentmesh.mesh import load_mesh
from agentmesh.mesh.spec import AccountsSpec, AgreedSpec, PriceSpec
from agentmesh.serving.signing import USAGE_KEY
from agentmesh_ledger.commands import COMMANDS
from agentmesh_ledger.usage.balance_proof import ANCHOR
from agentmesh_ledger.usage.balances import Why
from agentmesh_ledger.usage.binding import BIND, DOMAIN_NAME, DOMAIN_VERSION, UNBIND, Binding
from agentmesh_ledger.usage.receipt import MICRO, USAGE
from agentmesh_ledger.usage.settlement import SETTLEMENT


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "accounts.md").read_text()


def test_the_mesh_file_shown_loads_and_its_unit_is_the_default(page: str, tmp_path: Path) -> None:
    (code,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "mesh.toml").write_text(code)
    mesh = load_mesh(tmp_path)
    assert mesh.accounts == AccountsSpec()
    assert mesh.agents["math"].price == PriceSpec(call=10, thousand_tokens=2000)
    assert mesh.peers["lab"].price == AgreedSpec(call=50, thousand_tokens=3000, answer=500)


def test_so_many_micro_units_are_one_unit(page: str) -> None:
    assert f"{MICRO:,} of them are one unit" in page
    assert price_of(PriceSpec(call=10, thousand_tokens=2000), tokens=501, milliseconds=0) == 10 + 1002


def test_the_reasons_are_those_of_the_code(page: str) -> None:
    assert re.findall(r"^\| `([a-z]+)` \|", page, re.MULTILINE) == list(get_args(Why))


def test_names_and_numbers_are_those_of_the_code(page: str) -> None:
    assert f"`{USAGE_KEY}`" in page
    assert {8: "the last eight"}[MAX_GIVEN_BACK] in page
    assert f"domain `{DOMAIN_NAME}`, version `{DOMAIN_VERSION}`" in page
    agent = "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw"
    data = Binding(agent=agent, address="0x" + "11" * 20, log="example.org/desk").typed_data()  # type: ignore[arg-type]
    fields = ",".join(f"{each['type']} {each['name']}" for each in data["types"]["Binding"])  # type: ignore[call-overload,index]
    assert f"`Binding({fields})`" in page


def test_the_commands_are_there_with_their_options(page: str) -> None:
    lines = [
        line[2:]
        for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(lines) == 8
    for line in lines:
        program, *words = shlex.split(line)
        if program == "agentmesh-verify":
            COMMANDS[words[0]].parser().parse_args(words[1:])
            continue
        command = get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = getattr(command, "commands")[words.pop(0)]  # noqa: B009  # typer's own class is no public type
        if hasattr(command, "commands"):  # `agentmesh accounts RECORD` shows it
            command = getattr(command, "commands")["show"]  # noqa: B009
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= options, line


def test_what_both_ledgers_keep_is_told_under_the_pages_names(page: str, root: Path) -> None:
    assert "Usage, bindings and balances" in (root / "ledger" / "SPEC.md").read_text()
    for name in (USAGE, SETTLEMENT, ANCHOR, BIND, UNBIND):
        assert f"`{name}`" in page
