"""Attacks by whoever holds keys: one agent, all of them, or the log's operator as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

from agentmesh_ledger import AgentKey
from agentmesh_ledger.envelope import PAYLOAD_TYPE, pae, seal
from agentmesh_ledger.identity import agent_id
from agentmesh_ledger.jcs import canonical
from tampering.attack import Attack, Make
from tampering.sample import (
    ADA,
    BEN,
    BEN_ANEW,
    CYD,
    EVE,
    LOG,
    NOBODY,
    OLDER,
    Case,
    Fields,
    Log,
    decode,
    encode,
    rotation,
    sealed,
)


def _in_place(change: Callable[[Fields, AgentKey, Case, Random], bytes]) -> Make:
    """One shown entry exchanged, the others, the proofs and the checkpoint kept."""

    def make(case: Case, rng: Random) -> bytes:
        fields = case.fields()
        line = rng.choice(fields[1:])
        author = case.log.authors[line["index"]]
        line["entry"] = encode(change(json.loads(decode(line["entry"])), author, case, rng))
        return sealed([canonical(each) for each in fields])

    return make


def _payload(envelope: Fields) -> Fields:
    found: Fields = json.loads(decode(envelope["payload"]))
    return found


def _other(author: AgentKey, rng: Random) -> AgentKey:
    return rng.choice([each for each in (ADA, BEN, CYD, NOBODY) if each.id != author.id])


def _signed_by_another(envelope: Fields, author: AgentKey, case: Case, rng: Random) -> bytes:
    """Another agent's good signature over the same payload, with its own keyid, the author's, or as the author."""
    other, payload = _other(author, rng), decode(envelope["payload"])
    how = rng.randrange(3)
    if how == 0:
        return seal(other, payload)
    if how == 1:
        signature = encode(other.sign(pae(PAYLOAD_TYPE, payload)))
        envelope["signatures"] = [{"keyid": author.id, "sig": signature}]
        return canonical(envelope)
    return seal(other, canonical({**_payload(envelope), "author": other.id}))


def _signed_again(envelope: Fields, author: AgentKey, case: Case, rng: Random) -> bytes:
    """Other words, or another time, by the author itself: a good signature that the tree was not made for."""
    payload = _payload(envelope)
    name, value = rng.choice(
        [
            ("time", f"2026-11-24T09:00:{rng.randrange(60):02d}.000Z"),
            ("to", [] if payload["to"] else [NOBODY.id]),
            ("facts", {**payload["facts"], "x": rng.randrange(1000)}),
            ("kind", "say" if payload["kind"] != "say" else "task"),
            ("reply_to", 0 if payload["reply_to"] is None and payload["index"] else None),
        ]
    )
    return seal(author, canonical({**payload, name: value}))


def _payload_field_exchanged(envelope: Fields, author: AgentKey, case: Case, rng: Random) -> bytes:
    """A field of another message under the old signature."""
    payload, other = _payload(envelope), rng.choice(case.log.payloads)
    name = rng.choice(sorted(payload))
    if name == "prev":
        other = {"prev": rng.randbytes(32).hex()}
    return canonical({**envelope, "payload": encode(canonical({**payload, name: other[name]}))})


def _signature_exchanged(envelope: Fields, author: AgentKey, case: Case, rng: Random) -> bytes:
    other = json.loads(rng.choice(case.entries))
    names = rng.choice((("signatures",), ("payload",)))
    return canonical({**envelope, **{name: other[name] for name in names}})


def _altered(log: Log, case: Case, rng: Random) -> None:
    """One thing that a shown message says, otherwise: a word, a number, whom it is for."""
    index = rng.choice([each for each in case.shown() if each < OLDER])
    log.payloads[index]["facts"] = {**log.payloads[index]["facts"], "x": rng.randrange(10**6)}


def _by_all_agents(case: Case, rng: Random) -> bytes:
    """History told anew by every agent together; the checkpoint is the one that the log had signed."""
    log = case.log.copy()
    _altered(log, case, rng)
    lines = case.write(log.entries(), log).split(b"\n")[:-2]
    header = json.loads(lines[0])
    header["checkpoint"] = case.notes[-1]
    return sealed([canonical(header), *lines[1:]])


def _by_everybody(case: Case, rng: Random) -> bytes:
    """History told anew by every agent and the log's key: all is good in itself, but an auditor kept a checkpoint."""
    log = case.log.copy()
    _altered(log, case, rng)
    return case.write(log.entries(), log, old=rng.choice((OLDER, OLDER, None)))


