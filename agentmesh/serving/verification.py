"""What a verification found, as a host is told it: intact and complete are two verdicts, apart."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from agentmesh.view.evidence import evidence_text
from agentmesh_ledger import LedgerError, Verified

_UNKNOWN: Final = "nothing can be said while it is not intact"


class Failure(BaseModel):
    """One check that failed."""

    model_config = ConfigDict(title="Failure")

    check: str = Field(description="Which check")
    message: str = Field(description="What it found")
    index: int | None = Field(default=None, description="The entry's place in the log")


class Signer(BaseModel):
    """Who signed entries."""

    model_config = ConfigDict(title="Signer")

    id: str = Field(description="did:key")
    name: str = Field(description="Its own name for itself")
    entries: int


class Evidence(BaseModel):
    """What the record shows, and what it does not."""

    model_config = ConfigDict(title="Evidence")

    what: str = Field(description="What was verified")
    intact: bool = Field(
        description="Every entry shown is as signed, in its place, and in the tree of the signed checkpoint"
    )
    complete: str = Field(
        description="In words: whether anything could be missing; another matter than intact"
    )
    origin: str = Field(default="", description="The log's name")
    entries: int = Field(default=0, description="How many entries were verified")
    tree_size: int = Field(default=0, description="How many entries the log has")
    root: str = Field(default="", description="The tree's root, in hex")
    log_keys: list[str] = Field(default_factory=list, description="The log's keys; its own word, not pinned")
    signers: list[Signer] = Field(default_factory=list)
    withheld: int = Field(default=0, description="Parts whose content is not there")
    erased: int = Field(default=0, description="Parts erased, by tombstones that are shown")
    not_shown: list[str] = Field(default_factory=list, description="What must not be concluded")
    failures: list[Failure] = Field(default_factory=list, description="Where it is not intact: what failed")


def shown_evidence(found: Verified, what: str) -> tuple[Evidence, str]:
    """The evidence of a record that holds, for programs and for people."""
    evidence = Evidence(
        what=what,
        intact=True,
        complete=found.complete,
        origin=found.origin,
        entries=found.entries,
        tree_size=found.tree_size,
        root=found.root,
        log_keys=list(found.log_keys),
        signers=[Signer(id=each, name=name or "", entries=count) for each, name, count in found.signers],
        withheld=found.withheld,
        erased=found.erased,
        not_shown=list(found.not_shown),
    )
    return evidence, evidence_text(found)


def damaged(error: LedgerError, what: str) -> Evidence:
    """A record that does not hold."""
    return Evidence(
        what=what,
        intact=False,
        complete=_UNKNOWN,
        failures=[
            Failure(check=each.reason, message=str(each), index=each.index) for each in (error, *error.others)
        ],
    )
