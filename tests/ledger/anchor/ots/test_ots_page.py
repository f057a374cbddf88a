"""What docs/opentimestamps.md claims is so."""

from __future__ import annotations

import hashlib
import re

import pytest
from opentimestamps.core.op import Op
from opentimestamps.core.serialize import BytesDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile

from agentmesh.cli.exits import DONE, FAILED, LIMIT
from agentmesh_ledger.anchor import calendar as calendars
from agentmesh_ledger.anchor import otsfile
from agentmesh_ledger.anchor.stamping import stamp
from agentmesh_ledger.anchor.stamps import stamps


@pytest.fixture
def page(root) -> str:
    return (root / "docs" / "opentimestamps.md").read_text()


def test_the_code_on_the_page_leaves_a_file_and_its_proof(
    page, spoken, keys, calendar, tmp_path, monkeypatch
) -> None:
    stamp(spoken, keys.agent("host"), [calendar.url])
    evidence = stamps(spoken)[-1].evidence
    spoken.close()
    assert spoken.path == tmp_path / "ledger.db"
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "opentimestamps.md", "exec"), {})
    file = DetachedTimestampFile.deserialize(
        BytesDeserializationContext((tmp_path / "checkpoint.ots").read_bytes())
    )
    text = (tmp_path / "checkpoint").read_bytes()
    assert file.file_digest == hashlib.sha256(text).digest() and text.count(b"\n") == 3
    assert all(f'"{name}"' in page for name in evidence)


def test_the_figures_are_those_of_the_code(page) -> None:
    assert f"answers are read up to {calendars.MAX_ANSWER:,} bytes" in page
    assert f"at most {otsfile.MAX_PROOF:,} bytes and {otsfile.MAX_STEPS:,} steps" in page
    codes = [int(each) for each in re.findall(r"^\| (\d) \| ", page, re.MULTILINE)]
    assert codes == [DONE, LIMIT, FAILED]


def test_the_operations_left_out_are_all_that_the_library_has_beyond_those_read(page) -> None:
    names = {each.TAG_NAME for tag, each in Op.SUBCLS_BY_TAG.items() if tag not in otsfile._TAGS}
    (listed,) = re.findall(r"the operations (.*?):", page)
    assert set(re.split(", | and ", listed)) == names
