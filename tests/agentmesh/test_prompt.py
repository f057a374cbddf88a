"""What an agent reads: its role, what it is asked, and what others said."""

from __future__ import annotations

from agentmesh.dialogue.orchestrator import sentences
from agentmesh.prompt import Said, fill, messages_for


def said(agent: str, text: str, index: int = 0) -> Said:
    return Said(index=index, leaf_hash=bytes(32), agent=agent, text=text)


def test_a_task_with_braces_is_text_and_not_a_template() -> None:
    assert fill("Q: {task} / {previous}", task="what is {previous}?", previous="{task}") == (
        "Q: what is {previous}? / {task}"
    )


def test_other_agents_speak_as_the_user_and_are_named() -> None:
    messages = messages_for(name="ada", role="You add.", asked="2 + 2?", heard=[said("ben", "It is 5.")])
    assert [(m.role, m.content) for m in messages] == [
        ("system", "You are ada. You add."),
        ("user", "2 + 2?\nben: It is 5."),
    ]


def test_the_two_sides_take_turns_whoever_speaks_twice() -> None:
    heard = [said("ada", "4"), said("ben", "5"), said("eve", "6"), said("ada", "4 it is")]
    messages = messages_for(name="ada", role="", asked="2 + 2?", heard=heard)
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[3].content == "ben: 5\neve: 6"


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
