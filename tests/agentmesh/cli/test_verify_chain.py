"""`agentmesh verify --chain`: a real node says whether the anchors' blocks are its own, and whether it holds more, or another branch."""

from __future__ import annotations

import io
import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentmesh.audit.on_chain import ask_chain
from agentmesh_ledger import Draft, KeyStore, Ledger, LedgerError, verify_transcript
from agentmesh_ledger.anchor.account import Account, account_from_environment
from agentmesh_ledger.anchor.calls import anchor_call
from agentmesh_ledger.anchor.chain import Chain, Log, TxReceipt
from agentmesh_ledger.anchor.contract import contract
from agentmesh_ledger.anchor.deploy import deploy
from agentmesh_ledger.anchor.evidence import verify_evidence
from agentmesh_ledger.anchor.fees import Fees
from agentmesh_ledger.anchor.receipt import evidence_from_receipts
from agentmesh_ledger.anchor.recording import record
from agentmesh_ledger.anchor.rpc import Rpc
from agentmesh_ledger.jcs import JsonValue
from agentmesh_ledger.report import evidence_lines

ORIGIN = "agentmesh.local/desk"
# The first two accounts of every development chain; their keys are known to everybody.
KEYS = (
    "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
)
pytest.importorskip("web3", reason="the extra chain is not installed")


