"""A download against a server that drops, lies, stalls and changes its mind: whole and right, or an error that says why."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentmesh_models import ModelError
from agentmesh_models.store.download import Arrived, Patience, Wanted, download

Fetch = Callable[..., Arrived]
PATH = "/m.gguf"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "parts" / "m.part"


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def fetch(site: Any, part: Path, hasty: Patience, said: list[str]) -> Fetch:
    """Downloads the site's file into `part`; takes what is to be known of it beforehand."""

    def run(*, patience: Patience = hasty, progress: Any = None, **known: Any) -> Arrived:
        wanted = Wanted(url=site.url + PATH, shown=site.url + PATH, **known)
        return download(
            wanted, part, patience=patience, progress=progress or (lambda here, total: None), say=said.append
        )

    return run


def test_a_file_comes_whole_with_its_digest(site: Any, fetch: Fetch, part: Path, model: bytes) -> None:
    site.serve(PATH, site.whole(model))
    seen: list[tuple[int, int | None]] = []
    arrived = fetch(progress=lambda here, total: seen.append((here, total)))
    assert arrived == Arrived(digest=sha(model), size=len(model))
    assert part.read_bytes() == model
    assert seen[-1] == (len(model), len(model))
    assert site.asked("accept-encoding") == ["identity"]
    assert [each.name for each in part.parent.iterdir()] == ["m.part"]


def test_a_broken_connection_is_resumed_where_it_broke(
    site: Any, fetch: Fetch, part: Path, model: bytes, said: list[str]
) -> None:
    site.serve(PATH, site.drop(model, 10_000), site.whole(model))
    assert fetch().digest == sha(model)
    assert part.read_bytes() == model
    assert site.asked("range") == [None, "bytes=10000-"]
    assert site.asked("if-range") == [None, '"v1"']
    assert "the connection ended after 10,000 of" in said[0]


def test_a_server_that_always_breaks_is_given_up_and_the_part_kept(
    site: Any, fetch: Fetch, part: Path, model: bytes
) -> None:
    nothing = {"Content-Range": f"bytes 5000-{len(model) - 1}/{len(model)}"}
    site.serve(PATH, site.drop(model, 5_000), site.says(206, b"", length=100, headers=nothing))
    with pytest.raises(ModelError, match="the same command goes on from there") as caught:
        fetch()
    assert caught.value.reason == "download"
    site.serve(PATH, site.whole(model))
    assert fetch().digest == sha(model)


def test_an_interrupted_download_goes_on_in_the_next_process(
    site: Any, fetch: Fetch, part: Path, model: bytes
) -> None:
    def interrupt(here: int, total: int | None) -> None:
        raise KeyboardInterrupt

    site.serve(PATH, site.whole(model))
    with pytest.raises(KeyboardInterrupt):
        fetch(progress=interrupt)
    came = part.read_bytes()
    assert came and model.startswith(came)
    assert fetch().digest == sha(model)
    assert site.asked("range") == [None, f"bytes={len(came)}-"]


def test_a_file_that_changed_between_two_attempts_begins_anew(
    site: Any, fetch: Fetch, part: Path, model: bytes
) -> None:
    other = model[:-1] + b"\x00"
    site.serve(PATH, site.drop(model, 10_000), site.whole(other, etag='"v2"'))
    assert fetch().digest == sha(other)
    assert part.read_bytes() == other


def test_a_server_that_ignores_if_range_is_caught_by_its_tag(site: Any, fetch: Fetch, model: bytes) -> None:
    other = model[:-1] + b"\x00"
    lying = site.says(
        206,
        other[10_000:],
        headers={"ETag": '"v2"', "Content-Range": f"bytes 10000-{len(other) - 1}/{len(other)}"},
    )
    site.serve(PATH, site.drop(model, 10_000), lying, site.whole(other, etag='"v2"'))
    assert fetch().digest == sha(other)


def test_a_server_without_ranges_sends_all_again(site: Any, fetch: Fetch, part: Path, model: bytes) -> None:
    site.serve(PATH, site.drop(model, 10_000), site.says(200, model, headers={"ETag": '"v1"'}))
    assert fetch().digest == sha(model)
    assert part.read_bytes() == model


