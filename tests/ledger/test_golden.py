"""Format v1 is frozen: these bytes were written once and must be written, and verified, for ever.

`AGENTMESH_GOLDEN=write pytest tests/ledger/test_golden.py` writes the files anew; a change of them is a new format.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from agentmesh_ledger import verify_transcript

FOLDER = Path(__file__).with_name("golden")


def write(forge) -> dict[str, bytes]:
    """A log of two agents with fixed keys, salts and times: eight entries, two dialogues, every kind of field."""
    forge.begin().add(
        forge.ada, "open", "d1", facts={"mesh": "desk", "seconds": 0.25, "é€": [None, True, "\n"]}
    )
    forge.say(forge.ada, "What is 17 * 23?", kind="task", to=[forge.ben.id]).say(forge.ben, "", "d2")
    forge.say(forge.ben, "391 \N{WHITE HEAVY CHECK MARK}", reply_to=3, time="2026-11-24T08:00:01.999Z")
    forge.add(
        forge.ben, "made.up-kind_1", "d2", facts={"\N{DESERET CAPITAL LETTER EW}": 1e21, "\ue000": -0.5}
    )
    forge.add(forge.ada, "close", "d1", facts={"reason": "done"})
    notes = "".join(forge.checkpoint(size).sign(forge.key) + "\n" for size in range(9))
    return {
        "v1-log.transcript.jsonl": forge.transcript(),
        "v1-d1.transcript.jsonl": forge.transcript([0, 1, 2, 3, 5, 7], dialogue="d1"),
        "v1-checkpoints.txt": notes.encode(),
    }


@pytest.mark.spec("L-01", "L-10", "L-20", "L-30", "L-43", "L-50")
def test_the_frozen_log_is_written_byte_for_byte(forge) -> None:
    for name, data in write(forge).items():
        path = FOLDER / name
        if os.environ.get("AGENTMESH_GOLDEN") == "write":
            path.write_bytes(data)
        assert path.read_bytes() == data, name


@pytest.mark.spec("L-70", "L-78")
def test_the_frozen_transcripts_verify_against_every_frozen_checkpoint() -> None:
    whole, one = ((FOLDER / f"v1-{name}.transcript.jsonl").read_bytes() for name in ("log", "d1"))
    parts = [
        note for note in (FOLDER / "v1-checkpoints.txt").read_text().split("agentmesh.local/desk\n") if note
    ]
    kept = [f"agentmesh.local/desk\n{note.rstrip()}\n" for note in parts]
    assert len(kept) == 9
    for size, note in enumerate(kept):
        assert verify_transcript(io.BytesIO(whole), expect=note).expected_size == size
    found = verify_transcript(io.BytesIO(one), expect=kept[-1])
    assert (found.entries, found.tree_size, found.selection) == (6, 8, "dialogue d1")
