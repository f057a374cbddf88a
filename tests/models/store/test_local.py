"""Models with names: added, found, checked, removed; and a lock file that is never believed too much."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentmesh_models import ModelError, list_models, open_model
from agentmesh_models.catalogue import model_path, require_model
from agentmesh_models.store.local import Store
from agentmesh_models.store.lock import LOCK_NAME, read_lock
from agentmesh_models.store.place import claimed, models_folder


@pytest.fixture
def file(make_gguf: Callable[..., Path]) -> Path:
    return make_gguf()


def test_a_file_that_was_added_opens_by_its_name(file: Path) -> None:
    stored = Store().add(file, "mine")
    assert (stored.kind, stored.file, stored.size) == ("added", str(file), file.stat().st_size)
    assert model_path("mine") == file
    info = list_models()[-1]
    assert (info.name, info.path, info.digest, info.n_ctx) == ("mine", file, stored.digest, 512)


def test_a_copy_is_ours_and_goes_with_its_name(file: Path, folder: Path) -> None:
    store = Store()
    stored = store.add(file, "mine", copy=True)
    place = store.path(stored)
    assert (
        place == folder / "files" / stored.digest / "crafted.gguf" and place.read_bytes() == file.read_bytes()
    )
    file.unlink()
    assert model_path("mine") == place
    again = store.add(place, "twin", copy=True)
    assert again.file == stored.file
    assert (store.remove("mine").freed, place.exists()) == (0, True)  # the twin still needs it
    done = store.remove("twin")
    assert (done.freed, done.kept) == (stored.size, None)
    assert not place.parent.exists() and store.models() == ()


def test_removing_a_name_leaves_a_file_that_is_not_ours(file: Path) -> None:
    store = Store()
    store.add(file, "mine")
    done = store.remove("mine")
    assert (done.freed, done.kept) == (0, file) and file.exists()
    with pytest.raises(ModelError, match="no stored model is called 'mine'"):
        store.remove("mine")


def test_a_file_that_changed_is_refused_until_it_is_added_again(file: Path) -> None:
    store = Store()
    store.add(file, "mine")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ModelError, match="not the file that 'mine' was pinned to") as caught:
        open_model("mine")
    assert caught.value.reason == "mismatch"
    assert "agentmesh models add PATH --name mine --repin" in str(caught.value)
    with pytest.raises(ModelError, match="is the name of another model already"):
        store.add(file, "mine")
    store.add(file, "mine", repin=True)
    assert model_path("mine") == file
    file.write_bytes(bytes(data) + b"x")
    assert store.state(store.models()[0]) == "changed"
    file.unlink()
    assert store.state(store.models()[0]) == "missing"
    with pytest.raises(ModelError, match="the file of 'mine' is gone") as caught:
        model_path("mine")
    assert caught.value.reason == "not_found"


def test_a_glance_sees_what_is_not_there_without_reading(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store()
    store.add(file, "mine")

    def read(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("agentmesh_models.store.local.file_digest", read)
    for spec in ("nano", "mine", "crafted.gguf"):
        require_model(spec, base=tmp_path)
    for spec, says in (
        ("qwen3-4b", "models pull qwen3-4b"),
        ("hf:o/r/f.gguf", "models pull"),
        ("x.gguf", "no such model"),
    ):
        with pytest.raises(ModelError, match=says):
            require_model(spec, base=tmp_path)
    file.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="found 4 bytes"):
        require_model("mine")


def test_what_is_no_model_gets_no_name(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a GGUF file"):
        Store().add(bad, "bad")
    with pytest.raises(ModelError, match="no such model file"):
        Store().add(tmp_path / "none.gguf", "none")
    assert Store().models() == ()


def test_a_name_that_was_given_comes_before_a_file_and_the_catalogue(
    file: Path, tmp_path: Path, make_gguf: Callable[..., Path]
) -> None:
    (tmp_path / "qwen3-0.6b").write_bytes(file.read_bytes())
    assert model_path("qwen3-0.6b", base=tmp_path) == tmp_path / "qwen3-0.6b"
    Store().add(file, "qwen3-0.6b")
    assert model_path("qwen3-0.6b", base=tmp_path) == file


def test_a_copy_needs_room(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 30, 1 << 30, 1000))
    with pytest.raises(ModelError, match="GB are needed") as caught:
        Store().add(file, "mine", copy=True)
    assert caught.value.reason == "no_space" and Store().models() == ()


def good(**changes: object) -> dict[str, Any]:
    entry: dict[str, object] = {
        "kind": "added", "file": "/x/m.gguf", "source": None, "digest": "0" * 64, "size": 5, "revision": None,
        "since": "2026-11-28T10:00:00Z",
    }  # fmt: skip
    return {"version": 1, "models": {"m": {**entry, **changes}}, "pins": {}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "damaged"),
        ("[]", "the file is no object"),
        ('{"version": 2}', "of version 2, and this program knows 1"),
        (json.dumps(good(digest="0" * 63)), "m: digest is no SHA-256"),
        (json.dumps(good(size=True)), "m: size is no number"),
        (json.dumps(good(kind="stolen")), "m: kind is 'stolen'"),
        (json.dumps(good(file="../../etc/passwd")), "m: file is '../../etc/passwd'"),
        (json.dumps(good(file="files/" + "0" * 64 + "/../x")), "m: file is"),
        (json.dumps(good(source=5)), "m: source is no text"),
        ("[" * 100_000, "damaged"),
        (" " * (4 << 20) + "{}", "larger than"),
    ],
)
def test_a_damaged_lock_file_is_an_error_that_says_what_to_do(folder: Path, text: str, says: str) -> None:
    folder.mkdir()
    (folder / LOCK_NAME).write_text(text)
    with pytest.raises(ModelError, match=says) as caught:
        model_path("m")
    assert caught.value.reason == "catalogue" and "put back an older copy" in str(caught.value)


def test_a_damaged_lock_file_hinders_no_path_and_not_nano(folder: Path, file: Path) -> None:
    folder.mkdir()
    (folder / LOCK_NAME).write_text("{")
    assert model_path(str(file)) == file and model_path("nano").name == "nano.gguf"
    with pytest.raises(ModelError, match="no such model"):
        model_path(str(file.with_name("none.gguf")))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda each: (
            st.lists(each, max_size=3)
            | st.dictionaries(
                st.sampled_from(["version", "models", "pins", "m", "file", "digest", "size"]),
                each,
                max_size=4,
            )
        ),
    )
)
def test_any_json_is_a_lock_or_a_model_error(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("lock")
    (folder / LOCK_NAME).write_text(json.dumps(value))
    try:
        read_lock(folder)
    except ModelError as error:
        assert error.reason == "catalogue"


def test_names_given_at_once_are_all_kept(file: Path) -> None:
    failures: list[BaseException] = []

    def give(number: int) -> None:
        try:
            Store().add(file, f"m{number}")
        except BaseException as error:  # noqa: BLE001  told to the test below
            failures.append(error)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == [] and len(Store().models()) == 8


def test_a_claim_keeps_another_process_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "x.claim"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from agentmesh_models.store.place import claimed\n"
        f"with claimed(Path({str(lock)!r})):\n print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        waited: list[bool] = []

        def waiting() -> None:
            waited.append(True)
            holder.kill()  # no goodbye: the lock goes with the process

        with claimed(lock, waiting):
            assert waited == [True]
    finally:
        holder.kill()
        holder.communicate(timeout=30)


def test_the_folder_is_where_the_platform_keeps_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AGENTMESH_MODELS", "~/weights")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert models_folder() == tmp_path / "weights"
    monkeypatch.delenv("AGENTMESH_MODELS")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert models_folder() == tmp_path / "data" / "agentmesh" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert models_folder() == tmp_path / ".local" / "share" / "agentmesh" / "models"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert models_folder() == tmp_path / "Library" / "Application Support" / "agentmesh" / "models"


def test_a_folder_that_cannot_be_written_is_told(file: Path, folder: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("models").write_text("a file where the folder should be")
    with pytest.raises(ModelError) as caught:
        Store().add(file, "mine")
    assert caught.value.reason == "unreadable" and os.fspath(folder) in str(caught.value)
