"""Owners who alter what their agents were answered, and put a reason beside it why the exchange should not count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

GOOD, BAD = b"It is good.", b"It is bad."


def _bad(copy: Any, **facts: object) -> Any:
    parts = {name: data.replace(GOOD, BAD) for name, data in copy.parts.items()}
    return replace(copy, parts=parts, facts={**copy.facts, **facts})


def _with(kind: str, other: Callable[[Any, Any], Any], bad: str = "result", **facts: object) -> Any:
    """Other words in the messages of the kind `bad`, and something done about those of the other kind."""

    def alter(record: Any, copy: Any) -> Any:
        if record.message.kind == bad and GOOD in b"".join(copy.parts.values()):
            return _bad(copy, **facts)
        if record.message.kind in kind.split():
            return other(record, copy)
        return copy

    return alter


def _refused(record: Any, copy: Any) -> Any:
    if record.message.facts.get("type") != "result":
        return copy
    return replace(copy, facts={**copy.facts, "refused": "expired"})


def _elsewhere(record: Any, copy: Any) -> Any:
    return replace(copy, dialogue="another")


def _without_content(record: Any, copy: Any) -> Any:
    if record.message.facts.get("type") != "result":
        return copy
    parts = {name: data for name, data in copy.parts.items() if name != "content"}
    return replace(copy, parts=parts, facts={**copy.facts, "omitted": 9_000_000})


def _gone(record: Any, copy: Any) -> Any:
    if record.message.kind == "result" and GOOD in b"".join(copy.parts.values()):
        text = b"Error: peer lab is gone (it ended the connection): go on without it"
        return replace(copy, parts={"text": text}, facts={**copy.facts, "error": True})
    return copy


def _failed_in_fact(record: Any, copy: Any) -> Any:
    if record.message.kind == "result":
        return replace(copy, facts={**copy.facts, "error": True})
    return copy


def _in_no_reply(record: Any, copy: Any) -> Any:
    if record.message.kind == "result":
        return replace(_bad(copy), replies=False)
    return copy


def _silent(record: Any, copy: Any) -> Any:
    return None if record.message.kind == "say" and GOOD in b"".join(copy.parts.values()) else copy


FORGERIES: dict[str, tuple[str, Any]] = {
    "as if it had been refused": ("desk", _with("received", _refused)),
    "the exchange put into another dialogue": ("desk", _with("sent received", _elsewhere)),
    "without the beginning of the dialogue": ("desk", _with("open", lambda record, copy: None)),
    "without the content that was received": ("desk", _with("received", _without_content)),
    "as if the peer had been away": ("desk", _gone),
    "as if the peer had failed": ("desk", _failed_in_fact),
    "a result of no call": ("desk", _in_no_reply),
    "without the content that was sent": ("lab", _with("sent", _without_content, "say")),
    "the answer put into another dialogue": ("lab", _with("sent received", _elsewhere, "say")),
    "without the close": ("lab", _with("close", lambda record, copy: None, "say")),
    "without the open": ("lab", _with("open", lambda record, copy: None, "say")),
    "nothing said": ("lab", _silent),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_answer_told_in_other_words_is_found_whatever_stands_beside_it(
    command: Any, held: Any, forge: Any, forgery: str
) -> None:
    side, alter = FORGERIES[forgery]
    altered: Path = getattr(held, side)
    forged = forge.sign_anew(altered, alter)
    assert command("verify", forged).code == 0  # by itself it is sound
    honest = held.desk if side == "lab" else held.lab
    for one, other in ((forged, honest), (honest, forged)):
        checked = command("verify", one, "--with", other, "--json")
        found = checked.json["crosscheck"]
        assert checked.code == 1 and found["findings"], found
