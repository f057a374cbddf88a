"""The reader of GGUF heads: what it reads, and that damage of any kind is told and nothing else escapes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError
from agentmesh_models.catalogue import nano_path
from agentmesh_models.gguf import ArrayPlace, read_gguf

Make = Callable[..., Path]
SAME_FOLDER = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reason_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def test_metadata_arrays_and_tensors_are_read(make_gguf: Make) -> None:
    file = read_gguf(make_gguf())
    assert file.version == 3
    assert file.text("general.architecture") == "llama"
    assert file.context_length == 512
    assert file.metadata["some.flag"] is True
    assert file.metadata["some.float"] == 0.5
    assert isinstance(file.metadata["tokenizer.ggml.tokens"], ArrayPlace)
    assert list(file.texts("tokenizer.ggml.tokens")) == [b"a", b"<s>", b"</s>"]
    assert file.token("tokenizer.ggml.bos_token_id") == "<s>"
    assert file.token("tokenizer.ggml.eos_token_id") == ""
    assert [(each.name, each.shape, each.size) for each in file.tensors] == [
        ("token_embd.weight", (4, 4), 64),
        ("output_norm.weight", (4,), 16),
    ]


def test_the_embedded_model_is_read_whole() -> None:
    file = read_gguf(nano_path())
    assert file.text("general.architecture") == "llama"
    assert file.text("tokenizer.chat_template")
    assert file.token("tokenizer.ggml.eos_token_id") == "<|im_end|>"


def test_a_file_cut_off_anywhere_is_told_as_truncated(make_gguf: Make) -> None:
    path = make_gguf()
    whole = path.read_bytes()
    needed = len(whole) - 128 + 80  # the second tensor ends here; what follows is padding
    for size in range(4, needed):
        path.write_bytes(whole[:size])
        assert reason_of(path) == "truncated", size
    path.write_bytes(whole[:needed])
    assert len(read_gguf(path).tensors) == 2


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "0 bytes long"),
        (b"GG", "2 bytes long"),
        (b"PK\x03\x04 and so on", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x00" * 64, "expected b'GGUF'"),
    ],
)
def test_what_is_not_gguf_is_told_as_what_it_seems(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=hint) as caught:
        read_gguf(path)
    assert caught.value.reason == "not_gguf"


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "none.gguf") == "not_found"
    assert reason_of(tmp_path) == "not_gguf"


def test_other_versions_and_byte_orders_are_unsupported(make_gguf: Make) -> None:
    assert reason_of(make_gguf(version=1)) == "unsupported"
    assert reason_of(make_gguf(version=0x03000000)) == "unsupported"
    assert read_gguf(make_gguf(version=2)).version == 2


def replaced(path: Path, old: bytes, new: bytes) -> Path:
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new))
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (struct.pack("<IQ", 8, 5) + b"llama", struct.pack("<IQ", 8, 1 << 40) + b"llama", "malformed"),
        (struct.pack("<IQ", 8, 5) + b"llama", struct.pack("<IQ", 8, 1 << 20) + b"llama", "truncated"),
        (struct.pack("<IIQ", 9, 8, 3), struct.pack("<IIQ", 9, 8, 1 << 27), "truncated"),
        (struct.pack("<IIQ", 9, 8, 3), struct.pack("<IIQ", 9, 9, 3), "malformed"),
        (struct.pack("<IIQ", 9, 6, 3), struct.pack("<IIQ", 9, 6, 1 << 60), "malformed"),
        (b"some.flag" + struct.pack("<IB", 7, 1), b"some.flag" + struct.pack("<IB", 7, 2), "malformed"),
        (b"some.flag" + struct.pack("<IB", 7, 1), b"some.flag" + struct.pack("<IB", 99, 1), "malformed"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 9, 4, 4, 0, 0), "malformed"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 2, 4, 0, 0, 0), "malformed"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 2, 1 << 61, 1 << 61, 0, 0), "malformed"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 2, 4, 4, 8, 0), "malformed"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 2, 4, 4, 77, 0), "unsupported"),
        (struct.pack("<IQQIQ", 2, 4, 4, 0, 0), struct.pack("<IQQIQ", 2, 4, 4, 0, 1 << 50), "truncated"),
    ],
)
def test_a_lie_in_any_section_is_caught(make_gguf: Make, old: bytes, new: bytes, reason: str) -> None:
    path = replaced(make_gguf(), old, new)
    assert reason_of(path) == reason


def test_a_key_or_a_tensor_that_stands_there_twice_is_refused(make_gguf: Make) -> None:
    flag, number = b"some.flag" + struct.pack("<IB", 7, 1), b"some.float" + struct.pack("<If", 6, 0.5)
    twice = struct.pack("<Q", 9) + flag
    path = replaced(make_gguf(), struct.pack("<Q", 10) + number, twice)
    assert "stands there twice" in message_of(path)
    path = replaced(make_gguf(), text("output_norm.weight"), text("token_embd.weight"))
    assert "stands there twice" in message_of(path)


def message_of(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_gguf(path)
    return str(caught.value)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


@SAME_FOLDER
@given(data=st.binary(max_size=400))
def test_only_the_package_s_error_escapes_random_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "random.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + data)
    try:
        read_gguf(path)
    except ModelError as error:
        assert error.reason in {"truncated", "malformed", "unsupported"}


@SAME_FOLDER
@given(st.data())
def test_only_the_package_s_error_escapes_damage_to_a_good_file(make_gguf: Make, data: st.DataObject) -> None:
    path = make_gguf()
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        file = read_gguf(path)
        list(file.texts("tokenizer.ggml.tokens"))
    except ModelError:
        return
    assert file.data_offset <= len(whole)