@dataclass
class Desk:
    """A log, and a chain it is anchored on."""

    folder: Path
    url: str
    account: Account
    other: Account
    contract: str = ""
    ledgers: list[Ledger] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=lambda: count(1))

    def ask(self, method: str, *params: object) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self.ids), "method": method, "params": params}
        request = urllib.request.Request(
            self.url, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "error" not in told, told["error"]
        return told["result"]

    def open(self, name: str = "ledger.db", keys: str = "keys") -> Ledger:
        store = KeyStore(self.folder / keys)
        opened = Ledger.open(self.folder / name, origin=ORIGIN, keys=store, create=True)
        self.ledgers.append(opened)
        return opened

    def say(self, ledger: Ledger, text: str = "say") -> None:
        author = KeyStore(self.folder / "keys").agent("ada")
        ledger.append([Draft(author=author, kind=text, dialogue="d1")])

    def send(self, account: Account, to: str, data: bytes) -> str:
        """The hash of a transaction in a block of its own."""
        with Chain.connect(self.url) as chain:
            fees = Fees(max_fee=10_000_000_000, tip=1_000_000_000)
            nonce = chain.nonce(account.address)
            signed = account.sign(chain=chain.id(), nonce=nonce, to=to, data=data, gas=200_000, fees=fees)
            chain.send(signed.raw)
            assert self.mined(chain, signed.tx).good
            return signed.tx

    def anchor(
        self, ledger: Ledger, *, account: Account | None = None, at: str | None = None, write: bool = True
    ) -> str:
        """Anchors the log as it stands, and records that unless `write` is false; the block's hash."""
        size, root, to = ledger.size, ledger.root(ledger.size), at or self.contract
        tx = self.send(account or self.account, to, anchor_call(ORIGIN, size, root, None))
        return self.recorded(ledger, size, tx) if write else tx

    def mined(self, chain: Chain, tx: str) -> TxReceipt:
        """The receipt, which comes a moment after the block."""
        deadline = time.monotonic() + 30
        while (found := chain.receipt(tx)) is None:
            assert time.monotonic() < deadline
        return found

    def recorded(self, ledger: Ledger, size: int, tx: str) -> str:
        root = ledger.root(size)
        with Chain.connect(self.url) as chain:
            receipt = self.mined(chain, tx)
            assert receipt.good
            block = chain.block(receipt.block_hash)
            assert block is not None
            evidence = evidence_from_receipts(
                block.fields,
                chain.receipts(block),
                transaction=tx,
                chain=chain.id(),
                origin=ORIGIN,
                size=size,
                root=root,
            )
        anchored = verify_evidence(evidence, origin=ORIGIN, size=size, root=root)
        author = KeyStore(self.folder / "keys").agent("host")
        record(ledger, author, anchored, chain=31337, tx=tx, evidence=evidence)
        return anchored.block_hash

    def copy(self, ledger: Ledger, name: str) -> Path:
        """The database as it is now, elsewhere, and the keys with what stands beside them."""
        ledger.close()
        shutil.copytree(self.folder / "keys", self.folder / f"{name}.keys")
        return shutil.copy(self.folder / "ledger.db", self.folder / name)

    def branch(self, name: str) -> Ledger:
        """A copy that goes on by itself."""
        return self.open(name, f"{name}.keys")


@pytest.fixture
def desk(
    tmp_path: Path,
    anvil: Callable[..., AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Desk]:
    accounts = []
    for key in KEYS:
        monkeypatch.setenv("DESK_ACCOUNT", key)
        accounts.append(account_from_environment("DESK_ACCOUNT"))
    with anvil() as url:
        made = Desk(tmp_path, url, *accounts)
        with Chain.connect(url) as chain:
            made.contract = deploy(chain, accounts[1], poll=0.01).address
        yield made
        for each in made.ledgers:
            each.close()


def export(ledger: Ledger, path: Path, dialogue: str | None = None) -> Path:
    with path.open("wb") as out:
        ledger.export(out, dialogue=dialogue)
    return path


def refused(desk: Desk, agentmesh: Any, record: Path, *options: object) -> str:
    """What is said where a record is not verified, for people and for programs the same."""
    done = agentmesh("verify", record, "--chain", desk.url, *options)
    assert done.code == 1 and not done.out, done
    again = agentmesh("verify", record, "--chain", desk.url, "--json", *options)
    assert again.code == 1
    (told,) = again.lines
    assert told["verified"] is False
    return f"{told['check']}: {told['message']}"


@pytest.mark.spec("L-113", "L-119")
def test_anchors_whose_blocks_the_chain_has_are_pinned_and_their_depth_is_told(
    desk: Desk, agentmesh: Any, tmp_path: Path
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    first = desk.anchor(ledger)
    desk.say(ledger)
    second = desk.anchor(ledger)
    desk.ask("anvil_mine", "0x5")
    whole = export(ledger, tmp_path / "whole.jsonl")
    dialogue = export(ledger, tmp_path / "dialogue.jsonl", "d1")
    for path in (whole, dialogue, ledger.path):
        offline = agentmesh("verify", path)
        assert offline.code == 0 and "the block is the file's own word" in offline.out
        assert "on chain 31337 holds" not in offline.out
        done = agentmesh("verify", path, "--chain", desk.url)
        assert done.code == 0, done.err
        assert "own word" not in done.out and "real chain" not in done.out
        assert (
            f"({second}" in done.out and "it is on the chain, 5 blocks after it, as the node at" in done.out
        )
        assert "on chain 31337 holds 5 entries of it by" in done.out and "and nothing larger" in done.out
        assert f"whose account {desk.account.address} is" in done.out
        (told,) = agentmesh("verify", path, "--chain", desk.url, "--json").lines
        assert all(each["pinned"] for each in told["anchors"]) and told["anchors"]
        named = agentmesh("verify", path, "--chain", desk.url, "--sender", desk.account.address)
        assert named.code == 0 and "whose account" not in named.out
    assert f"({first}" in agentmesh("verify", whole, "--chain", desk.url).out
    assert agentmesh("verify", whole, "--block", first, "--block", second).code == 0
    wrong = agentmesh("verify", whole, "--block", "0x" + "17" * 32)
    assert wrong.code == 1 and "check anchor: no anchor stands in the block" in wrong.err


@pytest.mark.spec("L-119")
def test_a_database_that_was_rolled_back_is_caught_by_the_chain(desk: Desk, agentmesh: Any) -> None:
    ledger = desk.open()
    desk.say(ledger)
    before_any = desk.copy(ledger, "before.db")
    ledger = desk.open()
    desk.anchor(ledger)
    after_one = desk.copy(ledger, "after.db")
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    for old, options in ((after_one, ()), (before_any, ("--contract", desk.contract))):
        assert agentmesh("verify", old).code == 0  # sound in itself
        said = refused(desk, agentmesh, old, *options)
        assert (
            said.startswith("rollback: the chain holds 5 entries of this log") and "cut or put back" in said
        )
    said = refused(desk, agentmesh, before_any)
    assert said.startswith("anchor: the record shows no anchor on chain 31337")
    # The whole ledger, and what was anchored while it was verified.
    assert agentmesh("verify", ledger.path, "--chain", desk.url).code == 0


def test_a_ledger_that_grew_while_it_was_verified_is_not_rolled_back(desk: Desk) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    found = ledger.verify()
    desk.say(ledger)
    desk.anchor(ledger)
    with Chain.connect(desk.url) as chain:
        told = ask_chain(found, chain, ledger=ledger)
        assert "holds 5 entries of it" in told.complete and found.tree_size == 4
        with pytest.raises(LedgerError) as caught:
            ask_chain(found, chain)
    assert caught.value.reason == "rollback" and "ask for one of today" in str(caught.value)


@pytest.mark.spec("L-119")
def test_another_branch_of_the_log_is_caught_whichever_is_shown(
    desk: Desk, agentmesh: Any, tmp_path: Path
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.copy(ledger, "branch.db")
    desk.copy(ledger, "third.db")
    ledger, branch, third = desk.open(), desk.branch("branch.db"), desk.branch("third.db")
    desk.say(ledger, "one")
    desk.say(branch, "two")
    desk.anchor(ledger, write=False)
    desk.say(branch, "more")
    said = refused(desk, agentmesh, branch.path, "--contract", desk.contract)
    assert said.startswith("forked: the chain holds another root for the first 3 entries")
    # A branch of the very size, as a transcript.
    desk.say(third, "three")
    assert third.size == 3
    path = export(third, tmp_path / "third.jsonl")
    assert refused(desk, agentmesh, path, "--contract", desk.contract).startswith("forked: ")
    assert agentmesh("verify", ledger.path, "--chain", desk.url, "--contract", desk.contract).code == 0


@pytest.mark.spec("L-119")
def test_a_block_that_was_made_up_is_not_on_the_chain(desk: Desk, agentmesh: Any, tmp_path: Path) -> None:
    """What anybody can do offline: publish on a chain of their own, and call it by another's number."""
    ledger = desk.open()
    desk.say(ledger)
    before = desk.ask("evm_snapshot")
    desk.anchor(ledger)
    path = export(ledger, tmp_path / "t.jsonl")
    desk.ask("evm_revert", before)
    desk.ask("anvil_mine", "0x3")
    assert agentmesh("verify", path).code == 0
    for shown in (path, ledger.path):
        said = refused(desk, agentmesh, shown)
        assert said.startswith("anchor: block 2 of chain 31337 is another one") and "made up" in said


@pytest.mark.spec("L-119")
def test_an_anchor_whose_block_was_dropped_stands_by_the_one_that_was_mined_anew(
    desk: Desk, agentmesh: Any
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    size, root = ledger.size, ledger.root(ledger.size)
    before = desk.ask("evm_snapshot")
    tx = desk.send(desk.account, desk.contract, anchor_call(ORIGIN, size, root, None))
    lost = desk.recorded(ledger, size, tx)
    desk.ask("evm_revert", before)
    desk.ask("anvil_mine", "0x2")
    assert refused(desk, agentmesh, ledger.path).startswith("anchor: ")
    again = desk.send(desk.account, desk.contract, anchor_call(ORIGIN, size, root, None))
    found = desk.recorded(ledger, size, again)
    assert found != lost
    done = agentmesh("verify", ledger.path, "--chain", desk.url)
    assert done.code == 0, done.err
    (told,) = agentmesh("verify", ledger.path, "--chain", desk.url, "--json").lines
    assert [each["pinned"] for each in told["anchors"]] == [False, True]
    assert "not pinned" in done.out  # the lost one is told for what it is
    gone = told["anchors"][0]["block_hash"]
    assert f"nothing is shown by block {told['anchors'][0]['block']} of chain 31337 ({gone}" in done.out
    assert refused(desk, agentmesh, ledger.path, "--block", gone).startswith("anchor: ")


@pytest.mark.spec("L-119")
def test_an_anchor_whose_block_was_dropped_stands_by_a_larger_one_that_came_instead(
    desk: Desk, agentmesh: Any, tmp_path: Path
) -> None:
    """A reorg took it, and another program its nonce: what is signed anew is of a larger size."""
    ledger = desk.open()
    desk.say(ledger)
    before = desk.ask("evm_snapshot")
    desk.anchor(ledger)
    desk.ask("evm_revert", before)
    desk.ask("anvil_mine", "0x2")
    assert refused(desk, agentmesh, ledger.path, "--contract", desk.contract).startswith("anchor: ")
    desk.anchor(ledger)
    # The dialogue has ended before the one that was dropped.
    whole, part = export(ledger, tmp_path / "t.jsonl"), export(ledger, tmp_path / "d.jsonl", "d1")
    for shown in (ledger.path, whole, part):
        done = agentmesh("verify", shown, "--chain", desk.url)
        assert done.code == 0, done.err


@pytest.mark.spec("L-119")
def test_a_contract_that_is_not_ours_is_told(desk: Desk, agentmesh: Any) -> None:
    ledger = desk.open()
    desk.say(ledger)
    other = "0x" + "c0" * 20
    desk.ask("anvil_setCode", other, f"0x{contract().runtime.hex()}00")
    desk.anchor(ledger, at=other)
    said = refused(desk, agentmesh, ledger.path)
    assert said.startswith(f"anchor: the code at {other} on chain 31337 is not that of the contract")
    assert refused(desk, agentmesh, ledger.path, "--contract", "0x" + "17" * 20).startswith(
        "anchor: the code"
    )
    said = refused(desk, agentmesh, ledger.path, "--contract", desk.contract)
    assert said.startswith("anchor: the contract") and "holds nothing of this log" in said


def test_a_stranger_who_publishes_under_our_origin_is_told_apart_by_the_account(
    desk: Desk, agentmesh: Any
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    before_any = desk.copy(ledger, "before.db")
    ledger = desk.open()
    desk.anchor(ledger)
    desk.send(desk.other, desk.contract, anchor_call(ORIGIN, 1_000, b"\x17" * 32, None))
    # The record's own anchors say whose: the stranger's is nobody's business.
    assert agentmesh("verify", ledger.path, "--chain", desk.url).code == 0
    said = refused(desk, agentmesh, before_any, "--contract", desk.contract)
    assert said.startswith("rollback: the chain holds 1000 entries") and desk.other.address in said
    ours = ("--contract", desk.contract, "--sender", desk.account.address)
    assert agentmesh("verify", before_any, "--chain", desk.url, *ours).code == 0
    assert refused(desk, agentmesh, ledger.path, "--sender", desk.other.address).startswith("anchor: ")


class Limited(Chain):
    """A node that shows so many blocks at once, and perhaps no events."""

    most = 2
    blind = False

    def logs(
        self, address: str, topics: tuple[str | None, ...], first: int, last: int
    ) -> tuple[Log, ...] | None:
        found = super().logs(address, topics, first, last)
        return None if last - first >= self.most else () if self.blind else found


def test_a_node_that_shows_few_blocks_at_once_is_asked_piece_by_piece(desk: Desk) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    desk.ask("anvil_mine", "0x20")
    desk.say(ledger)
    desk.anchor(ledger)
    with Limited.connect(desk.url) as chain:
        assert "holds 5 entries of it" in ask_chain(ledger.verify(), chain, ledger=ledger).complete


def test_a_node_that_hides_the_events_is_not_believed(desk: Desk) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    with Limited.connect(desk.url) as chain:
        assert isinstance(chain, Limited)
        chain.blind = True
        with pytest.raises(LedgerError) as caught:
            ask_chain(ledger.verify(), chain, ledger=ledger)
    assert caught.value.reason == "node" and "leaves out events" in str(caught.value)


@pytest.mark.parametrize("hidden", [0, 1])
def test_a_node_that_hides_or_alters_one_event_of_three_is_not_believed(desk: Desk, hidden: int) -> None:
    class Hiding(Limited):
        """Leaves one checkpoint out, whichever blocks it is asked for."""

        gone: str = ""

        def logs(
            self, address: str, topics: tuple[str | None, ...], first: int, last: int
        ) -> tuple[Log, ...] | None:
            found = Chain.logs(self, address, topics, first, last)
            return found and tuple(each for each in found if each.tx != self.gone)

    ledger = desk.open()
    for _ in range(3):
        desk.say(ledger)
        desk.anchor(ledger)
    anchors = [each for each in ledger.read() if each.message.kind == "anchor"]
    # The record shows the last one only: what was before is the node's word, and the contract's.
    shown = replace(ledger.verify(), anchors=ledger.verify().anchors[-1:])
    with Hiding.connect(desk.url) as chain:
        assert isinstance(chain, Hiding)
        assert "and nothing larger" in ask_chain(shown, chain, ledger=ledger).complete
        chain.gone = str(anchors[hidden].message.facts["tx"])
        with pytest.raises(LedgerError) as caught:
            ask_chain(shown, chain, ledger=ledger)
    assert caught.value.reason == "node" and "leaves out events" in str(caught.value)


def test_a_node_that_has_the_block_and_lags_with_what_the_contract_holds_cannot_tell(desk: Desk) -> None:
    class Lagging(Limited):
        """Two nodes behind one address: what was logged lately comes from the one that is behind."""

        def call(self, to: str, data: bytes) -> bytes:
            return bytes(64) if self.blind else held

        def logs(
            self, address: str, topics: tuple[str | None, ...], first: int, last: int
        ) -> tuple[Log, ...] | None:
            found = Chain.logs(self, address, topics, first, last)
            return found and (() if self.blind else found[:1])

    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    size = next(each.message.facts["size"] for each in ledger.read() if each.message.kind == "anchor")
    assert isinstance(size, int)
    held = size.to_bytes(32, "big") + bytes(32)
    desk.say(ledger)
    desk.anchor(ledger)
    for blind in (True, False):
        with Lagging.connect(desk.url) as chain:
            assert isinstance(chain, Lagging)
            chain.blind = blind
            with pytest.raises(LedgerError) as caught:
                ask_chain(ledger.verify(), chain, ledger=ledger)
        assert caught.value.reason == "node"


@pytest.mark.parametrize("gives", ["nothing", "another"])
def test_a_node_that_gives_no_block_or_another_than_was_asked_for_cannot_tell(desk: Desk, gives: str) -> None:
    class Mistaken(Chain):
        """Has lost its older blocks, or takes one for another."""

        def __init__(self, rpc: Rpc, *, chain_id: int | None = None) -> None:
            super().__init__(rpc, chain_id=chain_id)
            asked = rpc.ask

            def ask(method: str, *params: JsonValue) -> JsonValue:
                if method == "eth_getBlockByNumber" and params[0] != "latest":
                    return None if gives == "nothing" else asked(method, "0x1", False)
                return asked(method, *params)

            rpc.ask = ask  # type: ignore[method-assign]

    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    with Mistaken.connect(desk.url) as chain, pytest.raises(LedgerError) as caught:
        ask_chain(ledger.verify(), chain, ledger=ledger)
    assert caught.value.reason == "node"


def test_a_log_that_is_anchored_while_the_chain_is_asked_is_no_lie_of_the_node(desk: Desk) -> None:
    class Busy(Chain):
        """Another process anchors between what the contract holds and its events."""

        def call(self, to: str, data: bytes) -> bytes:
            found = super().call(to, data)
            if not more:
                more.append(True)
                desk.say(ledger)
                desk.anchor(ledger)
            return found

    more: list[bool] = []
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    with Busy.connect(desk.url) as chain:
        assert "holds 5 entries of it" in ask_chain(ledger.verify(), chain, ledger=ledger).complete
    assert more


def test_a_node_that_is_behind_or_of_another_chain_cannot_tell(
    desk: Desk, anvil: Callable[..., AbstractContextManager[str]], agentmesh: Any
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    with anvil() as behind:
        done = agentmesh("verify", ledger.path, "--chain", behind)
        assert done.code == 3 and "is at block 0, and an anchor in block 2" in done.err
    with anvil("--chain-id", "5") as other:
        done = agentmesh("verify", ledger.path, "--chain", other)
        assert done.code == 1 and "shows no anchor on chain 5" in done.err


def test_a_node_that_is_down_is_named_without_what_is_secret_in_its_address(
    desk: Desk, agentmesh: Any
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    done = agentmesh("verify", ledger.path, "--chain", "http://127.0.0.1:9/v3/SECRETKEY")
    assert done.code == 3 and "127.0.0.1:9" in done.err and "SECRETKEY" not in done.err
    assert "NOT VERIFIED" not in done.err  # nothing was found to be wrong


def test_a_nodes_address_is_taken_from_the_environment(
    desk: Desk, agentmesh: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    monkeypatch.setenv("NODE_URL", desk.url)
    monkeypatch.setenv("NO_URL", "SECRETKEY")
    asked = agentmesh("verify", ledger.path, "--chain-env", "NODE_URL")
    assert asked.code == 0 and asked.out == agentmesh("verify", ledger.path, "--chain", desk.url).out
    for options, words in (
        (("--chain-env", "NO_URL"), ("--chain-env NO_URL", "http://")),
        (("--chain-env", "NOT_SET"), ("NOT_SET is not set",)),
        (("--chain-env", "http://127.0.0.1:9/SECRETKEY"), ("no name of an environment variable",)),
        (("--chain-env", "NODE_URL", "--chain", desk.url), ("--chain or --chain-env, not both",)),
    ):
        done = agentmesh("verify", ledger.path, *options)
        assert done.code == 2 and not done.out and all(word in done.err for word in words)
        assert "SECRETKEY" not in done.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--block", "0x12"), "--block"),
        (("--contract", "0x" + "17" * 20), "--chain"),
        (("--sender", "0x" + "17" * 20), "--chain"),
        (("--chain", "http://127.0.0.1:9", "--contract", "x"), "--contract"),
        (("--chain", "127.0.0.1:8545"), "--chain"),
        (("--chain", "file:///dev/null"), "--chain"),
        (("--chain", "http://127.0.0.1:9", "--with", "other.jsonl"), "--with"),
    ],
)
def test_what_cannot_be_meant_is_usage(
    recorded: Path, agentmesh: Any, options: tuple[str, ...], word: str
) -> None:
    done = agentmesh("verify", recorded, *options)
    assert done.code == 2 and word in done.err and not done.out


def test_the_words_of_evidence_that_was_not_asked_for_stay_as_they_are(desk: Desk) -> None:
    ledger = desk.open()
    desk.say(ledger)
    desk.anchor(ledger)
    out = io.BytesIO()
    ledger.export(out)
    found = verify_transcript(io.BytesIO(out.getvalue()))
    with Chain.connect(desk.url) as chain:
        told = ask_chain(found, chain)
    assert found.on_chain == {} and not any(each.pinned for each in found.anchors)
    assert any("only the chain can tell" in each for each in found.not_shown)
    assert not any("only the chain can tell" in each for each in told.not_shown)
    assert evidence_lines(found) != evidence_lines(told)
