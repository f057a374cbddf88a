"""The mutation matrix, a small part of it; `python benchmarks/tamper.py` runs all."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from agentmesh_ledger import LedgerError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("tamper")


def run(tamper: ModuleType, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict, str]:
    status = tamper.main(["--jobs", "1", "--json", *options])
    printed = capsys.readouterr().out
    return status, json.loads(printed.splitlines()[-1]), printed


@pytest.mark.spec("L-70", "L-73", "L-82", "L-91")
def test_every_one_of_five_hundred_mutations_of_a_transcript_and_a_hundred_of_a_file_is_detected(
    tamper: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found, printed = run(tamper, capsys, "--mutations", "500", "--databases", "100", "--seed", "7")
    assert status == 0, printed
    assert (found["transcripts"]["detected"], found["transcripts"]["percent"]) == (500, 100.0)
    assert (
        found["files"]["detected"] + found["files"]["without_meaning"]
        == 100
        > 40 + found["files"]["without_meaning"]
    )
    assert found["silent"] == []


def test_what_is_accepted_is_printed_with_its_number_and_fails_the_run(
    tamper: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse = tamper.verify_transcript

    def forgiving(source, **options):  # a verifier that overlooks one check
        try:
            return refuse(source, **options)
        except LedgerError as error:
            if error.reason == "canonical":
                return "fine"
            raise

    monkeypatch.setattr(tamper, "verify_transcript", forgiving)
    status, found, printed = run(tamper, capsys, "--mutations", "30", "--databases", "0")
    missed = found["transcripts"]["missed"]
    assert status == 1 and missed and found["transcripts"]["percent"] < 100
    assert f"MISSED number {missed[0]['number']}, " in printed
    assert tamper.main(["--only", str(missed[0]["number"])]) == 1
    assert "MISSED: accepted: fine" in capsys.readouterr().out


def test_an_exception_that_is_no_ledger_error_is_missed_too(tamper: ModuleType) -> None:
    def fails() -> object:
        raise KeyError("x")

    def faults() -> object:
        raise LedgerError("unreadable", "the file cannot be read")

    assert tamper.verdict(fails) == (None, "KeyError: 'x'")
    assert tamper.verdict(faults)[0] is None
