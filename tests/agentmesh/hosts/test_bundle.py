"""An .mcpb bundle: no secret in it, valid for the real tool, and what it starts answers."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import anyio
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client

from agentmesh.errors import AgentMeshError
from agentmesh.hosts.bundle import Bundle, mesh_bundle, server_bundle
from agentmesh.mesh import load_mesh

MESH = """\
[mesh]
name = "desk"

[serve]
agents = ["front"]

[agents.front]
model = "nano"
role = "You calculate."
tools = ["calculator"]

[agents.back]
model = "nano"
role = "You wait."

[servers.calculator]
builtin = "calculator"
"""


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    folder = tmp_path / "my desk"
    folder.mkdir()
    (folder / "mesh.toml").write_text(MESH)
    (folder / "notes").mkdir()
    (folder / "notes" / "é.md").write_text("# É\n")
    return folder


def unpacked(bundle: Bundle, folder: Path) -> Path:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        archive.extractall(folder)
    return folder


def names(bundle: Bundle) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        return set(archive.namelist())


def test_the_manifest_says_what_a_host_needs(mesh: Path, tmp_path: Path) -> None:
    bundle = mesh_bundle(load_mesh(mesh), version="1.2.3", author="Zoë")
    folder = unpacked(bundle, tmp_path / "b")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["manifest_version"], manifest["name"], manifest["version"]) == ("0.4", "desk", "1.2.3")
    assert manifest["author"] == {"name": "Zoë"}
    assert manifest["server"]["type"] == "uv" and (folder / manifest["server"]["entry_point"]).is_file()
    assert manifest["server"]["mcp_config"]["env"] == {"AGENTMESH_BUNDLE_FOLDER": "${user_config.folder}"}
    assert [tool["name"] for tool in manifest["tools"]] == ["ask_front"]
    assert manifest["user_config"]["folder"]["default"] == "${HOME}/agentmesh/desk"
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    wanted = " ".join(project["project"]["dependencies"])
    assert project["tool"]["uv"] == {"package": False}
    assert "llama-cpp-python" in wanted and "sqlalchemy" in wanted and "pynacl" in wanted
    assert "openai" not in wanted and "pytest" not in wanted and "agentmesh" not in wanted


def test_the_same_mesh_gives_the_same_bundle(mesh: Path) -> None:
    first = mesh_bundle(load_mesh(mesh), version="1")
    assert mesh_bundle(load_mesh(mesh), version="1").data == first.data
    assert first.digest == hashlib.sha256(first.data).hexdigest()


def test_no_record_and_no_secret_is_ever_in_a_bundle(mesh: Path, tmp_path: Path) -> None:
    (mesh / "mesh.toml").write_text(
        MESH.replace('name = "desk"', 'name = "desk"\nledger = "records/book.db"')
    )
    secrets = (
        "records/keys/front.key",
        "records/book.db",
        "records/book.db-wal",
        ".agentmesh/keys/a",
        ".env",
        ".git/c",
    )
    for name in secrets:
        (mesh / name).parent.mkdir(parents=True, exist_ok=True)
        (mesh / name).write_text("SECRET")
    (tmp_path / "outside.txt").write_text("SECRET")
    (mesh / "link.txt").symlink_to(tmp_path / "outside.txt")
    (mesh / "folder-link").symlink_to(tmp_path)
    bundle = mesh_bundle(load_mesh(mesh), version="1")
    inside = {name for name in names(bundle) if not name.startswith("src/")}
    assert inside == {"manifest.json", "pyproject.toml", "mesh/mesh.toml", "mesh/notes/é.md"}
    assert bundle.notes == ("link.txt: a link that leads out of the mesh's folder is left out",)


def test_a_model_outside_of_the_folder_is_refused(mesh: Path, tmp_path: Path) -> None:
    (tmp_path / "big.gguf").write_bytes(b"GGUF")
    (mesh / "mesh.toml").write_text(MESH.replace('model = "nano"', 'model = "../big.gguf"'))
    with pytest.raises(AgentMeshError, match="lies outside of the mesh's folder"):
        mesh_bundle(load_mesh(mesh), version="1")


def test_a_path_that_is_given_is_not_asked_for(tmp_path: Path) -> None:
    for options, asked in (({}, ["folder"]), ({"folder": str(tmp_path)}, [])):
        folder = unpacked(server_bundle("notes", options, version="1"), tmp_path / f"b{len(options)}")
        manifest = json.loads((folder / "manifest.json").read_text())
        given = "${user_config.folder}" if asked else str(tmp_path)
        assert manifest["server"]["mcp_config"]["args"][4:] == ["notes", "--folder", given]
        assert list(manifest.get("user_config", {})) == asked


def test_a_server_that_is_not_there_is_refused() -> None:
    with pytest.raises(AgentMeshError, match="no server is called 'calc'"):
        server_bundle("calc", version="1")


def test_the_real_tool_finds_both_kinds_valid_and_packs_them(mesh: Path, tmp_path: Path) -> None:
    tool = Path(
        os.environ.get("AGENTMESH_NPM", "-"), "node_modules", "@anthropic-ai", "mcpb", "dist", "cli", "cli.js"
    )
    if not tool.is_file() or not shutil.which("node"):
        pytest.skip("AGENTMESH_NPM names no folder with @anthropic-ai/mcpb, or node is missing")
    bundles = {
        "desk": mesh_bundle(load_mesh(mesh), version="1.0.0"),
        "notes": server_bundle("notes", version="1.0.0"),
        "clock": server_bundle("clock", version="1.0.0"),
    }
    for name, bundle in bundles.items():
        file = tmp_path / f"{name}.mcpb"
        file.write_bytes(bundle.data)
        for words in (
            ["validate", str(unpacked(bundle, tmp_path / name) / "manifest.json")],
            ["info", str(file)],
        ):
            done = subprocess.run(["node", str(tool), *words], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, (name, words, done.stdout, done.stderr)
        packed = subprocess.run(
            ["node", str(tool), "pack", str(tmp_path / name), str(tmp_path / f"{name}-again.mcpb")],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert packed.returncode == 0, (name, packed.stdout, packed.stderr)


@pytest.mark.anyio
async def test_what_a_servers_bundle_starts_answers(tmp_path: Path) -> None:
    folder = unpacked(server_bundle("notes", version="1"), tmp_path / "b")
    notes = tmp_path / "my notes"
    notes.mkdir()
    (notes / "tea.md").write_text("# Tea\n\nGreen tea is in the tin.\n")
    server = json.loads((folder / "manifest.json").read_text())["server"]
    args = [each.replace("${user_config.folder}", str(notes)) for each in server["mcp_config"]["args"]]
    started = StdioServerParameters(
        command=sys.executable, args=[str(folder / args[3]), *args[4:]], cwd=str(tmp_path)
    )
    with anyio.fail_after(60):
        async with Client(started) as client:
            found = await client.call_tool("read_note", {"title": "Tea"})
    assert "Green tea is in the tin." in str(found.content)


@pytest.mark.anyio
async def test_what_a_meshs_bundle_starts_runs_its_own_code_in_the_persons_folder(
    mesh: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="needs the extra 'llama'")
    bundle = unpacked(mesh_bundle(load_mesh(mesh), version="1"), tmp_path / "b")
    # That it is the bundle's code that runs, and not the one that is installed, shows in a word of it.
    code = bundle / "src" / "agentmesh" / "cli" / "serve.py"
    code.write_text(code.read_text() + "\nprint('the bundle runs', file=sys.stderr)\n")
    person = tmp_path / "person's folder"
    (person / "notes").mkdir(parents=True)
    (person / "notes" / "é.md").write_text("# Mine\n")
    env = {"AGENTMESH_BUNDLE_FOLDER": str(person), "AGENTMESH_THREADS": "1", "HOME": str(tmp_path)}
    server = str(bundle / "src" / "server.py")
    started = StdioServerParameters(
        command=sys.executable, args=[server, "mesh.toml"], env=env, cwd=str(tmp_path)
    )
    told = tmp_path / "told"
    with anyio.fail_after(120), told.open("w") as errors:
        async with Client(stdio_client(started, errlog=errors)) as client:
            answer = await client.call_tool("ask_front", {"question": "What is 17 * 23?"})
    assert "391" in str(answer.content)
    assert "the bundle runs" in told.read_text()
    assert (person / "mesh.toml").read_text() == MESH and (person / ".agentmesh" / "ledger.db").is_file()
    assert (person / "notes" / "é.md").read_text() == "# Mine\n"  # what is the person's stays
    assert not (bundle / "mesh" / ".agentmesh").exists()
