"""Keys rotated and revoked, content erased: what such messages must say, and what follows from them."""

from __future__ import annotations

import io
import json

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger import (
    AgentKey,
    Draft,
    JsonValue,
    KeyStore,
    Ledger,
    LedgerError,
    Verified,
    verify_transcript,
)
from agentmesh_ledger.affairs import ROTATION_TYPE, rotation_statement
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.envelope import seal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical

ORIGIN = "agentmesh.local/desk"
_SEED = SigningKey(b"eve".ljust(32, b"."))
EVE = AgentKey(name="eve", id=agent_id(bytes(_SEED.verify_key)), _key=_SEED)
HASH = "ab" * 32


def verdict(data: bytes) -> Verified | LedgerError:
    try:
        return verify_transcript(io.BytesIO(data))
    except LedgerError as error:
        return error


def failure(data: bytes) -> tuple[str, int | None]:
    found = verdict(data)
    assert isinstance(found, LedgerError)
    return found.reason, found.index


def rotate(forge, old: AgentKey, new: AgentKey, log: str = ORIGIN, **changes: JsonValue):
    consent = encode64(new.sign(rotation_statement(log, old.id, new.id)))
    return forge.add(old, "key.rotate", "log", **{"facts": {"new": new.id, "consent": consent}, **changes})


def revoke(forge, author: AgentKey, agent: AgentKey, after: JsonValue = 0, **more: JsonValue):
    return forge.add(author, "key.revoke", "log", facts={"agent": agent.id, "after": after, **more})


def erase(forge, author: AgentKey, entry: JsonValue, hashes: JsonValue, **more: JsonValue):
    return forge.add(author, "erase", "log", facts={"entry": entry, "hashes": hashes, **more})


@pytest.mark.spec("L-14", "L-15", "L-84")
def test_a_rotated_key_speaks_under_the_old_name(forge) -> None:
    rotate(forge.begin(), forge.ben, EVE).say(EVE, "hi")
    found = verdict(forge.transcript())
    assert isinstance(found, Verified)
    assert (EVE.id, "ben", 1) in found.signers
    assert [(each.old, each.new, each.index) for each in found.rotated] == [(forge.ben.id, EVE.id, 2)]


@pytest.mark.spec("L-14", "L-75")
def test_the_old_key_signs_no_more(forge) -> None:
    rotate(forge.begin(), forge.ben, EVE).say(forge.ben, "still here")
    assert failure(forge.transcript()) == ("author", 3)


@pytest.mark.spec("L-14")
def test_the_new_key_is_new_and_not_the_logs(forge) -> None:
    rotate(forge.begin(), forge.ben, forge.ada)
    assert failure(forge.transcript()) == ("author", 2)
    again = type(forge)().begin()
    rotate(rotate(again, again.ben, EVE), EVE, again.ben)
    assert failure(again.transcript()) == ("author", 3)
    registered = rotate(type(forge)().begin(), forge.ben, EVE).add(
        EVE, "key.register", "log", facts={"name": "e"}
    )
    assert failure(registered.transcript()) == ("author", 3)
    own = type(forge)().begin()
    key = AgentKey(name="log", id=agent_id(own.key.public), _key=own.key._key)
    assert failure(rotate(own, own.ben, key).transcript()) == ("author", 2)


@pytest.mark.spec("L-15")
def test_a_consent_to_anything_else_is_refused(forge) -> None:
    assert b'application/vnd.agentmesh.rotation.v1+json {"log":' in rotation_statement(
        ORIGIN, EVE.id, EVE.id
    ).replace(b" 145", b"").replace(b" 165", b"") or ROTATION_TYPE.encode() in rotation_statement(
        ORIGIN, EVE.id, EVE.id
    )
    assert failure(rotate(forge.begin(), forge.ben, EVE, log="another.log").transcript()) == ("signature", 2)
    stolen = encode64(forge.ben.sign(rotation_statement(ORIGIN, forge.ben.id, EVE.id)))
    other = type(forge)().begin()
    other.add(other.ben, "key.rotate", "log", facts={"new": EVE.id, "consent": stolen})
    assert failure(other.transcript()) == ("signature", 2)


@pytest.mark.parametrize("dialogue", [None, "d1"])
@pytest.mark.spec("L-15", "L-82")
def test_rotations_in_a_circle_are_refused_and_come_to_an_end(forge, dialogue: str | None) -> None:
    forge.begin()
    forge.say(forge.ada, "hello")
    rotate(forge, forge.ada, forge.ben)
    rotate(forge, forge.ben, forge.ada)
    rotate(forge, forge.ada, forge.ada)
    forge.say(forge.ben, "bye")
    assert (
        failure(forge.transcript(None if dialogue is None else [0, 1, 2, 3, 4, 5, 6], dialogue=dialogue))[0]
        == "author"
    )


