"""`agentmesh models`: what it lists, pulls, adds, tells, removes and measures; and with which code it fails."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Agentmesh = Callable[..., Any]
MAIN = "import sys; from agentmesh.__main__ import main; sys.exit(main())"


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def small_model() -> bytes:
    """A whole GGUF file of the shape of a tiny Llama, without weights to speak of."""
    words = {
        "general.architecture": "llama",
        "general.license": "mit",
        "tokenizer.chat_template": "{{ messages }}",
    }
    numbers = {
        "general.file_type": 2, "llama.context_length": 4096, "llama.block_count": 2, "llama.embedding_length": 64,
        "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
    }  # fmt: skip
    pairs = [text(key) + struct.pack("<I", 8) + text(value) for key, value in words.items()]
    pairs += [text(key) + struct.pack("<II", 4, value) for key, value in numbers.items()]
    pairs.append(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"))
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs)
    head += text("token_embd.weight") + struct.pack("<IQQIQ", 2, 64, 2, 0, 0)
    return head + bytes(-len(head) % 32) + bytes(64 * 2 * 4)


MODEL = small_model()


class Handler(BaseHTTPRequestHandler):
    """`/m.gguf` is the model, `/slow.gguf` stops after 64 bytes, anything else is not there."""

    server: Server

    def do_GET(self) -> None:
        if not self.path.endswith(".gguf") or self.path == "/none.gguf":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(MODEL)))
        self.end_headers()
        if self.path == "/slow.gguf" and self.server.is_slow:
            self.wfile.write(MODEL[:64])
            self.wfile.flush()
            self.server.released.wait(60)
            return
        self.wfile.write(MODEL)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.is_slow = True
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No test sees the models of whoever runs it, or asks a proxy."""
    monkeypatch.setenv("AGENTMESH_MODELS", str(tmp_path / "stored"))
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "stored"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Small.gguf"
    path.write_bytes(MODEL)
    return path


def test_the_list_names_what_opens_and_with_all_what_can_be_pulled(agentmesh: Agentmesh) -> None:
    lines = agentmesh("models").out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "nano", "scripted"]
    assert agentmesh("models", "list").out.splitlines() == lines
    every = agentmesh("models", "list", "--all").out
    assert "qwen3-0.6b" in every and "not here" in every
    rows = agentmesh("models", "--all", "--json").lines
    offered = next(row for row in rows if row["name"] == "qwen3-0.6b")
    assert (offered["state"], offered["licence"], offered["digest"]) == ("not here", "apache-2.0", None)
    assert offered["source"] == "hf:Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf"


def test_a_pulled_model_is_listed_told_and_removed(
    agentmesh: Agentmesh, server: Server, folder: Path
) -> None:
    done = agentmesh("models", "pull", f"{server.url}/m.gguf", "--name", "small")
    assert done.code == 0 and done.out.startswith("small: pulled, ")
    assert "(100%)" in done.err
    (row,) = [each for each in agentmesh("models", "--json").lines if each["name"] == "small"]
    assert (row["state"], row["n_ctx"], row["tool_format"], row["bytes"]) == (
        "pulled",
        4096,
        "generic",
        len(MODEL),
    )
    (told,) = agentmesh("models", "info", "small", "--json", "--n-ctx", "1000").lines
    # 2 layers, 2 heads of 16 for keys and values each, f16
    assert (told["kv_bytes_a_token"], told["layers"], told["heads"], told["kv_heads"]) == (
        2 * 2 * 32 * 2,
        2,
        4,
        2,
    )
    # Weights, a cache of 8,192 cells and as much kept outside it, the scores of 256 tokens twice.
    counted = 64 * 2 * 4 + 2 * 256 * 8192 + 2 * 2 * 256 * 4
    assert told["memory"] == counted + counted // 20 + (32 << 20)
    assert (told["architecture"], told["quantisation"], told["licence"]) == ("llama", "Q4_0", "mit")
    assert (told["parameters"], told["vocabulary"], told["source"]) == (128, 2, f"{server.url}/m.gguf")
    again = agentmesh("models", "pull", f"{server.url}/m.gguf", "--name", "small", "--json")
    assert again.lines[0]["how"] == "here"
    gone = agentmesh("models", "rm", "small")
    assert (gone.code, gone.out) == (0, "small removed; 0.0 MB freed\n")
    assert list((folder / "files").iterdir()) == []


def test_a_file_that_is_here_gets_a_name(agentmesh: Agentmesh, file: Path) -> None:
    done = agentmesh("models", "add", file)
    assert (done.code, done.out.splitlines()[0]) == (0, f"small: {file}")
    (copied,) = agentmesh("models", "add", file, "--copy", "--name", "copy", "--json").lines
    assert copied["path"] != str(file) and copied["kind"] == "added"
    assert agentmesh("models", "info", file, "--json").lines[0]["digest"] == copied["digest"]
    assert agentmesh("models", "rm", "small").out == f"small removed; the file stays: {file}\n"
    (gone,) = agentmesh("models", "rm", "copy", "--json").lines
    assert gone == {"name": "copy", "freed": len(MODEL), "kept": None}


def test_a_spoiled_file_is_seen_in_the_list(agentmesh: Agentmesh, file: Path) -> None:
    agentmesh("models", "add", file)

    def state() -> object:
        return next(each["state"] for each in agentmesh("models", "--json").lines if each["name"] == "small")

    file.write_bytes(b"GGUX" + MODEL[4:])
    assert state() == "damaged"
    assert agentmesh("models", "info", "small").code == 1
    file.write_bytes(MODEL + b"x")
    assert state() == "changed"
    file.unlink()
    assert state() == "missing"


