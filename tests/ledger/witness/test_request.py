"""The body of a submission is read strictly: one spelling, bounded sizes, and nothing but a LedgerError or an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.note import is_key_name, parse_note
from agentmesh_ledger.witness.request import MAX_BODY, Submission, parse_submission, write_submission

HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63).map(tuple)
# The example of the tlog-witness page.
EXAMPLE = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\N{EM DASH} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\N{EM DASH} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
"""


@pytest.mark.spec("L-131")
def test_the_example_of_the_specification_is_read_and_written_again() -> None:
    found = parse_submission(EXAMPLE.encode())
    assert (found.old, len(found.proof)) == (20852014, 4)
    assert parse_note(found.note).text.split("\n")[:2] == ["example.com/behind-the-sofa", "20852163"]
    assert write_submission(found) == EXAMPLE.encode()


@pytest.mark.spec("L-131")
@given(
    old=st.integers(0, MAX_INTEGER), proof=HASHES, note=st.text(st.characters(codec="utf-8"), max_size=200)
)
def test_what_is_written_is_read_back(old: int, proof: tuple[bytes, ...], note: str) -> None:
    submission = Submission(old=old, proof=proof, note=note)
    assert parse_submission(write_submission(submission)) == submission


@pytest.mark.spec("L-131")
@pytest.mark.parametrize(
    "change",
    [
        lambda b: b"",
        lambda b: b.replace(b"old 20852014", b"old 020852014"),
        lambda b: b.replace(b"old 20852014", b"old +20852014"),
        lambda b: b.replace(b"old 20852014", b"old -1"),
        lambda b: b.replace(b"old 20852014", b"old 1_0"),
        lambda b: b.replace(b"old 20852014", b"old  20852014"),
        lambda b: b.replace(b"old 20852014", b"old 20852014 "),
        lambda b: b.replace(b"old 20852014", b"Old 20852014"),
        lambda b: b.replace(b"old 20852014", b"old \xd9\xa3"),
        lambda b: b.replace(b"old 20852014", b"old 9007199254740992"),
        lambda b: b.replace(b"old 20852014", b"old 99999999999999999999"),
        lambda b: b.replace(b"old 20852014\n", b""),
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.replace(b"Dpkaw=", b"Dpkax="),  # stray bits
        lambda b: b.replace(b"Dpkaw=", b"Dpkaw"),
        lambda b: b.replace(b"Dpkaw=", b"Dpka*="),
        lambda b: b.replace(b"Dpkaw=\n", b"Dpkaw=\n\n", 1),
        lambda b: b.replace(b"Dpkaw=", b"AAAA"),
        lambda b: b.replace(b"\n\nexample", b"\nexample"),
        lambda b: b + b"\xff",
        lambda b: b" " + b,
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b.replace(
            b"\n\n", b"\n" + b"PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n" * 60 + b"\n", 1
        ),
    ],
)
def test_every_other_spelling_is_a_400(witness, change) -> None:
    assert witness.add_checkpoint(change(EXAMPLE.encode())).status == 400


@pytest.mark.spec("L-131")
def test_sixty_three_lines_of_proof_are_read_and_sixty_four_are_not(witness) -> None:
    line = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    assert len(parse_submission(f"old 1\n{line * 63}\nnote".encode()).proof) == 63
    with pytest.raises(LedgerError):
        parse_submission(f"old 1\n{line * 64}\nnote".encode())


@pytest.mark.spec("L-131")
@pytest.mark.parametrize(
    "text",
    [
        "{origin}\n5\n{root}\nextension\n",
        "{origin}\n05\n{root}\n",
        "{origin}\n5\n{root}\n\n",
        "{origin}\n5\nAAAA\n",
        "{origin} \n5\n{root}\n",
        "{origin}\n9007199254740992\n{root}\n",
        "\n5\n{root}\n",
        "",
    ],
)
def test_what_is_no_checkpoint_of_the_ledger_is_a_400(witness, log, text: str) -> None:
    from agentmesh_ledger.note import sign_note

    whole = text.format(origin=log.name, root=log.checkpoint(5).text.split("\n")[2])
    body = write_submission(Submission(old=0, proof=(), note=sign_note(whole, log)))
    assert witness.add_checkpoint(body).status == 400


@pytest.mark.spec("L-131", "L-138")
@pytest.mark.parametrize("lines", [65, 5_000, 1_000_000])
def test_signatures_beyond_all_measure_are_a_400(witness, log, lines: int) -> None:
    note = f"{log.checkpoint(5).text}\n" + "\N{EM DASH} a AAAAAAA=\n" * lines
    assert witness.add_checkpoint(f"old 0\n\n{note}".encode()).status == 400


@pytest.mark.spec("L-138")
def test_a_body_too_long_is_refused_unread() -> None:
    with pytest.raises(LedgerError) as error:
        parse_submission(b"old 1\n\n" + b"x" * MAX_BODY)
    assert error.value.reason == "checkpoint"


@pytest.mark.spec("L-138")
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_submission_or_a_ledger_error(data: bytes) -> None:
    for body in (data, b"old 1\n\n" + data):
        try:
            assert write_submission(parse_submission(body)) == body
        except LedgerError as error:
            assert error.reason == "checkpoint"


@pytest.mark.parametrize(
    "odd", [{"old": -1}, {"old": MAX_INTEGER + 1}, {"proof": (bytes(31),)}, {"proof": (bytes(32),) * 64}]
)
def test_what_no_witness_would_read_is_not_written(odd: dict[str, object]) -> None:
    with pytest.raises(LedgerError) as error:
        write_submission(Submission(**{"old": 0, "proof": (), "note": "", **odd}))
    assert error.value.reason == "consistency"


@given(name=st.text(max_size=20))
def test_the_short_way_to_a_key_name_is_the_long_one(name: str) -> None:
    import unicodedata

    allowed = not any(c == "+" or c.isspace() or unicodedata.category(c)[0] == "C" for c in name)
    assert is_key_name(name) == (bool(name) and allowed)


@pytest.mark.parametrize("character", [*map(chr, range(0x20)), "\ud800", "\udfff"])
def test_a_note_has_no_control_and_no_lone_surrogate(character: str) -> None:
    if character == "\n":
        return
    with pytest.raises(LedgerError):
        parse_note(f"text{character}\n\n\N{EM DASH} a AAAAAAA=\n")