def _fork(case: Case, rng: Random) -> bytes:
    """As many entries as before, the last ones others: a second history from some point on."""
    log = case.log.copy()
    start = rng.randrange(5, OLDER)
    for index in range(start, len(log.payloads)):
        if log.payloads[index]["kind"] in ("erase", "key.rotate", "key.revoke"):
            continue  # their facts are what they are
        log.payloads[index]["facts"] = {**log.payloads[index]["facts"], "x": rng.randrange(10**6)}
    return case.write(log.entries(), log, old=rng.choice((OLDER, None)))


def _lie(change: Callable[[Fields, Random], Fields | bytes]) -> Make:
    """A log that keeps every key and breaks one rule: chain, tree, signatures and checkpoint are made for it."""

    def make(case: Case, rng: Random) -> bytes:
        own = [index for index in case.shown() if case.log.payloads[index]["dialogue"] != "log"]
        place = rng.choice(own)
        return case.write(
            case.log.entries(lambda index, payload: change(payload, rng) if index == place else payload)
        )

    return make


def _set(name: str, *values: Any) -> Make:
    return _lie(lambda payload, rng: {**payload, name: rng.choice(values)})


def _moved(name: str) -> Make:
    """The number one or more too high or too low."""
    return _lie(lambda payload, rng: {**payload, name: max(payload[name] + rng.choice((-2, -1, 1, 2)), -1)})


def _without_a_field(payload: Fields, rng: Random) -> Fields:
    gone = rng.choice(sorted(payload))
    return {name: value for name, value in payload.items() if name != gone}


def _not_canonical(payload: Fields, rng: Random) -> bytes:
    data = canonical(payload)
    how = rng.randrange(4)
    if how == 0:
        return json.dumps(payload, sort_keys=True, ensure_ascii=False).encode()
    if how == 1:
        return data.replace(b'"v":1', b'"v":1.0')
    if how == 2:
        return data.replace(b'"v":1', b'"v":1,"v":1')
    return data + b" "


def _false_link(case: Case, rng: Random) -> bytes:
    """A link to somewhere else, where the entry before is shown."""
    shown = case.shown()
    place = rng.choice([index for index in shown if index == 0 or index - 1 in shown])

    def change(index: int, payload: Fields) -> Fields:
        return {**payload, "prev": rng.randbytes(32).hex()} if index == place else payload

    return case.write(case.log.entries(change))


def _false_author(case: Case, rng: Random) -> bytes:
    """A good message by somebody who never registered, or who is the log itself."""
    log = case.log.copy()
    place = rng.choice([index for index in case.shown() if log.payloads[index]["dialogue"] != "log"])
    key = rng.choice((NOBODY, _log_as_agent()))
    log.authors[place] = key
    log.payloads[place]["author"] = key.id
    return case.write(log.entries(), log)


def _log_as_agent() -> AgentKey:
    """The log's key in the role of an agent."""
    return AgentKey(name="log", id=agent_id(LOG.public), _key=LOG._key)


def _false_registration(case: Case, rng: Random) -> bytes:
    """A second registration, one in the name of the log's key, one left out, or one with content."""
    log = case.log.copy()
    how = rng.randrange(4)
    place = rng.choice((0, 1))
    if how == 0:
        log.payloads[2].update(author=ADA.id, facts={"name": "ada"})
        log.authors[2] = ADA
    elif how == 1:
        log.payloads[place].update(kind="key.other", facts={})
    elif how == 2:
        log.payloads[place]["facts"] = {"name": rng.choice(("", "x" * 65, "a\nb", 7))}
    else:
        log.authors[place] = _log_as_agent()
        log.payloads[place]["author"] = log.authors[place].id
    return case.write(log.entries(), log)


