"""Format v1 is frozen: these bytes were written once and must be written, and verified, for ever.

`golden/generate.py` writes the files; a change of one that was released is a new format.
"""

from __future__ import annotations

import hashlib
import io
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_ledger import LedgerError, Verified, verify_transcript

FOLDER = Path(__file__).with_name("golden")
ORIGIN = "agentmesh.local/desk"
SIZES = {"v1": 8, "v1-keys": 12}
# Held here too, so that a generator that changed and wrote its files anew is noticed.
DIGESTS = {
    "v1-log.transcript.jsonl": "672b198871bb5efd5061783679fa6a57e11e27dabe55d92c94de46efaa741a0c",
    "v1-d1.transcript.jsonl": "aa61804f454ed66e7d975f7ea4f22034534f1a6f5ebb3b1dd7ad9021aa6e4a61",
    "v1-checkpoints.txt": "e262e0d4fe4b30931d4daaec083614b0ffc804aceb7364b990d716be8c50751a",
    "v1-keys-log.transcript.jsonl": "1484e8f634a9520729d98a53df3aea0f0ee6e7920a792f063f223a24eeff3f17",
    "v1-keys-d1.transcript.jsonl": "63c3fb0c4b718f606f86ce4746b1854981125fa43d39fb47ef1b625785c9dc2d",
    "v1-keys-checkpoints.txt": "5c9f85726975666a784f5883f163b88988dee6fdcd432b3d4d1e34e1515049ab",
}


@pytest.fixture
def generate() -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = runpy.run_path(str(FOLDER / "generate.py"))["main"]
    return main


def kept(name: str) -> list[str]:
    """The checkpoints of every size."""
    text = (FOLDER / f"{name}-checkpoints.txt").read_text()
    return [f"{ORIGIN}\n{note.rstrip()}\n" for note in text.split(f"{ORIGIN}\n") if note]


def verified(name: str, **options: str) -> Verified:
    return verify_transcript(io.BytesIO((FOLDER / f"{name}.transcript.jsonl").read_bytes()), **options)  # type: ignore[arg-type]


@pytest.mark.spec("L-01", "L-10", "L-20", "L-30", "L-43", "L-50")
def test_the_frozen_logs_are_written_byte_for_byte(
    generate: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", DIGESTS)
def test_the_frozen_files_are_those_that_were_released(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == DIGESTS[name]


def test_the_generator_says_which_file_differs_and_writes_it_only_without_check(
    generate: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in DIGESTS:
        shutil.copy(FOLDER / name, tmp_path)
    changed, gone = tmp_path / "v1-d1.transcript.jsonl", tmp_path / "v1-keys-checkpoints.txt"
    changed.write_bytes(changed.read_bytes() + b"\n")
    gone.unlink()
    assert generate(["--check", "--folder", str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{changed.name} differs\n{gone.name} differs\n"
    assert not gone.exists()
    assert generate(["--folder", str(tmp_path)]) == 0
    assert generate(["--check", "--folder", str(tmp_path)]) == 0
    assert gone.read_bytes() == (FOLDER / gone.name).read_bytes()


@pytest.mark.spec("L-70", "L-78")
@pytest.mark.parametrize("name", SIZES)
def test_the_frozen_logs_verify_against_the_checkpoint_kept_at_every_size(name: str) -> None:
    notes = kept(name)
    assert len(notes) == SIZES[name] + 1
    for size, note in enumerate(notes):
        assert verified(f"{name}-log", expect=note).expected_size == size


@pytest.mark.parametrize("name", SIZES)
def test_a_log_is_held_against_the_other_checkpoints_of_its_key_and_fails(name: str) -> None:
    other = "v1" if name == "v1-keys" else "v1-keys"
    for note in kept(other)[3:]:  # both logs begin with the same two registrations
        with pytest.raises(LedgerError) as caught:
            verified(f"{name}-log", expect=note)
        assert caught.value.reason == "consistency"


@pytest.mark.spec("L-70", "L-78")
def test_the_frozen_dialogues_verify() -> None:
    found = verified("v1-d1", expect=kept("v1")[-1])
    assert (found.entries, found.tree_size, found.selection) == (6, 8, "dialogue d1")
    found = verified("v1-keys-d1", expect=kept("v1-keys")[-1])
    assert (found.entries, found.tree_size, found.selection) == (10, 12, "dialogue d1")
    assert found.withheld == 1
