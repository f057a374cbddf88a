"""Real llama.cpp servers at the other end, with the embedded model: llama-cpp-python's, and llama.cpp's own where it is."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agentmesh.__main__ import main
from agentmesh.events import Event, MessageAdded, ToolCallAdded
from agentmesh.mesh import load_mesh
from agentmesh.runtime import run_dialogue
from agentmesh_ledger import Record
from agentmesh_ledger.log import Ledger
from agentmesh_ledger.store import verify_ledger
from agentmesh_models import (
    Engine,
    Message,
    ModelError,
    Piece,
    Reply,
    Request,
    TextDelta,
    ToolCall,
    ToolSpec,
    open_model,
)
from agentmesh_models.catalogue import nano_path

pytestmark = pytest.mark.anyio
Ask = Callable[[Engine, Request], Awaitable[tuple[list[Piece], Reply]]]

EVALUATE = ToolSpec(
    name="evaluate",
    description="Evaluate an arithmetic expression exactly.",
    parameters={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "The expression, for example 17 * 23 or 15% of 240",
            }
        },
        "required": ["expression"],
    },
)
SUM = Request(
    messages=(
        Message(role="system", content="You are math. You calculate."),
        Message(role="user", content="What is 17 * 23?"),
    ),
    tools=(EVALUATE,),
)
N_CTX = 1024
WAIT_SECONDS = 120
PYTHON_SERVER = ("llama_cpp", "fastapi", "sse_starlette", "starlette_context", "pydantic_settings")
# llama.cpp's own server, in C++, where the benchmarks' peer is installed; it ends when its standard input does.
CPP_SERVER = f"""
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = {str(nano_path())!r}
params.model_alias = {{"nano"}}
params.n_ctx, params.n_parallel, params.n_gpu_layers, params.fit_params = {N_CTX}, 1, 0, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.port = 0
server = xllamacpp.Server(params)
print("running on", server.listening_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", params=["python", *(["cpp"] if find_spec("xllamacpp") else [])])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that answers; ended at the end of the module."""
    if request.param == "cpp":
        command = [sys.executable, "-c", CPP_SERVER]
    else:
        for module in PYTHON_SERVER:
            pytest.importorskip(module, reason=f"llama-cpp-python's server needs {module}")
        command = [
            sys.executable,
            "-m",
            "llama_cpp.server",
            "--model",
            str(nano_path()),
            "--model_alias",
            "nano",
        ]
        command += ["--host", "127.0.0.1", "--port", "0", "--n_threads", "1", "--n_threads_batch", "1"]
        command += ["--n_ctx", str(N_CTX), "--verbose", "False"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield f"http://127.0.0.1:{_port(process, log)}/v1"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that the server has taken, once it says so."""
    ends = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < ends:
        found = re.search(r"running on http://127\.0\.0\.1:(\d+)\s", log.read_text(errors="replace"))
        if found:
            return int(found[1])
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
async def engine(server: str) -> Engine:
    return await anyio.to_thread.run_sync(open_model, f"openai:{server}#nano")


async def test_its_only_model_needs_no_name(server: str) -> None:
    assert (await anyio.to_thread.run_sync(open_model, f"openai:{server}")).info.name == "nano"
    with pytest.raises(ModelError, match="has no model 'gpt'; it serves nano"):
        await anyio.to_thread.run_sync(open_model, f"openai:{server}#gpt")


async def test_the_model_calls_the_tool_and_answers_with_its_result(engine: Engine, ask: Ask) -> None:
    pieces, reply = await ask(engine, SUM)
    assert (reply.calls, reply.finish) == (
        (ToolCall(name="evaluate", arguments={"expression": "17 * 23"}),),
        "call",
    )
    assert pieces == []  # one server leaves it in the text, and it is not shown as text here
    answered = Message(role="tool", name="evaluate", content="391")
    told = Request(
        messages=(*SUM.messages, Message(role="assistant", calls=reply.calls), answered), tools=SUM.tools
    )
    pieces, reply = await ask(engine, told)
    assert "391" in reply.text and reply.finish == "stop" and len(pieces) > 1
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextDelta)) == reply.text
    profile = reply.profile.to_json()
    assert (profile["model"], profile["model_digest"]) == ("nano", "unknown")
    assert profile["response_id"]


async def test_the_reply_is_the_one_that_the_model_gives_in_this_process(engine: Engine, ask: Ask) -> None:
    greeting = Request(
        messages=(
            Message(role="system", content="You are ada. You help."),
            Message(role="user", content="Hello!"),
        )
    )
    here = await anyio.to_thread.run_sync(lambda: open_model("nano", threads=1))
    try:
        assert (await ask(engine, greeting))[1].text == (await ask(here, greeting))[1].text
    finally:
        await here.aclose()


async def test_the_limit_of_tokens_is_kept_and_told(engine: Engine, ask: Ask) -> None:
    _, reply = await ask(engine, Request(messages=SUM.messages[1:], max_tokens=2))
    assert (reply.finish, reply.usage.output_tokens) == ("length", 2)


async def test_a_conversation_too_long_is_told_although_the_server_only_hangs_up(
    engine: Engine, ask: Ask
) -> None:
    long = Request(messages=(Message(role="user", content="hello " * 3000),))
    with pytest.raises(ModelError) as caught:
        await ask(engine, long)
    assert (caught.value.reason, caught.value.expected) == ("context_full", N_CTX)
    assert isinstance(caught.value.found, int) and caught.value.found > N_CTX
    assert (await ask(engine, SUM))[1].finish == "call"


async def test_the_server_is_free_for_the_next_after_one_was_left(engine: Engine, ask: Ask) -> None:
    endless = Request(messages=(Message(role="user", content="Hello!"),), max_tokens=900)
    with anyio.fail_after(60):
        async with aclosing(engine.generate(endless)) as pieces:
            await anext(pieces)
    assert (await ask(engine, SUM))[1].calls


MESH = """
[mesh]
name = "served"
[dialogue]
pattern = "orchestrator"
lead = "front"
[models.far]
path = "openai:{server}#nano"
api_key_env = "FAR_KEY"
timeout = 60
n_ctx = 1024
[agents.front]
model = "far"
role = "You pass each question on to the peer who can answer it."
peers = ["math"]
[agents.math]
model = "openai:{server}"
role = "You calculate."
about = "Calculates and converts units."
tools = ["calculator.evaluate"]
[servers.calculator]
builtin = "calculator"
"""


async def test_a_mesh_whose_models_are_elsewhere_is_recorded_and_verifies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", "sk-far-secret")
    (tmp_path / "mesh.toml").write_text(MESH.format(server=server))
    mesh = load_mesh(tmp_path)
    events: list[Event] = []
    with anyio.fail_after(240):
        ended = await run_dialogue(mesh, "What is 17 * 23?", listen=events.append)
    assert (ended.reason, ended.tool_calls) == ("done", 2)
    assert "391" in ended.answer
    assert [e.tool for e in events if isinstance(e, ToolCallAdded)] == ["ask_math", "evaluate"]
    assert {e.agent for e in events if isinstance(e, MessageAdded)} == {"host", "front", "math"}
    verify_ledger(mesh.log_place.ledger)
    with Ledger.open(mesh.log_place.ledger, read_only=True) as log:
        records: list[Record] = list(log.read(dialogue=ended.dialogue))
    made = [record for record in records if record.message.kind == "inference"]
    assert len(made) == 4 and {record.message.facts["model"] for record in made} == {"unknown"}
    assert b"sk-far-secret" not in b"".join(part.data or b"" for record in records for part in record.parts)
    assert b"sk-far-secret" not in Path(mesh.log_place.ledger).read_bytes()


async def test_a_mesh_whose_endpoint_is_gone_records_nothing(server: str, tmp_path: Path) -> None:
    gone = MESH.format(server=server).replace(f'model = "openai:{server}"', f'model = "openai:{server}#gone"')
    (tmp_path / "mesh.toml").write_text(gone.replace('api_key_env = "FAR_KEY"\n', ""))
    mesh = load_mesh(tmp_path)
    with pytest.raises(ModelError, match="has no model 'gone'"):
        await run_dialogue(mesh, "What is 17 * 23?", listen=lambda event: None)
    assert not Path(mesh.log_place.ledger).exists()


def test_the_command_line_runs_and_verifies_a_mesh_whose_model_is_elsewhere(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_KEY", "sk-far-secret")
    (tmp_path / "mesh.toml").write_text(MESH.format(server=server))
    assert main(["run", str(tmp_path), "What is 17 * 23?"]) == 0
    shown = capsys.readouterr()
    assert "391" in shown.out and "sk-far-secret" not in shown.out + shown.err
    assert main(["verify", str(tmp_path)]) == 0
    monkeypatch.delenv("FAR_KEY")
    assert main(["run", str(tmp_path), "What is 17 * 23?"]) != 0
    assert "FAR_KEY" in capsys.readouterr().err
