from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from agentmesh.toolbox.results import MAX_TEXT, ToolResult, capped, clean, one_line, read_result


def _read(*content: object, is_error: bool = False, structured: object = None) -> ToolResult:
    result = CallToolResult(content=list(content), is_error=is_error, structured_content=structured)  # type: ignore[arg-type]  # blocks of many kinds
    return read_result(result, seconds=0.5)


def test_texts_are_joined_and_other_content_is_named() -> None:
    result = _read(
        TextContent(text="one"),
        ImageContent(data="AAAA", mime_type="image/png"),
        ResourceLink(name="report", uri="file:///report.md"),
        EmbeddedResource(resource=TextResourceContents(uri="note:1", text="body")),
        EmbeddedResource(resource=BlobResourceContents(uri="note:2", blob="AAAA", mime_type="audio/wav")),
    )
    assert result.text.split("\n") == [
        "one",
        "[image, image/png]",
        "[resource report: file:///report.md]",
        "[resource note:1]",
        "body",
        "[resource note:2, audio/wav]",
    ]
    assert (result.is_error, result.seconds) == (False, 0.5)


def test_without_text_the_structured_content_is_the_text() -> None:
    assert _read(structured={"answer": "ä", "n": 1}).text == '{"answer": "ä", "n": 1}'
    assert _read(TextContent(text="plain"), structured={"n": 1}).text == "plain"
    assert _read(TextContent(text="plain"), structured={"n": 1}).structured == {"n": 1}


def test_an_error_loses_the_wrapping_that_the_sdk_gave_it() -> None:
    wrapped = "Error executing tool evaluate: division by zero"
    assert _read(TextContent(text=wrapped), is_error=True).text == "Error: division by zero"
    assert (
        _read(TextContent(text="Error executing tool f"), is_error=True).text
        == "Error: the tool failed and did not say why"
    )
    assert _read(TextContent(text="error: disk full"), is_error=True).text == "error: disk full"
    assert _read(TextContent(text="disk full"), is_error=True).text == "Error: disk full"


def test_mistakes_in_arguments_are_told_in_one_line() -> None:
    listed = (
        "Error executing tool f: 2 validation errors for fArguments\nx\n  Field required [type=missing, input_value={}, "
        "input_type=dict]\n    For further information visit https://example.org/missing\na.b\n  Input should be a valid "
        "number [type=float_type, input_value=[1], input_type=list]\n    For further information visit https://example.org"
    )
    text = "Error: the arguments are wrong: x: Field required; a.b: Input should be a valid number"
    assert _read(TextContent(text=listed), is_error=True).text == text


def test_a_result_that_only_speaks_of_errors_is_left_as_it_is() -> None:
    text = "Error executing tool evaluate: is what it said"
    assert _read(TextContent(text=text)).text == text


def test_control_characters_and_escape_sequences_are_taken_out() -> None:
    assert clean("a\x1b[31mred\x1b[0m\tb\r\nc\rd\x00\x07\x9b") == "ared\tb\nc\nd"
    assert clean("\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link") == "textlink"
    assert clean("user\u202etxt.exe\u2066") == "usertxt.exe"
    assert clean("\ud800") == "\ufffd"


def test_a_long_text_is_cut_and_says_so() -> None:
    assert capped("x" * MAX_TEXT) == "x" * MAX_TEXT
    cut = capped("x" * (MAX_TEXT + 1_234))
    assert cut.startswith("x" * MAX_TEXT) and cut.endswith("\n[cut here: 1,234 more characters]")


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_cleaned_text_can_be_shown_and_encoded(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode()
    assert clean(cleaned) == cleaned
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in cleaned)
    assert "\n" not in one_line(text) and len(one_line(text)) <= 300
