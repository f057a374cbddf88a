"""What a mesh reaches beyond its own agents: tool servers and meshes elsewhere, how they are signed and pinned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from agentmesh.accounts.book import Book
from agentmesh.accounts.tail import recent_receipts
from agentmesh.errors import AgentMeshError
from agentmesh.locations import LogPlace
from agentmesh.mesh import Mesh
from agentmesh.mesh.peers import RemotePeer, remote_agents, remote_peers
from agentmesh.mesh.spec import SigningMode
from agentmesh.recorder import HOST
from agentmesh.serving.signing import (
    KnownKeys,
    NonceStore,
    Policy,
    Signing,
    SigningError,
    claims,
    signed_transport,
)
from agentmesh.toolbox import PinFile, Remote, Servers, Toolbox
from agentmesh.toolbox.looking import Looked, look
from agentmesh.toolbox.targets import ASK, Source, Wrap, is_foreign, source_words
from agentmesh_ledger import KeyStore
from agentmesh_ledger.log import Ledger


class Outside:
    """The servers and peers of a mesh, from what its file says of them."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._remote = remote_peers(mesh)

    @property
    def peers(self) -> Mapping[str, RemotePeer]:
        """The meshes elsewhere that some agent may ask."""
        return self._remote

    @property
    def is_signed(self) -> bool:
        """Whether anything of it is signed on the wire."""
        return any(mode != "off" for mode, _, _ in self._signing().values())

    def sources(self) -> dict[str, Source]:
        """What is started or reached."""
        found: dict[str, Source] = {**self._mesh.servers}
        for name, peer in self._remote.items():
            spec = peer.spec
            found[name] = Remote(
                url=spec.url, agents=spec.agents, token_env=spec.token_env, timeout=spec.timeout
            )
        return found

    def held(self) -> dict[str, str]:
        """The servers and peers that are held to their pins: how each is started or reached."""
        return {name: source_words(each) for name, each in self.sources().items() if is_foreign(each)}

    def keys_of(self, known: KnownKeys) -> dict[str, str]:
        """The keys that those which are signed must sign with, as far as they are known."""
        found = {
            name: key or known.pin_of("server", pin)
            for name, (mode, pin, key) in self._signing().items()
            if mode != "off"
        }
        return {name: key for name, key in found.items() if key is not None}

    def wraps(self, keys: KeyStore, log: Ledger | None) -> dict[str, Wrap]:
        """The signing of those connections that are signed; what is exchanged over them is recorded in `log`.

        Raises: LedgerError where a key cannot be read; AgentMeshError(unreadable) where the file of known keys is damaged.
        """
        wraps: dict[str, Wrap] = {}
        if not self.is_signed:
            return wraps
        pinned = known_keys(self._mesh.log_place)
        for name, (mode, pin, key) in self._signing().items():
            if mode == "off":
                continue
            signing = Signing(
                key=keys.agent(HOST),
                subject=f"{HOST}@{self._mesh.origin}",
                policy=Policy(mode=mode, known=pinned if key is None else KnownKeys(listed=[key])),
                ledger=log,
                keys=keys,
                usage=self._book(name, log, pinned.pin_of("server", pin) if key is None else key),
            )
            wraps[name] = partial(signed_transport, signing=signing, peer=pin, audience=key)
        return wraps

    def toolbox(
        self,
        agent: str,
        servers: Servers,
        inside: Servers | None = None,
        dialogue: str | None = None,
        apart: Collection[str] = (),
    ) -> Toolbox:
        """The tools of an agent: of the servers, of its peers in this mesh (`inside`), of its peers elsewhere.

        What it calls in `dialogue` is signed by its own key, where the connection is.
        """
        asked = remote_agents(self._mesh, agent, self._remote)
        return Toolbox(
            {name: servers[name] for name in self._mesh.servers},
            allow=self._mesh.agents[agent].tools,
            peers={name: servers[name] for name in asked},
            ask=[
                entry
                for name, agents in asked.items()
                for entry in ([f"{name}.{ASK}{each}" for each in sorted(agents)] or [name])
            ],
            extra=inside,
            key=f"agents.{agent}",
            apart=apart,
            meta=None if dialogue is None else claims(dialogue=dialogue, agent=agent),
        )

    def _book(self, name: str, log: Ledger | None, key: str | None) -> Book | None:
        """The book with a peer; None where nothing is accounted for, and for servers, which are asked for no answer."""
        accounts, peer = self._mesh.accounts, self._remote.get(name)
        if accounts is None or peer is None or log is None:
            return None
        signed = [
            each
            for each, _ in recent_receipts(log)
            if each.receipt.provider == key and each.asker_signature is not None
        ]
        return Book(
            origin=self._mesh.origin,
            unit=accounts.unit,
            agreed=peer.spec.price,
            patience=peer.spec.timeout,
            signed=signed,
        )

    def _signing(self) -> dict[str, tuple[SigningMode, str, str | None]]:
        """Of each server and peer: the mode, the name its key is pinned under, the key that the file gives."""
        servers = {name: (spec.signing, name, None) for name, spec in self._mesh.servers.items()}
        peers = {name: (each.spec.signing, each.pin, each.spec.key) for name, each in self._remote.items()}
        return {**servers, **peers}


def pin_file(mesh: Mesh) -> PinFile:
    """The pins of a mesh. They stand where its file says, wherever a run records: another record is no first use."""
    return PinFile(mesh.log_place.pins)


def known_keys(place: LogPlace) -> KnownKeys:
    """The pinned keys of those whom the mesh calls, and of those who call it.

    Raises: AgentMeshError(unreadable) where the file is damaged.
    """
    try:
        return KnownKeys(path=place.known_keys)
    except SigningError as error:
        raise AgentMeshError("unreadable", error.message, hint=error.hint) from error


def answering(
    mesh: Mesh, place: LogPlace, keys: KeyStore, log: Ledger, *, mode: SigningMode | None = None
) -> Signing:
    """How a served mesh signs its answers and judges who calls: for `sign_server`. `mode` overrides the mesh file's.

    It answers under the host's key and to its origin. Callers' keys are those that the file lists, else pinned. What a host
    that does not sign asks stands in the dialogue it begins, which says so; a second record of it would say no more. Nothing
    leaves before it is durable, as all that a mesh says.
    Raises: LedgerError where the host's key cannot be read; AgentMeshError(unreadable) or SigningError where a file
    beside it is damaged.
    """
    known = KnownKeys(listed=mesh.serve.keys) if mesh.serve.keys else known_keys(place)
    policy = Policy(
        mode=mode or mesh.serve.signing,
        known=known,
        audiences=frozenset({mesh.origin}),
        nonces=NonceStore(path=place.nonces),
    )
    return Signing(
        key=keys.agent(HOST),
        subject=f"{HOST}@{mesh.origin}",
        policy=policy,
        ledger=log,
        keys=keys,
        record_unsigned=False,
        lag=0.0,
    )


async def look_at(mesh: Mesh, names: Collection[str], keys: KeyStore) -> list[Looked]:
    """What these servers and peers of a mesh show now, beside what is pinned of them. Nothing is recorded."""
    outside = Outside(mesh)
    return await look(
        {name: each for name, each in outside.sources().items() if name in names},
        base=mesh.folder,
        pins=pin_file(mesh),
        wraps=outside.wraps(keys, None),
    )
