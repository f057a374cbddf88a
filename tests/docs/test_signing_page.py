"""What docs/signing.md shows runs, and its table is the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from agentmesh.serving import signing
from agentmesh.serving.signing import CODES
from agentmesh.serving.signing.known import MAX_PINS
from agentmesh.serving.signing.policy import MAX_AGE, Mode
from agentmesh_ledger.log import Ledger
from agentmesh_servers.face import logging_left_alone


@pytest.fixture
def page(root: Path) -> str:
    return (root / "docs" / "signing.md").read_text()


def test_the_example_runs_and_leaves_what_the_page_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    with logging_left_alone():
        exec(compile(code, "signing.md", "exec"), names)
    assert names["answer"] == re.search(r"`answer` is `(.*?)`", page)[1]  # type: ignore[index]
    exchanges = set()
    for folder, kinds in (("here", ["sent", "received"]), ("there", ["received", "sent"])):
        with Ledger.open(tmp_path / folder / "ledger.db", read_only=True) as ledger:
            ledger.verify()
            found = [each.message for each in ledger.read() if "exchange" in each.message.facts]
        assert [each.kind for each in found] == kinds
        exchanges |= {each.facts["exchange"] for each in found}
    assert len(exchanges) == 1


def test_the_tables_and_figures_are_those_of_the_code(page: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (-\d+) \|", page, re.MULTILINE)
    assert {reason: int(code) for reason, code in rows} == CODES
    modes = re.findall(r"^\| `(\w+)` \| [a-z]", page, re.MULTILINE)
    assert tuple(modes) == get_args(Mode)
    assert f"At most {MAX_PINS:,} names" in page and f"more than {MAX_AGE:.0f} seconds" in page
    assert f"within {signing.LAG * 1000:.0f} milliseconds (`Signing.lag`)" in page
    for name in signing.__all__:
        if name not in ("CODES", "KEY", "LAG", "Mode", "SigningError", "SigningReason", "Exchange"):
            assert name in page, name
