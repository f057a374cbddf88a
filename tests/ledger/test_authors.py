"""Whose keys took whose place: a dialogue's transcript may have as many rotations as its author likes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import AgentId
from agentmesh_ledger.authors import Authors, Rotation
from agentmesh_ledger.checkpoint import Checkpoint, SignedCheckpoint
from agentmesh_ledger.checks import LogChecks


class Rotations(dict[str, Rotation]):
    """Rotations that count how often one is looked at."""

    looked = 0

    def __getitem__(self, key: str) -> Rotation:
        self.looked += 1
        return super().__getitem__(key)


def rotation(old: str, new: str) -> Rotation:
    return Rotation(old=AgentId(old), new=AgentId(new), index=1)


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef"))
)
def test_who_led_to_whom_is_what_following_each_rotation_tells(pairs: dict[str, str], last: set[str]) -> None:
    authors = Authors(set(), whole=False)
    authors.rotated = {old: rotation(old, new) for old, new in pairs.items()}
    led = set()
    for each in "abcdef":
        at, seen = each, set()
        while at not in seen and at not in last:
            seen.add(at)
            at = pairs.get(at, at)
        led |= {each} if at in last else set()
    assert authors.with_predecessors(last) == led


def test_no_rotation_is_looked_at_for_each_key_that_came_before() -> None:
    """In a file of some megabytes there is room for ten thousand of them."""
    head = Checkpoint(origin="example.org/desk", size=1000, root=bytes(32))
    checks = LogChecks(SignedCheckpoint(checkpoint=head, keys=()), dialogue="d1")
    rotated = Rotations({f"k{place}": rotation(f"k{place}", f"k{place + 1}") for place in range(100)})
    checks.authors.rotated = rotated
    checks._guests = {old: 1 for old in rotated}
    checks._writers, checks.last_kind = {"k100"}, "say"
    assert checks.endings() == [] and rotated.looked <= len(rotated)
    checks._writers = {"k50"}
    assert len(checks.endings()) == 49  # from k51 on nobody speaks
