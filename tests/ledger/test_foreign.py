"""Other people's code accepts what this package writes."""

from __future__ import annotations

import json

import pytest

from agentmesh_ledger import AgentId, Ledger
from agentmesh_ledger.envelope import PAYLOAD_TYPE, pae, unseal
from agentmesh_ledger.identity import public_key
from agentmesh_ledger.tree import collect, consistency_nodes, fold_proof, inclusion_nodes


@pytest.mark.spec("L-32", "L-33", "L-40", "L-43")
def test_a_rust_verifier_accepts_our_checkpoint_and_proofs(spoken: Ledger) -> None:
    rust = pytest.importorskip("metamorphic_log", reason="the Rust verifier metamorphic-log is not installed")
    head = rust.checkpoint_verify(spoken.checkpoint(), [spoken.vkey()])
    assert (head.origin, head.size) == (spoken.origin, 7)
    leaves = [record.leaf_hash for record in spoken.read()]
    for size in range(1, 8):
        nodes = consistency_nodes(size, 7)
        proof = fold_proof(nodes, collect({n for each in nodes for n in each}, leaves))
        from agentmesh_ledger.tree import Edge

        tree = Edge()
        for leaf in leaves[:size]:
            tree.append(leaf)
        rust.verify_consistency(size, 7, proof, tree.root(), bytes(head.root))
    for index, leaf in enumerate(leaves):
        nodes = inclusion_nodes(index, 7)
        proof = fold_proof(nodes, collect({n for each in nodes for n in each}, leaves))
        rust.checkpoint_verify_inclusion(spoken.checkpoint(), [spoken.vkey()], index, leaf, proof)
        with pytest.raises(rust.VerifyError):
            rust.checkpoint_verify_inclusion(
                spoken.checkpoint(), [spoken.vkey()], (index + 1) % 7, leaf, proof
            )
    with pytest.raises(rust.VerifyError):
        rust.checkpoint_verify(spoken.checkpoint().replace("\n7\n", "\n8\n"), [spoken.vkey()])


@pytest.mark.spec("L-12")
def test_securesystemslib_reads_our_envelopes_and_signs_the_same_bytes(spoken: Ledger) -> None:
    dsse = pytest.importorskip("securesystemslib.dsse", reason="securesystemslib is not installed")
    signer = pytest.importorskip("securesystemslib.signer", reason="securesystemslib is not installed")

    refusal = pytest.importorskip("securesystemslib.exceptions").VerificationError

    def key(agent: AgentId) -> object:
        return signer.SSlibKey(agent, "ed25519", "ed25519", {"public": public_key(agent).hex()})

    authors = [key(agent) for agent in spoken.names()]
    for record in spoken.read():
        envelope = dsse.Envelope.from_dict(json.loads(record.entry))
        assert envelope.pae() == pae(PAYLOAD_TYPE, unseal(record.entry).payload)
        assert list(envelope.verify([key(record.message.author)], 1)) == [record.message.author]
        with pytest.raises(refusal):
            envelope.verify([each for each in authors if each.keyid != record.message.author], 1)
