"""The contract that holds checkpoints on an EVM chain: its source, and what Vyper 0.4.3 made of it.

`abi.json`, `bytecode.hex` and `runtime.hex` are what `vyper -f abi`, `-f bytecode` and `-f bytecode_runtime` print for
`checkpoints.vy`; a test makes them again. The code on a chain is ours where it equals `runtime`, byte for byte: there is no
constructor and nothing that is set once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, cast

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.jcs import JsonValue

CHECKPOINT: Final = keccak256(b"Checkpoint(address,bytes32,uint64,bytes32)")  # topic 0 of what `anchor` logs
ANNOUNCEMENT: Final = keccak256(b"Announcement(address,bytes32,uint64,bytes32)")  # of what `announce` logs
SETTLEMENT: Final = keccak256(b"Settlement(address,bytes32,uint64,bytes32)")  # of what `anchor_settled` adds


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """`bytecode` is sent to deploy it; `runtime` then stands at its address."""

    abi: tuple[Mapping[str, JsonValue], ...]
    bytecode: bytes
    runtime: bytes


@cache
def contract() -> Contract:
    """The contract of this package, read from the files beside this module."""
    return Contract(
        abi=tuple(cast(list[Mapping[str, JsonValue]], json.loads(_read("abi.json")))),
        bytecode=bytes.fromhex(_read("bytecode.hex").strip().removeprefix("0x")),
        runtime=bytes.fromhex(_read("runtime.hex").strip().removeprefix("0x")),
    )


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="ascii")