def test_without_a_tag_or_a_digest_nothing_is_resumed_in_another_process(
    site: Any, fetch: Fetch, part: Path, model: bytes, hasty: Patience
) -> None:
    site.serve(PATH, site.drop(model, 10_000, etag=None))
    with pytest.raises(ModelError):
        fetch(patience=replace(hasty, attempts=1))
    site.serve(PATH, site.whole(model, etag=None))
    site.log.clear()
    assert fetch().digest == sha(model)
    assert site.asked("range") == [None]


def test_a_part_of_another_file_is_not_gone_on_with(
    site: Any, fetch: Fetch, part: Path, model: bytes, hasty: Patience
) -> None:
    site.serve(PATH, site.drop(model, 10_000))
    with pytest.raises(ModelError):
        fetch(patience=replace(hasty, attempts=1), digest="0" * 64)
    site.serve(PATH, site.whole(model))
    site.log.clear()
    assert fetch(digest=sha(model)).digest == sha(model)
    assert site.asked("range") == [None]


@pytest.mark.parametrize("damage", [b"{", b"[]", b'{"key": 5}', b"\xff\xfe"], ids=repr)
def test_a_damaged_note_only_costs_the_part(
    site: Any, fetch: Fetch, part: Path, model: bytes, damage: bytes
) -> None:
    part.parent.mkdir()
    part.write_bytes(model[:5000])
    part.with_name("m.part.json").write_bytes(damage)
    site.serve(PATH, site.whole(model))
    assert fetch().digest == sha(model)
    assert site.asked("range") == [None]


def test_what_was_spoiled_on_this_disk_is_fetched_anew(
    site: Any, fetch: Fetch, part: Path, model: bytes, hasty: Patience, said: list[str]
) -> None:
    site.serve(PATH, site.drop(model, 10_000))
    with pytest.raises(ModelError):
        fetch(patience=replace(hasty, attempts=1), digest=sha(model))
    spoiled = bytearray(part.read_bytes())
    spoiled[500] ^= 1
    part.write_bytes(spoiled)
    site.serve(PATH, site.whole(model))
    assert fetch(digest=sha(model)).digest == sha(model)
    assert "does not fit what came; beginning anew" in said[-1]
    assert part.read_bytes() == model


def test_wrong_bytes_are_a_mismatch_and_thrown_away(
    site: Any, fetch: Fetch, part: Path, model: bytes
) -> None:
    site.serve(PATH, site.whole(model[:-1] + b"\x00"))
    with pytest.raises(ModelError, match="expected sha256") as caught:
        fetch(digest=sha(model), size=len(model))
    assert caught.value.reason == "mismatch"
    assert (caught.value.expected, caught.value.found) == (sha(model), sha(model[:-1] + b"\x00"))
    assert not part.exists()


def test_a_length_that_is_not_the_announced_one_is_refused_before_it_comes(
    site: Any, fetch: Fetch, part: Path, model: bytes
) -> None:
    site.serve(PATH, site.whole(model))
    with pytest.raises(ModelError, match="are announced, and the server sends") as caught:
        fetch(size=len(model) - 1)
    assert caught.value.reason == "mismatch"


def test_a_length_that_is_too_long_is_a_connection_that_broke(site: Any, fetch: Fetch, model: bytes) -> None:
    lie = site.says(200, model, length=len(model) + 100, headers={"ETag": '"v1"'})
    site.serve(PATH, lie, site.status(416, {"Content-Range": f"bytes */{len(model)}"}))
    assert fetch().digest == sha(model)
    site.serve(PATH, lie)
    with pytest.raises(ModelError, match="the connection ended after"):
        fetch()


def test_a_part_that_is_longer_than_the_file_begins_anew(
    site: Any, fetch: Fetch, part: Path, model: bytes, hasty: Patience
) -> None:
    site.serve(PATH, site.drop(model + bytes(100), len(model) + 50), site.whole(model))
    assert fetch().digest == sha(model)
    assert part.read_bytes() == model


def test_a_file_of_unknown_length_comes_in_chunks(site: Any, fetch: Fetch, model: bytes) -> None:
    site.serve(PATH, site.chunked(model))
    assert fetch().digest == sha(model)
    site.serve(PATH, site.chunked(model, cut=True))
    with pytest.raises(ModelError, match="the connection broke") as caught:
        fetch()
    assert caught.value.reason == "download"


