"""A ledger before real witnesses: cosigned, and caught where it was rolled back or forked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from agentmesh_ledger import Draft, KeyStore, Ledger, LedgerError
from agentmesh_ledger.fork import parse_fork, verify_fork
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.policy import parse_policy
from agentmesh_ledger.witness.folder import WitnessFolder
from agentmesh_ledger.witness.trusted import trust_logs

NAME = "agentmesh.local/gathered"


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Path, int], None]:
    """Appends so many messages to a copy of the log."""
    keys = KeyStore(tmp_path / "keys")

    def append(path: Path, count: int) -> None:
        # The memory beside the key would catch what the witnesses are to catch here.
        (tmp_path / "keys" / "logs" / "agentmesh.local%2Fgathered.checkpoint").unlink(missing_ok=True)
        with Ledger.open(path, origin=NAME, keys=keys, create=True) as ledger:
            for _ in range(count):
                ledger.append([Draft(author=keys.agent("ada"), kind="note", dialogue="d")])

    return append


@pytest.mark.spec("L-132", "L-136")
@pytest.mark.parametrize("size", [5, 8], ids=["any size", "a power of two"])
def test_three_witnesses_cosign_a_ledger_and_catch_its_second_branch(
    desk, tmp_path: Path, write: Callable[[Path, int], None], size: int
) -> None:
    path, keys = tmp_path / "ledger.db", KeyStore(tmp_path / "keys")
    write(path, size - 2)  # with ada's registration, one less than the size
    shutil.copy(path, tmp_path / "branch.db")
    write(path, 1)
    write(tmp_path / "branch.db", 3)
    vkey, places = keys.vkey(NAME), [WitnessFolder.at(tmp_path / f"wit{each}") for each in range(3)]
    with ExitStack() as stack:
        lines = [f"log {vkey}"]
        for number, place in enumerate(places):
            trust_logs(place.logs, [vkey])
            port, _ = stack.enter_context(type(desk)(place=place).serving())
            lines.append(f"witness w{number} {place.key().vkey} http://127.0.0.1:{port}")
        policy = parse_policy("\n".join([*lines, "group most 2 w0 w1 w2", "quorum most", ""]).encode())
        with Ledger.open(path, origin=NAME, keys=keys, read_only=True) as ledger:
            assert ledger.size == size
            gathered = ledger.gather(policy, within=60)
            assert gathered.evidence is not None and not gathered.failures
        with Ledger.open(tmp_path / "branch.db", origin=NAME, keys=keys, read_only=True) as branch:
            with pytest.raises(LedgerError) as error:
                branch.gather(policy, within=60)
        assert error.value.reason == "forked"
    # The log's own side has the proof whatever the size; a witness only where the proof that came along shows it.
    (proof,) = (tmp_path / "keys" / "logs").glob("*.fork")
    assert verify_fork(parse_fork(proof.read_bytes()), [parse_vkey(vkey)]).first.size == size
    kept = [each for place in places for each in place.forks.glob("*")]
    assert bool(kept) == (size != 8)
    for each in kept:
        verify_fork(parse_fork(each.read_bytes()), [parse_vkey(vkey)])


def test_a_ledger_put_back_from_an_older_copy_is_caught(
    desk, tmp_path: Path, write: Callable[[Path, int], None]
) -> None:
    path, keys = tmp_path / "ledger.db", KeyStore(tmp_path / "keys")
    write(path, 3)
    shutil.copy(path, tmp_path / "older.db")
    write(path, 2)
    vkey = keys.vkey(NAME)
    desk.place = WitnessFolder.at(tmp_path / "wit")
    trust_logs(desk.place.logs, [vkey])
    with desk.serving() as (port, _):
        lines = [f"log {vkey}", f"witness w {desk.place.key().vkey} http://127.0.0.1:{port}", "quorum w", ""]
        policy = parse_policy("\n".join(lines).encode())
        with Ledger.open(path, origin=NAME, keys=keys, read_only=True) as ledger:
            ledger.gather(policy, within=60)
            ledger.require_continued(policy, within=60)
        with Ledger.open(tmp_path / "older.db", origin=NAME, keys=keys, read_only=True) as older:
            with pytest.raises(LedgerError) as error:
                older.require_continued(policy, within=60)
        assert error.value.reason == "rollback"
