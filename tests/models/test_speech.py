"""Replies as they grow: whole characters, and never a piece of a tool call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models.speech import Speech
from agentmesh_models.toolformat import OPENER

marks = st.sampled_from(["<", "<tool", "<tool_call", OPENER, "</tool_call>", " ", "\n", "é", "🙂", "word"])


@given(st.lists(marks | st.text(max_size=3)), st.lists(st.integers(1, 4)))
def test_what_is_shown_is_the_text_before_the_first_opener(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    data, speech, shown = text.encode(), Speech(watch=True), ""
    for size in [*sizes, len(data) or 1]:
        shown += speech.add(data[:size])
        data = data[size:]
        assert OPENER not in shown and "\ufffd" not in shown.replace("\ufffd" * text.count("\ufffd"), "")
    shown += speech.end()
    assert shown == speech.words == (text.partition(OPENER)[0].rstrip(" \t\r\n") if OPENER in text else text)
    assert speech.opened == (OPENER in text)


def test_without_watching_everything_is_shown_at_once() -> None:
    speech = Speech(watch=False)
    assert speech.add(b"a <tool_call> ") == "a <tool_call> "
    assert not speech.opened


def test_half_a_character_waits_for_its_other_half_and_is_replaced_at_the_end() -> None:
    speech = Speech(watch=False)
    assert [speech.add(b"\xc3"), speech.add(b"\xa9"), speech.add(b"\xf0\x9f"), speech.end()] == [
        "",
        "é",
        "",
        "\ufffd",
    ]
