"""Names of models and where they point; what is typed as an address is never shown with its secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_models import ModelError
from agentmesh_models.store.names import (
    HubFile,
    WebFile,
    check_name,
    file_name,
    name_from,
    parse_source,
    redact,
)


@pytest.mark.parametrize(
    ("text", "repo", "file", "revision"),
    [
        (
            "hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf",
            "Qwen/Qwen3-0.6B-GGUF",
            "Qwen3-0.6B-Q8_0.gguf",
            None,
        ),
        ("hf:o/r@v1.0/a/b.gguf", "o/r", "a/b.gguf", "v1.0"),
        ("hf:o/r", "o/r", None, None),
        ("hf:o/r@0123abc", "o/r", None, "0123abc"),
        ("https://huggingface.co/o/r/resolve/main/m.gguf?download=true", "o/r", "m.gguf", None),
        ("https://huggingface.co/o/r/blob/abc/sub/m.gguf", "o/r", "sub/m.gguf", "abc"),
    ],
)
def test_a_file_of_the_hub_is_understood(
    text: str, repo: str, file: str | None, revision: str | None
) -> None:
    assert parse_source(text) == HubFile(repo=repo, file=file, revision=revision)


def test_a_source_is_its_key() -> None:
    for text in ("hf:o/r/f.gguf", "hf:o/r@v1/a/f.gguf", "hf:o/r", "https://h:8443/a/f.gguf"):
        source = parse_source(text)
        assert source.key == text and parse_source(source.key) == source


@pytest.mark.parametrize(
    "text",
    [
        "hf:",
        "hf:o",
        "hf:o/",
        "hf:/r/f.gguf",
        "hf:o/r/",
        "hf:o/f.gguf",
        "hf:o/r/f.bin",
        "hf:o/r/../f.gguf",
        "hf:../r/f.gguf",
    ]
    + [
        "hf:o/r@/f.gguf",
        "hf:o/r@../f.gguf",
        "hf:o/r/a//f.gguf",
        "hf:o/r/f\n.gguf",
        "hf:o/r/a\\f.gguf",
        "hf:o/r/.gguf/",
    ]
    + [
        "https://",
        "https:///m.gguf",
        "http://h/m.bin",
        "http://h:port/m.gguf",
        "http://[::/m.gguf",
        "http://h/a b.gguf",
    ]
    + ["http://h/m.gguf\r\nX: y"],
)
def test_what_is_no_source_is_refused_with_the_form_wanted(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_source(text)
    assert caught.value.reason == "bad_request"


def test_the_secrets_of_an_address_are_used_but_never_shown() -> None:
    source = parse_source("https://me:pa%24s@host.example:8443/a%20b/m.gguf?token=secret#part")
    assert isinstance(source, WebFile)
    assert source.key == source.shown == "https://host.example:8443/a%20b/m.gguf"
    assert source.url == "https://host.example:8443/a%20b/m.gguf?token=secret"
    assert source.authorization == "Basic bWU6cGEkcw=="
    assert source.file == "m.gguf"
    for word in ("pa$s", "pa%24s", "secret", "bWU6"):
        assert word not in repr(source) + str(source)


def test_a_bad_address_is_told_without_its_secrets() -> None:
    for text in (
        "https://me:secret@host/m.bin?key=secret",
        "http://me:secret@h:x/m.gguf",
        "http://me:secret@/m.gguf",
    ):
        with pytest.raises(ModelError) as caught:
            parse_source(text)
        assert "secret" not in str(caught.value)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_is_a_source_or_a_model_error(host: str, path: str) -> None:
    for text in (f"hf:{host}/{path}", f"https://{host}/{path}.gguf", f"http://u:p@{host}"):
        try:
            source = parse_source(text)
        except ModelError:
            continue
        assert "\n" not in source.key and "@" not in source.key.partition("://")[2].partition("/")[0]


@given(st.text(max_size=60))
def test_redacted_addresses_have_neither_user_nor_query(rest: str) -> None:
    shown = redact(f"https://{rest}")
    place = shown.partition("://")[2].partition("/")[0]
    assert "@" not in place and "?" not in shown and "#" not in shown


def test_a_name_is_made_of_a_file() -> None:
    assert name_from("sub/Qwen3-0.6B-Q8_0.gguf") == "qwen3-0.6b-q8_0"
    assert name_from("nano.gguf") == "nano-model"
    assert name_from("日本.gguf") == "model"
    assert file_name("a/../b c\x1b[31m.gguf") == "b-c-31m.gguf"
    assert file_name("...") == "model.gguf"


@given(st.text(max_size=120))
def test_every_made_name_is_a_name(text: str) -> None:
    check_name(name_from(text))


@pytest.mark.parametrize(
    "name", ["", "a b", "../x", "-x", ".x", "a" * 65, "x.gguf", "nano", "Scripted", "a/b", "a\n"]
)
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_name(name)
    assert caught.value.reason == "bad_request"
