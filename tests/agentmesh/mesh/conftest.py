"""What the tests of the mesh file share: a folder with a model in it, and a file that is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentmesh.errors import MeshFileError
from agentmesh.mesh import load_mesh


@pytest.fixture(autouse=True)
def _own_models(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees or changes the models of whoever runs it."""
    monkeypatch.setenv("AGENTMESH_MODELS", str(tmp_path_factory.mktemp("models")))
    monkeypatch.setenv("AGENTMESH_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qwen.gguf").write_bytes(b"GGUF")
    (tmp_path / "texts").mkdir()
    return tmp_path


@pytest.fixture
def refused(folder: Path) -> Callable[[str], MeshFileError]:
    """Loads a mesh file of that text, which must be refused, and says how."""

    def load(text: str) -> MeshFileError:
        path = folder / "mesh.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(MeshFileError) as caught:
            load_mesh(path)
        return caught.value

    return load
