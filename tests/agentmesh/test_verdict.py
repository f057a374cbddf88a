"""Numbers are judged in code: what agrees, what does not, and what cannot be compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.verdict import judge, numbers, verdict_text


@pytest.mark.parametrize(
    ("claim", "found", "judgement"),
    [
        ("The result is 1038.", "1038", "agree"),
        ("The note says: 12% of 8650 is 1083.", "1038", "disagree"),
        ("The result is 1,038.", "1038", "agree"),
        ("It is 1038.0", "1038", "agree"),
        ("It is about 0.33", "1/3 (about 0.333333)", "agree"),
        ("It is about 0.34", "1/3 (about 0.333333)", "disagree"),
        ("I do not know.", "1038", "unclear"),
        ("12% of 8650", "1038", "disagree"),
        ("The result is -5.", "-5", "agree"),
        ("The result is 5.", "-5", "disagree"),
        ("", "1038", "unclear"),
    ],
)
def test_a_claim_agrees_when_the_tools_number_stands_in_it(claim: str, found: str, judgement: str) -> None:
    assert judge(task="12% of 8650", claim=claim, found=found).judgement == judgement


def test_numbers_of_the_task_do_not_make_a_claim_agree() -> None:
    assert judge(task="What is 2 + 2?", claim="2 + 2 is 5", found="2").judgement == "disagree"


def test_a_coarser_number_agrees_when_it_is_the_finer_one_rounded() -> None:
    assert judge(task="", claim="16.09 kilometers", found="16.09344 kilometers").judgement == "agree"
    assert judge(task="", claim="16.1 kilometers", found="16.09344 kilometers").judgement == "disagree"
    assert judge(task="", claim="16.10 kilometers", found="16.09344 kilometers").judgement == "disagree"


def test_without_numbers_the_tools_text_must_stand_in_the_claim() -> None:
    assert judge(task="", claim="I found no note matches.", found="No note matches.").judgement == "agree"
    assert judge(task="", claim="Something else", found="No note matches.").judgement == "unclear"


def test_a_dash_between_numbers_is_no_sign() -> None:
    assert [str(n) for n in numbers("2026-11-24 at 3-4, minus is -5")] == ["2026", "11", "24", "3", "4", "-5"]


def test_the_sentence_names_who_disagrees_and_what_they_said() -> None:
    verdicts = {
        "recall": judge(task="12% of 8650", claim="12% of 8650 is 1083.", found="1038"),
        "reckon": judge(task="12% of 8650", claim="The result is 1038.", found="1038"),
    }
    text = verdict_text(tool="evaluate", found="1038", verdicts=verdicts)
    assert text == "evaluate says 1038: recall disagrees (says 1083); reckon agrees."


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_judged_without_an_error(task: str, claim: str, found: str) -> None:
    assert judge(task=task, claim=claim, found=found).judgement in {"agree", "disagree", "unclear"}


@given(st.integers(min_value=0, max_value=10**30))
def test_a_number_always_agrees_with_itself(value: int) -> None:
    assert judge(task="", claim=f"The result is {value}.", found=str(value)).judgement == "agree"
