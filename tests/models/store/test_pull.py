"""A pull: from a name to a checked, pinned file; from the hub through its own client, from any address, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentmesh_models import ModelError, open_model
from agentmesh_models.catalogue import model_path
from agentmesh_models.store import pull as pulling
from agentmesh_models.store.download import Patience
from agentmesh_models.store.hub import choose
from agentmesh_models.store.local import Store
from agentmesh_models.store.lock import LOCK_NAME
from agentmesh_models.store.names import HubFile
from agentmesh_models.store.offers import FORMATS, offers
from agentmesh_models.store.pull import Pull, Pulled, pull

REPO, FILE = "owner/repo-GGUF", "Small-Q4_K_M.gguf"
SPEC = f"hf:{REPO}/{FILE}"
Bring = Callable[..., Pulled]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def bring(hasty: Patience, said: list[str]) -> Bring:
    return lambda spec, **how: pull(spec, Pull(patience=hasty, say=said.append, **how))


def test_a_model_of_the_hub_comes_with_the_digest_the_hub_told(
    hub: Any, bring: Bring, model: bytes, folder: Path
) -> None:
    hub.put(REPO, FILE, model)
    done = bring(SPEC)
    assert (done.how, done.stored.name, done.stored.digest) == ("downloaded", "small-q4_k_m", sha(model))
    assert done.path == folder / "files" / sha(model) / FILE and done.path.read_bytes() == model
    assert done.stored.revision == "ab" * 20
    assert model_path(SPEC) == model_path("small-q4_k_m") == done.path
    assert [path for _, path, _ in hub.site.log] == [
        f"/{REPO}/resolve/main/{FILE}",
        f"/{REPO}/resolve/{'ab' * 20}/{FILE}",
    ]
    lock = (folder / LOCK_NAME).read_text()
    assert json.loads(lock)["pins"] == {
        SPEC: {"digest": sha(model), "size": len(model), "revision": "ab" * 20, "since": done.stored.since}
    }
    assert "secret" not in lock
    assert sorted(each.name for each in (folder / "parts").iterdir() if each.suffix != ".claim") == []


def test_a_second_pull_reads_the_metadata_and_no_more(hub: Any, bring: Bring, model: bytes) -> None:
    hub.put(REPO, FILE, model)
    bring(SPEC)
    hub.storage.log.clear()
    assert bring(SPEC).how == "here" and hub.storage.log == []
    assert bring(SPEC, name="twin").stored.file == Store().models()[0].file


def test_a_source_that_changed_is_refused_until_it_is_pinned_anew(
    hub: Any, bring: Bring, model: bytes, folder: Path
) -> None:
    hub.put(REPO, FILE, model)
    first = bring(SPEC)
    other = model[:-1] + b"\x00"
    hub.put(REPO, FILE, other)
    hub.storage.log.clear()
    with pytest.raises(ModelError, match="pull it with --repin") as caught:
        bring(SPEC)
    assert (caught.value.reason, caught.value.expected, caught.value.found) == (
        "mismatch",
        sha(model),
        sha(other),
    )
    assert hub.storage.log == []
    Store().remove(first.stored.name)
    with pytest.raises(ModelError, match="is pinned to"):  # the pin outlives the file
        bring(SPEC)
    assert bring(SPEC, repin=True).stored.digest == sha(other)
    assert bring(SPEC).how == "here"


def test_repinning_takes_the_old_file_away(hub: Any, bring: Bring, model: bytes) -> None:
    hub.put(REPO, FILE, model)
    first = bring(SPEC)
    hub.put(REPO, FILE, model[:-1] + b"\x00")
    again = bring(SPEC, repin=True)
    assert not first.path.exists() and again.path.exists()
    assert len(Store().models()) == 1


def test_a_storage_that_sends_something_else_is_found_out(hub: Any, bring: Bring, model: bytes) -> None:
    hub.put(REPO, FILE, model[:-1] + b"\x00", told=model)
    with pytest.raises(ModelError, match="it was thrown away") as caught:
        bring(SPEC)
    assert caught.value.reason == "mismatch" and Store().models() == ()


def test_a_connection_that_breaks_is_resumed_from_the_storage(
    hub: Any, bring: Bring, model: bytes, site: Any
) -> None:
    hub.put(REPO, FILE, model)
    hub.storage.serve(f"/{REPO}/{FILE}", site.drop(model, 7000), site.whole(model))
    assert bring(SPEC).stored.digest == sha(model)
    assert hub.storage.asked("range") == [None, "bytes=7000-"]


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    hub: Any, bring: Bring, model: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    hub.gated, hub.token = True, "hf_sesame"
    hub.put(REPO, FILE, model)
    with pytest.raises(ModelError, match="gated: accept its terms at .*; then set HF_TOKEN") as caught:
        bring(SPEC)
    assert caught.value.reason == "download"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ModelError, match="the token that is set was refused") as caught:
        bring(SPEC)
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_sesame")
    assert bring(SPEC).stored.digest == sha(model)
    assert hub.storage.asked("authorization") == [None]
    assert "sesame" not in (folder / LOCK_NAME).read_text()


def test_a_repository_with_one_usual_file_needs_no_file_name(hub: Any, bring: Bring, model: bytes) -> None:
    hub.put(REPO, "Small-Q8_0.gguf", model[:-1] + b"\x00")
    hub.put(REPO, FILE, model)
    done = bring(f"hf:{REPO}")
    assert (done.stored.source, done.stored.name) == (SPEC, "small-q4_k_m")
    assert model_path(f"hf:{REPO}") == done.path


def test_a_revision_has_its_own_pin(hub: Any, bring: Bring, model: bytes) -> None:
    hub.put(REPO, FILE, model)
    hub.put(REPO, FILE, model, revision="v1")
    assert bring(f"hf:{REPO}@v1/{FILE}").stored.source == f"hf:{REPO}@v1/{FILE}"
    assert Store().pin(SPEC) is None


def test_which_file_of_a_repository_is_meant() -> None:
    source = HubFile(repo="o/r")
    assert choose(["README.md", "a.gguf"], source) == "a.gguf"
    assert (
        choose(["a-Q8_0.gguf", "a-q4_k_m.gguf", "mmproj-q4_k_m.gguf", "b-Q4_K_M-00001-of-00002.gguf"], source)
        == "a-q4_k_m.gguf"
    )
    with pytest.raises(ModelError, match=r"name one of its files, as hf:o/r/FILE: a\.gguf, b\.gguf"):
        choose(["b.gguf", "a.gguf"], source)
    with pytest.raises(ModelError, match="no whole .gguf file is in that repository"):
        choose(["model.safetensors"], source)


@pytest.mark.parametrize(
    ("code", "headers", "reason", "says"),
    [
        (404, {"X-Error-Code": "EntryNotFound"}, "not_found", "the repository has no such file"),
        (
            404,
            {"X-Error-Code": "RepoNotFound"},
            "not_found",
            "no such repository; a private one wants HF_TOKEN",
        ),
        (404, {"X-Error-Code": "RevisionNotFound"}, "not_found", "no revision"),
        (403, {}, "download", "answers 403"),
        (429, {}, "download", "answers 429"),
        (500, {}, "download", "answers 500"),
        (200, {}, "download", "tells no commit; is it a hub"),
    ],
)
def test_what_the_hub_refuses_is_told_in_our_words(
    hub: Any, bring: Bring, site: Any, code: int, headers: dict[str, str], reason: str, says: str
) -> None:
    hub.site.serve(f"/{REPO}/resolve/main/{FILE}", site.status(code, headers))
    with pytest.raises(ModelError, match=says) as caught:
        bring(SPEC)
    assert caught.value.reason == reason and SPEC in str(caught.value)


def test_a_hub_that_falls_silent_is_left(
    hub: Any, bring: Bring, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "HUB_TIMEOUT", 0.2)
    hub.site.serve(f"/{REPO}/resolve/main/{FILE}", lambda request: request.server.released.wait(30))
    with pytest.raises(ModelError, match="does not answer") as caught:
        bring(SPEC)
    assert caught.value.reason == "offline"


def test_without_a_network_the_error_says_what_to_do_and_what_is_here_stays(
    hub: Any, bring: Bring, model: bytes, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.put(REPO, FILE, model)
    done = bring(SPEC)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens there
    assert bring(SPEC) == replace(done, how="here")
    assert said[-1] == "no network; small-q4_k_m is here already"
    with pytest.raises(ModelError, match="agentmesh models add PATH --name NAME") as caught:
        bring("hf:owner/other/f.gguf")
    assert caught.value.reason == "offline"


def test_offline_mode_of_the_hub_client_is_kept(
    hub: Any, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set; give the path") as caught:
        bring(SPEC)
    assert caught.value.reason == "offline" and hub.site.log == []


def cache(tmp_path: Path, data: bytes) -> Path:
    """A file as the hub's client keeps it."""
    place = tmp_path / "hub-cache" / "models--owner--repo-GGUF"
    blob, link = place / "blobs" / sha(data), place / "snapshots" / ("ab" * 20) / FILE
    for path in (blob, link, place / "refs" / "main"):
        path.parent.mkdir(parents=True)
    blob.write_bytes(data)
    link.symlink_to(blob)
    (place / "refs" / "main").write_text("ab" * 20)
    return link


