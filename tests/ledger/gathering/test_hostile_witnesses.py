"""What a witness may answer instead of its cosignature: nothing of it is kept, and nobody waits for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError, parse_policy
from agentmesh_ledger.checkpoint import Checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosign
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.keys import LogKey
from agentmesh_ledger.note import MAX_SIGNATURES, parse_note

HUNG = 30.0
WITHIN = 2.0


def drips(handler) -> bool:
    """A byte now and then, for as long as anyone listens."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    try:
        while not handler.witness.closing.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()
    except OSError:
        pass
    return True


def drips_headers(handler) -> bool:
    try:
        while not handler.witness.closing.wait(0.05):
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            handler.wfile.flush()
    except OSError:
        pass
    return True


def endless(handler) -> bool:
    """As much as is taken, without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    try:
        while not handler.witness.closing.is_set():
            handler.wfile.write(b"x" * 65536)
    except OSError:
        pass
    return True


def says(status: int, body: bytes, **headers: str) -> Callable[[object], bool]:
    def trick(handler) -> bool:
        handler.say(status, body, **headers)
        return True

    return trick


def raw(data: bytes) -> Callable[[object], bool]:
    def trick(handler) -> bool:
        handler.wfile.write(data)
        return True

    return trick


def cut(handler) -> bool:
    """Hangs up in the middle of a good beginning."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n\xe2\x80\x94 w0.exa")
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.mark.spec("L-124", "L-129")
@pytest.mark.parametrize(
    ("trick", "reason", "told"),
    [
        (drips, "slow", "in time"),
        (drips_headers, "slow", "in time"),
        (endless, "nonsense", "longer than"),
        (says(200, b"x" * 400_000), "nonsense", "longer than"),
        (says(200, b""), "nonsense", "no cosignature by its key"),
        (says(200, b"\n"), "nonsense", "no cosignature"),
        (says(200, b"\xff\xfe"), "nonsense", "not UTF-8"),
        (says(200, "\N{EM DASH} w0.example AAAA\n".encode()), "nonsense", "too short"),
        (says(200, b"<html>" * 100), "nonsense", "no cosignature"),
        (cut, "nonsense", "no cosignature"),
        (raw(b""), "unreachable", "cannot be reached"),
        (raw(b"\x00\x01garbage\r\n\r\n"), "nonsense", "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Y: " + b"z" * 70_000 + b"\r\n\r\n"), "nonsense", "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 200 + b"\r\n"), "nonsense", "no HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "nonsense", ""),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n"), "nonsense", ""),
        (says(204, b""), "refused", "204"),
        (says(400, b""), "refused", "malformed (400)"),
        (says(403, b""), "refused", "does not trust the log's key (403)"),
        (says(404, b""), "refused", "does not know the log (404)"),
        (says(422, b""), "refused", "first checkpoint (422)"),
        (says(429, b""), "refused", "too often"),
        (says(500, b"\x1b[2J"), "refused", "answers 500"),
        (says(409, b"many\n"), "nonsense", "another size"),
        (says(409, b"-1\n"), "nonsense", "another size"),
        (says(409, b"05\n"), "nonsense", "another size"),
        (says(409, b"\xd9\xa3\n"), "nonsense", "another size"),
        (says(409, b"9007199254740992\n"), "nonsense", "another size"),
        (says(409, b"1" * 300_000), "nonsense", "longer than"),
        (says(409, b"0\n"), "nonsense", "was given one from"),
    ],
)
def test_an_answer_that_is_no_cosignature_costs_nothing_but_itself(
    ledger, witnesses, make_policy, grow, trick, reason: str, told: str
) -> None:
    two = witnesses(2)
    two[0].trick = trick
    grow(ledger, 5)
    start = time.monotonic()
    found = ledger.gather(make_policy(ledger.vkey(), two, 2), within=WITHIN)
    assert time.monotonic() - start < HUNG / 2
    ((name, why, message),) = [(each.name, each.reason, each.message) for each in found.failures]
    assert (name, why) == ("W0", reason) and told in message and message.isprintable()
    assert [each.name for each in parse_note(found.note).signatures] == [ledger.origin, "w1.example"]
    assert found.evidence is None and ledger.cosigned() == found.note