def test_more_than_is_announced_is_refused(site: Any, fetch: Fetch, part: Path, model: bytes) -> None:
    site.serve(PATH, site.chunked(model + bytes(5000)))
    with pytest.raises(ModelError, match="more bytes come than are announced") as caught:
        fetch(size=len(model))
    assert caught.value.reason == "mismatch" and not part.exists()


def test_no_more_is_taken_than_the_limit(
    site: Any, fetch: Fetch, part: Path, model: bytes, hasty: Patience
) -> None:
    small = replace(hasty, most_bytes=len(model) - 1)
    for behaviour in (site.whole(model), site.chunked(model)):
        site.serve(PATH, behaviour)
        with pytest.raises(ModelError, match="more") as caught:
            fetch(patience=small)
        assert caught.value.reason == "download" and not part.exists()


@pytest.mark.parametrize(
    "start", [b"<!DOCTYPE html>", b"PK\x03\x04....", b"version https://git-lfs"], ids=repr
)
def test_what_is_no_gguf_is_seen_at_its_first_bytes(
    site: Any, fetch: Fetch, part: Path, start: bytes
) -> None:
    body = start + bytes(5 << 20)
    site.serve(PATH, site.whole(body))
    seen: list[int] = []
    with pytest.raises(ModelError, match="no GGUF file") as caught:
        fetch(progress=lambda here, total: seen.append(here))
    assert caught.value.reason == "not_gguf" and seen == [] and not part.exists()


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [(404, "not_found", "no such file"), (410, "not_found", "no such file"), (403, "download", "HF_TOKEN")]
    + [(401, "download", "user and password"), (418, "download", "answers 418")],
)
def test_a_refusal_is_told_and_not_asked_for_again(
    site: Any, fetch: Fetch, code: int, reason: str, says: str
) -> None:
    site.serve(PATH, site.status(code))
    with pytest.raises(ModelError, match=says) as caught:
        fetch()
    assert caught.value.reason == reason and len(site.log) == 1


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_again_a_few_times(site: Any, fetch: Fetch, model: bytes, code: int) -> None:
    site.serve(PATH, site.status(code, {"Retry-After": "0"}), site.status(code), site.whole(model))
    assert fetch().digest == sha(model)
    assert len(site.log) == 3
    site.log.clear()
    site.serve(PATH, site.status(code))
    with pytest.raises(ModelError, match=f"the server answers {code}") as caught:
        fetch()
    assert caught.value.reason == "download" and len(site.log) == 3


def test_how_long_a_server_may_ask_to_wait_is_bounded(
    site: Any, fetch: Fetch, model: bytes, hasty: Patience, said: list[str]
) -> None:
    site.serve(PATH, site.status(429, {"Retry-After": "86400"}), site.whole(model))
    assert fetch(patience=replace(hasty, longest_pause=0.001)).digest == sha(model)
    assert "in 0.002 s" in said[0]


def test_a_server_that_falls_silent_is_left_and_resumed(
    site: Any, fetch: Fetch, model: bytes, hasty: Patience, said: list[str]
) -> None:
    site.serve(PATH, site.stall(model, 9000), site.whole(model))
    assert fetch(patience=replace(hasty, silence=0.2)).digest == sha(model)
    assert "fell silent for 0.2 seconds" in said[0]
    assert site.asked("range")[-1] == "bytes=9000-"


def test_a_server_that_drips_is_given_up(
    site: Any, fetch: Fetch, model: bytes, hasty: Patience, said: list[str]
) -> None:
    site.serve(PATH, site.whole(model))
    assert fetch(patience=replace(hasty, slow_after=0.0, slow_bytes=1)).digest == sha(model)
    assert said == []
    site.serve(PATH, site.chunked(model))
    with pytest.raises(ModelError, match="next to nothing"):
        fetch(patience=replace(hasty, slow_after=0.0, slow_bytes=1 << 30), digest="1" * 64)