@pytest.mark.spec("L-16", "L-75")
def test_a_revoked_key_signs_no_more_and_what_it_signed_late_is_disowned(forge) -> None:
    forge.begin().say(forge.ben, "mine").say(forge.ben, "not mine")
    revoke(forge, forge.ada, forge.ben, 2, reason="the laptop is gone")
    found = verdict(forge.transcript())
    assert isinstance(found, Verified)
    (revoked,) = found.revoked
    assert (revoked.agent, revoked.after, revoked.index, revoked.last) == (forge.ben.id, 2, 4, 3)
    assert revoked.disowns and any("from 3 to 3: they are disowned" in each for each in found.not_shown)
    forge.say(forge.ben, "and on")
    assert failure(forge.transcript()) == ("author", 5)


@pytest.mark.spec("L-16")
def test_only_the_agent_itself_and_the_steward_revoke_and_only_once(forge) -> None:
    itself = revoke(forge.begin(), forge.ben, forge.ben, 1)
    found = verdict(itself.transcript())
    assert isinstance(found, Verified) and not found.revoked[0].disowns
    assert failure(revoke(itself, forge.ada, forge.ben).transcript()) == ("author", 3)
    stranger = type(forge)().begin()
    assert failure(revoke(stranger, stranger.ben, stranger.ada).transcript()) == ("author", 2)
    unknown = type(forge)().begin()
    assert failure(revoke(unknown, unknown.ada, EVE).transcript()) == ("author", 2)


@pytest.mark.spec("L-16", "L-55")
def test_the_steward_is_the_steward_under_a_new_key_too_and_not_under_the_old_one(forge) -> None:
    rotate(forge.begin().say(forge.ben, "hi"), forge.ada, EVE)  # 2, 3
    revoke(forge, EVE, forge.ben, 1)  # 4
    found = verdict(forge.transcript())
    assert isinstance(found, Verified) and found.revoked[0].disowns
    assert isinstance(verdict(forge.transcript([0, 1, 2, 3, 4], dialogue="d1")), Verified)
    late = type(forge)().begin()
    assert failure(revoke(rotate(late, late.ada, EVE), late.ada, late.ben).transcript()) == ("author", 3)
    other = type(forge)().begin()
    assert failure(revoke(rotate(other, other.ben, EVE), EVE, other.ada).transcript()) == ("author", 3)


@pytest.mark.spec("L-16")
def test_a_ledger_whose_steward_has_a_new_key_revokes_with_it(spoken: Ledger, keys: KeyStore) -> None:
    ada, ben = keys.agent("ada"), keys.agent("ben")
    spoken.rotate(ada, EVE)
    spoken.revoke(ben.id, after=0, by=EVE)
    assert [each.disowns for each in spoken.verify(jobs=1).revoked] == [True]


@pytest.mark.spec("L-17")
def test_a_part_that_is_erased_again_counts_once(spoken: Ledger, keys: KeyStore) -> None:
    for _ in range(3):
        spoken.erase(2, by=keys.agent("ada"))
    found = spoken.verify()
    assert (found.erased, found.withheld, found.entries) == (1, 1, 10)


@pytest.mark.spec("L-17", "L-84")
def test_a_tombstone_is_told_and_the_part_is_withheld(forge) -> None:
    forge.begin().say(forge.ben, "secret")
    (digest,) = forge.openings[2]
    forge.openings[2] = {digest: None}
    erase(forge, forge.ben, 2, [digest.hex()], reason="asked for")
    found = verdict(forge.transcript())
    assert isinstance(found, Verified) and (found.erased, found.withheld) == (1, 1)
    assert any("1 part that a tombstone names" in each for each in found.not_shown)


SHAPES: list[tuple[str, dict[str, JsonValue]]] = [
    ("key.rotate", {}),
    ("key.rotate", {"new": EVE.id}),
    ("key.rotate", {"new": EVE.id, "consent": "AA=="}),
    ("key.rotate", {"new": EVE.id, "consent": 1}),
    ("key.rotate", {"new": EVE.id, "consent": encode64(bytes(64)), "reason": "x"}),
    ("key.rotate", {"new": 1, "consent": encode64(bytes(64))}),
    ("key.revoke", {"agent": EVE.id}),
    ("key.revoke", {"agent": 1, "after": 0}),
    ("key.revoke", {"agent": EVE.id, "after": 2}),
    ("key.revoke", {"agent": EVE.id, "after": True}),
    ("key.revoke", {"agent": EVE.id, "after": -1}),
    ("key.revoke", {"agent": EVE.id, "after": 0, "reason": ""}),
    ("key.revoke", {"agent": EVE.id, "after": 0, "reason": "a\nb"}),
    ("key.revoke", {"agent": EVE.id, "after": 0, "reason": "x" * 1001}),
    ("key.revoke", {"agent": EVE.id, "after": 0, "more": 1}),
    ("erase", {"entry": 0}),
    ("erase", {"entry": 2, "hashes": [HASH]}),
    ("erase", {"entry": 0, "hashes": []}),
    ("erase", {"entry": 0, "hashes": HASH}),
    ("erase", {"entry": 0, "hashes": [HASH, HASH]}),
    ("erase", {"entry": 0, "hashes": [HASH.upper()]}),
    ("erase", {"entry": 0, "hashes": [1]}),
    ("erase", {"entry": 0, "hashes": [f"{each:064x}" for each in range(65)]}),
    ("erase", {"entry": 0, "hashes": [HASH], "reason": None}),
]


