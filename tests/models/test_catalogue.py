"""Names and paths of models: what opens, and what people are told when nothing does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh_models import ModelError, list_models, open_model


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the models of whoever runs it."""
    monkeypatch.setenv("AGENTMESH_MODELS", str(tmp_path / "stored"))


def test_the_models_that_come_along_are_listed() -> None:
    nano, scripted = list_models()
    assert (nano.name, nano.tool_format) == ("nano", "hermes")
    assert nano.path is not None and nano.path.is_file()
    assert nano.n_ctx >= 1024 and len(nano.digest) == len(nano.template_digest) == 64
    assert (scripted.name, scripted.path) == ("scripted", None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nanoo", "did you mean 'nano'"),
        ("models/llamma.gguf", "models/llamma.gguf: no such model; use nano, the path of a .gguf file"),
        ("llamma", "^no model 'llamma'; use nano, a name from `agentmesh models list --all`"),
        ("scriptd", "did you mean 'scripted:steps.json'"),
        ("my", "^no model 'my'; did you mean 'my.gguf'"),
        ("hf:owner/repo/file.gguf", "agentmesh models pull hf:owner/repo/file.gguf"),
        ("qwen3-06b", "did you mean 'qwen3-0.6b'"),
        ("my.ggu", "did you mean 'my.gguf'"),
    ],
)
def test_an_unknown_model_gets_a_suggestion(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "my.gguf").write_bytes(b"")
    with pytest.raises(ModelError, match=message) as caught:
        open_model(spec, base=tmp_path)
    assert caught.value.reason == "not_found"


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"name a \.gguf file in it"):
        open_model(".", base=tmp_path)


def test_damage_is_told_before_llama_cpp_is_asked(tmp_path: Path, make_gguf: Callable[..., Path]) -> None:
    path = make_gguf()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match="the file ends inside") as caught:
        open_model(path.name, base=tmp_path)
    assert (caught.value.reason, caught.value.path) == ("truncated", path)
    path.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="not a GGUF file"):
        open_model(str(path))


def test_a_model_without_a_chat_template_is_told_so(make_gguf: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.chat_template") as caught:
        open_model(str(make_gguf(template=None)))
    assert caught.value.reason == "no_template"


def test_one_part_of_a_split_model_is_told_how_to_join_them(make_gguf: Callable[..., Path]) -> None:
    path = make_gguf()
    whole = path.read_bytes()
    old, new = b"\x09\0\0\0\0\0\0\0some.flag\x07\0\0\0\x01", b"\x0b\0\0\0\0\0\0\0split.count\x02\0\0\0\x03\0"
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old, new) + bytes(64))
    with pytest.raises(ModelError, match="one of 3 parts") as caught:
        open_model(str(path))
    assert caught.value.reason == "unsupported"


def test_a_context_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="n_ctx must be at least 1"):
        open_model("nano", n_ctx=0)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def test_importing_the_package_brings_in_neither_llama_cpp_nor_jinja2() -> None:
    heavy = "('llama_cpp', 'jinja2', 'numpy', 'anyio', 'huggingface_hub', 'urllib.request', 'ssl')"
    code = "import sys, agentmesh_models; agentmesh_models.list_models(); "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"


def test_without_llama_cpp_the_message_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['llama_cpp'] = None\n"
        "import agentmesh_models as m\n"
        "try: m.open_model('nano')\n"
        "except m.ModelError as e: print(e.reason, e)\n"
    )
    assert run(code).startswith("no_backend") and "pip install 'agentmesh-runtime[llama]'" in run(code)


@pytest.mark.parametrize("layers", [0, 513, 4_000_000_000])
def test_a_number_of_layers_that_llama_cpp_would_end_the_process_over_is_refused(
    make_gguf: Callable[..., Path], layers: int
) -> None:
    with pytest.raises(ModelError, match=f"block_count is {layers}") as caught:
        open_model(str(make_gguf(layers=layers)))
    assert caught.value.reason == "malformed"
