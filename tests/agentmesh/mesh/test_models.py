"""The models that a mesh file names, and how each is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import ModelSpec, load_mesh
from agentmesh_models.catalogue import nano_path
from agentmesh_models.memory import PARALLEL
from agentmesh_models.store.local import Store

Refused = Callable[[str], MeshFileError]

MESH = """\
[mesh]
name = "desk"

[models.small]
path = "qwen.gguf"
n_ctx = 4096

[agents.front]
model = "nano"
role = "You pass each question on."

[agents.math]
model = "small"
role = "You calculate."
"""


def test_how_a_model_is_run_is_the_files(folder: Path) -> None:
    (folder / "mesh.toml").write_text(MESH.replace("n_ctx = 4096", "exact = false\nparallel = 4"))
    spec = load_mesh(folder).model_spec("math")
    assert (spec.exact, spec.parallel) == (False, 4)
    usual = load_mesh(folder).model_spec("front")
    assert (usual.exact, usual.parallel) == (True, PARALLEL)


@pytest.mark.parametrize("path", ["openai:http://127.0.0.1:1/v1#m", "scripted:steps.json"])
@pytest.mark.parametrize("key", ["threads = 2", "gpu_layers = 1", "exact = true", "parallel = 2"])
def test_what_only_a_model_file_has_is_refused_elsewhere(
    folder: Path, path: str, key: str, refused: Refused
) -> None:
    (folder / "steps.json").write_text("[]")
    error = refused(MESH.replace('"qwen.gguf"', f'"{path}"').replace("n_ctx = 4096", key))
    (mistake,) = error.mistakes
    assert (mistake.reason, mistake.key) == ("unused_key", f"models.small.{key.partition(' ')[0]}")
    assert mistake.text == "has a meaning for a model file only"


@pytest.mark.parametrize("path", ["qwen.gguf", "scripted:steps.json"])
@pytest.mark.parametrize("key", ['api_key_env = "KEY"', "timeout = 5"])
def test_what_only_an_endpoint_has_is_refused_elsewhere(
    folder: Path, path: str, key: str, refused: Refused
) -> None:
    (folder / "steps.json").write_text("[]")
    error = refused(MESH.replace('"qwen.gguf"', f'"{path}"').replace("n_ctx = 4096", key))
    assert [each.text for each in error.mistakes] == ["has a meaning for an endpoint (openai:...) only"]


def test_a_stored_model_whose_name_is_nearly_one_under_models_is_that_model(folder: Path) -> None:
    Store().add(nano_path(), "smal")
    (folder / "mesh.toml").write_text(MESH.replace('"small"', '"smal"'))
    assert load_mesh(folder).model_spec("math").path == "smal"


def test_no_message_on_a_name_tells_of_folders(folder: Path, refused: Refused) -> None:
    error = refused(MESH.replace('"small"', '"gpt-7"'))
    assert all(str(folder) not in mistake.text for mistake in error.mistakes)
    named = refused(MESH.replace('"small"', '"models/gpt-7"'))
    assert [each.text for each in named.mistakes if str(folder / "models" / "gpt-7") in each.text]


def test_a_scripted_model_is_a_model(folder: Path) -> None:
    (folder / "steps.json").write_text("[]")
    (folder / "mesh.toml").write_text(MESH.replace('model = "nano"', 'model = "scripted:steps.json"'))
    assert load_mesh(folder).model_spec("front").path == "scripted:steps.json"


def test_a_mesh_says_how_much_memory_and_which_endpoint(folder: Path) -> None:
    (folder / "mesh.toml").write_text(
        '[mesh]\nname = "d"\nmemory = "1.5 GiB"\n'
        '[models.big]\npath = "openai:https://gpu.example/v1#qwen3-32b"\napi_key_env = "BIG_KEY"\ntimeout = 30\n'
        '[agents.a]\nmodel = "big"\nrole = "You."\n'
        '[agents.b]\nmodel = "openai:http://127.0.0.1:8080/v1"\nrole = "You."\n'
    )
    mesh = load_mesh(folder)
    assert mesh.memory == 3 << 29
    assert mesh.model_spec("a") == ModelSpec(
        path="openai:https://gpu.example/v1#qwen3-32b", api_key_env="BIG_KEY", timeout=30.0
    )
    assert mesh.model_spec("b") == ModelSpec(path="openai:http://127.0.0.1:8080/v1")
