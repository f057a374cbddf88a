"""The course of a publication: its order, its bounds, and what it makes of eyes that are down or see another branch."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import anyio
import pytest

from agentmesh.events import Anchored, AnchorState, Event, Listener, Notice, Witnessed
from agentmesh.publication import Publication, published
from agentmesh_ledger import LedgerError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Log:
    """A log that is no more than its size, and in what order it was shown to whom."""

    size: int = 3
    shown: list[str] = field(default_factory=list)


@dataclass
class Cosigners:
    log: Log
    met: bool = True
    silent: tuple[str, ...] = ()
    error: LedgerError | None = None
    gathered: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event | None = None

    def require_continued(self) -> tuple[str, ...]:
        if self.error is not None:
            raise self.error
        return self.silent

    def gather(self) -> Witnessed:
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            self.hold.wait(30)
        self.log.shown.append(f"cosigned {self.log.size}")
        self.gathered.set()
        missing = {} if self.met else {"two": "it is down"}
        return Witnessed(size=self.log.size, met=self.met, needed="1 of 2", names=("one",), missing=missing)


@dataclass
class Chain:
    log: Log
    states: Iterator[AnchorState] = field(default_factory=lambda: iter(["waiting", "pending", "recorded"]))
    due: bool = False
    error: LedgerError | None = None
    hold: threading.Event | None = None
    hold_first: threading.Event | None = None
    closed: bool = False
    tx: str | None = "0x01"
    why: Iterator[str] = field(default_factory=lambda: iter(()))

    def require_continued(self) -> tuple[str, ...]:
        if self.error is not None:
            raise self.error
        if self.hold_first is not None:
            self.hold_first.wait(30)
        return ()

    def tend(self) -> Anchored | None:
        return self.step() if self.due else None

    def close(self) -> None:
        self.closed = True

    def step(self) -> Anchored | None:
        if self.error is not None:
            raise self.error
        if self.hold is not None:
            self.hold.wait(30)
        state = next(self.states, None)
        if state is None:
            return None
        self.log.shown.append(f"{state} {self.log.size}")
        size = self.log.size
        if state == "recorded":
            self.log.size += 1  # the anchor's own entry
        return Anchored(state=state, size=size, tx=self.tx, message=next(self.why, ""))


def publication(
    log: Log,
    heard: list[Event],
    *,
    witnesses: Cosigners | None = None,
    anchors: Chain | None = None,
    every: float = 600.0,
    within: float = 60.0,
    listen: Listener | None = None,
) -> Publication:
    return Publication(
        witnesses=witnesses,
        anchors=anchors,
        size=lambda: log.size,
        listen=listen or heard.append,
        every=every,
        within=within,
    )


async def until(held: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not held():
            await anyio.sleep(0.01)


async def test_the_last_checkpoint_is_anchored_and_the_anchors_own_entry_cosigned_after_it() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log)
    shown = publication(log, heard, witnesses=Cosigners(log), anchors=anchors)
    async with published(shown):
        log.size = 7
        await shown.finish()
        assert log.shown == ["waiting 7", "pending 7", "recorded 7", "cosigned 8"]
        assert not anchors.closed
    assert log.shown[4:] == [] and anchors.closed  # leaving does not do it again
    assert [event.state for event in heard if isinstance(event, Anchored)] == [
        "waiting",
        "pending",
        "recorded",
    ]
    assert isinstance(heard[-1], Witnessed) and heard[-1].size == 8


async def test_leaving_brings_it_to_its_end_where_nobody_did_before() -> None:
    log, heard = Log(), list[Event]()
    async with published(publication(log, heard, witnesses=Cosigners(log), anchors=Chain(log))):
        log.size = 7
    assert log.shown[-2:] == ["recorded 7", "cosigned 8"]


async def test_a_mesh_that_recorded_nothing_shows_nothing() -> None:
    log, heard = Log(), list[Event]()
    async with published(publication(log, heard, witnesses=Cosigners(log), anchors=Chain(log))):
        pass
    assert (log.shown, heard) == ([], [])


async def test_a_mesh_that_recorded_nothing_does_not_wait_for_a_chain_that_is_down() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log, states=iter(["waiting"] * 1000), due=True, tx=None)
    with anyio.fail_after(20):
        async with published(publication(log, heard, anchors=anchors)):
            await until(lambda: bool(heard))
    assert [type(event) for event in heard] == [Anchored]


async def test_an_anchor_of_an_earlier_run_is_gone_on_with_although_nothing_is_new() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log, states=iter(["pending", "pending", "recorded"]), due=True)
    async with published(publication(log, heard, anchors=anchors)):
        await until(lambda: bool(heard))
    assert log.shown[-1] == "recorded 3"


@pytest.mark.parametrize("reason", ["rollback", "forked"])
@pytest.mark.parametrize("who", ["witnesses", "anchors"])
async def test_a_log_that_is_not_what_they_hold_is_refused_before_anything_is_signed(
    reason: str, who: str
) -> None:
    log, heard = Log(), list[Event]()
    error = LedgerError("rollback" if reason == "rollback" else "forked", "they hold more")
    witnesses = Cosigners(log, error=error if who == "witnesses" else None)
    anchors = Chain(log, error=error if who == "anchors" else None)
    entered = False
    with pytest.raises(LedgerError) as caught:
        async with published(publication(log, heard, witnesses=witnesses, anchors=anchors)):
            entered = True
    assert caught.value is error and not entered and log.shown == [] and anchors.closed
    assert "Put the newest copy" in str(error)


async def test_who_cannot_be_asked_at_the_beginning_is_told_and_holds_nothing_up() -> None:
    log, heard = Log(), list[Event]()
    witnesses = Cosigners(log, silent=("witness two: it is down",))
    async with published(publication(log, heard, witnesses=witnesses)):
        assert heard == [Notice(text="witness two: it is down")]


async def test_in_the_background_what_is_new_is_gathered_and_what_is_old_is_not() -> None:
    log, heard = Log(), list[Event]()
    witnesses = Cosigners(log)
    shown = publication(log, heard, witnesses=witnesses, every=0.01)
    async with published(shown):
        await anyio.sleep(0.1)
        assert log.shown == []
        log.size = 5
        await until(witnesses.gathered.is_set)
        assert log.shown[0] == "cosigned 5"
        await until(lambda: bool(heard))
        await anyio.sleep(0.1)
        assert log.shown == ["cosigned 5"]
    assert log.shown == ["cosigned 5", "cosigned 5"]  # and once more at the end, which is told as the end


async def test_what_too_few_have_cosigned_is_asked_for_until_enough_have() -> None:
    log, heard = Log(), list[Event]()
    witnesses = Cosigners(log, met=False)
    async with published(publication(log, heard, witnesses=witnesses, every=0.01)):
        log.size = 5
        await until(lambda: len(log.shown) > 3)
        assert [event.met for event in heard if isinstance(event, Witnessed)] == [False]
        witnesses.met = True
        await until(lambda: any(isinstance(event, Witnessed) and event.met for event in heard))
        count = len(log.shown)
        await anyio.sleep(0.1)
        assert set(log.shown) == {"cosigned 5"} and len(log.shown) == count


async def test_who_was_down_at_the_beginning_is_asked_again_although_nothing_is_recorded() -> None:
    log, heard = Log(), list[Event]()
    witnesses = Cosigners(log, silent=("witness two: it is down",))
    async with published(publication(log, heard, witnesses=witnesses, every=0.01)):
        await until(witnesses.gathered.is_set)
        await anyio.sleep(0.1)
    assert log.shown == ["cosigned 3"]


async def test_in_the_background_an_anchor_is_sent_when_one_is_due() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log, due=True)
    async with published(publication(log, heard, anchors=anchors)):
        await until(lambda: "recorded 3" in log.shown)
        anchors.due = False
    assert log.shown == ["waiting 3", "pending 3", "recorded 3"]


async def test_a_chain_that_hangs_holds_the_end_up_no_longer_than_its_bound() -> None:
    log, heard = Log(), list[Event]()
    hold = threading.Event()
    shown = publication(log, heard, witnesses=Cosigners(log), anchors=Chain(log, hold=hold), within=0.2)
    try:
        with anyio.fail_after(20):  # the chain itself would hang for 30
            async with published(shown):
                log.size = 7
        assert log.shown == ["cosigned 7"]
        assert any(isinstance(event, Notice) and "anchor status" in event.text for event in heard)
    finally:
        hold.set()


async def test_an_anchor_that_is_not_deep_in_time_is_told_to_be_gone_on_with() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log, states=iter(["waiting", *["pending"] * 1000]))
    async with published(publication(log, heard, anchors=anchors, within=1.5)):
        log.size = 7
    assert isinstance(heard[-1], Notice) and heard[-1].text.startswith("the anchor is not deep enough yet")
    assert heard[-1].unseen
    assert [event.state for event in heard if isinstance(event, Anchored)] == ["waiting", "pending"]


async def test_whoever_is_cancelled_while_he_waits_for_the_chain_waits_no_longer() -> None:
    log, heard = Log(), list[Event]()
    scope = anyio.CancelScope()

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Anchored):
            scope.cancel()

    anchors = Chain(log, states=iter(["waiting", *["pending"] * 1000]))
    shown = publication(log, heard, witnesses=Cosigners(log), anchors=anchors, listen=hear)
    with anyio.fail_after(20), scope:
        async with published(shown):
            log.size = 7
            await shown.finish()
    assert scope.cancelled_caught
    assert [type(event) for event in heard] == [Anchored, Notice, Witnessed]


async def test_whoever_is_cancelled_still_has_the_last_checkpoint_cosigned() -> None:
    log, heard = Log(), list[Event]()
    with anyio.CancelScope() as scope:
        async with published(publication(log, heard, witnesses=Cosigners(log), anchors=Chain(log))):
            log.size = 7
            scope.cancel()
            await anyio.sleep(30)
    assert log.shown == ["waiting 7", "pending 7", "recorded 7", "cosigned 8"]


async def test_whoever_is_cancelled_waits_for_no_witness_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentmesh.publication.course._HURRY", 0.05)
    log, heard, held = Log(), list[Event](), threading.Event()
    try:
        with anyio.fail_after(20), anyio.CancelScope() as scope:
            async with published(publication(log, heard, witnesses=Cosigners(log, hold=held))):
                log.size = 7
                scope.cancel()
                await anyio.sleep(30)
        assert scope.cancelled_caught and log.shown == []
        assert [event.unseen for event in heard if isinstance(event, Notice)] == [True]
    finally:
        held.set()


def test_a_call_that_nobody_waits_for_does_not_keep_the_process(python_environment: dict[str, str]) -> None:
    program = """
