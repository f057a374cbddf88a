"""examples/second-opinion: two answers, a third agent's tool call, and code that judges the numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Runner = Callable[..., Any]


def test_the_slip_in_the_note_is_found_and_the_answer_is_right(run_example: Runner) -> None:
    run = run_example("second-opinion")
    assert run.code == 0, run.errors
    said = {m["agent"]: m for m in run.of("message")}
    assert "1083" in said["recall"]["text"]
    assert "1038" in said["reckon"]["text"]
    assert said["checker"]["facts"]["verdicts"] == {"recall": "disagree", "reckon": "agree"}
    answer = run.events[-1]["answer"]
    assert "1038" in answer and "recall disagrees" in answer and "reckon agrees" in answer


def test_a_note_that_is_right_is_agreed_with(run_example: Runner) -> None:
    run = run_example("second-opinion", "15% of 240")
    assert run.code == 0, run.errors
    said = {m["agent"]: m for m in run.of("message")}
    assert said["checker"]["facts"]["verdicts"] == {"recall": "agree", "reckon": "agree"}