def test_what_the_hub_client_has_already_is_used_and_not_ours(
    hub: Any, bring: Bring, model: bytes, tmp_path: Path
) -> None:
    hub.put(REPO, FILE, model)
    link = cache(tmp_path, model)
    done = bring(SPEC)
    assert (done.how, done.path) == ("cached", link) and hub.storage.log == []
    assert model_path(SPEC) == link
    assert Store().remove(done.stored.name).kept == link and link.exists()


def test_a_spoiled_file_in_the_clients_cache_is_passed_by(
    hub: Any, bring: Bring, model: bytes, tmp_path: Path
) -> None:
    hub.put(REPO, FILE, model)
    cache(tmp_path, model[:-1] + b"\x00")
    assert bring(SPEC).how == "downloaded"


def test_a_copy_in_the_clients_cache_is_named_when_offline(
    hub: Any, bring: Bring, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = cache(tmp_path, model)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="the hub's cache has a copy") as caught:
        bring(SPEC)
    assert str(link) in str(caught.value)


def test_a_file_at_an_address_is_pinned_to_what_came_first(
    site: Any, bring: Bring, model: bytes, folder: Path
) -> None:
    url = site.serve("/a/Tiny.gguf", site.whole(model))
    secret = url.replace("http://", "http://me:pass@") + "?token=secret"
    done = bring(secret)
    assert (done.stored.name, done.stored.source, done.stored.digest) == ("tiny", url, sha(model))
    assert site.log[0][1] == "/a/Tiny.gguf?token=secret" and site.asked("authorization") == [
        "Basic bWU6cGFzcw=="
    ]
    text = (folder / LOCK_NAME).read_text()
    assert "secret" not in text and "pass" not in text
    assert model_path(secret) == done.path
    site.serve("/a/Tiny.gguf", site.whole(model[:-1] + b"\x00"))
    assert bring(secret).how == "here"  # what is pinned is here, and nothing is asked
    Store().remove("tiny")
    with pytest.raises(ModelError, match="expected sha256") as caught:
        bring(secret)
    assert caught.value.reason == "mismatch" and "secret" not in str(caught.value)
    assert bring(secret, repin=True).stored.digest == sha(model[:-1] + b"\x00")


