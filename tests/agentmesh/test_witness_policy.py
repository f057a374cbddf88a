"""The text of a policy as witnesses are put into it: what is kept, what is rewritten, what is left alone."""

from __future__ import annotations

import pytest
from nacl.signing import SigningKey

from agentmesh.errors import AgentMeshError
from agentmesh.witness_policy import with_witness
from agentmesh_ledger import parse_policy
from agentmesh_ledger.cosignature import CosignerKey
from agentmesh_ledger.note import VerifierKey


def public(name: str) -> bytes:
    return bytes(SigningKey(name.encode().ljust(32, b".")).verify_key)


def key(name: str) -> str:
    return str(CosignerKey(name=f"{name}.example", public=public(name)))


LOG = str(VerifierKey(name="agentmesh.local/desk", public=public("log")))


def add(data: bytes | None, name: str, *, need: int | None = None, log: str | None = None, url: str = ""):
    return with_witness(
        data, name=name, vkey=key(name), url=url or f"https://{name}.example", need=need, log=log
    )


def refused(data: bytes | None, name: str, **more: object) -> AgentMeshError:
    with pytest.raises(AgentMeshError) as caught:
        add(data, name, **more)  # type: ignore[arg-type]
    return caught.value


def test_more_than_half_must_sign_unless_another_number_is_asked_for() -> None:
    data: bytes | None = None
    for at, needed in enumerate([1, 2, 2, 3, 3], 1):
        done = add(data, f"w{at}", log=LOG)
        data = done.text
        policy = parse_policy(data)
        assert (done.needed, done.witnesses, done.is_new) == (needed, at, True)
        assert policy.groups[0].needed == needed and policy.quorum == policy.groups[0].name
        assert [each.name for each in policy.witnesses] == [f"w{n}" for n in range(1, at + 1)]
        assert list(map(str, policy.logs)) == [LOG]
    assert add(data, "w6", need=6).needed == 6
    assert refused(data, "w6", need=7).reason == refused(data, "w6", need=0).reason == "usage"


def test_comments_other_logs_and_lines_stay_where_they_are() -> None:
    other = str(VerifierKey(name="elsewhere.example", public=public("other")))
    data = (
        f"# mine\nlog {other} https://elsewhere.example\n\n\t# the first\nwitness one {key('one')}\n"
        "# and how many\ngroup  all-of-us all one\n  quorum all-of-us\n# the end \xff\n"
    ).encode("latin-1")
    done = add(data, "two", log=LOG)
    assert done.text.decode("latin-1").splitlines() == [
        "# mine",
        f"log {other} https://elsewhere.example",
        f"log {LOG}",
        "",
        "\t# the first",
        f"witness one {key('one')}",
        f"witness two {key('two')} https://two.example",
        "# and how many",
        "# the end \xff",
        "",
        "group all-of-us 2 one two",
        "quorum all-of-us",
    ]
    assert add(done.text, "three", log=LOG).text.count(LOG.encode()) == 1


def test_a_witness_that_is_there_gets_the_new_url_and_never_another_key() -> None:
    data = add(add(None, "one").text, "two").text
    done = add(data, "one", url="https://moved.example")
    assert not done.is_new and done.witnesses == 2
    assert [each.url for each in parse_policy(done.text).witnesses] == [
        "https://moved.example",
        "https://two.example",
    ]
    for need in (1, 2):
        strict = add(data, "three", need=need + 1).text
        assert add(strict, "three", url="https://moved.example").needed == need + 1
        assert add(strict, "three", url="https://moved.example", need=1).needed == 1
    with pytest.raises(AgentMeshError) as caught:
        with_witness(data, name="one", vkey=key("thief"), url="https://one.example", need=None, log=None)
    assert caught.value.reason == "exists"
    # One key under two names would count twice.
    with pytest.raises(AgentMeshError) as caught:
        with_witness(data, name="again", vkey=key("one"), url="https://one.example", need=None, log=None)
    assert caught.value.reason == "usage"


@pytest.mark.parametrize(
    "rest",
    [
        "group pair all one two\ngroup both 1 pair\nquorum both\n",
        "group some any one\nquorum some\n",
        "group both all one two\nquorum one\n",
        "quorum one\n",
    ],
)
def test_a_quorum_of_somebody_s_own_making_is_not_rewritten(rest: str) -> None:
    data = f"witness one {key('one')}\nwitness two {key('two')}\n{rest}".encode()
    error = refused(data, "three")
    assert (
        error.reason == "usage"
        and error.hint == f"put in by hand: witness three {key('three')} https://three.example"
    )


@pytest.mark.parametrize("rest", ["quorum none\n", "quorum one\n", "group g any one\nquorum g\n"])
def test_a_simple_quorum_is(rest: str) -> None:
    data = f"witness one {key('one')}\n{rest}".encode()
    assert add(data, "two").needed == 2


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_what_stands_in_a_comment_does_not_become_a_line(separator: str) -> None:
    other = str(VerifierKey(name="elsewhere.example", public=public("other")))
    done = add(f"# mine{separator}log {other}\nquorum none\n".encode(), "one", log=LOG)
    assert list(map(str, parse_policy(done.text).logs)) == [LOG]


@pytest.mark.parametrize("name", ["", "a b", "none", "a\tb", "a\nquorum none", "witnesses"])
def test_a_name_that_would_be_read_as_something_else_is_refused(name: str) -> None:
    with pytest.raises(AgentMeshError):
        with_witness(None, name=name, vkey=key("one"), url="https://one.example", need=None, log=None)


@pytest.mark.parametrize("url", ["", "https://a b", "https://a\nquorum none"])
def test_a_url_that_would_be_too(url: str) -> None:
    with pytest.raises(AgentMeshError):
        with_witness(None, name="one", vkey=key("one"), url=url, need=None, log=None)


def test_a_file_that_is_no_policy_is_not_written_over() -> None:
    assert refused(b"hello\n", "one").reason == "usage"
    assert refused(b"quorum none", "one").reason == "usage"
