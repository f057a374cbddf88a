"""The provider's till: each answer is billed once, and what comes back is recorded once, if we issued it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentmesh.accounts.till import Till
from agentmesh.mesh import Mesh, load_mesh
from agentmesh.serving.signing import Exchange
from agentmesh.serving.signing.statements import Asked
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.usage.receipt import SignedReceipt, read_signed

if TYPE_CHECKING:
    from tests.agentmesh.accounts.conftest import Owners

pytestmark = pytest.mark.anyio

_MESH = """\
[mesh]
name = "lab"
origin = "lab.example/critics"
[agents.critic]
model = "nano"
role = "You judge."
price = {call = 10, second = 1000}
[accounts]
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    (tmp_path / "mesh.toml").write_text(_MESH)
    return load_mesh(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path, owners: Owners) -> Iterator[Ledger]:
    with Ledger.open(
        tmp_path / "ledger.db", origin="lab.example/critics", keys=owners.there, create=True
    ) as found:
        yield found


@pytest.fixture
def till(mesh: Mesh, ledger: Ledger, owners: Owners) -> Till:
    return Till(mesh=mesh, ledger=ledger, key=owners.host)


def exchange(owners: Owners, asked: Asked, **other: Any) -> Exchange:
    made = Exchange(
        author=owners.front.id, subject="front@desk.example/front", dialogue="d1", digest=asked.exchange
    )
    return replace(made, **other)


def recorded(ledger: Ledger) -> list[SignedReceipt]:
    return [read_signed(each.message.facts) for each in ledger.read() if each.message.kind == "usage"]


async def test_an_answer_is_billed_once_however_often_it_is_told(
    owners: Owners, till: Till, ledger: Ledger
) -> None:
    asked = exchange(owners, owners.asked())
    first = await till.bill(asked, "critic", tokens=5, seconds=0.25)
    assert first is not None and await till.bill(asked, "critic", tokens=5, seconds=9.0) == first
    assert recorded(ledger) == [first]
    receipt = first.receipt
    assert (receipt.price, receipt.milliseconds, receipt.unit) == (260, 250, "credit")
    assert (receipt.asker, receipt.asker_log) == (owners.front.id, "desk.example/front")
    assert (receipt.provider, receipt.provider_log) == (owners.host.id, "lab.example/critics")
    assert first.asker_signature is None


@pytest.mark.parametrize(
    "other", [{"author": None}, {"subject": "front"}, {"subject": "front@no log"}], ids=repr
)
async def test_nobody_is_billed_who_cannot_be_held_to_it(
    owners: Owners, till: Till, ledger: Ledger, other: dict[str, Any]
) -> None:
    assert await till.bill(exchange(owners, owners.asked(), **other), "critic", tokens=1, seconds=1) is None
    assert recorded(ledger) == []


async def test_a_receipt_that_comes_back_signed_is_recorded_once(
    owners: Owners, till: Till, ledger: Ledger
) -> None:
    bill = await till.bill(exchange(owners, owners.asked()), "critic", tokens=5, seconds=0.25)
    assert bill is not None
    signed = bill.signed_by(owners.front)
    for _ in range(3):
        await till.take({"receipts": [signed.to_json()]})
    assert recorded(ledger) == [bill, signed]


async def test_what_we_did_not_issue_is_not_recorded(owners: Owners, till: Till, ledger: Ledger) -> None:
    """Strangers could fill the disk with it."""
    bill = await till.bill(exchange(owners, owners.asked()), "critic", tokens=5, seconds=0.25)
    assert bill is not None
    made_up = replace(bill.receipt, request="ab" * 32)
    cheaper = replace(bill.receipt, price=0)
    for value in (
        None,
        7,
        [],
        {"receipts": 7},
        {"receipts": [7, {}, None]},
        {"receipts": [bill.to_json()]},  # without the asker's signature
        {"receipts": [SignedReceipt(receipt=made_up).signed_by(owners.front).to_json()]},
        {"receipts": [SignedReceipt(receipt=cheaper).signed_by(owners.front).to_json()]},
        {"receipts": [{}] * 8 + [bill.signed_by(owners.front).to_json()]},  # more than go with one call
    ):
        await till.take(value)
    assert recorded(ledger) == [bill]


async def test_a_receipt_that_cannot_be_recorded_is_not_handed_out(
    owners: Owners, till: Till, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.close()
    assert await till.bill(exchange(owners, owners.asked()), "critic", tokens=5, seconds=0.25) is None
    assert "was not billed" in caplog.text


async def test_who_starts_anew_knows_what_has_not_come_back(
    owners: Owners, till: Till, ledger: Ledger, mesh: Mesh
) -> None:
    open_one, back = [
        await till.bill(exchange(owners, owners.asked()), "critic", tokens=5, seconds=0.25) for _ in range(2)
    ]
    assert open_one is not None and back is not None
    await till.take({"receipts": [back.signed_by(owners.front).to_json()]})
    anew = Till(mesh=mesh, ledger=ledger, key=owners.host)
    await anew.take({"receipts": [each.signed_by(owners.front).to_json() for each in (open_one, back)]})
    assert recorded(ledger) == [
        open_one, back, back.signed_by(owners.front), open_one.signed_by(owners.front)
    ]  # fmt: skip