def test_info_of_what_comes_along_and_what_is_offered(agentmesh: Agentmesh) -> None:
    told = agentmesh("models", "info", "nano").out
    assert "kv bytes a token   5,120" in told and "quantisation       Q8_0" in told
    assert agentmesh("models", "info", "scripted", "--json").lines[0]["tool_format"] == "scripted"
    small, large = (
        agentmesh("models", "info", "qwen3-0.6b", "--json", "--n-ctx", n).lines[0]["memory"]
        for n in (16384, 17384)
    )
    assert large - small == pytest.approx(1.05 * 1000 * 114688, abs=2)


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["pull", "qwen9"], 2, "the catalogue has no 'qwen9'"),
        (["pull", "hf:owner"], 2, "hf:owner/repo/file.gguf"),
        (["pull", "https://u:secret@/x.gguf?secret"], 2, "address of a .gguf file"),
        (["pull", "{url}/none.gguf"], 2, "there is no such file"),
        (["pull", "{url}/m.gguf", "--sha256", "0" * 64], 1, "expected sha256"),
        (["pull", "{url}/m.gguf", "--sha256", "short"], 2, "64 digits"),
        (["pull", "{url}/m.gguf", "--name", "nano"], 2, "comes with the package"),
        (["add", "{file}", "--name", "a b"], 2, "cannot be the name"),
        (["add", "none.gguf"], 2, "no such model file"),
        (["add", "{bad}"], 3, "not a GGUF file"),
        (["rm", "nano"], 2, "comes with the package"),
        (["rm", "{file}"], 2, "deletes only what it stored itself"),
        (["rm", "ghost"], 2, "no stored model is called 'ghost'"),
        (["info", "ghost"], 2, "no model 'ghost'; use nano"),
        (["info", "{bad}"], 3, "not a GGUF file"),
        (["bench", "ghost"], 2, "no model 'ghost'; use nano"),
    ],
)
def test_what_fails_says_why_and_with_which_code(
    agentmesh: Agentmesh, server: Server, file: Path, tmp_path: Path, command: list[str], code: int, says: str
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"nothing at all")
    places = {"url": server.url, "file": file, "bad": bad}
    done = agentmesh("models", *(word.format(**places) for word in command))
    assert (done.code, done.out) == (code, "")
    assert says in done.err and "secret" not in done.err and "unexpected" not in done.err


def test_a_damaged_lock_is_unreadable(agentmesh: Agentmesh, folder: Path) -> None:
    folder.mkdir()
    (folder / "models.lock").write_text("{")
    done = agentmesh("models")
    assert done.code == 3 and "put back an older copy" in done.err


def test_ctrl_c_keeps_what_came(agentmesh: Agentmesh, server: Server, folder: Path) -> None:
    url = f"{server.url}/slow.gguf"
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "models", "pull", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None and process.stderr.readline().startswith("0.0 MB of")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "") and "what came is kept" in err
    (part,) = (folder / "parts").glob("*.part")
    assert part.read_bytes() == MODEL[:64]
    assert agentmesh("models", "rm", url).out == f"what came so far of {url} removed; 0.0 MB freed\n"
    assert not part.exists() and agentmesh("models", "rm", url).code == 2
    server.is_slow = False
    assert agentmesh("models", "pull", url).code == 0


def test_a_terminal_gets_a_bar(server: Server) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "models", "pull", f"{server.url}/m.gguf"],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
            timeout=60,
            check=True,
        )
        drawn = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"pulled" in done.stdout
    assert "100%" in drawn and "1.0/1.0 kB" in drawn and drawn.endswith("\x1b[?25h")


def test_the_bench_tells_rates_and_the_bound_of_memory(agentmesh: Agentmesh) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    few = ("--threads", "1", "--prompt", "48", "--generate", "4", "--repeat", "1")
    (rates,) = agentmesh("models", "bench", "nano", *few, "--json").lines
    assert (rates["model"], rates["threads"], rates["kv_bytes"]) == ("nano", 1, 5120)
    assert rates["bandwidth"] > 1e8
    assert [point["sequences"] for point in rates["points"]] == [1, 2, 4, 8]
    for point in rates["points"]:
        assert point["prefill"] > 0 and point["decode"] > 0 and 40 <= point["prompt_tokens"] <= 56
        step = rates["read_a_step"] + point["sequences"] * 5120 * (
            point["prompt_tokens"] + point["new_tokens"] / 2
        )
        assert point["bound"] == pytest.approx(rates["bandwidth"] * point["sequences"] / step)
    table = agentmesh("models", "bench", "nano", *few).out.splitlines()
    assert table[1].split() == [
        "sequences",
        "prompt",
        "prefill",
        "t/s",
        "new",
        "decode",
        "t/s",
        "bound",
        "t/s",
        "share",
    ]
    assert len(table) == 7


def test_json_is_one_object_a_line(agentmesh: Agentmesh, file: Path) -> None:
    for command in (["list", "--all"], ["info", "nano"], ["add", file], ["rm", "small"]):
        done = agentmesh("models", *command, "--json")
        assert done.code == 0 and all(isinstance(json.loads(line), dict) for line in done.out.splitlines())
