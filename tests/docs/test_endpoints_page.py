"""What docs/endpoints.md claims is so: its mesh loads, its figures are the code's, its names are known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from agentmesh.mesh import ModelSpec, load_mesh
from agentmesh_models import Sampling
from agentmesh_models.endpoint import connection, parse_address
from agentmesh_models.endpoint.asking import OPTIONAL, seed_sent
from agentmesh_models.endpoint.engine import DEFAULT_TIMEOUT, UNKNOWN, EndpointProfile
from agentmesh_models.errors import ModelErrorReason
from agentmesh_models.inspection import DEFAULT_N_CTX


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "endpoints.md").read_text()


def test_the_mesh_shown_loads(page: str, tmp_path: Path) -> None:
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "mesh.toml").write_text(found[1])
    mesh = load_mesh(tmp_path)
    assert mesh.model_spec("front") == ModelSpec(
        path="openai:https://gpu.example/v1#qwen3-32b", api_key_env="BIG_KEY", timeout=300, n_ctx=32768
    )
    assert mesh.model_spec("math").path == "nano"


def test_every_address_on_the_page_is_one(page: str) -> None:
    addresses = [each for each in re.findall(r"openai:http[^`\"\s]+", page)]
    assert len(addresses) >= 7
    models = {parse_address(each).model for each in addresses}
    assert models == {None, "qwen3-32b", "llama3.2:3b", "MODEL"}


def test_the_figures_are_the_codes_own(page: str) -> None:
    figures = {
        f"default {DEFAULT_TIMEOUT:g}",
        f"{DEFAULT_N_CTX} tokens",
        f"up to {connection.LONGEST_PAUSE:g} seconds",
        f"{connection.MOST_BYTES >> 20} MiB at most",
        f"its lower {seed_sent(Sampling(seed=(1 << 64) - 1)).bit_length()} bits",
        f"the word\n`{UNKNOWN}`",
    }
    assert [each for each in figures if each not in page] == []
    assert len(connection.PAUSES) + 1 == 3 and "Three attempts" in page
    statuses = re.search(r"the statuses ([\d, and]+), all", page)
    assert statuses is not None
    assert {int(each) for each in re.findall(r"\d+", statuses[1])} == connection.AGAIN


def test_the_names_are_known(page: str) -> None:
    assert all(f"`{option}`" in page for option in OPTIONAL)
    fields = EndpointProfile.__dataclass_fields__
    assert {"counts_told", "left_out"} <= set(re.findall(r"`(\w+)`", page)) & set(fields)
    reasons = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert len(reasons) == 4 and set(reasons) <= set(get_args(ModelErrorReason))
