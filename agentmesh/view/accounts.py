"""What agents owe one another, as lines and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agentmesh.view.text import clean
from agentmesh_ledger import JsonValue
from agentmesh_ledger.usage.balances import Accounts, Balance, accounts_json
from agentmesh_ledger.usage.report import amount
from agentmesh_ledger.usage.settlement import Said, settled

_TOLD = 10


def told_json(found: Accounts, said: Sequence[Said] = (), *, whole: bool) -> dict[str, JsonValue]:
    """The accounts for programs; amounts are whole micro-units. `root` is null where not the whole log was seen.

    `said` are the roots that the log itself says; `agrees` is null where that was not looked at.
    """
    roots: list[JsonValue] = [
        {"index": each.index, "size": each.size, "root": each.root, "agrees": each.agrees} for each in said
    ]
    return {
        **accounts_json(found),
        "root": settled(found).root().hex() if whole else None,
        "said": roots if whole else [],
    }


def told_text(found: Accounts, said: Sequence[Said] = (), *, whole: bool) -> str:
    """The accounts for people."""
    names = {str(agent): name for agent, name in found.names.items()}
    lines = [_balance(each, names) for each in found.balances]
    if not found.balances:
        lines.append("no balances: no receipt that both sides signed")
    lines += [
        f"account    {each.agent}  {_name(names, each.agent)}  {each.address}  (entry {index})"
        for each, index in found.bindings
    ]
    again = f", {found.repeated} of them recorded again" if found.repeated else ""
    lines.append(f"counted    {found.receipts} {'receipt' if found.receipts == 1 else 'receipts'}{again}")
    for why, number in found.uncounted.items():
        lines.append(f"left out   {number}: {why}")
    lines += [f"  entry {each.index}: {each.why}: {clean(each.message)}" for each in found.told[:_TOLD]]
    if sum(found.uncounted.values()) > _TOLD:
        lines.append("  and more: --json tells up to 100")
    if whole:
        lines += [_said(each) for each in said if each.agrees is not None]
        lines.append(
            f"root       {settled(found).root().hex()}  after {found.size} entries of {found.origin}"
        )
    else:
        lines.append(f"root       none: this is one dialogue of {found.origin}, not the whole log")
    return "\n".join(lines)


def _balance(each: Balance, names: Mapping[str, str]) -> str:
    return (
        f"balance    {each.agent}  {_name(names, each.agent)}  {amount(each.net)} {each.unit}:"
        f" {amount(each.earned)} earned, {amount(each.spent)} spent"
    )


def _said(said: Said) -> str:
    word = "as it is" if said.agrees else "WRONG: the receipts add up to another"
    return f"said       {said.root}  after {said.size} entries, by entry {said.index}: {word}"


def _name(names: Mapping[str, str], agent: str) -> str:
    """A name is its agent's own claim; those of another owner have none here."""
    return clean(names.get(agent) or "of another log")
