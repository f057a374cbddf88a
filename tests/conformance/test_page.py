"""docs/conformance.md says of `agentmesh serve` what the files of expected failures say, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

EXPECTED = Path(__file__).resolve().parent / "expected"


@pytest.mark.parametrize("file", sorted(EXPECTED.glob("*.yml")), ids=lambda file: file.stem)
def test_every_expected_failure_has_its_reason_on_its_line(file: Path) -> None:
    text = file.read_text()
    (entries,) = yaml.safe_load(text).values()
    assert re.findall(r"^  - (\S+)  # \S.*$", text, re.MULTILINE) == entries
    assert entries == [] or file.stem.startswith("serve-"), "what is ours to pass passes"


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
def test_the_page_lists_what_does_not_apply(era: str, root: Path) -> None:
    page = (root / "docs" / "conformance.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (both|[0-9-]+) \| (wants .*|protocol .*) \|$", page, re.MULTILINE)
    listed = [(name, reason) for name, eras, reason in rows if eras in ("both", era)]
    written = (EXPECTED / f"serve-{era}.yml").read_text()
    assert sorted(listed) == sorted(re.findall(r"^  - (\S+)  # (.*)$", written, re.MULTILINE))


def test_the_page_and_ci_name_the_same_versions(root: Path) -> None:
    pinned = re.compile(r"(?:node|@modelcontextprotocol/[a-z-]+)@[0-9][\w.-]*")
    page = (root / "docs" / "conformance.md").read_text()
    assert set(pinned.findall(page)) == set(pinned.findall((root / ".ci" / "run").read_text()))
