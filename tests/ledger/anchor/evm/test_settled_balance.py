"""A balance under a root that a real chain has: proved offline by the log's anchor and the block's receipt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmesh_ledger import Draft, DraftPart, JsonValue, KeyStore, LedgerError
from agentmesh_ledger.anchor.receipt import evidence_from_receipts
from agentmesh_ledger.checkpoint import parse_checkpoint
from agentmesh_ledger.checks import first_link
from agentmesh_ledger.jcs import canonical, parse
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.note import parse_note
from agentmesh_ledger.usage.balance_proof import verify_balance
from agentmesh_ledger.usage.proving import prove_balance
from agentmesh_ledger.usage.receipt import SignedReceipt, UsageReceipt
from agentmesh_ledger.usage.report import balance_json, balance_text
from agentmesh_ledger.usage.settlement import settlement_root

SETTLED = "anchor_settled(bytes32,uint64,bytes32,bytes32)"


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def ledger(tmp_path: Path, keys: KeyStore) -> Iterator[Ledger]:
    with Ledger.open(
        tmp_path / "ledger.db", origin=f"example.org/{tmp_path.name}", keys=keys, create=True
    ) as found:
        yield found


def use(ledger: Ledger, keys: KeyStore, price: int, unit: str = "credit") -> None:
    ada, bob = keys.agent("ada"), keys.agent("bob")
    asked = ledger.append([Draft(author=each, kind="call", dialogue="d1") for each in (bob, ada)])[1]
    receipt = UsageReceipt(
        asker=ada.id,
        asker_log=ledger.origin,
        provider=bob.id,
        provider_log=ledger.origin,
        dialogue="d1",
        request=asked.leaf_hash.hex(),
        tokens=1,
        milliseconds=1,
        price=price,
        unit=unit,
    )
    facts = SignedReceipt(receipt=receipt).signed_by(ada).signed_by(bob).to_json()
    ledger.append([Draft(author=bob, kind="usage", dialogue="d1", facts=facts)])


def anchor(
    chain: Any,
    deployed: str,
    ledger: Ledger,
    keys: KeyStore,
    other: dict[str, JsonValue] | None = None,
    more: int = 0,
) -> tuple[str, dict[str, JsonValue]]:
    """Publishes checkpoint and balances, and records it as `anchor push --settle` does; `other` are facts told otherwise,
    `more` how many entries too many are published."""
    head = parse_checkpoint(parse_note(ledger.checkpoint()).text)
    root = settlement_root(ledger, head.size)
    head = replace(head, size=head.size + more)
    mined = chain.mine(deployed, SETTLED, first_link(ledger.origin), head.size, head.root, root)
    block, receipts = chain.block("latest")
    evidence = evidence_from_receipts(
        block,
        receipts,
        transaction=mined["transactionHash"],
        chain=31337,
        origin=ledger.origin,
        size=head.size,
        root=head.root,
        contract=deployed,
    )
    facts: dict[str, JsonValue] = {
        "type": "evm",
        "chain": 31337,
        "contract": deployed,
        "sender": chain.accounts[0],
        "size": head.size,
        "root": head.root.hex(),
        "block": int(block["number"], 16),
        "block_hash": block["hash"],
        "tx": mined["transactionHash"],
        **(other or {}),
    }
    part = DraftPart(
        name="evidence", type="application/vnd.agentmesh.anchor.v1+json", data=canonical(evidence)
    )
    host = keys.agent("host")
    ledger.append([Draft(author=host, kind="anchor", dialogue="log", parts=(part,), facts=facts)])
    return block["hash"], evidence


@pytest.mark.spec("L-158", "L-159")
def test_a_balance_is_proved_against_the_root_that_the_chain_has(
    chain: Any, deployed: str, ledger: Ledger, keys: KeyStore
) -> None:
    use(ledger, keys, 7)
    block, _ = anchor(chain, deployed, ledger, keys)
    settled_at = ledger.size - 2  # the host was registered before its anchor
    use(ledger, keys, 5)  # after the anchor: not in its root
    made = prove_balance(ledger, keys.agent("bob").id, None, author=None)
    assert (made.anchored, made.appended) == (True, False)
    found = verify_balance(made.data, keys=[ledger.vkey()], blocks=frozenset({block}))
    assert (found.balance.net, found.size) == (7, settled_at)
    assert found.anchored is not None and found.anchored.pinned
    told = balance_text(found, "bob.balance")
    assert "the block you named" in told and "by the log's word on chain 31337" in told
    assert f"contract {deployed.lower()}" in told  # whose code the reader has to look at
    unnamed = verify_balance(made.data, keys=[ledger.vkey()])
    assert "the file's own word: name the block with --block" in balance_text(unnamed, "bob.balance")
    value = balance_json(unnamed, "bob.balance")["anchored"]
    assert isinstance(value, dict) and (value["block_hash"], value["pinned"]) == (block, False)
    other = frozenset({"17" * 32})
    with pytest.raises(LedgerError, match="block that you named"):
        verify_balance(made.data, keys=[ledger.vkey()], blocks=other)
    newest = prove_balance(ledger, keys.agent("bob").id, None, author=keys.agent("host"), newest=True)
    with pytest.raises(LedgerError, match="block that you named"):
        verify_balance(newest.data, keys=[ledger.vkey()], blocks=other)
    assert (newest.anchored, newest.appended) == (False, True)
    assert verify_balance(newest.data, keys=[ledger.vkey()]).balance.net == 12


def test_no_root_older_than_the_newest_is_taken_where_that_one_does_not_do(
    chain: Any, deployed: str, ledger: Ledger, keys: KeyStore
) -> None:
    use(ledger, keys, 7)
    anchor(chain, deployed, ledger, keys)
    use(ledger, keys, 5, unit="minute")
    anchor(chain, deployed, ledger, keys)
    with pytest.raises(LedgerError, match="several units"):
        prove_balance(ledger, keys.agent("bob").id, None, author=None)
    made = prove_balance(ledger, keys.agent("bob").id, "minute", author=None)
    assert (made.anchored, verify_balance(made.data, keys=[ledger.vkey()]).balance.net) == (True, 5)


@pytest.mark.spec("L-159")
@pytest.mark.parametrize(
    "other",
    [
        {"chain": 1},
        {"sender": "0x" + "11" * 20},
        {"contract": "0x" + "22" * 20},
        {"block": 1_000_000},
        {"block_hash": "0x" + "33" * 32},
        {"root": "44" * 32},
        {"size": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_an_anchor_that_the_log_tells_otherwise_proves_nothing(
    chain: Any, deployed: str, ledger: Ledger, keys: KeyStore, other: dict[str, JsonValue]
) -> None:
    """Anybody may publish anything about any log: what counts is what the log itself recorded."""
    use(ledger, keys, 7)
    _, evidence = anchor(chain, deployed, ledger, keys, other)
    value = parse(prove_balance(ledger, keys.agent("bob").id, None, author=keys.agent("host")).data[:-1])
    assert isinstance(value, dict)
    index = next(each.index for each in ledger.read(dialogue="log") if each.message.kind == "anchor")
    size = other.get("size", index - 1)
    forged = {**value, "entry": ledger.prove(index), "evidence": evidence, "size": size}
    with pytest.raises(LedgerError) as told:
        verify_balance(canonical(forged) + b"\n", keys=[ledger.vkey()])
    assert told.value.reason in ("anchor", "usage")


@pytest.mark.spec("L-117", "L-158")
def test_an_anchor_of_more_entries_than_stand_before_it_proves_no_balance(
    chain: Any, deployed: str, ledger: Ledger, keys: KeyStore
) -> None:
    use(ledger, keys, 7)
    _, evidence = anchor(chain, deployed, ledger, keys, more=1_000_000)
    value = parse(prove_balance(ledger, keys.agent("bob").id, None, author=keys.agent("host")).data[:-1])
    assert isinstance(value, dict)
    recorded = next(each for each in ledger.read(dialogue="log") if each.message.kind == "anchor")
    said = {
        "entry": ledger.prove(recorded.index),
        "evidence": evidence,
        "size": recorded.message.facts["size"],
    }
    with pytest.raises(LedgerError, match="more entries"):
        verify_balance(canonical({**value, **said}) + b"\n", keys=[ledger.vkey()])


@pytest.mark.spec("L-159")
def test_no_byte_of_an_anchored_proof_changes_unseen(
    chain: Any, deployed: str, ledger: Ledger, keys: KeyStore
) -> None:
    use(ledger, keys, 7)
    anchor(chain, deployed, ledger, keys)
    data = prove_balance(ledger, keys.agent("ada").id, None, author=None).data
    for place in range(0, len(data), 7):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(LedgerError):
            verify_balance(changed, keys=[ledger.vkey()])
