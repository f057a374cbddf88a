"""Whom an auditor trusts, as a file: https://c2sp.org/tlog-policy, and a checkpoint judged by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agentmesh_ledger.checkpoint import SignedCheckpoint, open_checkpoint, parse_checkpoint
from agentmesh_ledger.cosignature import CosignerKey, cosignatures, parse_cosigner
from agentmesh_ledger.errors import LedgerError
from agentmesh_ledger.note import VerifierKey, parse_note, parse_vkey, split_vkey
from agentmesh_ledger.text import shown

MAX_POLICY: Final = 256 * 1024
NONE: Final = "none"
_ML_DSA: Final = 0x06
_ML_DSA_BYTES: Final = 1312
_BLANKS: Final = re.compile(r"[ \t]+")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """A witness of a policy. `key` is None for an ML-DSA-44 key, which is not checked here: it never counts.

    `url` is where it is asked, its submission prefix as tlog-witness calls it; verifying needs none, and looks at none.
    """

    name: str
    key: CosignerKey | None
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """At least `needed` of the members, witnesses or groups, must have signed."""

    name: str
    needed: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessedAt:
    """A witness of the policy whose cosignature holds; `time` is its own clock, in seconds since 1970."""

    witness: str
    vkey: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyEvidence:
    """A policy that is met: the log keys and the witnesses whose signatures hold, and the quorum's name.

    `size` is that of the checkpoint which they signed.
    """

    log_keys: tuple[str, ...]
    witnesses: tuple[WitnessedAt, ...]
    quorum: str
    size: int

    def __str__(self) -> str:
        names = ", ".join(sorted({shown(each.witness, 60) for each in self.witnesses}))
        return f"met: quorum {shown(self.quorum, 60)}, cosigned by {names or 'no witness'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """A checkpoint signed by whom the auditor trusts; `policy` where one was given."""

    signed: SignedCheckpoint
    policy: PolicyEvidence | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy as parsed. Groups stand in the order of definition, so that each comes after its members.

    `log_urls` has, in the order of `logs`, where each log may be found, if it is said.
    """

    logs: tuple[VerifierKey, ...]
    witnesses: tuple[Witness, ...]
    groups: tuple[Group, ...]
    quorum: str
    log_urls: tuple[str | None, ...] = ()

    def judge(self, note: str, *, keys: Sequence[VerifierKey] = ()) -> PolicyEvidence:
        """Who signed this checkpoint, and that it suffices (SPEC L-49).

        `keys` are log keys known otherwise, for a policy that names no log.
        Raises: LedgerError(policy) where it does not suffice, (checkpoint) where a known signature fails.
        """
        parsed = parse_note(note)
        checkpoint = parse_checkpoint(parsed.text)
        origin = checkpoint.origin
        logs = self.logs or tuple(keys)
        signers = tuple(key for key in parsed.verified_by(logs) if key.name == origin)
        if not signers:
            raise LedgerError("policy", f"no log of the policy signed the checkpoint of {shown(origin)}")
        names = {each.key: each.name for each in self.witnesses if each.key is not None}
        times: dict[CosignerKey, int] = {}
        for each in cosignatures(parsed, tuple(names)):
            # Whoever counts these must count no witness twice; of its lines the newest says the most.
            times[each.key] = max(each.time, times.get(each.key, 0))
        self._require_quorum({names[key] for key in times})
        return PolicyEvidence(
            log_keys=tuple(str(key) for key in signers),
            witnesses=tuple(
                WitnessedAt(witness=names[key], vkey=str(key), time=time) for key, time in times.items()
            ),
            quorum=self.quorum,
            size=checkpoint.size,
        )

    def _require_quorum(self, signed: set[str]) -> None:
        met = {NONE, *signed}
        for group in self.groups:
            if sum(member in met for member in group.members) >= group.needed:
                met.add(group.name)
        if self.quorum in met:
            return
        missing = [each.name for each in self.witnesses if each.name not in signed]
        unread = any(each.key is None for each in self.witnesses)
        raise LedgerError(
            "policy",
            f"the quorum {shown(self.quorum)!r} is not met: no cosignature of "
            + shown(", ".join(missing), 200),
            found=f"cosignatures of {shown(', '.join(sorted(signed)), 200)}" if signed else "no cosignature",
            expected=f"the quorum {shown(self.quorum)!r}",
            hint="ML-DSA-44 cosignatures are not checked here and do not count" if unread else None,
        )


def trusted_checkpoint(note: str, keys: Sequence[VerifierKey], policy: Policy | None) -> Trusted:
    """The checkpoint of a note that one of the keys signed, and that meets the policy if there is one.

    Raises: LedgerError(log_key, checkpoint, policy).
    """
    logs = tuple(keys) or (policy.logs if policy is not None else ())
    if not logs:
        raise LedgerError(
            "log_key", "a checkpoint does not carry the log's key: name it, or a policy with it"
        )
    if policy is None:
        return Trusted(signed=open_checkpoint(note, logs), policy=None)
    evidence = policy.judge(note, keys=keys)
    return Trusted(signed=open_checkpoint(note, logs), policy=evidence)


