"""A tlog-policy file as `agentmesh witness add` writes it: every witness in one group, of which some must have signed.

Comments and the order of lines stay as they are. A policy with groups of its own making is left to whoever made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh_ledger import Policy

FILE_NAME: Final = "witnesses.policy"
_GROUP: Final = "witnesses"
_BEGINNING: Final = """\
# Whom this log's readers trust (https://c2sp.org/tlog-policy): the log's key, and the witnesses that cosign its checkpoints.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """A policy's new text; `needed` of `witnesses` must have signed. `is_new` says that the witness was not in it before."""

    text: bytes
    needed: int
    witnesses: int
    is_new: bool


def with_witness(
    data: bytes | None, *, name: str, vkey: str, url: str, need: int | None, log: str | None
) -> Extended:
    """The policy with this witness in it, and the log of this vkey where one is known; `data` None is a new policy.

    A witness that is there already with this key gets the new URL, and as many are needed as before. Else, without `need`, more than half of all are.
    Raises: AgentMeshError(usage, exists).
    """
    # As a policy is read, not by `splitlines`: behind a line separator in a comment would begin a line that nobody saw.
    lines = (_BEGINNING if data is None else data.decode("utf-8", "surrogateescape")).split("\n")
    old = None if data is None else _parsed(data)
    if old is not None:
        _require_simple(old, f"witness {name} {vkey} {url}")
    is_new = old is None or all(each.name != name for each in old.witnesses)
    kept = [line for line in lines if line.split()[:1] not in (["group"], ["quorum"])]
    while kept and not kept[-1].strip():
        kept.pop()
    if log is not None and (old is None or log not in map(str, old.logs)):
        kept.insert(_after(kept, "log"), f"log {log}")
    _put(kept, name, vkey, url, is_new=is_new)
    names = [line.split()[1] for line in kept if line.split()[:1] == ["witness"]]
    if need is None and old is not None and old.groups and not is_new:
        need = old.groups[0].needed  # who moves a witness has not said that fewer of them suffice
    needed = len(names) // 2 + 1 if need is None else need
    if not 1 <= needed <= len(names):
        raise AgentMeshError("usage", f"--need {needed}: the policy then has {len(names)} of them")
    group = old.groups[0].name if old is not None and old.groups else _GROUP
    kept += ["", f"group {group} {needed} {' '.join(names)}", f"quorum {group}", ""]
    text = "\n".join(kept).encode("utf-8", "surrogateescape")
    _require_there(_parsed(text), name, vkey, url)
    return Extended(text=text, needed=needed, witnesses=len(names), is_new=is_new)


def _put(lines: list[str], name: str, vkey: str, url: str, *, is_new: bool) -> None:
    written = f"witness {name} {vkey} {url}"
    if is_new:
        lines.insert(_after(lines, "witness"), written)
        return
    for at, line in enumerate(lines):
        words = line.split()
        if words[:2] == ["witness", name]:
            if words[2] != vkey:
                raise AgentMeshError(
                    "exists",
                    f"the policy has a witness {name} with another key",
                    hint="give this one another name; or, if it is to take the other's place, take that line out first",
                )
            lines[at] = written


def _after(lines: list[str], word: str) -> int:
    """Where a line of this kind is put: behind the last one, else at the end."""
    found = [at for at, line in enumerate(lines) if line.split()[:1] == [word]]
    return found[-1] + 1 if found else len(lines)


def _parsed(data: bytes) -> Policy:
    from agentmesh_ledger import LedgerError, parse_policy

    try:
        return parse_policy(data)
    except LedgerError as error:
        raise AgentMeshError("usage", f"the policy: {error}") from error


def _require_simple(policy: Policy, line: str) -> None:
    """Refuses a policy whose quorum says more than how many of all."""
    names = [each.name for each in policy.witnesses]
    quorums = [["none"], *([name] for name in names)] if len(names) < 2 else [["none"]]
    if policy.groups:
        (first, *more) = policy.groups
        simple = not more and policy.quorum == first.name and sorted(first.members) == sorted(names)
    else:
        simple = [policy.quorum] in quorums
    if not simple:
        raise AgentMeshError(
            "usage",
            "the policy has a quorum of its own making, which is not rewritten",
            hint=f"put in by hand: {line}",
        )


def _require_there(policy: Policy, name: str, vkey: str, url: str) -> None:
    """Refuses words that would be read as something else, such as a comment or two words."""
    for each in policy.witnesses:
        if (each.name, str(each.key), each.url) == (name, vkey, url):
            return
    raise AgentMeshError("usage", f"{name!r} and {url!r} cannot stand in a policy")
