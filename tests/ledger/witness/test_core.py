"""What a witness answers to each kind of submission, as C2SP tlog-witness has it, and what it signs."""

from __future__ import annotations

import pytest

from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import cosign, cosignatures
from agentmesh_ledger.fork import parse_fork, verify_fork
from agentmesh_ledger.note import VerifierKey, parse_note, sign_note, signature_line
from agentmesh_ledger.tree import EMPTY_ROOT
from agentmesh_ledger.witness.core import SIZE, TEXT, Answer, Witness
from agentmesh_ledger.witness.request import Submission, write_submission

ZERO = bytes(32)


def time_of(witness: Witness, note: str, answer: Answer) -> int:
    """The time of the one cosignature in the answer, which holds beneath this note."""
    assert (answer.status, answer.content_type) == (200, TEXT)
    text = answer.body.decode()
    assert text.startswith(f"\N{EM DASH} {witness.key.name} ") and text.count("\n") == 1
    (found,) = cosignatures(parse_note(note + text), [witness.key.id])
    return found.time


@pytest.mark.spec("L-132")
def test_the_first_checkpoint_and_what_continues_it_are_cosigned(witness: Witness, log, desk) -> None:
    assert time_of(witness, log.note(5), witness.add_checkpoint(log.body(0, 5))) == int(desk.now)
    assert time_of(witness, log.note(8), witness.add_checkpoint(log.body(5, 8))) == int(desk.now)
    assert time_of(witness, log.note(21), witness.add_checkpoint(log.body(8, 21))) == int(desk.now)


@pytest.mark.spec("L-132")
def test_the_same_checkpoint_again_is_cosigned_again_with_the_time_of_now(witness, log, desk) -> None:
    first = time_of(witness, log.note(5), witness.add_checkpoint(log.body(0, 5)))
    desk.now += 60
    assert time_of(witness, log.note(5), witness.add_checkpoint(log.body(5, 5))) == first + 60


@pytest.mark.spec("L-132")
def test_a_tree_of_size_zero_is_cosigned_where_it_has_the_root_of_nothing(witness, log) -> None:
    time_of(witness, log.note(0), witness.add_checkpoint(log.body(0, 0)))
    time_of(witness, log.note(0), witness.add_checkpoint(log.body(0, 0)))
    time_of(witness, log.note(3), witness.add_checkpoint(log.body(0, 3)))


@pytest.mark.spec("L-132")
def test_a_tree_of_size_zero_with_another_root_is_a_422(witness, log) -> None:
    note = Checkpoint(origin=log.name, size=0, root=ZERO).sign(log)
    assert witness.add_checkpoint(write_submission(Submission(old=0, proof=(), note=note))).status == 422
    time_of(witness, log.note(0), witness.add_checkpoint(log.body(0, 0)))
    assert witness.add_checkpoint(write_submission(Submission(old=0, proof=(), note=note))).status == 422
    assert EMPTY_ROOT != ZERO


@pytest.mark.spec("L-132")
@pytest.mark.parametrize(("old", "new"), [(0, 9), (3, 9), (8, 9), (0, 5), (2, 3), (0, 0)])
def test_another_old_size_is_a_409_with_the_size_that_is_held(witness, log, old: int, new: int) -> None:
    witness.add_checkpoint(log.body(0, 5))
    assert witness.add_checkpoint(log.body(old, new)) == Answer(status=409, content_type=SIZE, body=b"5\n")
    assert witness.add_checkpoint(log.body(5, 9)).status == 200


@pytest.mark.spec("L-132")
def test_an_old_size_without_a_record_is_a_409_with_zero(witness, log) -> None:
    assert witness.add_checkpoint(log.body(3, 5)) == Answer(status=409, content_type=SIZE, body=b"0\n")


@pytest.mark.spec("L-132")
@pytest.mark.parametrize("proof", ["none", "short", "long", "other", "swapped"])
def test_a_proof_that_does_not_lead_from_the_one_to_the_other_is_a_422(witness, log, proof: str) -> None:
    witness.add_checkpoint(log.body(0, 6))
    right = log.proof(6, 11)
    wrong = {
        "none": (),
        "short": right[:-1],
        "long": (*right, ZERO),
        "other": log.proof(5, 11),
        "swapped": right[::-1],
    }[proof]
    answer = witness.add_checkpoint(log.body(6, 11, wrong))
    # The record, so that the log can see for itself.
    assert answer == Answer(status=422, content_type=TEXT, body=log.note(6).encode())
    assert witness.add_checkpoint(log.body(6, 11)).status == 200


