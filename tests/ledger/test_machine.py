"""A ledger against a plain list: whatever is done in whatever order, both say the same, and the verifier agrees.

The writer (standing.py) and the verifier (authors.py) have rules of their own for who may write, and the model has a
third copy. A message that one of them takes and another refuses ends a run.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from nacl.signing import SigningKey
from sqlalchemy.engine import RootTransaction
from sqlalchemy.exc import OperationalError

from agentmesh_ledger import (
    AgentKey,
    Draft,
    DraftPart,
    JsonValue,
    KeyStore,
    Ledger,
    LedgerAudit,
    LedgerError,
    Record,
    read_transcript,
    verify_transcript,
)
from agentmesh_ledger.affairs import ERASE, LOG_DIALOGUE, REGISTER, REVOKE, ROTATE, rotation_statement
from agentmesh_ledger.encoding import encode64
from agentmesh_ledger.identity import AgentId, agent_id
from agentmesh_ledger.jcs import MAX_INTEGER
from agentmesh_ledger.mirror import verify_tiles
from agentmesh_ledger.proof import verify_proof

ORIGIN = "agentmesh.local/machine"


def key(name: str) -> AgentKey:
    secret = SigningKey(name.encode().ljust(32, b"."))
    return AgentKey(name=name, id=agent_id(bytes(secret.verify_key)), _key=secret)


AGENTS = tuple(key(name) for name in ("ada", "ben", "cyd", "dee", "eve", "fay"))
agents = st.sampled_from(AGENTS)
dialogues = st.sampled_from(("d", "e", "A:1.x_-", "log"))


@dataclass
class Entry:
    """What the list keeps of an entry; erased content is None."""

    author: AgentId
    kind: str
    dialogue: str
    reply_to: int | None = None
    content: list[bytes | None] = field(default_factory=list)


@dataclass
class Model:
    """The log as a list, and who may write in it."""

    entries: list[Entry] = field(default_factory=list)
    names: dict[AgentId, str] = field(default_factory=dict)
    rotated: dict[AgentId, AgentId] = field(default_factory=dict)
    revoked: set[AgentId] = field(default_factory=set)

    def copy(self) -> Model:
        entries = [
            Entry(each.author, each.kind, each.dialogue, each.reply_to, list(each.content))
            for each in self.entries
        ]
        return Model(entries, dict(self.names), dict(self.rotated), set(self.revoked))

    def steward(self) -> AgentId:
        """Whoever wrote the first entry, under the key of now."""
        steward = self.entries[0].author
        while steward in self.rotated:
            steward = self.rotated[steward]
        return steward

    def add(self, draft: Draft) -> bool:
        """Whether the message is one that the log takes; then it is in the list, behind its registration."""
        author = draft.author.id
        if draft.kind != REGISTER and author not in self.names:
            self.entries.append(Entry(author, REGISTER, LOG_DIALOGUE))
            self.names[author] = draft.author.name
        if author in self.rotated or author in self.revoked:
            return False
        index = len(self.entries)
        if draft.reply_to is not None and draft.reply_to >= index:
            return False
        if draft.kind == ROTATE:
            new = AgentId(str(draft.facts["new"]))
            if new in self.names:
                return False
            self.names[new] = self.names[author]
            self.rotated[author] = new
        elif draft.kind == REVOKE:
            agent, after = AgentId(str(draft.facts["agent"])), draft.facts["after"]
            if agent not in self.names or agent in self.revoked or author not in (agent, self.steward()):
                return False
            if not isinstance(after, int) or after >= index:
                return False
            self.revoked.add(agent)
        content: list[bytes | None] = [part.data for part in draft.parts]
        self.entries.append(Entry(author, draft.kind, draft.dialogue, draft.reply_to, content))
        return True


class Machine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="machine"))
        self.keys = KeyStore(self.folder / "keys")
        self.model = Model()
        self.other: Ledger | None = None
        self.seen = 0
        self.log = self.opened()

    def opened(self) -> Ledger:
        return Ledger.open(self.folder / "l.db", origin=ORIGIN, keys=self.keys, create=True)

    def teardown(self) -> None:
        if not hasattr(self, "log"):
            return
        try:
            self.compare(list(self.log.read()))
            audit = LedgerAudit(self.folder / "l.db", keys=[self.log.vkey()], expect=self.log.checkpoint())
            self.compare(list(audit))
        finally:
            self.log.close()
            if self.other is not None:
                self.other.close()
            shutil.rmtree(self.folder)

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "log"):
            assert self.log.size == len(self.model.entries)

    def compare(self, records: list[Record], dialogue: str | None = None) -> None:
        """The records against the list: the whole of it, or one dialogue among them."""
        wanted = [
            (index, each.author, each.kind, each.dialogue, each.reply_to, each.content)
            for index, each in enumerate(self.model.entries)
            if dialogue in (None, each.dialogue)
        ]
        found = [
            (
                each.index,
                each.message.author,
                each.message.kind,
                each.message.dialogue,
                each.message.reply_to,
                [part.data for part in each.parts],
            )
            for each in records
            if dialogue in (None, each.message.dialogue)
        ]
        assert found == wanted

    def do(self, log: Ledger, drafts: list[Draft]) -> None:
        """Appends, and is refused exactly where the list refuses one of the messages."""
        after = self.model.copy()
        takes = all(after.add(draft) for draft in drafts)
        try:
            receipts = log.append(drafts)
        except LedgerError as error:
            assert error.reason == "refused" and not takes, error
            return
        assert takes, "the list refuses it"
        self.model = after
        asked = [each.index for each in receipts]
        assert len(asked) == len(drafts) and asked == sorted(asked)
        assert [self.model.entries[each].kind for each in asked] == [draft.kind for draft in drafts]

    @rule(data=st.data(), count=st.integers(1, 4), second=st.booleans())
    def append(self, data: st.DataObject, count: int, second: bool) -> None:
        size = len(self.model.entries)
        drafts = [
            Draft(
                author=data.draw(agents),
                kind=data.draw(st.sampled_from(("say", "open", "close", "key.other"))),
                dialogue=data.draw(dialogues),
                to=tuple(each.id for each in data.draw(st.lists(agents, max_size=2, unique=True))),
                reply_to=data.draw(st.none() | st.integers(0, size + 3)),
                parts=tuple(
                    DraftPart(name=f"part {k}", type="text/plain", data=data.draw(st.binary(max_size=8)))
                    for k in range(data.draw(st.integers(0, 2)))
                ),
            )
            for _ in range(count)
        ]
        self.do(self.other if second and self.other is not None else self.log, drafts)

    @rule(author=agents, count=st.integers(200, 300))
    @precondition(lambda self: len(self.model.entries) < 600)
    def fill_tiles(self, author: AgentKey, count: int) -> None:
        self.do(self.log, [Draft(author=author, kind="say", dialogue="many")] * count)

    @rule(old=agents, new=agents)
    def rotate(self, old: AgentKey, new: AgentKey) -> None:
        consent = encode64(new.sign(rotation_statement(ORIGIN, old.id, new.id)))
        facts: dict[str, JsonValue] = {"new": new.id, "consent": consent}
        self.do(self.log, [Draft(author=old, kind=ROTATE, dialogue=LOG_DIALOGUE, facts=facts)])

    @rule(agent=agents, by=agents, back=st.integers(-2, 5))
    def revoke(self, agent: AgentKey, by: AgentKey, back: int) -> None:
        after = max(len(self.model.entries) - back, 0)
        facts: dict[str, JsonValue] = {"agent": agent.id, "after": after, "reason": "lost"}
        self.do(self.log, [Draft(author=by, kind=REVOKE, dialogue=LOG_DIALOGUE, facts=facts)])

    @rule(data=st.data(), by=agents)
    @precondition(lambda self: any(each.content for each in self.model.entries))
    def erase(self, data: st.DataObject, by: AgentKey) -> None:
        index = data.draw(st.sampled_from([k for k, e in enumerate(self.model.entries) if e.content]))
        after = self.model.copy()
        takes = after.add(Draft(author=by, kind=ERASE, dialogue=LOG_DIALOGUE))
        try:
            receipt = self.log.erase(index, by=by)
        except LedgerError as error:
            assert error.reason == "refused" and not takes, error
            return
        assert takes
        after.entries[index].content = [None] * len(after.entries[index].content)
        self.model = after
        assert receipt.index == len(after.entries) - 1

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.opened()

    @rule()
    def crash(self) -> None:
        assert self.log._writer is not None
        self.log._writer._memory._let_go()  # descriptors are closed, nothing is made durable
        self.log._store.close()
        self.log = self.opened()

    @rule(author=agents, is_done=st.booleans())
    def crash_in_a_commit(self, author: AgentKey, is_done: bool) -> None:
        commit = RootTransaction.commit

        def broken(transaction: RootTransaction) -> None:
            if is_done:
                commit(transaction)
            raise OperationalError("COMMIT", {}, OSError("lost"))

        after = self.model.copy()
        takes = after.add(Draft(author=author, kind="say", dialogue="d"))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(LedgerError) as caught:
            patch.setattr(RootTransaction, "commit", broken)
            self.log.append([Draft(author=author, kind="say", dialogue="d")])
        assert caught.value.reason == "unknown"
        if takes and is_done:
            self.model = after

    @rule()
    def open_a_second_one(self) -> None:
        if self.other is not None:
            self.other.close()
        self.other = self.opened()

    @rule()
    def export(self) -> None:
        out = io.BytesIO()
        self.log.export(out)
        self.compare(list(read_transcript(io.BytesIO(out.getvalue()), keys=[self.log.vkey()])))

    @rule(data=st.data())
    @precondition(lambda self: self.model.entries)
    def export_a_dialogue(self, data: st.DataObject) -> None:
        dialogue = data.draw(st.sampled_from(sorted({each.dialogue for each in self.model.entries})))
        out = io.BytesIO()
        self.log.export(out, dialogue=dialogue)
        self.compare(list(read_transcript(io.BytesIO(out.getvalue()), keys=[self.log.vkey()])), dialogue)

    @rule()
    def publish_and_follow(self) -> None:
        if not self.model.entries:
            return
        self.log.publish(self.folder / "tiles")
        found = verify_tiles(
            str(self.folder / "tiles"), keys=[self.log.vkey()], state=self.folder / "state", expect=None
        )
        assert (found.log.entries, found.since) == (len(self.model.entries), self.seen)
        self.seen = len(self.model.entries)

    @rule(data=st.data(), with_entry=st.booleans())
    @precondition(lambda self: self.model.entries)
    def prove(self, data: st.DataObject, with_entry: bool) -> None:
        index = data.draw(st.integers(0, len(self.model.entries) - 1))
        text = self.log.prove(index, with_entry=with_entry)
        leaf = None if with_entry else next(self.log.read(index, index + 1)).leaf_hash
        assert verify_proof(text, leaf=leaf, keys=[self.log.vkey()]).index == index

    @rule()
    def tell_names(self) -> None:
        assert self.log.names() == self.model.names


Machine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.spec("L-14", "L-16", "L-45", "L-75", "L-87")
class TestMachine(Machine.TestCase):
    """The machine as a test; pytest finds it by this name."""


# --- messages at the edge of what there is


texts = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ("log", "d", "say", "erase", "key.register", "key.rotate", "key.revoke", "a/b", "x" * 64)
    ),
    st.sampled_from(("x" * 128, "x" * 129, "\u2028", "\ud800", "\x7f", "\U0001f600", "text/plain; a=b")),
)
numbers = st.one_of(
    st.integers(-2, 6),
    st.sampled_from((MAX_INTEGER, MAX_INTEGER + 1, -MAX_INTEGER, 2**63, 2**64, True, 1.0, 1.5, 1e300, -0.0)),
)
ids = st.one_of(agents.map(lambda each: each.id), texts)
hashes = st.lists(
    st.one_of(st.just("00" * 32), st.just("AA" * 32), st.binary(min_size=32, max_size=32).map(bytes.hex))
)
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.one_of(st.none(), numbers, texts, ids, hashes),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
affairs = st.one_of(
    st.fixed_dictionaries({"name": st.one_of(texts, numbers)}),
    st.fixed_dictionaries({"agent": ids, "after": numbers}, optional={"reason": texts, "more": numbers}),
    st.fixed_dictionaries({"new": ids, "consent": st.one_of(texts, st.just(encode64(b"x" * 64)))}),
    st.dictionaries(texts, values, max_size=4),
)
parts = st.builds(
    DraftPart,
    name=texts,
    type=st.one_of(st.sampled_from(("text/plain", "a/b; c=d", "a/b;c=d", "a")), texts),
    data=st.one_of(st.binary(max_size=4), st.binary(max_size=4).map(bytearray)),
)
drafts = st.builds(
    Draft,
    author=agents,
    kind=st.one_of(st.sampled_from((REGISTER, ROTATE, REVOKE, ERASE, "say", "key.other")), texts),
    dialogue=st.one_of(st.sampled_from(("log", "d")), texts),
    to=st.lists(ids, max_size=3).map(tuple),
    reply_to=st.one_of(st.none(), numbers),
    parts=st.lists(parts, max_size=3).map(tuple),
    facts=affairs,
)


@pytest.mark.spec("L-14", "L-15", "L-16", "L-17", "L-26", "L-82")
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_the_writer_takes_the_verifier_takes_and_only_ledger_errors_escape_it(
    keys: KeyStore, data: st.DataObject
) -> None:
    with Ledger.open(":memory:", origin=f"{ORIGIN}/{_next()}", keys=keys, create=True) as log:
        ada = AGENTS[0]
        log.append([Draft(author=ada, kind="say", dialogue="d")])
        for draft in data.draw(st.lists(drafts, min_size=1, max_size=8)):
            try:
                log.append([draft])
            except LedgerError as error:
                assert error.reason in ("refused", "too_large"), error
        for dialogue in (None, *sorted({each.message.dialogue for each in log.read()})):
            out = io.BytesIO()
            log.export(out, dialogue=dialogue)
            evidence = verify_transcript(io.BytesIO(out.getvalue()), keys=[log.vkey()])
            assert evidence.entries == log.size or dialogue is not None


_COUNTER = iter(range(1_000_000_000))


def _next() -> int:
    """A number for an origin: in memory nothing outlives its ledger, but the memory beside the key does."""
    return next(_COUNTER)
