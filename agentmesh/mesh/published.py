"""What a mesh file says of witnesses and of a chain: mistakes that its shape alone does not show."""

from __future__ import annotations

from collections.abc import Iterator

from agentmesh.errors import Mistake
from agentmesh.locations import is_address
from agentmesh.mesh.lines import KeyPath, Places
from agentmesh.mesh.spec import AnchorSpec
from agentmesh_ledger import LedgerError
from agentmesh_ledger.anchor.account import parse_address
from agentmesh_ledger.anchor.fees import wei


def anchor_mistakes(spec: AnchorSpec, places: Places) -> Iterator[Mistake]:
    """Every mistake in the table [anchor]."""

    def at(key: str | None, reason: str, text: str) -> Mistake:
        path: KeyPath = ("anchor",) if key is None else ("anchor", key)
        return Mistake(reason=reason, key=".".join(map(str, path)), line=places.line(path), text=text)

    for one, other in (("rpc", "rpc_env"), ("key_env", "keystore")):
        given = [key for key in (one, other) if getattr(spec, key) is not None]
        if len(given) == 2:
            yield at(other, "bad_anchor", f"stands beside {one!r}; an anchor has exactly one of the two")
        elif not given:
            text = f"has neither {one!r} nor {other!r}; an anchor has exactly one of the two"
            yield at(None, "bad_anchor", text)
    if spec.rpc is not None and not is_address(spec.rpc):
        text = "must begin with http:// or https:// and name a host, such as http://127.0.0.1:8545"
        yield at("rpc", "bad_value", text)
    if spec.passphrase_env is not None and spec.keystore is None:
        yield at("passphrase_env", "unused_key", "has a meaning beside 'keystore' only")
    try:
        parse_address(spec.contract)
    except LedgerError as error:
        yield at("contract", "bad_value", error.message)
    try:
        wei(spec.max_fee_gwei)
    except LedgerError:
        yield at("max_fee_gwei", "bad_value", "must be at least 0.000000001: a gwei has no smaller part")
