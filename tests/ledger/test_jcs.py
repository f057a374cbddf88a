from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from agentmesh_ledger import LedgerError
from agentmesh_ledger.encoding import decode64, decode_hash, encode64
from agentmesh_ledger.jcs import MAX_DEPTH, canonical, parse
from agentmesh_ledger.text import is_origin, shown

integers = st.integers(-(2**53) + 1, 2**53 - 1)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not (x.is_integer() and 2**53 <= abs(x) < 1e21)
)
values = st.recursive(
    st.none() | st.booleans() | integers | texts | floats,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.spec("L-01")
@given(values)
def test_canonical_form_is_that_of_rfc8785_and_reads_back_to_itself(value: object) -> None:
    data = canonical(value)  # type: ignore[arg-type]  # hypothesis knows only object
    assert data == rfc8785.dumps(value)  # type: ignore[arg-type]
    assert canonical(parse(data)) == data


@pytest.mark.spec("L-01")
def test_every_cyberphone_vector_comes_out_as_published(vectors: Callable[[str], Path]) -> None:
    folder = vectors("jcs")
    inputs = sorted((folder / "input").glob("*.json"))
    assert len(inputs) == 6
    for path in inputs:
        wanted = (folder / "output" / path.name).read_bytes()
        assert canonical(json.loads(path.read_bytes())) == wanted, path.name
        assert canonical(parse(wanted)) == wanted, path.name


@pytest.mark.spec("L-01")
@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1,"a":2}',
        b'{"a": 1}',
        b"[1.0]",
        b"[1e2]",
        b"[-0]",
        b'["\\u0041"]',
        b'["\\/"]',
        b"[1]\n",
        b" [1]",
        b"[0.10]",
    ],
)
def test_json_that_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError) as caught:
        parse(data)
    assert caught.value.reason == "canonical"


@pytest.mark.spec("L-02")
@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e400]",
        b"[9007199254740992]",
        b"[-9007199254740992]",
        b"[" + b"9" * 5000 + b"]",
        b'["\\ud800"]',
        b'["\xed\xa0\x80"]',
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"\xef\xbb\xbf[1]",
        b"\xff\xfe[\x001\x00]\x00",
        b"",
        b"[1,]",
        b"\x00",
    ],
)
def test_json_that_readers_could_disagree_on_is_refused(data: bytes) -> None:
    with pytest.raises(LedgerError) as caught:
        parse(data)
    assert caught.value.reason == "canonical"


@pytest.mark.spec("L-02")
@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**53, 1e17, -(2**60), "\ud800", {"\udfff": 1}, {1: 2}, {"a": b"x"}, {1.5}],
)
def test_what_has_no_canonical_form_is_never_written(value: object) -> None:
    with pytest.raises(LedgerError):
        canonical({"facts": [value]})  # type: ignore[dict-item,list-item]  # that is the point


@pytest.mark.spec("L-02")
def test_thirty_two_levels_are_read_and_thirty_three_are_not() -> None:
    assert parse(b"[" * 32 + b"]" * 32)
    with pytest.raises(LedgerError):
        parse(b"[" * 33 + b"]" * 33)


@given(st.binary(max_size=200))
def test_only_ledger_errors_escape_the_json_parser(data: bytes) -> None:
    try:
        parse(data)
    except LedgerError:
        pass


@pytest.mark.spec("L-03")
@given(st.binary(max_size=40))
def test_base64_reads_back(data: bytes) -> None:
    assert decode64(encode64(data), "line", "x") == data


@pytest.mark.spec("L-03")
@pytest.mark.parametrize(
    "text", ["QQ", "QR==", "QQ=", "QQ==\n", " QQ==", "QQ= =", "Q Q==", "-_==", "QQ===", "é", "QUJ="]
)
def test_a_second_base64_text_of_the_same_bytes_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        decode64(text, "line", "x")


@pytest.mark.spec("L-03")
@pytest.mark.parametrize("text", ["AB" * 32, "ab" * 31, "ab" * 33, "zz" * 32, "０" * 64])
def test_a_hash_is_sixty_four_lower_case_digits(text: str) -> None:
    with pytest.raises(LedgerError):
        decode_hash(text, "line", "x")
    assert decode_hash("ab" * 32, "line", "x") == b"\xab" * 32


@pytest.mark.spec("L-04")
@pytest.mark.parametrize("text", ["", "a b", "a+b", "a\n", "ä.local", "a" * 201, "a\x7f", "a\u200bb"])
def test_an_origin_is_short_printable_ascii_without_plus(text: str) -> None:
    assert not is_origin(text)
    assert is_origin("agentmesh.local/desk")


@pytest.mark.spec("L-82")
def test_text_of_a_stranger_cannot_drive_a_terminal() -> None:
    assert shown("a\x1b[31mb\u202ec\x00\n") == "a\ufffd[31mb\ufffdc\ufffd\ufffd"
    assert (
        shown("a\u2028verified\u2029b\x85c") == "a\ufffdverified\ufffdb\ufffdc"
    )  # to some readers each begins a line
    assert len(shown("x" * 1000)) == 203


def test_a_mapping_that_is_no_dict_is_written_like_one_whatever_numbers_are_in_it() -> None:
    inner = MappingProxyType({"b": 1.5, "a": [MappingProxyType({"\N{DESERET CAPITAL LETTER EW}": (1, 2)})]})
    plain = {"x": {"b": 1.5, "a": [{"\N{DESERET CAPITAL LETTER EW}": [1, 2]}]}}
    assert canonical(MappingProxyType({"x": inner})) == canonical(plain)
    assert canonical(MappingProxyType({"a": 1})) == b'{"a":1}'


def test_deep_nesting_is_refused_where_another_library_has_raised_the_recursion_limit() -> None:
    program = (
        "import sys\nsys.setrecursionlimit(100_000)\nfrom agentmesh_ledger.errors import LedgerError\n"
        "from agentmesh_ledger.jcs import parse\n"
        "for data in (b'[' * 90_000, b'{\"a\":' * 90_000, b'[' * 90_000 + b']' * 90_000):\n"
        "    try:\n        parse(data)\n    except LedgerError as error:\n        print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["JSON nested deeper than 32"] * 3)


def test_brackets_within_texts_are_no_nesting() -> None:
    value = ["[" * 40, '"' + "{" * 40, "\\" + "[" * 40 + '\\"', [[["]"]]]]
    assert parse(canonical(value)) == value
    deep: object = 0
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert parse(b"[" * MAX_DEPTH + b"0" + b"]" * MAX_DEPTH) == deep