@pytest.mark.spec("L-132")
def test_a_proof_where_none_is_needed_is_a_422(witness, log) -> None:
    assert witness.add_checkpoint(log.body(0, 5, (ZERO,))).status == 422
    witness.add_checkpoint(log.body(0, 5))
    assert witness.add_checkpoint(log.body(5, 5, (ZERO,))).status == 422


@pytest.mark.spec("L-131")
def test_an_old_size_above_the_checkpoints_is_a_400_whatever_is_held(witness, log) -> None:
    bodies = [write_submission(Submission(old=9, proof=(), note=log.note(5)))]
    assert [witness.add_checkpoint(each).status for each in bodies] == [400]
    witness.add_checkpoint(log.body(0, 5))
    assert witness.add_checkpoint(bodies[0]).status == 400


@pytest.mark.spec("L-131")
def test_a_log_that_is_not_trusted_is_a_404_and_no_signature_by_its_key_a_403(witness, log, other) -> None:
    assert witness.add_checkpoint(other.body(0, 5)).status == 404
    stranger = type(log)(name=log.name)
    assert witness.add_checkpoint(stranger.body(0, 5)).status == 403
    assert witness.checkpoint(log.name).status == 404


@pytest.mark.spec("L-131")
def test_a_bad_signature_by_a_trusted_key_is_a_403_whatever_else_stands_there(witness, log) -> None:
    good = log.note(5)
    key = VerifierKey(name=log.name, public=log.public)
    bad = good + signature_line(key.name, key.key_id, bytes(64))
    for note in (bad, good.replace("\n5\n", "\n6\n")):
        body = write_submission(Submission(old=0, proof=(), note=note))
        assert witness.add_checkpoint(body).status == 403
    assert witness.checkpoint(log.name).status == 404


@pytest.mark.spec("L-131")
def test_signatures_of_strangers_are_ignored_and_not_kept(witness, log, other) -> None:
    text = log.checkpoint(5).text
    stranger = sign_note(text, other).removeprefix(f"{text}\n")
    same_name = sign_note(text, type(log)(name=log.name)).removeprefix(f"{text}\n")
    own = log.note(5).removeprefix(f"{text}\n")
    note = f"{text}\n{stranger}{own}{same_name}{own}"
    answer = witness.add_checkpoint(write_submission(Submission(old=0, proof=(), note=note)))
    time_of(witness, note, answer)
    assert witness.checkpoint(log.name).body == log.note(5).encode() + answer.body


@pytest.mark.spec("L-131")
def test_either_of_two_trusted_keys_will_do(witness, log, desk) -> None:
    second = type(log)(name=log.name)
    desk.trust(second)
    with desk.opened() as again:
        assert again.add_checkpoint(log.body(0, 5)).status == 200
        assert again.add_checkpoint(second.body(5, 9)).status == 200
        both = (
            sign_note(log.checkpoint(12).text, log)
            + sign_note(log.checkpoint(12).text, second).rsplit("\n\n", 1)[1]
        )
        body = write_submission(Submission(old=9, proof=log.proof(9, 12), note=both))
        assert again.add_checkpoint(body).status == 200
        assert again.checkpoint(log.name).body.count("\N{EM DASH}".encode()) == 3


@pytest.mark.spec("L-139")
def test_the_newest_checkpoint_is_given_out_with_the_cosignature_that_was_answered(
    witness, log, desk
) -> None:
    assert witness.checkpoint(log.name).status == 404
    witness.add_checkpoint(log.body(0, 5))
    answer = witness.add_checkpoint(log.body(5, 9))
    desk.now += 1000
    assert witness.checkpoint(log.name).body == log.note(9).encode() + answer.body
    assert witness.checkpoint("example.org/unknown").status == 404


@pytest.mark.spec("L-133")
def test_times_never_decrease_whatever_the_clock_does(desk, log) -> None:
    times = []
    with desk.opened() as witness:
        for size, now in [(3, 5000.0), (4, 4000.0), (5, -7.0), (6, 5001.9), (7, 0.0)]:
            desk.now = now
            times.append(
                time_of(
                    witness,
                    log.note(size),
                    witness.add_checkpoint(log.body(size - 1 if size > 3 else 0, size)),
                )
            )
    desk.now = 10.0
    with desk.opened() as witness:
        times.append(time_of(witness, log.note(7), witness.add_checkpoint(log.body(7, 7))))
    assert times == [5000, 5000, 5000, 5001, 5001, 5001]


