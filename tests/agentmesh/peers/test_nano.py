"""The same with the real commands and the embedded model: a desk that asks a mesh of another owner to calculate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]

_LAB = """\
[mesh]
name = "lab"
origin = "lab.example/maths"
[dialogue]
layout = "agent"
[serve]
signing = "require"
[agents.math]
model = "nano"
role = "You calculate."
about = "Calculates with numbers."
tools = ["calculator.evaluate"]
[servers.calculator]
builtin = "calculator"
"""
_DESK = """\
[mesh]
name = "desk"
origin = "desk.example/front"
[dialogue]
pattern = "orchestrator"
lead = "front"
layout = "agent"
[agents.front]
model = "nano"
role = "You pass each question on to the peer who can answer it."
peers = ["lab"]
[peers.lab]
url = "{url}"
"""


def test_a_question_is_answered_by_another_owners_mesh_and_both_records_agree(
    process: Command, serve_command: Command, forge: Any, tmp_path: Path
) -> None:
    answering, asking = tmp_path / "lab", tmp_path / "desk"
    answering.mkdir()
    asking.mkdir()
    (answering / "mesh.toml").write_text(_LAB)
    with serve_command(answering) as url:
        (asking / "mesh.toml").write_text(_DESK.format(url=url))
        done = process("run", asking, "What is 17 * 23?")
        assert done.code == 0 and "391" in done.out, done.out + done.err
        fetched = process("verify", asking, "--with", url)
        assert fetched.code == 0 and "matching   2 messages" in fetched.out, fetched.out + fetched.err
    for one, other in ((asking, answering), (answering, asking)):
        checked = process("verify", one, "--with", other)
        assert checked.code == 0, checked.out + checked.err
    forged = forge.sign_anew(answering, forge.answers_instead(b"389", answering, old=b"391"))
    checked = process("verify", asking, "--with", forged)
    assert checked.code == 1 and "two statements about it" in checked.out, checked.out