def lines_of(kind: str, ledger, witness, other: LogKey) -> bytes:
    note = ledger.checkpoint()
    if kind == "another origin":
        root = Checkpoint(origin="elsewhere.example", size=5, root=bytes(32)).sign(other)
        return witness.line(root)
    if kind == "another checkpoint":
        return witness.line(Checkpoint(origin=ledger.origin, size=4, root=bytes(32)).sign(other))
    if kind == "another key":
        return cosign(note, other, 7)[len(note) :].encode()
    if kind == "another key under its name":
        thief = LogKey(name=witness.name, public=other.public, _key=other._key)
        return cosign(note, thief, 7)[len(note) :].encode()
    if kind == "no time":
        return witness.line(note, 0)
    if kind == "a good one and a bad one":
        good = witness.line(note)
        return good + witness.line(Checkpoint(origin=ledger.origin, size=4, root=bytes(32)).sign(other))
    if kind == "a log's signature":
        # Of type 0x01 by the same key: it may not pass for a cosignature.
        signed = Checkpoint(origin=ledger.origin, size=5, root=bytes(32)).sign(witness.key)
        return signed.encode().rpartition(b"\n\n")[2]
    key_id = witness.line(note).split(b" ")[2]
    assert kind == "a cut one"
    return f"\N{EM DASH} {witness.name} ".encode() + key_id[:16] + b"\n"


@pytest.mark.spec("L-124")
@pytest.mark.parametrize(
    "kind",
    [
        "another origin",
        "another checkpoint",
        "another key",
        "another key under its name",
        "no time",
        "a good one and a bad one",
        "a log's signature",
        "a cut one",
    ],
)
def test_a_cosignature_of_anything_else_is_not_kept(
    ledger, witnesses, make_policy, grow, key_of, kind: str
) -> None:
    two = witnesses(2)
    grow(ledger, 5)
    two[0].trick = says(200, lines_of(kind, ledger, two[0], key_of("thief.example")))
    found = ledger.gather(make_policy(ledger.vkey(), two, 1), within=HUNG)
    assert [(each.name, each.reason) for each in found.failures] == [("W0", "nonsense")]
    assert [each.name for each in parse_note(found.note).signatures] == [ledger.origin, "w1.example"]


@pytest.mark.spec("L-124")
def test_what_a_witness_sends_beside_its_own_line_is_dropped(
    ledger, witnesses, make_policy, grow, key_of
) -> None:
    two = witnesses(2)
    grow(ledger, 5)
    note = ledger.checkpoint()
    others = [cosign(note, key_of(f"other{at}.example"), 7)[len(note) :].encode() for at in range(20)]
    filler = "".join(f"\N{EM DASH} pq.example {encode64(bytes(3000))}\n" for _ in range(5)).encode()
    # Its own line twice as well: the newest counts. And the line of the other witness, which it has not to give.
    answer = [*others, filler, two[0].line(note, 5), two[0].line(note, 9), two[1].line(note, 77)]
    two[0].trick = says(200, b"".join(answer))
    found = ledger.gather(make_policy(ledger.vkey(), two, 2), within=HUNG)
    assert [each.name for each in parse_note(found.note).signatures] == [
        ledger.origin,
        "w0.example",
        "w1.example",
    ]
    assert [each.time for each in found.evidence.witnesses] == [9, 1_700_000_000]