def _false_envelope(case: Case, rng: Random) -> bytes:
    """An entry whose envelope is out of form, in the tree as it is."""
    entries = list(case.entries)
    place = case.shown()[-1]
    envelope = json.loads(entries[place])
    one = envelope["signatures"][0]
    entries[place] = rng.choice(
        [
            canonical({**envelope, "signatures": [one, one]}),
            canonical({**envelope, "signatures": []}),
            canonical({**envelope, "more": 1}),
            canonical({**envelope, "payloadType": "text/plain"}),
            canonical({**envelope, "signatures": [{**one, "keyid": NOBODY.id}]}),
            canonical({**envelope, "signatures": [{**one, "sig": encode(bytes(63))}]}),
            canonical({**envelope, "signatures": [{**one, "sig": encode(bytes(64))}]}),
            entries[place] + b" ",
            json.dumps(envelope, sort_keys=True).encode(),
        ]
    )
    return case.write(entries)


def _false_part(case: Case, rng: Random) -> bytes:
    """A message that commits to its content with another size, or to one content twice."""
    log = case.log.copy()
    shown = case.shown()
    place = rng.choice(
        [index for index in shown if any(each != "withheld" for each in log.contents[index].values())]
    )
    parts = log.payloads[place]["parts"]
    number = rng.choice(
        [n for n, each in enumerate(parts) if log.contents[place][each["hash"]] != "withheld"]
    )
    how = rng.randrange(4)
    if how == 0:
        parts[number]["size"] += rng.choice((1, 2**20))
    elif how == 1:
        parts.append({**parts[number]})
    elif how == 2:
        parts[number]["name"] = rng.choice(("", "a\nb", "x" * 129))
    else:
        parts[number]["type"] = rng.choice(("text", "text/plain\n", "/", ""))
    return case.write(log.entries(), log)


def _affair(kind: str, change: Callable[[Log, int, Random], None]) -> Make:
    """A log whose word about its own affairs, at the place of that kind, breaks a rule."""

    def make(case: Case, rng: Random) -> bytes:
        log = case.log.copy()
        place = next(index for index in case.shown() if log.payloads[index]["kind"] == kind)
        change(log, place, rng)
        return case.write(log.entries(), log)

    return make


def _false_rotation(log: Log, place: int, rng: Random) -> None:
    log.payloads[place]["facts"] = rng.choice(
        [
            rotation(BEN, BEN_ANEW, signer=rng.choice((BEN, ADA, NOBODY))),
            rotation(BEN, BEN_ANEW, log="agentmesh.local/other"),
            rotation(ADA, BEN_ANEW),
            rotation(BEN, ADA),
            rotation(BEN, BEN),
            rotation(BEN, _log_as_agent()),
            {**rotation(BEN, BEN_ANEW), "consent": rng.choice((None, "", encode(bytes(64)), "x"))},
            {**rotation(BEN, BEN_ANEW), "more": 1},
            {"new": BEN_ANEW.id},
        ]
    )


def _written_by_the_old_key(log: Log, place: int, rng: Random) -> None:
    later = next(index for index, key in enumerate(log.authors) if key == BEN_ANEW)
    log.authors[later] = BEN
    log.payloads[later]["author"] = BEN.id


def _false_revocation(log: Log, place: int, rng: Random) -> None:
    payload = log.payloads[place]
    how = rng.randrange(3)
    if how == 0:  # by somebody who may not
        log.authors[place] = BEN_ANEW
        payload["author"] = BEN_ANEW.id
    elif how == 1:
        payload["facts"]["after"] = rng.choice((place, place + 1, -1, "9", None, True))
    else:
        payload.update(rng.choice(({"to": [ADA.id]}, {"reply_to": 3}, {"facts": {"agent": EVE.id}})))


