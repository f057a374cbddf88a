"""What the options of `agentmesh anchor` mean, and what the mesh file's [anchor] says where they are not given."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer

from agentmesh.cli.passphrase import is_terminal
from agentmesh.errors import AgentMeshError

if TYPE_CHECKING:
    from agentmesh.mesh import OutsideEyes
    from agentmesh_ledger.anchor.account import Account
    from agentmesh_ledger.anchor.chain import Chain

_NAME: Final = re.compile(r"(?![0-9a-fA-F]{64}\Z)[A-Za-z_][A-Za-z0-9_]*\Z")  # a key is none
_MESH: Final = "Default: the mesh file's."

WhereArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[MESH|LEDGER]",
        help="A mesh file or its folder, a ledger file, or a PostgreSQL URL. Default: the mesh in the current folder.",
    ),
]
RpcOption: TypeAlias = Annotated[
    str | None, typer.Option("--rpc", metavar="URL", help=f"A node of the chain. {_MESH}")
]
RpcEnvOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--rpc-env",
        metavar="NAME",
        help="The environment variable with the node's URL, where a secret is in it.",
    ),
]
ContractOption: TypeAlias = Annotated[
    str | None, typer.Option("--contract", metavar="0x..", help=f"Where the contract is. {_MESH}")
]
KeystoreOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--keystore",
        metavar="FILE",
        help="The account's key: a keystore file (version 3). Its passphrase is asked for.",
    ),
]
PassphraseEnvOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--passphrase-env", metavar="NAME", help="The environment variable with the keystore's passphrase."
    ),
]
KeyEnvOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--key-env", metavar="NAME", help="The account's key: the environment variable that holds it."
    ),
]
ChainOption: TypeAlias = Annotated[
    int | None, typer.Option("--chain", metavar="ID", min=1, help="What the node must call its chain.")
]
ConfirmationsOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--confirmations",
        metavar="N",
        min=1,
        max=10_000,
        help="How many blocks deep an anchor is recorded. Default: the mesh file's, else 3.",
    ),
]
MaxFeeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--max-fee",
        metavar="GWEI",
        help="The most that is paid for a unit of gas. Default: the mesh file's, else 50.",
    ),
]
EveryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--every",
        metavar="N|SECONDSs",
        help="Anchor after so many messages (100) or seconds (60s). Default: the mesh file's, else 100.",
    ),
]
SettleOption: TypeAlias = Annotated[
    bool, typer.Option("--settle", help="Put the root of the accounts' balances beside the checkpoint.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorOptions:
    """The options as they were given; what is None is the mesh file's."""

    where: str | None = None
    rpc: str | None = None
    rpc_env: str | None = None
    contract: str | None = None
    keystore: Path | None = None
    passphrase_env: str | None = None
    key_env: str | None = None
    chain: int | None = None
    confirmations: int | None = None
    max_fee: str | None = None
    every: str | None = None

    @contextmanager
    def connected(self) -> Iterator[Chain]:
        """The chain, let go afterwards.

        Raises: AgentMeshError(usage); MeshFileError; LedgerError(no_extra).
        """
        from agentmesh_ledger.anchor.chain import Chain

        spec = self._file.anchor if self._file is not None else None
        with as_usage():
            chain = Chain.connect(self._address(), chain_id=self.chain or (spec.chain if spec else None))
        with chain:
            yield chain

    def address(self) -> str:
        """The contract's address.

        Raises: AgentMeshError(usage); MeshFileError.
        """
        from agentmesh_ledger.anchor.account import parse_address

        spec = self._file.anchor if self._file is not None else None
        found = self.contract or (spec.contract if spec is not None else None)
        if found is None:
            raise AgentMeshError(
                "usage", "no contract is named", hint="--contract 0x..; `agentmesh anchor deploy` makes one"
            )
        with as_usage():
            return parse_address(found)

    def account(self) -> Account:
        """The account that pays. Its key, or the passphrase of that, is read from where the options or the mesh file say.

        Raises: AgentMeshError(usage); MeshFileError; of a keystore LedgerError(key, not_found, unreadable); LedgerError(no_extra).
        """
        from agentmesh_ledger.anchor.account import account_from_environment, account_from_keystore

        if self.keystore is not None and self.key_env is not None:
            raise AgentMeshError("usage", "give --keystore or --key-env, not both")
        key_env, keystore, passphrase_env = self.key_env, self.keystore, self.passphrase_env
        file = self._file
        if key_env is None and keystore is None and file is not None and file.anchor is not None:
            key_env, keystore = file.anchor.key_env, file.keystore
            passphrase_env = passphrase_env or file.anchor.passphrase_env
        if keystore is not None:
            return account_from_keystore(keystore, _passphrase(keystore, passphrase_env))
        if key_env is None:
            raise AgentMeshError(
                "usage",
                "no account is named",
                hint="--keystore FILE, or --key-env NAME of the environment variable that holds its key",
            )
        held_in(key_env)
        with as_usage("key"):
            return account_from_environment(key_env)

    def fee(self) -> Decimal:
        """The most that is paid for a unit of gas, in gwei.

        Raises: AgentMeshError(usage).
        """
        from agentmesh_ledger.anchor.fees import wei

        spec = self._file.anchor if self._file is not None else None
        if self.max_fee is None:
            return Decimal(50) if spec is None else spec.max_fee_gwei
        try:
            found = Decimal(self.max_fee)
        except InvalidOperation:
            raise AgentMeshError("usage", "--max-fee is a number of gwei, such as 50 or 0.5") from None
        with as_usage():
            wei(found)
        return found

    @property
    def depth(self) -> int:
        """How many blocks deep an anchor is recorded."""
        spec = self._file.anchor if self._file is not None else None
        return self.confirmations or (spec.confirmations if spec is not None else 3)

    @property
    def often(self) -> str:
        """How often an anchor is due."""
        spec = self._file.anchor if self._file is not None else None
        return self.every or (spec.every if spec is not None else "100")

    @property
    def _file(self) -> OutsideEyes | None:
        from agentmesh.mesh import FILE_NAME, find_outside

        path = Path(self.where or ".")
        if path.suffix == ".toml" or (path / FILE_NAME).is_file():
            return find_outside(path)
        return None

    def _address(self) -> str:
        if self.rpc is not None and self.rpc_env is not None:
            raise AgentMeshError("usage", "give --rpc or --rpc-env, not both")
        spec = self._file.anchor if self._file is not None else None
        rpc, rpc_env = self.rpc, self.rpc_env
        if rpc is None and rpc_env is None and spec is not None:
            rpc, rpc_env = spec.rpc, spec.rpc_env
        if rpc is not None:
            return rpc
        if rpc_env is None:
            raise AgentMeshError(
                "usage", "no node is named", hint="--rpc URL, or --rpc-env NAME where a secret is in the URL"
            )
        return held_in(rpc_env)


