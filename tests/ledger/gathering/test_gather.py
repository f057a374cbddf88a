"""Cosignatures gathered from honest witnesses, few or many, up or down, while the log grows."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from pathlib import Path

import pytest

from agentmesh_ledger import KeyStore, Ledger, LedgerError, parse_policy
from agentmesh_ledger.cosignature import CosignerKey, cosignatures
from agentmesh_ledger.note import parse_note

HUNG = 30.0  # seconds that nobody should wait for


def names(found) -> list[str]:
    assert found.evidence is not None, found.unmet
    return [each.witness for each in found.evidence.witnesses]


@pytest.mark.spec("L-124")
def test_all_witnesses_cosign_what_the_log_has_and_later_what_it_has_become(
    ledger, witnesses, make_policy, grow, signed_by
) -> None:
    three = witnesses(3)
    policy = make_policy(ledger.vkey(), three, 2)
    for size in (0, 2, 3, 8, 11, 300):
        grow(ledger, size)
        found = ledger.gather(policy, within=HUNG)
        assert found.size == size == signed_by(ledger, found.note)
        assert names(found) == ["W0", "W1", "W2"] and found.unmet is None and found.failures == ()
        assert found.evidence.size == size and ledger.cosigned() == found.note
        keys = [CosignerKey(name=each.name, public=each.key.public) for each in three]
        assert {each.key for each in cosignatures(parse_note(found.note), keys)} == set(keys)
    # What each holds is known after the first answer: nobody had to be told a size.
    assert [each.olds for each in three] == [[0, 0, 2, 3, 8, 11]] * 3


def test_a_ledger_that_is_opened_anew_knows_from_its_note_what_the_witnesses_hold(
    ledger, witnesses, make_policy, grow
) -> None:
    (one,) = witnesses(1)
    policy = make_policy(None, [one], 1)
    grow(ledger, 5)
    ledger.gather(policy, within=HUNG)
    grow(ledger, 7)
    keys = KeyStore(ledger.path.parent / "keys")
    with Ledger.open(ledger.path, keys=keys, read_only=True) as reader:
        assert reader.gather(policy, within=HUNG).size == 7
    assert one.olds == [0, 5]
    # A witness is told at once where the ledger was wrong about it.
    keys.cosigned(ledger.origin).path.unlink()
    with Ledger.open(ledger.path, keys=keys, read_only=True) as reader:
        assert reader.gather(policy, within=HUNG).evidence is not None
    assert one.olds == [0, 5, 0, 7]


@pytest.mark.spec("L-124", "L-129")
def test_a_witness_that_hangs_holds_nobody_up_once_the_others_suffice(
    ledger, witnesses, make_policy, grow
) -> None:
    three = witnesses(3)
    three[1].trick = three[1].hang
    grow(ledger, 4)
    start = time.monotonic()
    found = ledger.gather(make_policy(ledger.vkey(), three, 2), within=HUNG)
    assert time.monotonic() - start < HUNG / 2
    assert names(found) == ["W0", "W2"]
    assert [(each.name, each.reason) for each in found.failures] == [("W1", "slow")]


def test_a_policy_that_is_not_met_is_told_and_what_there_is_is_kept(
    ledger, witnesses, make_policy, grow
) -> None:
    three = witnesses(3)
    with socket.socket() as nobody:  # bound, and never listening: whoever calls is refused
        nobody.bind(("127.0.0.1", 0))
        three[0].url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        three[1].trick = three[1].hang
        grow(ledger, 4)
        start = time.monotonic()
        found = ledger.gather(make_policy(ledger.vkey(), three, 2), within=3.0)
        assert 3.0 <= time.monotonic() - start < HUNG / 2
    assert found.evidence is None and found.unmet is not None
    assert "'some' is not met: no cosignature of W0, W1" in found.unmet
    assert [(each.name, each.reason) for each in found.failures] == [("W0", "unreachable"), ("W1", "slow")]
    assert ledger.cosigned() == found.note and len(parse_note(found.note).signatures) == 2


def test_before_anything_is_signed_every_witness_is_waited_for(ledger, witnesses, make_policy, grow) -> None:
    two = witnesses(2)
    release = threading.Event()

    def late(_: object) -> bool:
        release.wait(HUNG)
        return False

    two[1].trick = late
    policy = make_policy(ledger.vkey(), two, 1)
    grow(ledger, 4)
    timer = threading.Timer(2.0, release.set)  # after the grace that `gather` leaves the others
    timer.start()
    assert names(ledger.require_continued(policy, within=HUNG)) == ["W0", "W1"]
    timer.join()


def test_cosignatures_of_the_same_checkpoint_are_kept_while_a_witness_is_down(
    ledger, witnesses, make_policy, grow
) -> None:
    two = witnesses(2)
    policy = make_policy(ledger.vkey(), two, 2)
    grow(ledger, 4)
    first = ledger.gather(policy, within=HUNG)
    two[0].trick = lambda handler: handler.say(500, b"") or True
    again = ledger.gather(policy, within=HUNG)
    assert names(again) == ["W0", "W1"] and again.note == first.note
    assert [(each.name, each.message) for each in again.failures] == [("W0", "it answers 500")]
    # Of a later checkpoint it is one alone, which does not take the place of what meets the policy.
    grow(ledger, 6)
    third = ledger.gather(policy, within=HUNG)
    assert third.size == 6 and third.evidence is None
    assert ledger.cosigned() == first.note


def test_who_cannot_be_asked_is_named(ledger, witnesses, make_policy, grow, key_of) -> None:
    (one,) = witnesses(1)
    silent = CosignerKey(name="silent", public=key_of("silent").public)
    odd = CosignerKey(name="odd", public=key_of("odd").public)
    policy = parse_policy(
        f"witness W0 {one.vkey} {one.url}/\nwitness silent {silent}\nwitness odd {odd} file:///etc/passwd\n"
        "group any any W0 silent odd\nquorum any\n".encode()
    )
    grow(ledger, 2)
    found = ledger.gather(policy, within=HUNG)
    assert names(found) == ["W0"] and one.asked == ["/add-checkpoint"]
    assert [(each.name, each.reason) for each in found.failures] == [
        ("silent", "not_asked"),
        ("odd", "not_asked"),
    ]


def test_without_its_keys_a_ledger_has_no_place_for_cosignatures(ledger, witnesses, make_policy) -> None:
    policy = make_policy(ledger.vkey(), witnesses(1), 1)
    with Ledger.open(ledger.path, read_only=True) as reader, pytest.raises(LedgerError) as caught:
        reader.gather(policy)
    assert caught.value.reason == "key"


def test_a_log_of_another_name_does_not_meet_a_policy(ledger, witnesses, make_policy, key_of) -> None:
    policy = make_policy(key_of("elsewhere.example/log").vkey, witnesses(1), 1)
    found = ledger.gather(policy, within=HUNG)
    assert found.evidence is None and "no log of the policy" in (found.unmet or "")


@pytest.mark.spec("L-125")
def test_a_log_that_grows_meanwhile_is_not_taken_for_one_that_was_cut(
    ledger, witnesses, make_policy, grow
) -> None:
    two = witnesses(2)
    policy = make_policy(ledger.vkey(), two, 2)
    grow(ledger, 4)
    other = Ledger.open(ledger.path, keys=KeyStore(ledger.path.parent / "keys"))
    grown = threading.Event()

    def first(_: object) -> bool:
        """Another process appends and submits between our reading of the log and the witness's answer."""
        two[0].trick = lambda _: False
        with other:
            grow(other, 6)
            assert other.gather(make_policy(ledger.vkey(), two[:1], 1), within=HUNG).size == 6
        grown.set()
        return False

    two[0].trick = first
    found = ledger.gather(policy, within=HUNG)
    assert grown.is_set() and found.size == 6 and names(found) == ["W0", "W1"]