def test_redirects_are_followed_but_not_for_ever(site: Any, fetch: Fetch, model: bytes) -> None:
    site.serve(PATH, site.redirect("/a?x=1"))
    site.serve("/a", site.redirect(f"{site.url}/b", 307))
    site.serve("/b", site.whole(model))
    assert fetch().digest == sha(model)
    site.serve(PATH, site.redirect(PATH))
    site.log.clear()
    with pytest.raises(ModelError, match="in circles") as caught:
        fetch()
    assert caught.value.reason == "download" and len(site.log) == 11


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/m.gguf", "", "http://u:secret@127.0.0.1/m.gguf", "http://[::"],
)
def test_a_redirect_to_anything_but_the_web_is_refused(site: Any, fetch: Fetch, location: str) -> None:
    site.serve(PATH, site.redirect(location))
    with pytest.raises(ModelError, match="the server sends us") as caught:
        fetch()
    assert "secret" not in str(caught.value)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    from agentmesh_models.store.web import _next

    with pytest.raises(ModelError, match="from https to http://x/m.gguf, where anyone can change it"):
        _next("https://x/m.gguf", "http://u:secret@x/m.gguf?token=secret", "https://x/m.gguf")
    assert _next("https://x/a/m.gguf", "../b.gguf", "") == "https://x/b.gguf"


def test_a_password_goes_to_its_own_server_only(site: Any, other: Any, fetch: Fetch, model: bytes) -> None:
    site.serve(PATH, site.redirect("/here.gguf"))
    site.serve("/here.gguf", site.redirect(other.serve("/there.gguf", other.whole(model))))
    assert fetch(headers={"authorization": "Bearer hf_secret"}).digest == sha(model)
    assert site.asked("authorization") == ["Bearer hf_secret"] * 2
    assert other.asked("authorization") == [None]


def test_a_packed_file_is_refused(site: Any, fetch: Fetch, model: bytes) -> None:
    site.serve(PATH, site.says(200, model, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(ModelError, match="packs the file although"):
        fetch()


def test_a_part_that_nobody_asked_for_is_refused(site: Any, fetch: Fetch, model: bytes) -> None:
    for behaviour in (site.says(206, model), site.status(416)):
        site.serve(PATH, behaviour)
        with pytest.raises(ModelError, match="answers for a part where the whole was asked for"):
            fetch()


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes 5-9/10"}, {"Content-Range": "x"}, {}])
def test_a_part_of_another_place_begins_anew(
    site: Any, fetch: Fetch, model: bytes, headers: dict[str, str]
) -> None:
    site.serve(PATH, site.drop(model, 8000), site.says(206, model[8000:], headers=headers), site.whole(model))
    assert fetch().digest == sha(model)


def test_a_server_with_another_file_at_every_request_is_given_up(
    site: Any, fetch: Fetch, model: bytes
) -> None:
    site.serve(PATH, *[site.drop(model, 8000), site.says(206, b"")] * 20)
    with pytest.raises(ModelError, match="another file at every request"):
        fetch()
    assert len(site.log) == 8


def test_no_server_at_all_is_offline_and_says_what_to_do(
    site: Any, fetch: Fetch, hasty: Patience, part: Path
) -> None:
    site.shutdown()
    site.server_close()
    with pytest.raises(ModelError, match="agentmesh models add PATH") as caught:
        fetch()
    assert caught.value.reason == "offline"


def test_a_full_disk_is_told_before_the_download(
    site: Any, fetch: Fetch, model: bytes, monkeypatch: pytest.MonkeyPatch, part: Path
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1 << 30, 1 << 29, 300 << 20))
    site.serve(PATH, site.says(200, model, length=50 << 20))
    with pytest.raises(ModelError, match="AGENTMESH_MODELS") as caught:
        fetch()
    assert (caught.value.reason, caught.value.found) == ("no_space", 300 << 20)
    assert part.exists() is False or part.stat().st_size == 0


def test_a_disk_that_fills_up_on_the_way_keeps_what_came(
    site: Any, fetch: Fetch, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    site.serve(PATH, site.whole(model))
    with pytest.raises(ModelError, match="the disk is full") as caught:
        fetch()
    assert caught.value.reason == "no_space"
    monkeypatch.undo()
    assert fetch().digest == sha(model)