@contextmanager
def as_usage(reason: str = "refused") -> Iterator[None]:
    """What the ledger refuses of an option is a matter of usage."""
    from agentmesh_ledger import LedgerError

    try:
        yield
    except LedgerError as error:
        if error.reason != reason:
            raise
        raise AgentMeshError("usage", error.message, hint=error.hint) from None


@contextmanager
def answering() -> Iterator[None]:
    """A node that does not answer, or is another than the one meant, is no verdict on the log."""
    from agentmesh_ledger import LedgerError

    try:
        yield
    except LedgerError as error:
        if error.reason not in ("node", "refused"):
            raise
        told = error.message
        if error.expected is not None and error.found is not None:
            told += f" (expected {error.expected}, found {error.found})"
        raise AgentMeshError("no_answer", told, hint=error.hint) from None


def held_in(name: str) -> str:
    """What the environment variable of that name holds.

    Raises: AgentMeshError(usage) where it is not set, or that is no name.
    """
    if not _NAME.match(name):
        # Of whoever gives the secret for its name: it is not repeated.
        raise AgentMeshError(
            "usage", "that is no name of an environment variable", hint="Never give the secret itself"
        )
    found = os.environ.get(name)
    if not found:
        raise AgentMeshError("usage", f"the environment variable {name} is not set")
    return found


def _passphrase(keystore: Path, variable: str | None) -> Callable[[], bytes]:
    if variable is not None:
        found = held_in(variable)
        return lambda: os.fsencode(found)
    if not is_terminal():
        raise AgentMeshError(
            "usage",
            f"{keystore}: its passphrase is not given",
            hint="--passphrase-env NAME of the environment variable that holds it, or run this on a terminal",
        )
    return lambda: _asked(keystore)


def _asked(keystore: Path) -> bytes:
    from getpass import getpass

    try:
        return getpass(f"Passphrase of {keystore}: ").encode("utf-8", "surrogateescape")
    except EOFError as error:
        raise AgentMeshError("usage", "no passphrase was given") from error