def parse_policy(data: bytes) -> Policy:
    """The policy of a file's bytes (SPEC L-48).

    Raises: LedgerError(policy) with `line` set.
    """
    if len(data) > MAX_POLICY:
        raise LedgerError("policy", f"the policy is longer than {MAX_POLICY} bytes")
    if data and not data.endswith(b"\n"):
        # Cut off within its last line, `quorum all-of-them` may have become the name of one witness.
        raise LedgerError("policy", "the policy does not end with a line feed: it may be cut off")
    reader = _Reader()
    # Bytes that are no UTF-8 stay distinct: names are opaque octets.
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        try:
            reader.line(line)
        except LedgerError as error:
            raise LedgerError("policy", error.message, line=number) from error
    return reader.policy()


@dataclass(slots=True)
class _Reader:
    """A policy being read, line by line."""

    logs: list[VerifierKey] = field(default_factory=list)
    log_urls: list[str | None] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    names: set[str] = field(default_factory=lambda: {NONE})
    grouped: set[str] = field(default_factory=set)
    materials: set[bytes] = field(default_factory=set)
    lines: set[tuple[str, bytes]] = field(default_factory=set)
    quorum: str | None = None

    def line(self, line: str) -> None:
        if any((c < " " and c != "\t") or c == "\x7f" for c in line):
            raise LedgerError("policy", "there is a control character")
        words = [word for word in _BLANKS.split(line) if word]
        if not words or words[0].startswith("#"):
            return
        match words:
            case ["log", vkey, *url] if len(url) <= 1:
                self._log(vkey, *url)
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._witness(name, vkey, *url)
            case ["group", name, needed, *members] if members:
                self._group(name, needed, members)
            case ["quorum", name]:
                self._quorum(name)
            case _:
                raise LedgerError("policy", f"{shown(line, 80)!r} is no line of a policy")

    def policy(self) -> Policy:
        if self.quorum is None:
            raise LedgerError("policy", "the policy has no quorum line")
        return Policy(
            logs=tuple(self.logs),
            witnesses=tuple(self.witnesses),
            groups=tuple(self.groups),
            quorum=self.quorum,
            log_urls=tuple(self.log_urls),
        )

    def _log(self, vkey: str, url: str | None = None) -> None:
        key = parse_vkey(vkey)
        self._take_material(key.public)
        self.logs.append(key)
        self.log_urls.append(url)

    def _witness(self, name: str, vkey: str, url: str | None = None) -> None:
        _, kind, material = split_vkey(vkey)
        if kind == _ML_DSA and len(material) == _ML_DSA_BYTES:
            witness = Witness(name=name, key=None, url=url)
        else:
            witness = Witness(name=name, key=parse_cosigner(vkey), url=url)
        self._take_material(material)
        if witness.key is not None:
            line = (witness.key.name, witness.key.key_id)
            if line in self.lines:
                # Four bytes are soon found again: the one's cosignature would be taken for a bad one of the other.
                raise LedgerError("policy", "another witness has this key name and this key hash")
            self.lines.add(line)
        self._take_name(name)
        self.witnesses.append(witness)

    def _group(self, name: str, needed: str, members: list[str]) -> None:
        for member in members:
            if member == NONE or member not in self.names:
                raise LedgerError("policy", f"{shown(member, 80)!r} is no witness or group defined before")
            if member in self.grouped:
                # Counted twice, one witness could make a quorum of two.
                raise LedgerError("policy", f"{shown(member, 80)!r} is a member twice")
            self.grouped.add(member)
        if needed in ("all", "any"):
            count = len(members) if needed == "all" else 1
        elif _NUMBER.match(needed) and int(needed) <= len(members):
            count = int(needed)
        else:
            raise LedgerError("policy", f"{shown(needed, 20)!r} is not all, any, or 1 to {len(members)}")
        self._take_name(name)
        self.groups.append(Group(name=name, needed=count, members=tuple(members)))

    def _quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise LedgerError("policy", "there is a second quorum line")
        if name not in self.names:
            raise LedgerError("policy", f"{shown(name, 80)!r} is no witness or group defined before")
        self.quorum = name

    def _take_name(self, name: str) -> None:
        if name in self.names:
            raise LedgerError("policy", f"the name {shown(name, 80)!r} is taken")
        self.names.add(name)

    def _take_material(self, material: bytes) -> None:
        # The spec forbids one key twice among logs or among witnesses; a log that is its own witness adds nothing.
        if material in self.materials:
            raise LedgerError("policy", "one public key stands there twice")
        self.materials.add(material)
