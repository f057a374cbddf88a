"""examples/bring-your-own is documented, not run: its mesh file is sound, and without a model it says what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh


@pytest.fixture
def example(root: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(root / "examples" / "bring-your-own", tmp_path / "own"))


def test_the_mesh_loads_once_a_model_stands_where_it_says(example: Path) -> None:
    (example / "model.gguf").write_bytes(b"GGUF")
    mesh = load_mesh(example)
    model = mesh.model_spec("librarian")
    assert (model.path, model.n_ctx) == ("model.gguf", 8192)
    assert mesh.servers["files"].command is not None


def test_without_a_model_the_missing_file_is_named_with_its_line(example: Path) -> None:
    with pytest.raises(
        MeshFileError, match=r"mesh\.toml:\d+: models\.large\.path: no such file: .*model\.gguf"
    ):
        load_mesh(example)
