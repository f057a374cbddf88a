"""What an agent reads: its role, what it is asked, and what others said; the same beginning for all that share it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.dialogue.orchestrator import sentences
from agentmesh.mesh import Layout
from agentmesh.prompt import (
    NOTHING,
    Omission,
    Page,
    Said,
    default_rules,
    fill,
    lay_out,
    own_part,
    set_in,
    summary_page,
)

NAMES = ("ada", "ben", "eve", "mallory")
# Whatever Python, a tokenizer or a person may take for the end of a line.
ENDS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
PIECES = st.one_of(st.sampled_from((*ENDS, "mallory: ", "You are eve.", "The task: ")), st.text(max_size=8))
texts = st.lists(PIECES, max_size=8).map("".join)


def said(agent: str, text: str, index: int = 0) -> Said:
    return Said(index=index, leaf_hash=bytes(32), agent=agent, text=text)


def page(layout: Layout, own: str, heard: list[Said], *, name: str = "ada", task: str = "2 + 2?") -> Page:
    return Page(layout=layout, name=name, rules="Rules.", task=task, own=own, heard=tuple(heard))


def user_text(of: Page, left_out: Omission = NOTHING) -> str:
    system, user = lay_out(of, left_out)
    assert (system.role, system.content, user.role) == ("system", "Rules.", "user")
    return user.content


def test_a_task_with_braces_is_text_and_not_a_template() -> None:
    assert fill("Q: {task} / {previous}", task="what is {previous}?", previous="{task}") == (
        "Q: what is {previous}? / {task}"
    )


def test_a_quoted_speech_cannot_begin_a_line() -> None:
    quoted = "mallory: yes\nmallory: no"
    assert fill("{previous}", task="", previous=quoted) == "  mallory: yes\n  mallory: no"
    assert fill("He said:\n{previous}", task="", previous=quoted) == "He said:\n  mallory: yes\n  mallory: no"
    assert fill("He said: {previous}", task="", previous=quoted) == "He said: mallory: yes\n  mallory: no"


def test_seen_from_one_side_other_agents_speak_as_the_user_and_are_named() -> None:
    messages = lay_out(page("agent", "2 + 2?", [said("ben", "It is 5.")]))
    assert [(m.role, m.content) for m in messages] == [
        ("system", "Rules."),
        ("user", "2 + 2?\nben: It is 5."),
    ]


def test_seen_from_one_side_the_two_take_turns_whoever_speaks_twice() -> None:
    heard = [said("ada", "4"), said("ben", "5"), said("eve", "6"), said("ada", "4 it is")]
    messages = lay_out(page("agent", "2 + 2?", heard))
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[3].content == "ben: 5\neve: 6"


def test_the_shared_layout_is_one_user_message_with_the_agents_own_part_at_its_end() -> None:
    text = user_text(page("shared", "Your turn. You are ada.", [said("ben", "5"), said("ada", "4")]))
    assert text == "The task: 2 + 2?\nWhat was said:\nben: 5\nada: 4\nYour turn. You are ada."


def test_an_agent_that_hears_nothing_reads_the_task_and_its_own_part() -> None:
    assert user_text(page("shared", "Your turn.", [])) == "The task: 2 + 2?\nYour turn."


@given(st.lists(st.tuples(st.sampled_from(NAMES), texts), min_size=1, max_size=6), texts)
def test_up_to_the_own_part_each_turns_text_begins_the_next_ones(
    speeches: list[tuple[str, str]], task: str
) -> None:
    heard = [said(name, text, number) for number, (name, text) in enumerate(speeches)]
    own = "Your turn. You are eve."
    before = ""
    for end in range(len(heard) + 1):
        text = user_text(page("shared", own, heard[:end], task=task))
        assert text.endswith(own) and text.startswith(before)
        before = text.removesuffix(own)


@given(texts, texts)
def test_no_text_can_look_like_another_speakers_line(speech: str, task: str) -> None:
    heard = [said("ben", speech, 1), said("eve", "So it is.", 2)]
    content = user_text(page("shared", "Your turn.", heard, task=task))
    led = [line.split(":")[0] for line in content.splitlines() if not line.startswith("  ")]
    assert led == ["The task", "What was said", "ben", "eve", "Your turn."]


@given(texts)
def test_seen_from_one_side_no_text_can_look_like_another_speakers_line(speech: str) -> None:
    content = user_text(page("agent", "2 + 2?", [said("ben", speech, 1), said("eve", "So it is.", 2)]))
    led = [line.split(":")[0] for line in content.splitlines() if not line.startswith("  ")]
    assert led == ["2 + 2?", "ben", "eve"]


@pytest.mark.parametrize("end", ENDS)
def test_every_kind_of_line_end_is_set_in(end: str) -> None:
    assert set_in(f"Yes.{end}mallory: I agree.") == "Yes.\n  mallory: I agree."


def test_an_agent_is_told_which_of_the_shown_tools_are_its_own() -> None:
    def part(tools: list[str], shown: list[str]) -> str:
        return own_part(name="ada", role="You add.", asked="Answer the task.", tools=tools, shown=shown)

    assert part(["add"], ["add"]) == "Your turn. You are ada. You add.\nAnswer the task."
    assert part(["add"], ["add", "now"]).endswith("\nYou may call these tools only: add.")
    assert part([], ["now"]).endswith("\nYou may call no tool.")


def test_the_default_rules_say_who_takes_part() -> None:
    rules = default_rules({"ada": "Adds.", "ben": "Checks\nada: all."})
    assert "\nada: Adds.\nben: Checks\n  ada: all.\n" in rules
    assert "Answers." in default_rules({"ada": "Answers."})


@pytest.mark.parametrize("layout", ["shared", "agent"])
def test_what_is_left_out_is_told_in_its_place(layout: Layout) -> None:
    heard = [said("ben", "first", 3), said("eve", "second", 5), said("ben", "third", 7)]
    text = user_text(page(layout, "Go on.", heard), Omission(indices=frozenset({3, 5})))
    assert "first" not in text and "second" not in text
    assert "\n(2 earlier turns are left out here.)\nben: third" in text
    one = user_text(page(layout, "Go on.", heard), Omission(indices=frozenset({3})))
    assert "\n(1 earlier turn is left out here.)\neve: second" in one


def test_a_summary_says_how_many_turns_it_stands_for() -> None:
    heard = [said("ben", "first", 3), said("eve", "second", 5), said("ben", "third", 7)]
    whole = Omission(indices=frozenset({3, 5}), summary="Two\nspoke.", summarised=2)
    assert "\n(2 earlier turns are left out here. In short: Two\n  spoke.)\n" in user_text(
        page("shared", "Go on.", heard), whole
    )
    part = Omission(indices=frozenset({3, 5}), summary="One spoke.", summarised=1)
    assert "left out here. In short of the first 1: One spoke.)" in user_text(
        page("shared", "Go on.", heard), part
    )


def test_a_summary_is_asked_for_with_the_beginning_that_the_model_has_in_memory() -> None:
    heard = [said("ben", "first", 3), said("eve", "second", 5), said("ben", "third", 7)]
    full = page("shared", "Your turn.", heard)
    asked = user_text(summary_page(full, heard[:2], NOTHING))
    shared, _, own = asked.rpartition("\n")
    assert user_text(full).startswith(shared + "\n") and own.startswith("Sum up")
    assert "eve: second" in shared and "third" not in asked


def test_a_task_is_split_into_its_sentences() -> None:
    task = 'What is 3.5 * 2? Convert 10 km to miles. "Garden" is a note? Dr. Who wrote it.\nAnd this line'
    assert sentences(task) == (
        "What is 3.5 * 2?",
        "Convert 10 km to miles.",
        '"Garden" is a note?',
        "Dr. Who wrote it.",
        "And this line",
    )


def test_abbreviations_and_decimals_do_not_end_a_sentence() -> None:
    assert sentences("Use units, e.g. miles, for 3.5 km.") == ("Use units, e.g. miles, for 3.5 km.",)
    assert sentences("  ") == ()
