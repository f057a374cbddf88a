"""OpenTimestamps for a ledger: its checkpoint goes to calendars, and comes back as a way to a Bitcoin block.

Both steps are recorded: the promise of the calendars (pending), and what shows itself (complete). Every step may be
repeated after a crash at any point; what is recorded already is not recorded again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from agentmesh_ledger.anchor.calendar import Answer, Question, ask_all, plain_url
from agentmesh_ledger.anchor.ots import make_evidence, stamp_request, verify_ots
from agentmesh_ledger.anchor.stamps import Stamp, completed, record_stamp, standing, unfinished
from agentmesh_ledger.checkpoint import Checkpoint, open_checkpoint
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import parse_vkey
from agentmesh_ledger.text import shown

if TYPE_CHECKING:
    from agentmesh_ledger.anchor.blocks import HeaderSource
    from agentmesh_ledger.anchor.evidence import Anchored
    from agentmesh_ledger.anchor.otsfile import Proof
    from agentmesh_ledger.keys import AgentKey
    from agentmesh_ledger.log import Ledger

MAX_ASKED: Final = 16
"""Calendars asked for one stamp, and blocks looked up for it: strangers name both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """The checkpoint of `size` entries is with these calendars, as entry `index` says. `new` is false where it was before.

    No calendar is named where it was, and its block was recorded since, by the entry `index`.
    """

    size: int
    root: bytes
    index: int
    new: bool
    calendars: tuple[str, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What became of a stamp: `complete` (recorded at `index`), still `pending`, in block `block` whose `header` is
    missing, or `broken`. `merkle_root` is that of the block, as Bitcoin's programs write it."""

    size: int
    state: Literal["complete", "pending", "header", "broken"]
    block: int | None = None
    merkle_root: str | None = None
    anchored: Anchored | None = None
    index: int | None = None
    problems: tuple[str, ...] = ()


def stamp(ledger: Ledger, author: AgentKey, calendars: Sequence[str], *, within: float = 20.0) -> Stamped:
    """Gives the ledger's checkpoint to these calendars, all at once, and records their promise once one has answered.

    Where nothing but anchors was appended since the last stamp, there is nothing to do.
    Raises: LedgerError(refused) for an empty ledger or a URL that is none; LedgerError(node) where no calendar answers;
    LedgerError(no_extra).
    """
    urls = tuple(dict.fromkeys(plain_url(each) for each in calendars))
    if not urls:
        raise LedgerError("refused", "no calendar was named")
    checkpoint = open_checkpoint(ledger.checkpoint(), [parse_vkey(ledger.vkey())]).checkpoint
    if not checkpoint.size:
        raise LedgerError("refused", "the ledger is empty: there is nothing to stamp", path=ledger.place)
    if found := standing(ledger):
        return _known(ledger, found)
    proof, problems = _promised(checkpoint, urls, within)
    if found := standing(ledger):  # another process may have been quicker
        return _known(ledger, found)
    index = record_stamp(ledger, author, checkpoint.size, checkpoint.root, make_evidence(proof.data, None))
    return Stamped(
        size=checkpoint.size,
        root=checkpoint.root,
        index=index,
        new=True,
        calendars=_urls(proof),
        problems=tuple(problems),
    )


def upgrade(
    ledger: Ledger,
    author: AgentKey,
    calendars: Sequence[str],
    *,
    headers: HeaderSource | None = None,
    within: float = 60.0,
) -> tuple[Upgraded, ...]:
    """Asks these calendars, and no others, for the blocks of the stamps that are pending, and records what then holds.

    A stamp is complete with the header of a block whose merkle root its proof leads to; `headers` gives it. Stamps
    that were not reached in so many seconds stay pending.
    Raises: LedgerError(refused) for a URL that is none; LedgerError where the ledger cannot be read or written.
    """
    deadline = time.monotonic() + within
    named = frozenset(plain_url(each) for each in calendars)
    found: list[Upgraded] = []
    for each in unfinished(ledger):
        left = deadline - time.monotonic()
        if left <= 0:
            found.append(Upgraded(size=each.size, state="pending", problems=("no time was left for it",)))
            continue
        try:
            # A calendar that hangs leaves time for the headers of what the others say.
            proof, problems = _asked(each.opened(), named, left / 2 if headers else left)
        except LedgerError as error:
            if error.reason != "anchor":
                raise
            found.append(Upgraded(size=each.size, state="broken", problems=(error.message,)))
            continue
        found.append(_settled(ledger, author, each, proof, headers, problems, deadline))
    return tuple(found)


def _promised(checkpoint: Checkpoint, urls: Sequence[str], within: float) -> tuple[Proof, list[str]]:
    request = stamp_request(checkpoint.origin, checkpoint.size, checkpoint.root)
    questions = [Question(url=each, path="digest", body=request.commitment) for each in urls]
    proof: Proof | None = None
    problems: list[str] = []
    for question, answer in zip(questions, ask_all(questions, within=within), strict=True):
        try:
            data = _usable(answer)
            given = request.answered(data) if proof is None else proof.with_answer(request.commitment, data)
            if not (given.waiting() or given.blocks()):
                raise LedgerError("anchor", "it promises nothing that is known here")
            proof = given
        except LedgerError as error:
            problems.append(_told(question, error))
    if proof is None:
        raise LedgerError("node", f"no calendar took the checkpoint: {'; '.join(problems)}")
    return proof, problems


def _asked(proof: Proof, named: frozenset[str], within: float) -> tuple[Proof, list[str]]:
    """The proof with what the calendars say by now. Only those that the caller named are asked: the URLs in a proof are
    a stranger's, and may lead into our own network."""
    problems: list[str] = []
    asked: list[tuple[Question, bytes]] = []
    for uri, commitment in proof.waiting()[:MAX_ASKED]:
        url = uri.rstrip("/")
        if url in named:
            asked.append((Question(url=url, path=f"timestamp/{commitment.hex()}"), commitment))
        else:
            problems.append(f"{shown(uri)} was not named, and so not asked")
    answers = ask_all([question for question, _ in asked], within=within)
    for (question, commitment), answer in zip(asked, answers, strict=True):
        try:
            if answer is None:
                problems.append(f"{question.url}: in no block yet")
            else:
                proof = proof.with_answer(commitment, _usable(answer))
        except LedgerError as error:
            problems.append(_told(question, error))
    return proof, problems


def _settled(
    ledger: Ledger,
    author: AgentKey,
    stamp: Stamp,
    proof: Proof,
    headers: HeaderSource | None,
    problems: Sequence[str],
    deadline: float,
) -> Upgraded:
    """Records the lowest block whose header shows itself."""
    told = list(problems)
    blocks = proof.blocks()[:MAX_ASKED]
    for height, merkle_root in blocks:
        try:
            # A calendar may name many blocks, and a node hang at each: all of them together have one time.
            left = max(deadline - time.monotonic(), 0.001)
            header = headers(height, merkle_root, left) if headers else None
            if header is None:
                if headers:
                    told.append(f"block {height}: its header is not where it was looked for")
                continue
            evidence = make_evidence(proof.to_block(height, merkle_root).data, header)
            anchored = verify_ots(evidence, size=stamp.size, root=stamp.root, origin=stamp.origin)
        except LedgerError as error:
            told.append(f"block {height}: {error}")
            continue
        known = completed(ledger, stamp.size, stamp.root)  # another process may have been quicker
        index = known.index if known else None
        if index is None:
            index = record_stamp(ledger, author, stamp.size, stamp.root, evidence, height)
        return Upgraded(
            size=stamp.size,
            state="complete",
            block=height,
            merkle_root=merkle_root[::-1].hex(),
            anchored=known.verified() if known else anchored,
            index=index,
            problems=tuple(told),
        )
    if not blocks:
        return Upgraded(size=stamp.size, state="pending", problems=tuple(told))
    height, merkle_root = blocks[0]
    return Upgraded(
        size=stamp.size,
        state="header",
        block=height,
        merkle_root=merkle_root[::-1].hex(),
        problems=tuple(told),
    )


def _known(ledger: Ledger, stamp: Stamp) -> Stamped:
    done = completed(ledger, stamp.size, stamp.root)
    index, calendars = (stamp.index, _urls(stamp.opened())) if done is None else (done.index, ())
    return Stamped(size=stamp.size, root=stamp.root, index=index, new=False, calendars=calendars)


def _usable(answer: Answer) -> bytes:
    if isinstance(answer, LedgerError):
        raise answer
    return answer or b""


def _urls(proof: Proof) -> tuple[str, ...]:
    return tuple(dict.fromkeys(shown(uri) for uri, _ in proof.waiting()))


def _told(question: Question, error: LedgerError) -> str:
    return error.message if error.reason == "node" else f"{question.url}: {error.message}"
