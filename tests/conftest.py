"""What all tests share: where the vectors are, and that CI skips nothing it should have installed."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
# The vectors are other people's data and lie outside the repository; a clone elsewhere has none. CI may run as root,
# whom no file mode stops. torch is in no extra: only who trains nano needs its half a gigabyte.
_MAY_SKIP_IN_CI = ("vectors", "root may", "trains nano")
# How long an example takes says more about the machine than about the code.
settings.register_profile("agentmesh", deadline=None)
settings.load_profile("agentmesh")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One model thread a test: the machine is shared, and llama.cpp spins."""
    monkeypatch.setenv("AGENTMESH_THREADS", "1")
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip for something that `.ci/run` installs is a failure."""
    report = yield
    _hold_to_account(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself while it is collected."""
    report = yield
    _hold_to_account(report)
    return report


def _hold_to_account(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (report.skipped and os.environ.get("AGENTMESH_CI")) or hasattr(report, "wasxfail"):
        return
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if not any(word in reason for word in _MAY_SKIP_IN_CI):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {reason}"
