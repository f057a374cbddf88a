"""examples/desk: three agents on the embedded model, peers over MCP, a right answer, a record that verifies."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentmesh_ledger.log import Ledger

Runner = Callable[..., Any]


def test_the_desk_answers_its_own_task_right(run_example: Runner) -> None:
    run = run_example("desk")
    assert run.code == 0, run.errors
    end = run.events[-1]
    assert end["event"] == "end" and end["reason"] == "done"
    assert {m["agent"] for m in run.of("message")} == {"host", "front", "math", "notes"}
    tools = [(c["agent"], c["server"], c["tool"]) for c in run.of("tool_call")]
    assert ("front", "peers", "ask_notes") in tools and ("front", "peers", "ask_math") in tools
    assert ("math", "calculator", "evaluate") in tools and ("math", "units", "convert") in tools
    assert ("notes", "notes", "read_note") in tools
    for fact in ("12 June at 15:00", "420", "42.1648128"):
        assert fact in end["answer"]
    assert end["tool_calls"] == len(tools)
    assert end["ledger"] == str(run.ledger)


def test_the_run_tells_what_went_through_the_model_and_what_did_not(
    run_example: Runner, command: Runner
) -> None:
    run = run_example("desk", "What is 17 * 23?")
    assert run.code == 0, run.errors
    end = run.events[-1]
    with Ledger.open(run.ledger, read_only=True) as log:
        records = list(log.read(dialogue=end["dialogue"]))
    made = [record.message.facts for record in records if record.message.kind == "inference"]
    assert len(made) >= 4
    prompts, reused, output = (
        sum(each[key] for each in made) for key in ("prompt_tokens", "reused_tokens", "output_tokens")
    )
    assert end["tokens"] == output > 0 and end["reused_tokens"] == reused > 0
    assert end["evaluated_tokens"] == prompts - reused + output - len(made)  # the last of each is only chosen
    assert end["tokens_per_second"] > 0
    told = command("run", "examples/desk", "What is 17 * 23?", "--ledger", run.ledger)
    line = next(each for each in told.stderr.splitlines() if each.startswith("Done. "))
    assert re.search(
        r"[\d,]+ tokens made at [\d,.]+/s of decoding \([\d,]+ evaluated, [1-9][\d,]* reused\)", line
    )


def test_one_byte_changed_anywhere_in_the_exported_transcript_is_found(
    run_example: Runner, command: Runner, tmp_path: Path
) -> None:
    run = run_example("desk", "What is 17 * 23?")
    assert run.code == 0, run.errors
    assert "391" in run.events[-1]["answer"]
    assert command("verify", run.ledger).returncode == 0
    transcript = tmp_path / "desk.transcript.jsonl"
    exported = command("export", run.events[-1]["dialogue"], "--ledger", run.ledger, "-o", transcript)
    assert exported.returncode == 0, exported.stderr
    good = transcript.read_bytes()
    verify = [sys.executable, "-m", "agentmesh_ledger", str(transcript)]
    assert subprocess.run(verify, capture_output=True, timeout=60).returncode == 0
    # Every byte is tried in tests/ledger, in one process; here the command itself, over the whole length.
    for place in range(0, len(good), max(1, len(good) // 23)):
        transcript.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        done = subprocess.run(verify, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1, (place, done.stdout, done.stderr)
        assert "line" in done.stderr or "index" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