import threading, anyio
from agentmesh.publication.course import _in_thread

async def main():
    with anyio.move_on_after(0.1):
        await _in_thread(lambda: threading.Event().wait(600))

anyio.run(main)
print("over")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=python_environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


async def test_a_policy_that_is_not_met_is_told_and_no_error() -> None:
    log, heard = Log(), list[Event]()
    async with published(publication(log, heard, witnesses=Cosigners(log, met=False))):
        log.size = 7
    assert [event.met for event in heard if isinstance(event, Witnessed)] == [False]


async def test_another_branch_found_on_the_way_is_told_at_once_and_raised_at_the_end() -> None:
    log, heard = Log(), list[Event]()
    witnesses = Cosigners(log)
    anchors = Chain(log)
    error = LedgerError("forked", "a witness holds another branch")
    with pytest.raises(LedgerError) as caught:
        async with published(publication(log, heard, witnesses=witnesses, anchors=anchors, every=0.01)):
            witnesses.error = error
            log.size = 7
            await until(lambda: bool(heard))
            assert heard == [Notice(text="a witness holds another branch", unseen=True)]
    assert caught.value is error
    assert log.shown == []  # and nothing of it is anchored either


async def test_a_fee_that_is_another_in_each_block_is_told_once_and_another_reason_anew() -> None:
    log, heard = Log(), list[Event]()
    why = ["the base fee is 61.5 gwei, above 50", "the base fee is 60 gwei, above 50", "the node is away"]
    anchors = Chain(log, states=iter(["waiting"] * 3 + ["recorded"]), why=iter(why))
    shown = publication(log, heard, anchors=anchors)
    async with published(shown):
        log.size = 7
        await shown.finish()
    assert [each.message for each in heard if isinstance(each, Anchored)] == [why[0], why[2], ""]


async def test_a_ledger_that_cannot_be_written_is_told_once() -> None:
    log, heard = Log(), list[Event]()
    anchors = Chain(log, due=True, error=None)
    async with published(publication(log, heard, anchors=anchors)):
        anchors.error = LedgerError("failed", "the disk is full")
        log.size = 7
    assert heard.count(Notice(text="the disk is full", unseen=True)) == 1


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    log, heard = Log(), list[Event]()
    with pytest.raises(ZeroDivisionError):
        async with published(publication(log, heard, witnesses=Cosigners(log))):
            raise ZeroDivisionError


async def test_a_chain_that_is_slow_to_say_what_it_holds_is_not_waited_for_without_end() -> None:
    log, heard, held = Log(), list[Event](), threading.Event()
    try:
        with anyio.fail_after(20):
            async with published(
                publication(log, heard, anchors=Chain(log, hold_first=held), within=0.1)
            ) as shown:
                assert [event.text for event in heard if isinstance(event, Notice)]
                held.set()
                await shown.finish()
    finally:
        held.set()
