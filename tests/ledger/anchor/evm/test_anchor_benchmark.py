"""`benchmarks/anchor.py` keeps its bounds of gas, which no machine changes, and its offline check is one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import pytest
from nacl.signing import SigningKey

from agentmesh_ledger.note import VerifierKey


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("anchor")


def test_gas_is_within_bounds_and_the_same_for_ten_messages_and_for_a_thousand(
    bench: ModuleType, anvil: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    with anvil("--no-mining") as url:
        node = bench.Node(url)
        address = node.deploy()
        figures = bench.gas_figures(node, address)
        ten = bench.publish(tmp_path / "ten", node, address, 10, 1, print)
        many = bench.publish(tmp_path / "many", node, address, 1000, 2, print)
    assert [each.name for each in figures if each.kept] == ["gas_event_only", "gas_monotonic"]
    assert ten.size == 10 and many.size >= 1000
    # A byte that is not zero costs 12 more than one that is, and nothing else differs: 32 of the root, 2 of the size.
    assert abs(many.gas - ten.gas) <= 12 * 34
    # The node is gone by now.
    offline = bench.offline_figure([ten, many])
    assert (offline.value, offline.kept) == (0, True), offline.said
    # A transcript that does not verify gives no figure.
    data = ten.transcript.read_bytes()
    ten.transcript.write_bytes(data.replace(b'"index":0', b'"index":1', 1))
    assert data != ten.transcript.read_bytes()
    assert bench.offline_figure([ten, many]).value is None


def test_what_is_offline_reaches_nobody_and_says_that_it_tried(bench: ModuleType) -> None:
    vkey = str(VerifierKey(name="agentmesh.local/away", public=bytes(SigningKey.generate().verify_key)))
    done = subprocess.run(
        [sys.executable, "-c", bench._ALONE, "tiles", "http://127.0.0.1:9/", "--key", vkey],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["status"] != 0 and told["tried"]
