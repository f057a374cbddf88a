"""Prices in the mesh file: whole micro-units, held to the table [accounts], and rounded once, upwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.accounts.price import price_of, used_at
from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh
from agentmesh.mesh.spec import PriceSpec

_MESH = """\
[mesh]
name = "desk"
[agents.front]
model = "nano"
role = "You ask."
peers = ["lab"]
{agent}
[peers.lab]
url = "https://lab.example/mcp"
{peer}
{accounts}
"""


def load(folder: Path, *, agent: str = "", peer: str = "", accounts: str = "[accounts]") -> object:
    (folder / "mesh.toml").write_text(_MESH.format(agent=agent, peer=peer, accounts=accounts))
    return load_mesh(folder)


def test_prices_are_read_and_nothing_is_the_default(tmp_path: Path) -> None:
    mesh = load(
        tmp_path,
        agent="price = {call = 5, thousand_tokens = 2}",
        peer="price = {call = 9, answer = 12}",
        accounts='[accounts]\nunit = "minute"',
    )
    assert mesh.accounts.unit == "minute"  # type: ignore[attr-defined]
    assert mesh.agents["front"].price == PriceSpec(call=5, thousand_tokens=2)  # type: ignore[attr-defined]
    price = mesh.peers["lab"].price  # type: ignore[attr-defined]
    assert (price.call, price.thousand_tokens, price.second, price.answer) == (9, 0, 0, 12)
    plain = load(tmp_path, accounts="")
    assert plain.accounts is None and plain.agents["front"].price == PriceSpec()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"agent": "price = {call = 0.5}"}, "agents.front.price.call"),
        ({"agent": "price = {call = -1}"}, "agents.front.price.call"),
        ({"agent": "price = {call = true}"}, "agents.front.price.call"),
        ({"agent": "price = {call = 1000000000001}"}, "agents.front.price.call"),
        ({"agent": "price = {calls = 1}"}, "agents.front.price.calls"),
        ({"agent": "price = {answer = 1}"}, "agents.front.price.answer"),
        ({"agent": "price = {call = 1}", "accounts": ""}, "beside a table [accounts] only"),
        ({"peer": "price = {call = 1}", "accounts": ""}, "beside a table [accounts] only"),
        ({"peer": "price = {thousand_tokens = 1}"}, "names no `answer`"),
        ({"peer": 'price = {call = 1}\nsigning = "off"'}, "receipts are signed"),
        ({"accounts": '[accounts]\nunit = "two words"'}, "accounts.unit"),
    ],
    ids=repr,
)
def test_a_price_that_cannot_be_meant_is_a_mistake_with_its_line(
    tmp_path: Path, given: dict[str, str], told: str
) -> None:
    with pytest.raises(MeshFileError) as error:
        load(tmp_path, **given)
    assert told in str(error.value)
    assert all(mistake.line is not None for mistake in error.value.mistakes)


def test_what_is_begun_of_a_micro_unit_counts_once_for_the_whole_answer() -> None:
    price = PriceSpec(call=3, thousand_tokens=2, second=1)
    assert price_of(price, tokens=0, milliseconds=0) == 3
    assert price_of(price, tokens=1, milliseconds=1) == 4  # 3 + 0.002 + 0.001
    assert price_of(price, tokens=1000, milliseconds=1000) == 6
    assert price_of(PriceSpec(), tokens=10**15, milliseconds=10**15) == 0


@given(*(st.integers(0, 10**12) for _ in range(5)))
def test_a_price_is_a_whole_number_and_never_less_for_more(
    call: int, thousand: int, second: int, tokens: int, milliseconds: int
) -> None:
    price = PriceSpec(call=call, thousand_tokens=thousand, second=second)
    due = price_of(price, tokens=tokens, milliseconds=milliseconds)
    assert isinstance(due, int)
    exact = 1000 * call + thousand * tokens + second * milliseconds
    assert exact <= 1000 * due < exact + 1000
    assert due <= price_of(price, tokens=tokens + 1, milliseconds=milliseconds + 1)


def test_no_answer_is_dearer_than_a_receipt_can_say() -> None:
    used = used_at(PriceSpec(thousand_tokens=10**12), tokens=10**12, seconds=1e300, unit="credit")
    assert used.price == used.milliseconds == 10**15
