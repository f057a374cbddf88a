"""Two records held against each other, without a wire between: what counts, what is missing, what was said twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest

from agentmesh.audit.crosscheck import CrossCheck, cross_check
from agentmesh.audit.exchanges import Side
from agentmesh.audit.otherside import read_side
from agentmesh.serving.signing.record import exchange_draft, wire_dialogue
from agentmesh.serving.signing.statements import Asked
from agentmesh.view.crosscheck import cross_check_json, cross_check_text
from agentmesh_ledger import AgentKey, Draft, KeyStore
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.statement import SealedStatement, Statement, content_digest, seal_statement

DIALOGUE = "20261129-aa"
_TIME = "2026-11-29T12:00:00.000Z"


@dataclass
class Owner:
    """One side: its keys, and the ledger that it writes."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.keys = KeyStore(self.folder / self.name / "keys")
        self.drafts: list[Draft] = []

    @property
    def key(self) -> AgentKey:
        return self.keys.agent("host")

    def side(self, dialogue: str | None = None) -> Side:
        """What a reader of its record sees."""
        place = self.folder / self.name / "ledger.db"
        place.unlink(missing_ok=True)
        for last in (self.folder / self.name / "keys" / "logs").glob("*.checkpoint"):
            last.unlink()
        with Ledger.open(place, origin=f"{self.name}.example", keys=self.keys, create=True) as log:
            log.append(self.drafts)
            if dialogue is not None:
                file = place.with_suffix(".jsonl")
                with file.open("wb") as out:
                    log.export(out, dialogue=dialogue)
                return read_side(str(file))[0]
        return read_side(str(place))[0]


@pytest.fixture
def owners(tmp_path: Path) -> tuple[Owner, Owner, Owner]:
    return Owner(tmp_path, "desk"), Owner(tmp_path, "lab"), Owner(tmp_path, "stranger")


def _seal(key: AgentKey, type: Literal["request", "result"], content: bytes, **more: str) -> SealedStatement:
    nonce = more.pop("nonce", "0" * 32)
    fields = {"method": "tools/call", "name": "ask", "subject": "x", "dialogue": DIALOGUE, **more}
    return seal_statement(
        key,
        Statement(
            type=type,
            digest=content_digest(nonce, content),
            author=key.id,
            nonce=nonce,
            time=_TIME,
            method=fields["method"],
            name=fields["name"],
            subject=fields["subject"],
            audience=fields["audience"],
            dialogue=fields["dialogue"],
            request=fields.get("request"),
        ),
    )


def _asked(caller: Owner, server: Owner, number: int, **more: str) -> Asked:
    content = b'{"name":"ask","arguments":{"question":"%d"}}' % number
    sealed = _seal(caller.key, "request", content, audience=server.key.id, nonce=f"{number:032x}", **more)
    return Asked(
        method=sealed.statement.method,
        name="ask",
        content=content,
        exchange=sealed.digest,
        dialogue=sealed.statement.dialogue,
        sealed=sealed,
    )


def _draft(
    kind: Literal["sent", "received"], asked: Asked, by: Owner, peer: Owner, wire: bool, answer: bytes = b""
) -> Draft:
    sealed, content = asked.sealed, asked.content
    assert sealed is not None and asked.author is not None
    if answer:
        server = by if kind == "sent" else peer
        content = answer
        sealed = _seal(
            server.key, "result", answer, audience=asked.author, request=asked.digest,
            method=asked.method, dialogue=asked.dialogue,
        )  # fmt: skip
    return exchange_draft(
        kind,
        asked,
        by=by.key,
        dialogue=wire_dialogue(asked.author, asked.dialogue) if wire else asked.dialogue,
        peer=peer.key.id,
        type="result" if answer else "request",
        sealed=sealed,
        content=content,
    )


def hold(caller: Owner, server: Owner, numbers: Sequence[int], **more: str) -> None:
    """Exchanges as both sides record them."""
    for number in numbers:
        asked, answer = _asked(caller, server, number, **more), b'{"content":[],"n":%d}' % number
        caller.drafts += [
            _draft("sent", asked, caller, server, wire=False),
            _draft("received", asked, caller, server, wire=False, answer=answer),
        ]
        server.drafts += [
            _draft("received", asked, server, caller, wire=True),
            _draft("sent", asked, server, caller, wire=True, answer=answer),
        ]


def _verdicts(found: CrossCheck) -> list[str]:
    return [each.verdict for each in found.findings]


Owners = tuple[Owner, Owner, Owner]


def test_what_both_hold_alike_matches_from_either_side(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(3))
    one, other = desk.side(), lab.side()
    for found in (cross_check(one, other), cross_check(other, one)):
        assert found.agrees and found.matching == 6 and found.findings == ()


def test_both_may_ask_each_other(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(2))
    hold(lab, desk, range(2))
    found = cross_check(desk.side(), lab.side())
    assert found.agrees and found.matching == 8


def test_what_passed_with_others_does_not_count(owners: Owners) -> None:
    desk, lab, stranger = owners
    hold(desk, lab, range(2))
    hold(desk, stranger, range(5, 9))
    hold(stranger, lab, range(20, 23))
    found = cross_check(desk.side(), lab.side())
    assert found.agrees and found.matching == 4


def test_nothing_in_common_is_no_agreement(owners: Owners) -> None:
    desk, lab, stranger = owners
    hold(desk, stranger, range(2))
    hold(stranger, lab, range(2))
    found = cross_check(desk.side(), lab.side())
    assert not found.agrees and found.matching == 0 and found.findings == ()
    assert "no exchange in common" in cross_check_text(found, limit=5)


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("whose", [0, 1])
def test_each_message_that_one_side_leaves_out_is_lacking(owners: Owners, whose: int, place: int) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(4))
    del owners[whose].drafts[place]
    found = cross_check(desk.side(), lab.side())
    assert _verdicts(found) == ["lacking"] and found.matching == 7
    assert (found.findings[0].ours is None) == (whose == 0)


