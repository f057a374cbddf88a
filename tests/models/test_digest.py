"""Digests of model files: right, remembered, and never believed against the file's own marks."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from agentmesh_models import ModelError, file_digest
from agentmesh_models.digest import cache_path


def write(path: Path, data: bytes, mtime_ns: int = 1_000_000_000) -> Path:
    path.write_bytes(data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def test_the_digest_is_the_files_sha256(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", b"weights" * 1000)
    assert file_digest(path) == hashlib.sha256(b"weights" * 1000).hexdigest()


def test_a_digest_is_remembered_by_path_size_and_time(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", b"one")
    first = file_digest(path)
    write(path, b"two")  # same size, same time: what the memory is allowed not to notice
    assert file_digest(path) == first
    write(path, b"two", mtime_ns=2_000_000_000)
    assert file_digest(path) == hashlib.sha256(b"two").hexdigest()
    write(path, b"three")
    assert file_digest(path) == hashlib.sha256(b"three").hexdigest()


def test_a_link_shares_the_memory_of_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", b"one")
    link = tmp_path / "link.gguf"
    link.symlink_to(path)
    assert file_digest(link) == file_digest(path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[1, 2]", b'{"a": 1}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "model.gguf", b"one")
    cache_path().parent.mkdir(parents=True, exist_ok=True)
    cache_path().write_bytes(damage)
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()
    assert str(path.resolve()) in cache_path().read_text()


def test_a_remembered_value_that_is_no_digest_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", b"one")
    file_digest(path)
    cache_path().write_text(
        cache_path().read_text().replace(hashlib.sha256(b"one").hexdigest(), "0" * 63 + "G")
    )
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()


def test_a_memory_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path / "file" / "cache"))
    path = write(tmp_path / "model.gguf", b"one")
    assert file_digest(path) == hashlib.sha256(b"one").hexdigest()


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        file_digest(tmp_path / "none.gguf")
    assert caught.value.reason == "not_found"
