"""The auditor's own command: anchors are verified in the bare install, with every socket refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import verify_transcript
from agentmesh_ledger.anchor.lines import AnchorLine
from agentmesh_ledger.anchor.ots import make_evidence, stamped_digest

BARE = """
import socket
import sys
from importlib.abc import MetaPathFinder

BLOCKED = {
    "sqlalchemy", "mcp", "typer", "rich", "llama_cpp", "pydantic", "anyio", "click", "agentmesh", "web3", "requests",
    "eth_account", "eth_utils", "opentimestamps", "bitcoin", "uvicorn", "httpx", "Crypto",
}


class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
        return None


def refused(*_, **__):
    raise OSError("no network here")


sys.meta_path.insert(0, Blocker())
socket.socket = socket.create_connection = socket.getaddrinfo = refused
from agentmesh_ledger.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def alone(python_environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `agentmesh-verify` where nothing but the bare install can be imported, and nobody can be asked."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", BARE, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, env=python_environment)

    return run


@pytest.fixture
def anchored(short, publish_of, with_anchors, tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    lines = [publish_of(short).line(2), publish_of(short).line(3, block=9)]
    path.write_bytes(with_anchors(short.transcript(), [each.encode() for each in lines]))
    return path


@pytest.mark.spec("L-112", "L-113", "L-115")
def test_an_anchored_transcript_is_verified_without_any_network(alone, anchored: Path) -> None:
    done = alone(anchored)
    assert (done.returncode, done.stderr) == (0, "")
    told = done.stdout.splitlines()
    names = [each.block_hash for each in verify_transcript(anchored).anchors]
    assert (
        f"anchor     entries 0 to 2 existed before block 9 of chain 31337 ({names[1]}, 2026-09-21T14:13:20Z): the block is"
        " the file's own word, name it with --block to pin it" in told
    )
    assert any(each.startswith("not shown  that the block of an anchor that is not pinned") for each in told)
    assert not any("holds" in each for each in told if each.startswith("complete"))
    done = alone(anchored, "--block", names[0], "--block", names[1], "--json")
    assert done.returncode == 0
    assert [each["pinned"] for each in json.loads(done.stdout)["anchors"]] == [True, True]


def test_a_block_that_no_anchor_has_is_not_verified_and_a_hash_that_is_none_is_usage(
    alone, anchored: Path
) -> None:
    done = alone(anchored, "--block", "17" * 32)
    assert done.returncode == 1 and "check anchor: no anchor stands in the block" in done.stderr
    done = alone(anchored, "--block", "17")
    assert done.returncode == 2 and "--block" in done.stderr


def test_an_anchor_that_is_false_names_its_line(alone, anchored: Path) -> None:
    data = anchored.read_bytes()
    header, first, second, *rest = data.split(b"\n")
    anchored.write_bytes(b"\n".join([header, first.replace(b'"log":0', b'"log":1'), second, *rest]))
    done = alone(anchored)
    assert done.returncode == 1 and "check anchor: line 2: the receipt has 1 logs" in done.stderr
    assert "check digest" in done.stderr


@pytest.mark.spec("L-114", "L-116")
def test_a_timestamp_is_told_as_not_checked_in_the_bare_install_and_checked_with_its_extra(
    alone, short, with_anchors, tmp_path: Path
) -> None:
    pytest.importorskip("opentimestamps", reason="the extra ots is not installed")
    from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
    from opentimestamps.core.op import OpSHA256
    from opentimestamps.core.serialize import BytesSerializationContext
    from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

    def line(height: int | None) -> bytes:
        root = short.checkpoint(3).root
        stamp = Timestamp(stamped_digest("agentmesh.local/desk", 3, root))
        tip = stamp.ops.add(OpSHA256())
        tip.attestations.add(BitcoinBlockHeaderAttestation(900_000))
        out = BytesSerializationContext()
        DetachedTimestampFile(OpSHA256(), stamp).serialize(out)
        header = None if height is None else mined(tip.msg)
        evidence = make_evidence(bytes(out.getbytes()), header)
        return AnchorLine(size=3, root=root, evidence=evidence).encode()

    path = tmp_path / "t.jsonl"
    path.write_bytes(with_anchors(short.transcript(), [line(900_000)]))
    (found,) = verify_transcript(path).anchors
    assert (found.block, found.chain, found.pinned) == (900_000, None, False)
    assert verify_transcript(path, blocks=[found.block_hash]).anchors[0].pinned
    done = alone(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "claimed only: line 2 has evidence of the type opentimestamps; not checked: " in done.stdout
    assert "agentmesh-runtime[ots]" in done.stdout and "existed before" not in done.stdout
    done = alone(path, "--block", found.block_hash)
    assert done.returncode == 1  # a block that was named is one that has to be looked at
    path.write_bytes(with_anchors(short.transcript(), [line(None)]))
    promised = verify_transcript(path)
    assert promised.anchors == () and "nothing is shown yet" in promised.claimed[0].why


def mined(merkle_root: bytes) -> bytes:
    """A header with the least work there is; every second one will do."""
    start = (4).to_bytes(4, "little") + bytes(32) + merkle_root + (1_800_000_000).to_bytes(4, "little")
    for nonce in range(10_000):
        header = start + (0x207FFFFF).to_bytes(4, "little") + nonce.to_bytes(4, "little")
        digest = hashlib.sha256(hashlib.sha256(header).digest()).digest()
        if int.from_bytes(digest, "little") <= 0x7FFFFF << 8 * 29:
            return header
    raise AssertionError("no nonce will do")