def _written_by_a_revoked_key(log: Log, place: int, rng: Random) -> None:
    log.payloads[place]["facts"]["agent"] = log.payloads[place]["author"]


def _false_erasure(log: Log, place: int, rng: Random) -> None:
    facts = log.payloads[place]["facts"]
    one = facts["hashes"][0]
    name, value = rng.choice(
        [
            ("entry", rng.choice((place, place + 1, -1, "4", None))),
            ("hashes", rng.choice(([], [one, one], one, [one.upper()], ["00"], [1], None))),
            ("hashes", [f"{number:064x}" for number in range(65)]),
            ("reason", rng.choice(("", "x" * 1001, "a\nb", 1))),
            ("more", 1),
        ]
    )
    facts[name] = value


def _replayed(case: Case, rng: Random) -> bytes:
    """Entries of another log of the same agents, chained for it, under this log's checkpoint."""
    log = case.log.copy()
    place = rng.choice(case.shown())
    log.payloads[place]["log"] = "agentmesh.local/other"
    return case.write(log.entries(), log)


FORGERIES: Final = (
    Attack(name="entry signed by another agent", make=_in_place(_signed_by_another), weight=3),
    Attack(name="entry signed again by its author, old checkpoint", make=_in_place(_signed_again), weight=3),
    Attack(name="payload field of another entry", make=_in_place(_payload_field_exchanged), weight=3),
    Attack(name="signature or payload of another entry", make=_in_place(_signature_exchanged), weight=2),
    Attack(name="history rewritten by all agents, old checkpoint", make=_by_all_agents, weight=2),
    Attack(name="history rewritten by all and the log's key", make=_by_everybody, expect="older", weight=2),
    Attack(name="forked by all and the log's key", make=_fork, expect="older", weight=2),
    Attack(name="log lies: seq", make=_moved("seq")),
    Attack(name="log lies: index", make=_moved("index")),
    Attack(name="log lies: prev", make=_false_link),
    Attack(name="log lies: author not registered", make=_false_author),
    Attack(name="log lies: registration", make=_false_registration),
    Attack(name="log lies: rotation", make=_affair("key.rotate", _false_rotation), weight=2),
    Attack(name="log lies: written by a rotated key", make=_affair("key.rotate", _written_by_the_old_key)),
    Attack(name="log lies: revocation", make=_affair("key.revoke", _false_revocation)),
    Attack(name="log lies: written by a revoked key", make=_affair("key.revoke", _written_by_a_revoked_key)),
    Attack(name="log lies: erasure", make=_affair("erase", _false_erasure), weight=2),
    Attack(name="log lies: envelope", make=_false_envelope),
    Attack(name="log lies: parts", make=_false_part),
    Attack(name="log lies: replayed from another log", make=_replayed),
    Attack(name="log lies: payload not canonical", make=_lie(_not_canonical)),
    Attack(
        name="log lies: time", make=_set("time", "2026-11-24T08:00:00Z", "2026-13-24T08:00:00.000Z", "", 7)
    ),
    Attack(name="log lies: kind", make=_set("kind", "Say", "", "a b", "x" * 65, None)),
    Attack(name="log lies: dialogue", make=_set("dialogue", "", "a b", "x" * 129, "-", 1)),
    Attack(name="log lies: to", make=_set("to", [ADA.id, ADA.id], ["did:key:z6Mk"], ADA.id, None)),
    Attack(name="log lies: reply_to", make=_set("reply_to", 10**6, -1, "1", True, 0.5)),
    Attack(name="log lies: version", make=_set("v", 0, 2, True, "1")),
    Attack(name="log lies: facts", make=_set("facts", [], None, "x")),
    Attack(name="log lies: field too many", make=_set("more", 1, None)),
    Attack(name="log lies: field missing", make=_lie(_without_a_field)),
)
