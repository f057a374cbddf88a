"""Verification by several processes: the same verdicts, no silent loss of one, no process left, no bomb."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import zipapp
from collections.abc import Callable
from pathlib import Path

import pytest

import agentmesh_ledger
from agentmesh_ledger import LedgerError, crew, verify_transcript

COUNT = 3000


@pytest.fixture(scope="module")
def long(forge_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transcript of enough entries that workers are started."""
    forge = forge_of().begin()
    for index in range(2, COUNT):
        forge.say((forge.ada, forge.ben)[index % 2], f"text {index}", f"d{index % 7}")
    path = tmp_path_factory.mktemp("crew") / "long.transcript.jsonl"
    path.write_bytes(forge.transcript())
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that a crew starts."""
    found: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*words: object, **options: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = real(*words, **options)  # type: ignore[call-overload]
        found.append(process)
        return process

    monkeypatch.setattr(crew.subprocess, "Popen", start)
    return found


@pytest.mark.spec("L-85")
def test_workers_come_to_the_same_evidence(long: Path, started: list[subprocess.Popen[bytes]]) -> None:
    alone = verify_transcript(long, jobs=1)
    assert started == []
    told: list[tuple[int, int]] = []
    assert verify_transcript(long, jobs=3, progress=lambda *each: told.append(each)) == alone
    assert len(started) == 3 and all(process.returncode == 0 for process in started)
    assert told[-1] == (COUNT, COUNT) and 2 <= len(told) <= 4


def test_large_chunks_are_not_all_under_way_at_once(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = verify_transcript(long, jobs=1)
    most: list[int] = []
    workers: set[crew._Worker] = set()
    real = crew._Worker.send

    def send(worker: crew._Worker, chunk: bytes) -> int:
        workers.add(worker)
        size = real(worker, chunk)
        most.append(sum(len(each._given) for each in workers))
        return size

    monkeypatch.setattr(crew._Worker, "send", send)
    assert verify_transcript(long, jobs=3) == alone and max(most) > 4
    most.clear()
    monkeypatch.setattr(crew, "_MAX_FLYING", 1)  # as where each line has 22 MB
    assert verify_transcript(long, jobs=3) == alone and max(most) == 2


def test_a_short_transcript_starts_none(forge, started: list[subprocess.Popen[bytes]]) -> None:
    assert verify_transcript(io.BytesIO(forge.begin().transcript()), jobs=4).entries == 2
    assert started == []


@pytest.mark.spec("L-83", "L-85")
def test_workers_come_to_the_same_failures(
    long: Path, reseal: Callable[[list[bytes]], bytes], started: list[subprocess.Popen[bytes]]
) -> None:
    lines = long.read_bytes().split(b"\n")[:-2]
    for number in (5, 2500, 2501, 2999):
        place = lines[number].index(b'"data":"') + 8
        lines[number] = lines[number][:place] + b"AAAA" + lines[number][place + 4 :]
    lines[2700] = b"{}"
    lines[2710], lines[2711] = lines[2711], lines[2710]
    verdicts = []
    for jobs in (1, 2):
        with pytest.raises(LedgerError) as caught:
            verify_transcript(io.BytesIO(reseal(lines)), jobs=jobs)
        each = (caught.value, *caught.value.others)
        verdicts.append([(one.reason, one.index, one.line, one.message) for one in each])
    assert verdicts[0] == verdicts[1]
    assert [one[0] for one in verdicts[0]][:4] == ["part", "part", "part", "line"]
    assert all(process.returncode is not None for process in started)


@pytest.mark.spec("L-85")
def test_a_worker_that_is_killed_is_an_error(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = crew._Worker.receive

    def killed(worker: crew._Worker) -> object:
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait(timeout=60)
        return real(worker)

    monkeypatch.setattr(crew._Worker, "receive", killed)
    monkeypatch.setattr(crew, "CHUNK_BYTES", 1)
    with pytest.raises(LedgerError) as caught:
        verify_transcript(long, jobs=2)
    assert caught.value.reason == "worker" and not caught.value.is_check


@pytest.mark.spec("L-85")
@pytest.mark.parametrize(
    "words", ["raise SystemExit", "import sys; sys.stdin.buffer.read(100)", "print('hello')"]
)
def test_a_worker_that_does_something_else_is_an_error(
    long: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_START", words)
    with pytest.raises(LedgerError) as caught:
        verify_transcript(long, jobs=2)
    assert caught.value.reason == "worker"


def test_no_process_is_left_when_a_caller_stops(long: Path, started: list[subprocess.Popen[bytes]]) -> None:
    def stop(done: int, total: int) -> None:
        if done > 2200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_transcript(long, jobs=2, progress=stop)
    assert len(started) == 2 and all(process.returncode is not None for process in started)


def run(words: list[str], **more: str) -> subprocess.CompletedProcess[str]:
    home = Path(agentmesh_ledger.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(home), **more}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120, env=env)


SCRIPT = """\
print("once")
from agentmesh_ledger import verify_transcript
print(verify_transcript({path!r}, jobs=2).entries)
"""


def test_a_script_without_a_guard_runs_once(long: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=str(long)))
    done = run([str(script)])
    assert (done.stdout, done.stderr) == (f"once\n{COUNT}\n", "")


def test_the_module_and_a_zipapp_of_it_verify_with_workers(long: Path, tmp_path: Path) -> None:
    done = run(["-m", "agentmesh_ledger", str(long)])
    assert done.returncode == 0 and f"{COUNT} entries" in done.stdout
    source = tmp_path / "app"
    package = Path(agentmesh_ledger.__file__).parent
    for path in package.rglob("*.py"):
        copy = source / "agentmesh_ledger" / path.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (source / "__main__.py").write_text("import agentmesh_ledger\n" + SCRIPT.format(path=str(long)))
    zipapp.create_archive(source, tmp_path / "app.pyz")
    done = run([str(tmp_path / "app.pyz")], PYTHONPATH="")
    assert (done.stdout, done.stderr) == (f"once\n{COUNT}\n", "")
