"""Replies as they grow: whole characters, thoughts apart, and never a piece of a tool call."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from agentmesh_models.chat import ReasoningDelta, TextDelta
from agentmesh_models.speech import Speech
from agentmesh_models.toolformat import HERMES, OPENER
from agentmesh_models.toolformat.llama3 import LLAMA3

marks = st.sampled_from(
    ["<", "<tool", "<tool_call", OPENER, "</tool_call>", " ", "\n", "é", "🙂", "word", "<think", "</think>"]
)


def shown(speech: Speech, data: bytes, sizes: list[int]) -> tuple[str, str]:
    """Words and thoughts as they are shown when the bytes come in pieces of these sizes."""
    words = thoughts = ""
    for size in [*sizes, len(data) or 1]:
        for delta in speech.add(data[:size]):
            if isinstance(delta, TextDelta):
                words += delta.text
            else:
                thoughts += delta.text
        data = data[size:]
    for delta in speech.end():
        words += delta.text if isinstance(delta, TextDelta) else ""
        thoughts += delta.text if isinstance(delta, ReasoningDelta) else ""
    assert (words, thoughts) == (speech.words, speech.reasoning)
    return words, thoughts


@given(st.lists(marks | st.text(max_size=3)), st.lists(st.integers(1, 4)))
def test_what_is_shown_is_the_text_before_the_first_opener(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    assume(not text.lstrip(" \t\r\n").startswith("<think>"))
    speech = Speech(form=HERMES, watch=True)
    words, thoughts = shown(speech, text.encode(), sizes)
    expected = text.partition(OPENER)[0].rstrip(" \t\r\n") if OPENER in text else text
    assert (words, thoughts) == (expected, "")
    assert speech.opened == (OPENER in text) and OPENER not in words


@given(st.lists(marks | st.text(max_size=3)), st.lists(marks), st.lists(st.integers(1, 4)), st.booleans())
def test_a_thought_is_shown_apart_and_whole(
    thinking: list[str], saying: list[str], sizes: list[int], opened: bool
) -> None:
    thought, said = "".join(thinking).replace("</think>", ""), "".join(saying)
    assume("</think>" not in thought)
    speech = Speech(form=HERMES, watch=False, thinking=opened)
    text = f"{'' if opened else ' <think>'}{thought}</think>{said}"
    words, thoughts = shown(speech, text.encode(), sizes)
    assert thoughts == thought.strip(" \t\r\n")
    assert words == said.lstrip(" \t\r\n")


def test_a_thought_that_never_ends_is_all_there_is() -> None:
    speech = Speech(form=HERMES, watch=True, thinking=True)
    assert shown(speech, b"so <tool_call> and </thi", [3, 4]) == ("", "so <tool_call> and </thi")
    assert not speech.opened and speech.finish(ended=False) == "length"


def test_a_thought_in_the_middle_of_a_reply_is_text() -> None:
    assert shown(Speech(form=HERMES, watch=True), b"I <think> so", []) == ("I <think> so", "")


def test_json_that_could_become_a_llama_call_waits_until_that_is_known() -> None:
    speech = Speech(form=LLAMA3, watch=True)
    assert speech.add(b'{"na') == ()
    assert speech.add(b'med": 1') == (TextDelta(text='{"named": 1'),)
    call = Speech(form=LLAMA3, watch=True)
    assert call.add(b'{"name": "x", "parameters": {}') == () and call.opened and not call.complete
    assert call.add(b"}") == () and call.complete and call.finish(ended=False) == "call"


def test_without_watching_everything_is_shown_at_once() -> None:
    speech = Speech(form=HERMES, watch=False)
    assert speech.add(b"a <tool_call> ") == (TextDelta(text="a <tool_call> "),)
    assert not speech.opened


def test_half_a_character_waits_for_its_other_half_and_is_replaced_at_the_end() -> None:
    speech = Speech(form=HERMES, watch=False)
    assert [speech.add(b"\xc3"), speech.add(b"\xa9"), speech.add(b"\xf0\x9f"), speech.end()] == [
        (),
        (TextDelta(text="é"),),
        (),
        (TextDelta(text="\ufffd"),),
    ]