@pytest.mark.spec("L-133")
def test_a_time_is_never_zero_nor_beyond_what_a_cosignature_can_say(desk, log) -> None:
    with desk.opened() as witness:
        desk.now = -1e9
        assert time_of(witness, log.note(5), witness.add_checkpoint(log.body(0, 5))) == 1
        desk.now = 2.0**63
        assert witness.add_checkpoint(log.body(5, 6)).status == 503
        desk.now = 50.0
        assert time_of(witness, log.note(6), witness.add_checkpoint(log.body(5, 6))) == 50


@pytest.mark.spec("L-136")
def test_another_root_at_the_same_size_is_a_422_with_the_record_and_a_kept_proof(witness, log, desk) -> None:
    witness.add_checkpoint(log.body(0, 8))
    branch = log.forked(6)
    answer = witness.add_checkpoint(branch.body(8, 8))
    assert answer == Answer(status=422, content_type=TEXT, body=log.note(8).encode())
    (path,) = desk.place.forks.iterdir()
    assert any(str(path) in said for said in desk.said)
    proved = verify_fork(parse_fork(path.read_bytes()), [VerifierKey(name=log.name, public=log.public)])
    assert (proved.first, proved.second) == (log.checkpoint(8), branch.checkpoint(8))


@pytest.mark.spec("L-136")
def test_a_proof_that_shows_another_beginning_is_kept(witness, log, desk) -> None:
    witness.add_checkpoint(log.body(0, 7))
    branch = log.forked(3)
    assert witness.add_checkpoint(branch.body(7, 13)).status == 422
    (path,) = desk.place.forks.iterdir()
    proved = verify_fork(parse_fork(path.read_bytes()), [VerifierKey(name=log.name, public=log.public)])
    assert (proved.first.size, proved.second.size, proved.root) == (7, 13, branch.checkpoint(7).root)


@pytest.mark.spec("L-136")
def test_a_branch_of_the_held_size_is_proof_also_where_it_claims_another_old_size(witness, log, desk) -> None:
    witness.add_checkpoint(log.body(0, 7))
    assert witness.add_checkpoint(log.forked(3).body(0, 7)).status == 409
    assert len(list(desk.place.forks.iterdir())) == 1


@pytest.mark.spec("L-136")
def test_nothing_is_kept_where_nothing_is_proved(witness, log, desk) -> None:
    witness.add_checkpoint(log.body(0, 8))
    assert (
        witness.add_checkpoint(log.forked(3).body(8, 13)).status == 422
    )  # a power of two: the root at 8 is not in the proof
    assert witness.add_checkpoint(log.body(8, 13, (ZERO,) * 4)).status == 422
    assert witness.add_checkpoint(log.forked(3).body(2, 6)).status == 409
    assert witness.add_checkpoint(log.body(8, 8, (ZERO,))).status == 422
    witness.add_checkpoint(log.body(8, 11))
    assert witness.add_checkpoint(log.body(11, 13, (ZERO,) * 5)).status == 422
    assert not desk.place.forks.exists()


@pytest.mark.spec("L-136")
def test_at_most_sixteen_proofs_of_a_log_are_kept_and_each_is_told_once(witness, log, other, desk) -> None:
    witness.add_checkpoint(log.body(0, 7))
    for salt in range(1, 25):
        for _ in range(2):
            assert witness.add_checkpoint(log.forked(3, salt=salt).body(7, 7)).status == 422
    assert len(list(desk.place.forks.iterdir())) == 16
    assert len(desk.said) == 16


def test_a_folder_of_proofs_that_cannot_be_written_changes_no_answer(witness, log, desk) -> None:
    desk.place.forks.write_text("in the way")
    witness.add_checkpoint(log.body(0, 7))
    assert witness.add_checkpoint(log.forked(3).body(7, 7)).body == log.note(7).encode()
    assert any("could not be kept" in said for said in desk.said)
    # Nor does whoever sends it again and again fill what the operator is told in.
    for _ in range(5):
        witness.add_checkpoint(log.forked(3).body(7, 7))
    assert len(desk.said) == 1


def test_its_lines_are_those_that_cosign_writes(witness, log, desk) -> None:
    answer = witness.add_checkpoint(log.body(0, 5))
    assert log.note(5) + answer.body.decode() == cosign(log.note(5), witness.key, int(desk.now))
