"""Honest records in which much goes on at once: they agree with each other side's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

_ASK = {"question": "Is it good?"}


def _two_labs(lab: Any, desk: Any, urls: tuple[str, str], steps: list[object], more: str = "") -> Path:
    asking: Path = desk(urls[0], more=f'{more}\n[peers.far]\nurl = "{urls[1]}"')
    text = (asking / "mesh.toml").read_text().replace('peers = ["lab"]', 'peers = ["lab", "far"]')
    (asking / "mesh.toml").write_text(text)
    (asking / "steps.json").write_text(json.dumps([*steps, {"say": "Done."}]))
    return asking


@pytest.mark.parametrize("at_once", [True, False])
def test_the_same_question_to_two_owners_is_answered_by_each_in_its_own_words(
    command: Any, serve: Any, lab: Any, desk: Any, tmp_path: Path, at_once: bool
) -> None:
    (tmp_path / "other").mkdir()
    near, far = lab("It is good."), lab.func(tmp_path / "other", "It is bad.")
    calls = [{"name": f"{name}_ask_critic", "arguments": _ASK} for name in ("lab", "far")]
    steps: list[object] = [{"call": calls}] if at_once else [{"call": each} for each in calls]
    with serve(near) as one, serve(far) as other:
        asking = _two_labs(lab, desk, (one, other), steps)
        assert command("run", asking).code == 0
    for each in (near, far):
        for pair in ((asking, each), (each, asking)):
            checked = command("verify", pair[0], "--with", pair[1])
            assert checked.code == 0, checked.out


def test_a_question_asked_again_may_be_answered_otherwise(
    command: Any, serve: Any, lab: Any, desk: Any
) -> None:
    answering = lab("It is good.", "It is bad.")
    with serve(answering) as url:
        asking = desk(url, "Is it good?", "Is it good?")
        assert command("run", asking).code == 0
    checked = command("verify", asking, "--with", answering)
    assert checked.code == 0, checked.out


def test_a_question_that_was_not_signed_at_first_and_is_asked_again_signed(
    command: Any, serve: Any, lab: Any, desk: Any
) -> None:
    answering = lab("It is good.", "It is bad.")
    with serve(answering, mode="bare") as url:
        asking = desk(url, "Is it good?", more='signing = "prefer"')
        assert command("run", asking).code == 0
    port = int(url.split(":")[2].split("/")[0])
    (answering / "steps.json").write_text(json.dumps([{"say": "It is bad."}]))
    with serve(answering, port=port):
        assert command("run", asking).code == 0
    checked = command("verify", asking, "--with", answering)
    assert checked.code == 0, checked.out
