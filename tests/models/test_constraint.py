"""What a model may write next, tried with models that want to write a given text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh_models import ToolCall, ToolSpec, binding
from agentmesh_models.chat import ReasoningDelta, ToolChoice
from agentmesh_models.constraint import Constraint
from agentmesh_models.grammar import call_grammar
from agentmesh_models.speech import Speech
from agentmesh_models.toolformat import HERMES, Form
from agentmesh_models.toolformat.gemma import FUNCTION_GEMMA, GEMMA_4
from agentmesh_models.toolformat.llama3 import LLAMA3
from agentmesh_models.toolformat.mistral import MistralArgs, MistralList

np = pytest.importorskip("numpy", reason="scores are numpy arrays")
pytest.importorskip("llama_cpp", reason="llama-cpp-python masks vocabularies")

ARGS, LIST = MistralArgs(ids=False, thought=True), MistralList()
CONTROL = (
    *("[TOOL_CALLS]", "[ARGS]", "[THINK]", "[/THINK]", "<|python_tag|>", "<think>", "</think>"),
    *("<start_function_call>", "<end_function_call>", "<escape>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    *("<|channel>", "<channel|>"),
)
SAY = ToolSpec(
    name="say",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string"}, "loud": {"type": "boolean"}},
        "required": ["text"],
    },
)
PING = ToolSpec(name="ping", parameters={"type": "object", "properties": {}})
TOOLS = (SAY, PING)
PINGED = ToolCall(name="ping")
HELLO = ToolCall(name="say", arguments={"text": "hello"})


@pytest.fixture(scope="module")
def weights(make_random_model: Callable[..., Path]) -> Iterator[binding.Weights]:
    binding.load()
    weights = binding.Weights(make_random_model("wanting", "{# tools #}", CONTROL), gpu_layers=0)
    yield weights
    weights.close()


class Written:
    """What became of a reply that a model wanted to write so."""

    def __init__(self, weights: binding.Weights, form: Form, wanted: str | list[int], **options: Any) -> None:
        left: int = options.pop("left", 400)
        thinking: bool = options.get("thinking", False)
        choice: ToolChoice = options.pop("choice", "auto")
        parallel: bool = options.get("parallel", True)
        given = list(wanted) if isinstance(wanted, list) else weights.tokenize(wanted, special=True)
        constraint = Constraint(
            weights, tools=options.pop("tools", TOOLS), choice=choice, form=form, **options
        )
        self.speech = Speech(form=form, watch=choice != "none", thinking=thinking, parallel=parallel)
        self.tokens: list[int] = []
        self.refused = 0
        self.ended = False
        rng = np.random.default_rng(len(given))
        while len(self.tokens) < left and not self.speech.complete and not self.ended:
            logits = rng.normal(0, 1, weights.n_vocab).astype(np.float32)
            at = len(self.tokens)
            logits[given[at] if at < len(given) else weights.n_vocab - 1] = 50.0
            token = constraint.choose(logits, lambda scores: int(np.argmax(scores)), left - at)
            self.refused += at >= len(given) or token != given[at]
            self.tokens.append(token)
            self.ended = weights.is_end(token)
            if not self.ended:
                self.speech.add(constraint.piece(token))
        self.speech.end()
        self.finish = self.speech.finish(ended=self.ended)
        self.calls = self.speech.calls(TOOLS)
        constraint.close()


@pytest.mark.parametrize(
    "form", [HERMES, LLAMA3, LIST, ARGS, FUNCTION_GEMMA, GEMMA_4], ids=lambda form: form.name
)
def test_a_model_that_writes_its_family_s_calls_is_never_contradicted(
    weights: binding.Weights, form: Form
) -> None:
    before = "" if form is LLAMA3 else "Well.\n"
    written = Written(weights, form, before + form.write(HELLO))
    assert (written.calls, written.finish, written.speech.words) == ((HELLO,), "call", before.strip())
    assert written.refused <= 1  # the end token, where the form leaves room for another call


def test_a_python_tag_opens_a_call_anywhere(weights: binding.Weights) -> None:
    written = Written(weights, LLAMA3, "So: <|python_tag|>" + LLAMA3.write(PINGED))
    assert (written.calls, written.speech.words) == ((PINGED,), "So:")


def test_a_json_answer_that_is_no_call_is_an_answer(weights: binding.Weights) -> None:
    written = Written(weights, LLAMA3, '{"answer": {"name": "Ada"}}')
    assert (written.finish, written.speech.text) == ("stop", '{"answer": {"name": "Ada"}}')


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, HERMES.write(HELLO) + "\n" + HERMES.write(PINGED)),
        (ARGS, ARGS.write(HELLO) + ARGS.write(PINGED)),
        (
            LIST,
            '[TOOL_CALLS][{"name": "say", "arguments": {"text": "hello"}}, {"name": "ping", "arguments": {}}]',
        ),
        (FUNCTION_GEMMA, FUNCTION_GEMMA.write(HELLO) + FUNCTION_GEMMA.write(PINGED)),
    ],
)
def test_several_calls_are_several_calls_where_they_are_wanted(
    weights: binding.Weights, form: Form, text: str
) -> None:
    assert Written(weights, form, text).calls == (HELLO, PINGED)
    alone = Written(weights, form, text, parallel=False)
    assert (alone.calls, alone.finish) == ((HELLO,), "call")


@pytest.mark.parametrize(
    "rest", [" And so on.", "\nI wait.", "\n<tool_sandwich>", "<|im_end|>", "</tool_call>"]
)
def test_behind_a_call_there_is_another_or_the_end(weights: binding.Weights, rest: str) -> None:
    written = Written(weights, HERMES, HERMES.write(HELLO) + rest)
    assert (written.calls, written.finish, written.ended) == ((HELLO,), "call", True)
    assert len(written.tokens) <= len(weights.tokenize(HERMES.write(HELLO), special=True)) + 8


@pytest.mark.parametrize(
    "form", [HERMES, LLAMA3, LIST, ARGS, FUNCTION_GEMMA, GEMMA_4], ids=lambda form: form.name
)
def test_a_call_that_rambles_ends_whole_at_every_budget_that_the_shortest_fits_in(
    weights: binding.Weights, form: Form
) -> None:
    opener = form.write(HELLO).partition("hello")[0]
    wanted = weights.tokenize(opener + "blah " * 40, special=True)
    shortest = len(Written(weights, form, [], choice="required", left=200, parallel=False).tokens)
    least = len(weights.tokenize(form.write(ToolCall(name="say", arguments={"text": ""})), special=True))
    for left in range(least + 2, least + 24):
        written = Written(weights, form, wanted, left=left)
        assert written.finish == "call" and written.calls[0].name == "say", left
        assert len(written.tokens) <= left
        assert left < least + 8 or "bla" in str(written.calls[0].arguments["text"])
    assert shortest <= 200


def test_no_second_call_is_begun_that_would_not_fit(weights: binding.Weights) -> None:
    text = HERMES.write(HELLO) + "\n" + HERMES.write(HELLO)
    tokens = len(weights.tokenize(HERMES.write(HELLO), special=True))
    for left in range(tokens + 1, 2 * tokens, 7):
        written = Written(weights, HERMES, text, left=left)
        assert written.finish == "call" and len(written.calls) >= 1


def test_where_not_even_the_shortest_call_fits_the_limit_cuts_it(weights: binding.Weights) -> None:
    written = Written(weights, HERMES, HERMES.write(HELLO), left=6)
    assert (written.finish, written.calls, written.speech.words) == ("length", (), "")


def test_without_tools_or_with_none_the_opener_is_not_written(weights: binding.Weights) -> None:
    for form in (HERMES, ARGS, FUNCTION_GEMMA):
        written = Written(weights, form, "So " + form.write(HELLO), choice="none")
        assert not written.calls and form.openers[0] not in written.speech.text
        assert written.speech.words == written.speech.text


def test_a_thought_is_free_and_kept_apart_and_no_call_in_it_is_one(weights: binding.Weights) -> None:
    thought = "I could " + HERMES.write(PINGED) + " but no."
    for choice in ("auto", "none"):
        written = Written(weights, HERMES, f"<think>\n{thought}\n</think>\n\nHello!", choice=choice)
        assert written.speech.reasoning == thought
        assert (written.speech.words, written.calls, written.finish) == ("Hello!", (), "stop")
    opened = Written(weights, HERMES, f"{thought}</think>\n\nHello!", thinking=True)
    assert (opened.speech.reasoning, opened.speech.words) == (thought, "Hello!")


@pytest.mark.parametrize(
    ("form", "marks", "choice"),
    [
        (HERMES, ("<think>", "</think>\n\n"), "auto"),
        (HERMES, ("<think>", "</think>\n\n"), "required"),
        (ARGS, ("[THINK]", "[/THINK]"), "auto"),
        (ARGS, ("[THINK]", "[/THINK]"), "required"),
        (GEMMA_4, ("<|channel>thought\n", "<channel|>"), "auto"),
    ],
)
def test_after_a_thought_the_calls_grammar_wakes(
    weights: binding.Weights, form: Form, marks: tuple[str, str], choice: ToolChoice
) -> None:
    written = Written(weights, form, f"{marks[0]}Hm.{marks[1]}{form.write(HELLO)}", choice=choice)
    assert (written.speech.reasoning, written.calls, written.finish) == ("Hm.", (HELLO,), "call")


@pytest.mark.parametrize("left", range(60, 130, 7))
def test_a_thought_ends_in_time_for_the_call_that_is_required(weights: binding.Weights, left: int) -> None:
    written = Written(weights, HERMES, "on and on " * 40, choice="required", thinking=True, left=left)
    assert written.finish == "call" and len(written.tokens) <= left
    assert left - 60 < len(written.speech.reasoning) < left


def test_a_thought_is_shown_as_it_comes(weights: binding.Weights) -> None:
    speech = Speech(form=HERMES, watch=True, thinking=True)
    shown = [delta for char in "One. Two.</think>Three." for delta in speech.add(char.encode())]
    thoughts = [delta.text for delta in shown if isinstance(delta, ReasoningDelta)]
    assert "".join(thoughts) == "One. Two." and len(thoughts) > 4


def test_a_control_token_that_is_no_mark_is_no_part_of_a_call(weights: binding.Weights) -> None:
    opener = weights.tokenize(HERMES.write(HELLO).partition("hello")[0], special=True)
    control = weights.tokenize("<|im_start|>", special=True)
    assert len(control) == 1 and not weights.piece(control[0])
    written = Written(weights, HERMES, opener + control * 5)
    assert written.calls and control[0] not in written.tokens


def test_the_digest_names_the_grammar() -> None:
    one, two = call_grammar([SAY]), call_grammar([SAY], LLAMA3)
    assert one.digest == call_grammar([SAY]).digest != two.digest and len(one.digest) == 64


@pytest.mark.parametrize("lead", ["\u00a0", "\u2003", "\v", "é", "{ ", '{"type": "x", '])
def test_what_the_grammar_sleeps_through_is_no_call_for_the_reader_either(
    weights: binding.Weights, lead: str
) -> None:
    written = Written(weights, LLAMA3, lead + '{"name": "nothing", "parameters": {}}')
    assert not written.speech.opened and written.finish == "stop" and not written.calls


def test_a_thought_may_begin_after_any_white_space(weights: binding.Weights) -> None:
    written = Written(
        weights, HERMES, "\n " * 120 + "<think>" + HERMES.write(PINGED) + "</think>Yes.", left=600
    )
    assert (written.speech.words, written.finish, written.calls) == ("Yes.", "stop", ())
