from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from agentmesh.cli.exits import code_after, code_for, explain, report
from agentmesh.errors import AgentMeshError, MeshFileError, Mistake, RunError, ToolboxError
from agentmesh_ledger import LedgerError
from agentmesh_models.errors import ModelError, ModelErrorReason
from agentmesh_servers.errors import ServersError

MISTAKE = Mistake(reason="missing", key="agents", line=3, text="is missing")

CASES: list[tuple[BaseException, int, str]] = [
    (MeshFileError(Path("mesh.toml"), (MISTAKE,)), 2, "mesh.toml:3: agents: is missing"),
    (
        MeshFileError(Path("mesh.toml"), (MISTAKE, MISTAKE)),
        2,
        "2 mistakes in the mesh file:\nmesh.toml:3: agents",
    ),
    (ToolboxError("not_started", "server x did not start", server="x"), 1, "did not start"),
    (ToolboxError("no_such_tool", "no tool y", server="x"), 2, "no tool y"),
    (RunError("failed", "it broke", hint="mend it"), 1, "it broke\nmend it"),
    (RunError("limit_turns", "used up"), 4, "used up"),
    (AgentMeshError("no_ledger", "nothing there"), 3, "nothing there"),
    (AgentMeshError("no_such_dialogue", "none"), 2, "none"),
    (LedgerError("not_found", "no file"), 3, "no file"),
    (LedgerError("unreadable", "no"), 3, "no"),
    (LedgerError("signature", "forged", index=4), 1, "NOT VERIFIED, check signature: entry 4: forged"),
    (LedgerError("failed", "disk full"), 1, "disk full"),
    (LedgerError("no_store", "x"), 2, "pip install 'agentmesh-runtime[store]'"),
    (LedgerError("no_store", "wants psycopg"), 2, "pip install 'agentmesh-runtime[store,postgres]'"),
    (LedgerError("origin", "several logs"), 2, "several logs"),
    (ServersError("missing_extra", "x", extra="mcp"), 2, "pip install 'agentmesh-runtime[mcp]'"),
    (ServersError("missing_extra", "x", extra="postgres"), 2, "pip install 'agentmesh-runtime[postgres]'"),
    (ModuleNotFoundError("No module named 'llama_cpp'", name="llama_cpp"), 2, "agentmesh-runtime[llama]"),
    (ModuleNotFoundError("No module named 'mcp.x'", name="mcp.x"), 2, "agentmesh-runtime[mcp]"),
    (PermissionError(13, "Permission denied", "/x/y"), 3, "/x/y: Permission denied"),
    (KeyboardInterrupt(), 130, "stopped"),
    (ValueError("odd"), 1, "unexpected ValueError: odd\nAGENTMESH_DEBUG=1"),
    (ModuleNotFoundError("No module named 'other'", name="other"), 1, "unexpected ModuleNotFoundError"),
]


@pytest.mark.parametrize(
    ("error", "code", "says"), CASES, ids=[f"{type(e).__name__}-{c}" for e, c, _ in CASES]
)
def test_every_error_has_its_exit_code_and_a_message(error: BaseException, code: int, says: str) -> None:
    assert code_for(error) == code
    assert says in explain(error)


MODEL_CODES: dict[str, int] = {
    **dict.fromkeys(
        ("not_found", "unsupported", "no_template", "template", "no_backend", "load_failed", "no_memory"), 2
    ),
    "bad_request": 2,
    **dict.fromkeys(("unreadable", "not_gguf", "truncated", "malformed", "script_file", "catalogue"), 3),
    **dict.fromkeys(("context_full", "closed", "decode_failed", "script", "queue_full", "deadline"), 1),
    **dict.fromkeys(("offline", "download", "mismatch", "no_space", "endpoint", "not_checkable"), 1),
    "cancelled": 130,
}


def test_every_reason_of_a_model_has_its_exit_code() -> None:
    reasons: tuple[ModelErrorReason, ...] = get_args(ModelErrorReason)
    assert set(MODEL_CODES) == set(reasons)
    for reason in reasons:
        error = ModelError(reason, f"it is {reason}")
        assert (code_for(error), explain(error)) == (MODEL_CODES[reason], f"it is {reason}")


def test_an_error_inside_task_groups_is_told_as_itself() -> None:
    inner = ToolboxError("no_such_tool", "no tool y", server="x")
    error = BaseExceptionGroup("outer", [ValueError("noise"), ExceptionGroup("inner", [inner])])
    assert code_for(error) == 2
    assert explain(error) == "no tool y"


def test_every_reason_a_dialogue_ends_with_has_its_exit_code() -> None:
    assert code_after("done") == 0
    assert code_after("failed") == 1
    assert code_after("limit_seconds") == 4
    assert code_after("limit_context") == 4
    assert code_after("cancelled") == 130


def test_a_report_has_no_traceback_unless_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(ValueError("odd")) == 1
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("AGENTMESH_DEBUG", "1")
    try:
        raise ValueError("odd")
    except ValueError as error:
        report(error)
    assert "Traceback" in capsys.readouterr().err


def test_a_message_from_afar_cannot_act_on_the_screen() -> None:
    assert explain(RunError("failed", "x\x1b[2J\u202ey")) == "xy"
