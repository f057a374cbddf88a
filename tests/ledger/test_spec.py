"""SPEC.md and the tests hold one another: every MUST has an id, every id a test, every marker an id."""

from __future__ import annotations

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "ledger" / "SPEC.md"


def stated() -> list[str]:
    return re.findall(r"^- \*\*(L-\d{2,3})\*\* ", SPEC.read_text(), flags=re.MULTILINE)


def proved() -> set[str]:
    found: set[str] = set()
    for path in HERE.parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                found |= {each.value for each in node.args if isinstance(each, ast.Constant)}
    return found


def test_every_id_of_the_spec_is_stated_once_and_proved_by_a_test() -> None:
    assert len(stated()) == len(set(stated())) > 40
    assert sorted(set(stated()) - proved()) == []


def test_every_marker_names_an_id_of_the_spec() -> None:
    assert sorted(proved() - set(stated())) == []


def test_every_must_stands_under_an_id() -> None:
    under_id = False
    for line in SPEC.read_text().splitlines():
        if line.startswith("- **L-"):
            under_id = True
        elif not line.startswith("  "):
            under_id = False
        if (
            re.search(r"\bMUST\b", line)
            and "are those of RFC 2119" not in line
            and "Every MUST has" not in line
        ):
            assert under_id, line


def test_the_code_speaks_only_of_ids_that_exist() -> None:
    for path in (SPEC.parent / "agentmesh_ledger").rglob("*.py"):
        for identifier in re.findall(r"L-\d{2,3}", path.read_text()):
            assert identifier in stated(), (path.name, identifier)