def test_many_threads_gather_at_once_and_none_is_misled(ledger, witnesses, make_policy, grow) -> None:
    two = witnesses(2)
    policy = make_policy(ledger.vkey(), two, 2)
    grow(ledger, 3)
    failed: list[LedgerError] = []
    turn = threading.Lock()

    def work(at: int) -> None:
        try:
            for round_ in range(4):
                with turn:
                    grow(ledger, ledger.size + 1, f"{at} {round_}")
                ledger.gather(policy, within=HUNG)
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(4 * HUNG)
    # Others may outpace us for ever, and that is said; nothing else may go wrong.
    assert [each for each in failed if each.reason != "witness"] == []
    last = ledger.gather(policy, within=HUNG)
    assert last.size == ledger.size == 15 and names(last) == ["W0", "W1"]
    assert ledger.verify(policy=policy, jobs=1).witnessed.size == 15


@pytest.mark.spec("L-125")
@pytest.mark.parametrize("patient", [False, True])
def test_a_folder_put_back_with_its_keys_is_caught_by_any_witness(
    ledger, witnesses, make_policy, grow, tmp_path: Path, patient: bool
) -> None:
    two = witnesses(2)
    policy = make_policy(ledger.vkey(), two, 2)
    grow(ledger, 4)
    ledger.gather(policy, within=HUNG)
    home, copy = ledger.path.parent, tmp_path / "backup"
    ledger.close()
    shutil.copytree(home, copy)
    with Ledger.open(home / "ledger.db", keys=KeyStore(home / "keys")) as newer:
        grow(newer, 6)
        assert newer.gather(policy, within=HUNG).size == 6
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    two[0].trick = two[0].hang  # one that hangs does not save it
    with Ledger.open(home / "ledger.db", keys=KeyStore(home / "keys")) as older:  # sound in itself
        with pytest.raises(LedgerError) as caught:
            (older.require_continued if patient else older.gather)(policy, within=HUNG)
        assert caught.value.reason == "rollback" and (caught.value.expected, caught.value.found) == (
            "at least 6 entries",
            "4",
        )
        assert "W1" in caught.value.message


@pytest.mark.spec("L-125")
def test_a_log_begun_anew_with_the_old_key_is_caught(
    ledger, witnesses, make_policy, grow, tmp_path: Path
) -> None:
    (one,) = witnesses(1)
    policy = make_policy(ledger.vkey(), [one], 1)
    grow(ledger, 4)
    ledger.gather(policy, within=HUNG)
    home, fresh = ledger.path.parent, tmp_path / "fresh"
    fresh.mkdir()
    shutil.copytree(
        home / "keys", fresh / "keys", ignore=shutil.ignore_patterns("*.checkpoint", "*.cosigned")
    )
    keys = KeyStore(fresh / "keys")
    with Ledger.open(fresh / "ledger.db", origin=ledger.origin, keys=keys, create=True) as empty:
        with pytest.raises(LedgerError) as caught:
            empty.require_continued(policy, within=HUNG)
        assert caught.value.reason == "rollback"