def test_a_note_never_has_more_lines_than_a_note_may_have(ledger, witnesses, key_of, grow) -> None:
    (one,) = witnesses(1)
    grow(ledger, 5)
    note = ledger.checkpoint()
    keys = [key_of(f"k{at}.example") for at in range(70)]

    def each_by_its_path(handler) -> bool:
        key = keys[int(handler.path.split("/")[1])]
        handler.say(200, cosign(note, key, 7)[len(note) :].encode())
        return True

    one.trick = each_by_its_path
    lines = [
        f"witness W{at} {CosignerKey(name=key.name, public=key.public)} {one.url}/{at}"
        for at, key in enumerate(keys)
    ]
    names = " ".join(f"W{at}" for at in range(70))
    policy = parse_policy("\n".join([*lines, f"group g 63 {names}", "quorum g", ""]).encode())
    found = ledger.require_continued(policy, within=HUNG)
    assert len(parse_note(found.note).signatures) == MAX_SIGNATURES == 64
    assert found.evidence is not None and ledger.cosigned() == found.note
    assert [(each.name, each.reason) for each in found.failures] == [
        (f"W{at}", "not_asked") for at in range(64, 70)
    ]


@pytest.mark.spec("L-129")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(ledger, witnesses, make_policy, grow, status: int) -> None:
    two = witnesses(2)
    two[0].trick = says(status, b"", Location=f"{two[1].url}/add-checkpoint")
    grow(ledger, 5)
    found = ledger.gather(make_policy(ledger.vkey(), two[:1], 1), within=HUNG)
    assert two[1].asked == [] and found.evidence is None
    assert [each.reason for each in found.failures] == ["refused"]
    assert "redirects elsewhere" in found.failures[0].message


def test_a_witness_that_names_ever_other_sizes_is_given_up(ledger, witnesses, make_policy, grow) -> None:
    (one,) = witnesses(1)
    grow(ledger, 9)
    sizes = iter([3, 4, 3, 4, 3, 4, 3, 4])
    one.trick = lambda handler: says(409, f"{next(sizes)}\n".encode())(handler)
    found = ledger.gather(make_policy(None, [one], 1), within=HUNG)
    assert [each.reason for each in found.failures] == ["refused"] and len(one.asked) == 4


def test_one_that_claims_to_hold_more_is_never_ignored(ledger, witnesses, make_policy, grow) -> None:
    two = witnesses(2)
    two[0].trick = says(409, b"7\n")
    grow(ledger, 5)
    with pytest.raises(LedgerError) as caught:
        ledger.gather(make_policy(ledger.vkey(), two, 1), within=HUNG)
    assert caught.value.reason == "rollback" and "W0" in caught.value.message


def test_one_that_is_always_a_step_ahead_of_a_growing_log_keeps_nobody_from_cosigning(
    ledger, witnesses, make_policy, grow
) -> None:
    three = witnesses(3)
    grow(ledger, 5)

    def ahead(handler) -> bool:
        """Says nothing until somebody has written more, and then that it has seen that."""
        grow(ledger, ledger.size + 1)
        return says(409, f"{ledger.size}\n".encode())(handler)

    three[0].trick = ahead
    found = ledger.gather(make_policy(ledger.vkey(), three, 2), within=HUNG)
    assert found.evidence is not None and [each.name for each in found.failures] == ["W0"]
    # Where it is needed the policy is not met, which is told; before anything is signed it must be heard.
    policy = make_policy(ledger.vkey(), three, 3)
    assert ledger.gather(policy, within=HUNG).evidence is None
    with pytest.raises(LedgerError) as caught:
        ledger.require_continued(policy, within=HUNG)
    assert caught.value.reason == "witness"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(status=st.sampled_from([200, 403, 404, 409, 422, 500]), body=st.binary(max_size=80))
def test_whatever_it_answers_only_a_ledger_error_comes_of_it(
    ledger, witnesses, make_policy, grow, status: int, body: bytes
) -> None:
    one = witnesses(1)[0] if ledger.size == 0 else witnesses(0)[0]
    if ledger.size == 0:
        grow(ledger, 5)
    one.trick = says(status, body)
    try:
        found = ledger.gather(make_policy(None, [one], 1), within=HUNG)
    except LedgerError as error:
        assert error.reason in ("rollback", "forked")
    else:
        assert found.evidence is None and len(parse_note(found.note).signatures) == 1
