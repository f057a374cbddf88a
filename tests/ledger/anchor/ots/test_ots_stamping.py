"""A ledger's checkpoint goes to calendars over HTTP and comes back in a Bitcoin block, whatever they answer."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from opentimestamps.core.serialize import BytesDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile

from agentmesh_ledger import Draft, LedgerError
from agentmesh_ledger.anchor.blocks import headers_in, headers_of
from agentmesh_ledger.anchor.recorded import EVIDENCE_TYPE
from agentmesh_ledger.anchor.stamping import stamp, upgrade
from agentmesh_ledger.anchor.stamps import stamps
from agentmesh_ledger.checkpoint import open_checkpoint
from agentmesh_ledger.encoding import decode64
from agentmesh_ledger.note import parse_note, parse_vkey


def kinds(ledger):
    return [each.message.kind for each in ledger.read(dialogue="log")]


def grow(ledger, keys):
    ledger.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d3")])


def test_a_stamp_is_pending_then_in_a_block_and_recorded_once_each(spoken, keys, calendar, node) -> None:
    host = keys.agent("host")
    text = parse_note(spoken.checkpoint()).text
    size, root = (
        spoken.size,
        open_checkpoint(spoken.checkpoint(), [parse_vkey(spoken.vkey())]).checkpoint.root,
    )

    done = stamp(spoken, host, [calendar.url + "/"])
    assert (done.size, done.root, done.new, done.calendars, done.problems) == (
        size,
        root,
        True,
        (calendar.url,),
        (),
    )
    (recorded,) = stamps(spoken)
    assert (recorded.index, recorded.size, recorded.root, recorded.complete) == (
        done.index,
        size,
        root,
        False,
    )
    # What the calendar saw is 32 bytes, and not the checkpoint's digest: the nonce keeps it from being recognised.
    ((method, path, body),) = calendar.asked
    digest = hashlib.sha256(text.encode()).digest()
    assert (method, path, len(body)) == ("POST", "/digest", 32) and body != digest

    again = stamp(spoken, host, [calendar.url])
    assert (again.new, again.index, len(calendar.asked)) == (False, done.index, 1)

    headers = headers_of(node.url)
    (waiting,) = upgrade(spoken, host, [calendar.url], headers=headers)
    assert (waiting.state, waiting.problems) == ("pending", (f"{calendar.url}: in no block yet",))
    assert node.asked == []

    header = calendar.confirm()
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers)
    assert (found.state, found.block, found.size) == ("complete", 900_000, size)
    assert found.merkle_root == header[36:68][::-1].hex()
    assert found.anchored is not None and found.anchored.time == 1_800_000_000
    assert upgrade(spoken, host, [calendar.url], headers=headers) == ()
    assert [(each.index, each.complete) for each in stamps(spoken)] == [
        (done.index, False),
        (found.index, True),
    ]
    # The stamp's entry brought the signer's registration along; nothing but anchors is new since then.
    assert stamp(spoken, host, [calendar.url]).new is False
    assert kinds(spoken)[-3:] == ["key.register", "anchor", "anchor"]
    facts = list(spoken.read(dialogue="log"))[-1].message.facts
    assert facts == {
        "type": "opentimestamps",
        "size": size,
        "root": root.hex(),
        "status": "complete",
        "block": 900_000,
    }
    spoken.verify()
    grow(spoken, keys)
    assert stamp(spoken, host, [calendar.url]).new is True


def test_the_recorded_file_is_one_that_the_library_reads(spoken, keys, calendar) -> None:
    text = parse_note(spoken.checkpoint()).text
    stamp(spoken, keys.agent("host"), [calendar.url])
    (recorded,) = stamps(spoken)
    assert isinstance(recorded.evidence, dict) and recorded.evidence["header"] is None
    data = decode64(recorded.evidence["proof"], "anchor", "the proof")
    file = DetachedTimestampFile.deserialize(BytesDeserializationContext(data))
    assert file.file_digest == hashlib.sha256(text.encode()).digest()
    assert [each.uri for _, each in file.timestamp.all_attestations()] == [calendar.url]


def test_two_calendars_are_asked_at_once_and_the_lowest_block_counts(
    spoken, keys, calendar, other_calendar, tmp_path
) -> None:
    host = keys.agent("host")
    other_calendar.height = 800_000
    done = stamp(spoken, host, [calendar.url, other_calendar.url])
    assert set(done.calendars) == {calendar.url, other_calendar.url}
    assert calendar.asked[0][2] == other_calendar.asked[0][2]
    file = tmp_path / "headers"
    file.write_text(calendar.confirm().hex().upper() + "\n" + other_calendar.confirm().hex() + "\n")
    (found,) = upgrade(spoken, host, [calendar.url, other_calendar.url], headers=headers_in(file))
    assert (found.state, found.block) == ("complete", 800_000)
    # The way to the other calendar's block is not kept: one header shows one block.
    assert stamps(spoken)[-1].opened().blocks()[0][0] == 800_000
    assert len(stamps(spoken)[-1].opened().blocks()) == 1 and stamps(spoken)[-1].opened().waiting() == ()


def test_a_block_without_its_header_is_told_and_not_recorded(spoken, keys, calendar, tmp_path) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    header = calendar.confirm()
    (found,) = upgrade(spoken, host, [calendar.url])
    assert (found.state, found.block, found.index) == ("header", 900_000, None)
    assert found.merkle_root == header[36:68][::-1].hex()
    file = tmp_path / "header"
    file.write_bytes(header)
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers_in(file))
    assert found.state == "complete"


def test_one_calendar_that_is_down_does_not_stop_another(spoken, keys, calendar, web) -> None:
    web.answer = lambda *_: (500, b"")
    done = stamp(spoken, keys.agent("host"), [web.url, calendar.url])
    assert (done.new, done.calendars) == (True, (calendar.url,))
    assert done.problems == (f"{web.url}: it answers 500",)


def test_only_the_calendars_that_were_named_are_asked(spoken, keys, calendar, other_calendar) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    calendar.confirm()
    (found,) = upgrade(spoken, host, [other_calendar.url])
    assert (found.state, found.problems) == ("pending", (f"{calendar.url} was not named, and so not asked",))
    assert len(calendar.asked) == 1 and other_calendar.asked == []


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:{port}/admin", "file:///etc/passwd", "ftp://127.0.0.1/x", "http:x", "x"]
)
def test_a_promise_that_points_elsewhere_is_never_followed(
    spoken, keys, web, other_calendar, serialised, uri
) -> None:
    from opentimestamps.core.notary import PendingAttestation
    from opentimestamps.core.timestamp import Timestamp

    port = other_calendar.url.rpartition(":")[2]
    place = uri.format(port=port)

    def lie(method, path, body):
        said = Timestamp(body)
        said.attestations.add(PendingAttestation(place))
        return 200, serialised(said)

    web.answer = lie
    host = keys.agent("host")
    assert stamp(spoken, host, [web.url]).calendars == (place,)
    (found,) = upgrade(spoken, host, [web.url])
    assert (found.state, found.problems) == ("pending", (f"{place} was not named, and so not asked",))
    assert len(web.asked) == 1 and other_calendar.asked == []


def test_a_redirect_is_not_followed(spoken, keys, web, other_calendar) -> None:
    web.answer = lambda *_: (302, f"{other_calendar.url}/digest".encode())
    with pytest.raises(LedgerError, match="it answers 302") as caught:
        stamp(spoken, keys.agent("host"), [web.url])
    assert caught.value.reason == "node"
    assert other_calendar.asked == [] and stamps(spoken) == ()


def test_a_calendar_that_never_ends_its_answer_costs_no_more_than_the_time_given(
    spoken, keys, web, calendar
) -> None:
    def hang(method, path, body):
        web.held.wait(60)
        return None

    web.answer = hang
    start = time.monotonic()
    done = stamp(spoken, keys.agent("host"), [web.url, calendar.url], within=1.0)
    assert time.monotonic() - start < 30
    assert done.calendars == (calendar.url,) and done.problems == (f"{web.url}: no answer in 1 seconds",)


HUGE = b"\xf0\x20" + b"a" * 32 + b"\x08"


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the answer is no timestamp: TruncationError"),
        (b"<html>", "an operation 3c, which is not read here"),
        (b"\x00" * 20_000, "its answer is longer than 10000 bytes"),
        (b"\x08" * 300 + b"\x00", "the answer is no timestamp: RecursionLimitError"),
        (b"\xf0" + b"\x80" * 9_000, "a number longer than 63 bits"),
        (HUGE * 270 + b"\x00", "the answer is no timestamp: RecursionLimitError"),
        (b"\xf0\xff\xff\x03" + b"a" * 9_000, "the answer is no timestamp: DeserializationError"),
        (b"\x03\x00", "an operation 03, which is not read here"),
        (b"\xf2\x00", "an operation f2, which is not read here"),
        (b"\x00" + bytes(8) + b"\x01a", "it promises nothing that is known here"),
        (b"\x00" + bytes.fromhex("83dfe30d2ef90c8e") + b"\x05\x04a\x1b[m", "no timestamp: DeserializationError"),
        (b"\x00" + bytes.fromhex("83dfe30d2ef90c8e") + b"\x02\x01a" + b"more", "TrailingGarbageError"),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_promise_is_told_and_not_recorded(spoken, keys, web, answer, told) -> None:
    web.answer = lambda *_: (200, answer)
    with pytest.raises(LedgerError) as caught:
        stamp(spoken, keys.agent("host"), [web.url])
    assert caught.value.reason == "node" and told in caught.value.message, caught.value.message
    assert web.url in caught.value.message
    assert stamps(spoken) == ()


def test_two_that_stamp_and_upgrade_at_once_record_one_complete_stamp(spoken, keys, calendar, node) -> None:
    host = keys.agent("host")
    together = threading.Barrier(2, timeout=30)

    def wait(method, path, body):
        together.wait()
        return calendar.honest(method, path, body)

    def both(task):
        with ThreadPoolExecutor(2) as pool:
            return [each.result(60) for each in [pool.submit(task) for _ in range(2)]]

    calendar.answer = wait  # so that neither has recorded when the other asks
    both(lambda: stamp(spoken, host, [calendar.url]))
    calendar.answer = calendar.honest
    calendar.confirm()
    headers = headers_of(node.url)
    assert [each.state for each in upgrade(spoken, host, [calendar.url], headers=headers)] == ["complete"]
    assert upgrade(spoken, host, [calendar.url], headers=headers) == ()
    assert [each.complete for each in stamps(spoken)].count(True) == 1
    spoken.verify()


def test_an_upgrade_that_is_nonsense_leaves_the_stamp_pending(spoken, keys, calendar) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    for answer in (b"", b"\x08" * 5_000, b"x" * 20_000):
        calendar.answer = lambda method, path, body, answer=answer: (200, answer)
        (found,) = upgrade(spoken, host, [calendar.url])
        assert found.state == "pending" and found.problems[0].startswith(f"{calendar.url}: ")
    calendar.answer = lambda *_: None  # the connection ends
    (found,) = upgrade(spoken, host, [calendar.url])
    assert found.state == "pending" and len(found.problems) == 1
    calendar.answer = calendar.honest
    calendar.confirm()
    (found,) = upgrade(spoken, host, [calendar.url])
    assert found.state == "header"


def test_a_header_that_is_not_the_proofs_is_not_taken(spoken, keys, calendar, node, block) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    calendar.confirm()
    true = calendar.headers[900_000]
    lies = {
        "another block": (block(bytes(32)), "does not lead to this block's merkle root"),
        "the root in reverse": (block(true[36:68][::-1]), "does not lead to this block's merkle root"),
        "no work": (
            true[:72] + (0x1D00FFFF).to_bytes(4, "little") + true[76:],
            "proof of work does not hold",
        ),
    }
    for header, told in lies.values():
        calendar.headers[900_000] = header
        (found,) = upgrade(spoken, host, [calendar.url], headers=headers_of(node.url))
        assert found.state == "header" and told in found.problems[0], found
    assert len(stamps(spoken)) == 1


def test_a_node_that_is_down_or_talks_nonsense_leaves_it_open(spoken, keys, calendar, node) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    calendar.confirm()
    for answer in ((200, b"no hash"), (200, b"\xff" * 9_999), (500, b""), (200, b"a" * 64), None):
        node.answer = lambda *_, answer=answer: answer
        (found,) = upgrade(spoken, host, [calendar.url], headers=headers_of(node.url))
        assert found.state == "header" and found.problems[0].startswith("block 900000: "), (answer, found)
    node.answer = lambda *_: (404, b"")
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers_of(node.url))
    assert found.state == "header" and "not where it was looked for" in found.problems[0]


def test_a_node_that_hangs_at_each_block_costs_no_more_than_the_time_given(
    spoken, keys, calendar, node, serialised
) -> None:
    from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
    from opentimestamps.core.op import OpAppend, OpSHA256
    from opentimestamps.core.timestamp import Timestamp

    def many(method, path, body):
        said = Timestamp(bytes.fromhex(path.removeprefix("/timestamp/")))
        for height in range(16):
            merkle_root = said.ops.add(OpAppend(bytes([height]))).ops.add(OpSHA256())
            merkle_root.attestations.add(BitcoinBlockHeaderAttestation(height))
        return 200, serialised(said)

    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    calendar.answer = many
    node.answer = lambda *_: node.held.wait(60) and None
    start = time.monotonic()
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers_of(node.url), within=3.0)
    assert time.monotonic() - start < 30
    assert found.state == "header" and len(found.problems) == 16


def test_a_calendar_that_hangs_leaves_time_for_the_header(
    spoken, keys, calendar, other_calendar, node
) -> None:
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url, other_calendar.url])
    calendar.confirm()
    other_calendar.answer = lambda *_: other_calendar.held.wait(60) and None
    urls = [calendar.url, other_calendar.url]
    (found,) = upgrade(spoken, host, urls, headers=headers_of(node.url), within=10.0)
    assert found.state == "complete", found


def test_an_empty_ledger_and_a_url_that_is_none_are_refused_before_anybody_is_asked(
    ledger, keys, calendar
) -> None:
    host = keys.agent("host")
    for url in (
        "file:///etc/passwd",
        "ftp://h",
        "http://",
        "http://u:p@h",
        "http://h?x",
        "http://h:x",
        "h",
        "http://a b",
    ):
        with pytest.raises(LedgerError, match="is not the http or https URL") as caught:
            stamp(ledger, host, [url])
        assert caught.value.reason == "refused"
    with pytest.raises(LedgerError, match="no calendar was named"):
        stamp(ledger, host, [])
    with pytest.raises(LedgerError, match="the ledger is empty"):
        stamp(ledger, host, [calendar.url])
    assert upgrade(ledger, host, [calendar.url]) == () and calendar.asked == []


def test_an_entry_of_anybody_that_only_looks_like_a_stamp_stands_in_nobodys_way(
    spoken, keys, calendar, node
) -> None:
    from agentmesh_ledger import DraftPart

    host, ada = keys.agent("host"), keys.agent("ada")
    done = stamp(spoken, host, [calendar.url])
    calendar.confirm()
    facts = {
        "type": "opentimestamps",
        "size": done.size,
        "root": done.root.hex(),
        "status": "complete",
        "block": 1,
    }
    nothing = b'{"header":null,"proof":"","type":"opentimestamps"}'
    for kind, data in product(("application/json", EVIDENCE_TYPE), (b"{}", b"\xff", nothing)):
        part = DraftPart(name="evidence", type=kind, data=data)
        spoken.append([Draft(author=ada, kind="anchor", dialogue="log", facts=facts, parts=(part,))])
    spoken.append([Draft(author=ada, kind="anchor", dialogue="log", facts={**facts, "size": 10**9})])
    headers = headers_of(node.url)
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers)
    assert found.state == "complete"
    assert upgrade(spoken, host, [calendar.url], headers=headers) == ()
    assert stamp(spoken, host, [calendar.url]).new is False