@pytest.mark.spec("L-14", "L-16", "L-17")
@pytest.mark.parametrize(("kind", "facts"), SHAPES)
def test_facts_out_of_shape_are_refused(forge, kind: str, facts: dict[str, JsonValue]) -> None:
    forge.begin().add(forge.ada, kind, "log", facts=facts)
    assert failure(forge.transcript()) == ("message", 2)


@pytest.mark.spec("L-14", "L-16", "L-17")
@pytest.mark.parametrize("changes", [{"dialogue": "d1", "seq": 0}, {"reply_to": 0}, {"to": [EVE.id]}])
def test_affairs_stand_in_the_log_to_nobody_without_parts(forge, changes: dict[str, JsonValue]) -> None:
    facts: dict[str, dict[str, JsonValue]] = {
        "key.rotate": {"new": EVE.id, "consent": encode64(bytes(64))},
        "key.revoke": {"agent": forge.ben.id, "after": 0},
        "erase": {"entry": 0, "hashes": [HASH]},
    }
    for kind, said in facts.items():
        one = type(forge)().begin()
        payload = {**one.payload(one.ada, kind, "log", facts=said), **changes}
        one.entries.append(seal(one.ada, canonical(payload)))
        assert failure(one.transcript()) == ("message", 2), kind


@pytest.mark.spec("L-55")
def test_a_dialogue_brings_the_rotations_revocations_and_tombstones_of_those_who_write_in_it(
    forge,
) -> None:
    forge.begin().say(forge.ben, "hi")  # 2
    rotate(forge, forge.ben, EVE).say(EVE, "again")  # 3, 4
    digest = next(iter(forge.openings[2]))
    erase(forge, forge.ada, 2, [digest.hex()])  # 5
    revoke(forge, forge.ada, EVE, 3)  # 6
    found = verdict(forge.transcript([0, 1, 2, 3, 4, 5, 6], dialogue="d1"))
    assert isinstance(found, Verified)
    assert (found.erased, len(found.rotated), len(found.revoked), found.entries) == (1, 1, 1, 7)
    # Whoever only revokes a writer is one, and where entry 0 is not shown the steward is not known.
    assert isinstance(verdict(forge.transcript([0, 1, 2, 3, 4, 6], dialogue="d1")), Verified)
    # Where only the new key speaks, the old one is there for its sake.
    late = type(forge)().begin()
    rotate(late, late.ben, EVE).say(EVE, "hi")
    assert isinstance(verdict(late.transcript([1, 2, 3], dialogue="d1")), Verified)
    assert failure(late.transcript([0, 1, 2, 3], dialogue="d1")) == ("selection", 0)
    assert failure(late.transcript([3], dialogue="d1")) == ("author", 3)


@pytest.mark.spec("L-16", "L-55")
def test_a_key_revoked_before_it_is_registered_is_seen_in_a_dialogue_too(forge) -> None:
    forge.add(forge.ada, "key.register", "log")
    revoke(forge, forge.ada, forge.ben).add(forge.ben, "key.register", "log").say(forge.ben, "hi").say(
        forge.ada, ""
    )
    assert failure(forge.transcript()) == ("author", 1)
    assert failure(forge.transcript([0, 1, 2, 3, 4], dialogue="d1")) == ("author", 2)


@pytest.mark.spec("L-55")
def test_an_exported_dialogue_brings_what_bears_on_it_and_verifies(spoken: Ledger, keys: KeyStore) -> None:
    ada, ben = keys.agent("ada"), keys.agent("ben")
    spoken.rotate(ben, EVE)  # 7
    spoken.append(
        [Draft(author=EVE, kind="say", dialogue="d2"), Draft(author=EVE, kind="say", dialogue="d3")]
    )  # 8, 9
    spoken.erase(2, by=ada)  # 10
    spoken.revoke(EVE.id, after=8, by=ada)  # 11
    wanted = {"d1": [0, 1, 2, 3, 4, 6, 7, 10, 11], "d2": [0, 3, 5, 7, 8, 11], "d3": [0, 3, 7, 9, 11]}
    for dialogue, indices in wanted.items():
        out = io.BytesIO()
        spoken.export(out, dialogue=dialogue)
        lines = out.getvalue().splitlines()[1:-1]
        assert [json.loads(line)["index"] for line in lines] == indices, dialogue
        found = verdict(out.getvalue())
        assert isinstance(found, Verified), found
        assert found.erased == (dialogue == "d1") and len(found.revoked) == 1
