"""A stamp in a transcript: what it shows to whoever has the extra, and to whoever has not."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from agentmesh_ledger import Draft, LedgerError, verify_ledger, verify_transcript
from agentmesh_ledger.anchor.blocks import headers_of
from agentmesh_ledger.anchor.stamping import stamp, upgrade
from agentmesh_ledger.anchor.stamps import record_stamp, stamps

BARE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"opentimestamps", "bitcoin", "Cryptodome", "sqlalchemy", "pydantic", "web3"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Blocker())
from agentmesh_ledger.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def exported(ledger, path, dialogue=None):
    with path.open("wb") as out:
        ledger.export(out, dialogue=dialogue)
    return path


@pytest.fixture
def anchored(spoken, keys, calendar, node):
    """The small log, complete in a block; then it goes on."""
    host = keys.agent("host")
    stamp(spoken, host, [calendar.url])
    calendar.confirm()
    (found,) = upgrade(spoken, host, [calendar.url], headers=headers_of(node.url))
    assert found.state == "complete"
    spoken.append([Draft(author=keys.agent("ada"), kind="say", dialogue="d3")])
    return spoken


@pytest.mark.parametrize("dialogue", [None, "d1"])
def test_it_says_what_existed_before_which_block(anchored, calendar, block_hash, tmp_path, dialogue) -> None:
    name = block_hash(calendar.headers[900_000])
    path = exported(anchored, tmp_path / "t", dialogue)
    (found,) = verify_transcript(path).anchors
    assert (found.type, found.size, found.block, found.block_hash) == ("opentimestamps", 7, 900_000, name)
    assert not found.pinned
    (found,) = verify_transcript(path, blocks=[name]).anchors
    assert found.pinned
    with pytest.raises(LedgerError, match="that you named"):
        verify_transcript(path, blocks=["00" * 32])


def test_a_dialogue_that_came_later_takes_none_along(anchored, tmp_path) -> None:
    assert verify_transcript(exported(anchored, tmp_path / "t", "d3")).anchors == ()


def test_a_pending_stamp_stays_at_home(spoken, keys, calendar, tmp_path) -> None:
    stamp(spoken, keys.agent("host"), [calendar.url])
    assert verify_transcript(exported(spoken, tmp_path / "t")).anchors == ()
    found = spoken.verify()
    (claim,) = found.claimed
    assert found.anchors == () and (claim.size, claim.index) == (7, 8)
    assert f"pending, promised by {calendar.url}: nothing is shown yet" in claim.why


def test_in_the_database_a_promise_that_was_kept_is_no_claim(anchored) -> None:
    anchored.close()
    found = verify_ledger(anchored.path)
    assert [each.block for each in found.anchors] == [900_000]
    assert found.claimed == ()  # the promise was kept


def test_a_recorded_stamp_that_does_not_hold_is_found(anchored, keys) -> None:
    complete = stamps(anchored)[-1]
    record_stamp(anchored, keys.agent("host"), complete.size, complete.root, complete.evidence, 900_001)
    with pytest.raises(LedgerError, match="block is not what its evidence shows") as caught:
        anchored.verify()
    assert caught.value.reason == "anchor"


def test_another_header_in_the_file_is_found(anchored, block, edit, tmp_path) -> None:
    data = exported(anchored, tmp_path / "t").read_bytes()
    line = next(n for n, each in enumerate(data.split(b"\n")) if each.startswith(b'{"anchor"'))
    evidence = json.loads(data.split(b"\n")[line])["anchor"]
    other = edit(data, line, anchor={**evidence, "header": block(b"\1" * 32).hex()})
    with pytest.raises(LedgerError, match="does not lead to this block's merkle root") as caught:
        verify_transcript(io.BytesIO(other))
    assert caught.value.reason == "anchor"


def test_without_the_extra_all_else_is_verified_and_the_stamp_is_told(
    anchored, tmp_path, python_environment
) -> None:
    path = exported(anchored, tmp_path / "t")
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        env=python_environment,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("anchor")]
    assert "claimed only" in line and "not checked" in line and "agentmesh-runtime[ots]" in line