def test_a_digest_may_be_asked_for(site: Any, hub: Any, bring: Bring, model: bytes) -> None:
    url = site.serve("/t.gguf", site.whole(model))
    with pytest.raises(ModelError, match="expected sha256"):
        bring(url, digest="0" * 64)
    with pytest.raises(ModelError, match="64 digits"):
        bring(url, digest="xyz")
    assert bring(url, digest=sha(model)).stored.digest == sha(model)
    hub.put(REPO, FILE, model)
    with pytest.raises(ModelError, match="it was to be sha256 0000"):
        bring(SPEC, digest="0" * 64)


@pytest.mark.parametrize("cut", [20, 60, 300])
def test_what_is_no_whole_model_is_thrown_away(
    site: Any, bring: Bring, model: bytes, cut: int, folder: Path
) -> None:
    url = site.serve("/t.gguf", site.whole(model[:cut]))
    with pytest.raises(ModelError, match="no whole model, and was thrown away: .*ends") as caught:
        bring(url)
    assert caught.value.reason == "download" and Store().models() == ()
    assert [each for each in (folder / "parts").iterdir() if each.suffix == ".part"] == []


def test_two_pulls_of_one_file_bring_it_once(site: Any, model: bytes, hasty: Patience) -> None:
    gate = threading.Event()
    said: list[str] = []

    def slow(request: Any) -> None:
        gate.wait(30)
        site.whole(model)(request)

    def tell(text: str) -> None:
        said.append(text)
        gate.set()  # the second waits for the first: now the first may go on

    url = site.serve("/t.gguf", slow)
    found: list[Pulled] = []
    how = Pull(patience=hasty, say=tell)
    threads = [threading.Thread(target=lambda: found.append(pull(url, how))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 2 and {each.stored.digest for each in found} == {sha(model)}
    assert said == [f"{url} is being pulled already; waiting for that"]
    assert found[0].path.read_bytes() == model


def test_a_process_that_is_killed_leaves_a_part_that_the_next_goes_on_from(
    site: Any, bring: Bring, model: bytes, folder: Path
) -> None:
    url = site.serve("/t.gguf", site.stall(model, 9000), site.whole(model))
    code = (
        "import sys; from agentmesh_models.store.pull import Pull, pull\n"
        "pull(sys.argv[1], Pull(progress=lambda here, total: print(here, flush=True)))\n"
    )
    dying = subprocess.Popen(
        [sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert dying.stdout is not None
        assert any(line.strip() == "9000" for line in dying.stdout)
    finally:
        dying.kill()
        dying.communicate(timeout=30)
    assert bring(url).stored.digest == sha(model)
    assert site.asked("range") == [None, "bytes=9000-"]


def test_a_name_that_is_taken_is_not_taken_over(site: Any, bring: Bring, model: bytes) -> None:
    bring(site.serve("/t.gguf", site.whole(model)))
    with pytest.raises(ModelError, match="'t' is the name of another model already") as caught:
        bring(site.serve("/b/t.gguf", site.whole(model)))
    assert caught.value.reason == "bad_request"
    assert bring(site.url + "/b/t.gguf", name="t2").stored.name == "t2"


def test_every_model_of_the_catalogue_has_its_facts() -> None:
    assert len(offers()) >= 12
    for name, offer in offers().items():
        assert name == name.lower() and offer.source.file is not None and offer.source.revision is None
        assert offer.tool_format in FORMATS and 100_000_000 < offer.size < 5_000_000_000
        assert 4096 <= offer.context <= 1 << 20 and offer.size < offer.memory(8192) < 8_000_000_000
        assert offer.memory(8192) < offer.memory(16384) or offer.context == 8192


def test_opening_never_downloads_and_says_how_a_model_is_pulled(hub: Any) -> None:
    with pytest.raises(
        ModelError, match=r"not on this machine yet \(0\.6 GB\); agentmesh models pull qwen3-0\.6b"
    ):
        open_model("qwen3-0.6b")
    with pytest.raises(
        ModelError, match=f"{SPEC} is not on this machine; agentmesh models pull {SPEC}"
    ) as caught:
        open_model(SPEC)
    assert caught.value.reason == "not_found" and hub.site.log == []
    with pytest.raises(ModelError, match=r"http://h/m\.gguf is not on this machine") as caught:
        open_model("http://me:secret@h/m.gguf?key=secret")
    assert "secret" not in str(caught.value)


def test_a_catalogue_name_is_pulled_under_that_name(hub: Any, bring: Bring, model: bytes) -> None:
    source = offers()["qwen3-0.6b"].source
    hub.put(source.repo, source.file, model)
    assert bring("qwen3-0.6b").stored.name == "qwen3-0.6b"
    assert model_path("qwen3-0.6b") == model_path(source.key)
    with pytest.raises(ModelError, match="the catalogue has no 'qwen9'; it has qwen3-0.6b, "):
        bring("qwen9")


def test_without_the_hub_client_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from agentmesh_models import ModelError\n"
        "from agentmesh_models.store.pull import Pull, pull\n"
        "try: pull('qwen3-0.6b', Pull())\n"
        "except ModelError as e: print(e.reason, e)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("no_backend") and "agentmesh-runtime[hub]" in done.stdout