def test_a_record_of_one_dialogue_is_asked_for_no_other(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(2))
    hold(desk, lab, range(5, 8), dialogue="20261129-bb")
    whole = lab.side()
    part = cross_check(desk.side(DIALOGUE), whole)
    assert part.agrees and part.matching == 4
    wire = wire_dialogue(desk.key.id, "20261129-bb")
    part = cross_check(desk.side(), lab.side(wire))
    assert part.agrees and part.matching == 6
    none = cross_check(desk.side(DIALOGUE), lab.side(wire))
    assert not none.agrees and none.findings == ()
    both = lab.side(wire).and_also(lab.side(wire_dialogue(desk.key.id, DIALOGUE)))
    assert cross_check(desk.side(), both).matching == 10


def test_a_message_left_out_of_a_shown_dialogue_is_lacking(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(2))
    del lab.drafts[-1]
    found = cross_check(desk.side(), lab.side(wire_dialogue(desk.key.id, DIALOGUE)))
    assert _verdicts(found) == ["lacking"]


def test_two_answers_to_one_request_are_two_words(owners: Owners) -> None:
    """Its owner keeps both, and shows each reader that both are there: one has no counterpart."""
    desk, lab, _ = owners
    hold(desk, lab, range(1))
    asked = _asked(desk, lab, 0)
    lab.drafts.append(_draft("sent", asked, lab, desk, wire=True, answer=b'{"content":["other"]}'))
    found = cross_check(desk.side(), lab.side())
    assert _verdicts(found) == ["lacking"] and found.findings[0].ours is None and found.matching == 2


def test_a_statement_of_somebody_else_differs(owners: Owners) -> None:
    desk, lab, stranger = owners
    hold(desk, lab, range(1))
    asked = _asked(desk, lab, 0)
    made = _draft("sent", asked, stranger, desk, wire=True, answer=b'{"content":["other"]}')
    lab.drafts[-1] = replace(made, author=lab.key)
    found = cross_check(desk.side(), lab.side())
    assert _verdicts(found) == ["differs"] and "ours is signed by did:key:" in found.findings[0].why


def _altered(draft: Draft, **parts: bytes | None) -> Draft:
    kept = [replace(part, data=parts.get(part.name, part.data) or part.data) for part in draft.parts]
    return replace(draft, parts=tuple(part for part in kept if parts.get(part.name, b"") is not None))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda draft: _altered(draft, content=b'{"content":["other"]}'), "its content is not what"),
        (lambda draft: _altered(draft, statement=b"{}"), "its statement does not hold"),
        (lambda draft: _altered(draft, statement=None), "its statement is not kept"),
        (lambda draft: replace(draft, facts={**draft.facts, "statement": "ab" * 32}), "names another statement"),
        (lambda draft: replace(draft, facts={**draft.facts, "method": "prompts/get"}), "its statement is that of"),
        (lambda draft: replace(draft, facts={**draft.facts, "statement": ""}), "names another statement"),
        (lambda draft: replace(draft, kind="received"), "both sides say that they received it"),
    ],
)  # fmt: skip
def test_a_message_that_does_not_fit_its_own_statement_differs(
    owners: Owners, change: object, words: str
) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(2))
    assert callable(change)
    lab.drafts[-1] = change(lab.drafts[-1])
    found = cross_check(desk.side(), lab.side())
    assert _verdicts(found) == ["differs"], found.findings
    assert words in found.findings[0].why and found.matching == 3


def test_a_message_moved_to_another_exchange_is_found_on_both(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(2))
    lab.drafts[-1] = replace(lab.drafts[-1], facts={**lab.drafts[-1].facts, "exchange": "cd" * 32})
    found = cross_check(desk.side(), lab.side())
    assert _verdicts(found) == ["lacking", "lacking"]
    assert any("its statement is about another exchange" in each.why for each in found.findings)


def test_what_nobody_signed_is_counted_and_not_compared(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(1))
    unsigned = Asked(
        method="tools/call", name="ask", content=b"{}", exchange="ef" * 32, dialogue="", sealed=None
    )
    lab.drafts.append(
        exchange_draft(
            "received", unsigned, by=lab.key, dialogue="wire:unsigned", peer=None, sealed=None, content=b"{}"
        )
    )
    found = cross_check(desk.side(), lab.side())
    assert found.agrees and found.unsigned == 1
    assert "nothing to compare them by" in cross_check_text(found, limit=5)


def test_reading_a_record_is_counted_apart(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(1))
    asked = _asked(desk, lab, 9, method="resources/read", dialogue="")
    lab.drafts.append(_draft("received", asked, lab, desk, wire=True))
    found = cross_check(desk.side(), lab.side())
    assert found.agrees and found.readings == 1


def test_the_report_is_bounded_and_says_how_much_more_there_is(owners: Owners) -> None:
    desk, lab, _ = owners
    hold(desk, lab, range(30))
    lab.drafts = lab.drafts[:2]
    found = cross_check(desk.side(), lab.side())
    text = cross_check_text(found, limit=3)
    assert len(text.splitlines()) == 8 and "... and 55 more" in text and "lacking    58 messages" in text
    told = cross_check_json(found, limit=3)
    assert (told["agrees"], told["matching"], told["lacking"], told["more"]) == (False, 2, 58, 55)
    assert len(told["findings"]) == 3  # type: ignore[arg-type]  # a list
