"""The formats of strings that the grammar holds a model to, each somewhat narrower than its standard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentmesh_models.grammar.expression import DIGIT, Node, Repeat, alt, chars, seq
from agentmesh_models.grammar.pattern import read_pattern

_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
_HOST: Final = rf"{_LABEL}(\.{_LABEL}){{0,3}}"
_NAMED: Final = rf"({_LABEL}\.){{1,3}}[a-z]{{2,8}}"
_BYTE: Final = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4: Final = rf"{_BYTE}(\.{_BYTE}){{3}}"
_GROUP: Final = "[0-9a-f]{1,4}"
_V6: Final = f"{_GROUP}(:{_GROUP}){{7}}|{_GROUP}(:{_GROUP}){{0,4}}::{_GROUP}|::({_GROUP}(:{_GROUP}){{0,5}})?"
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_SEGMENT: Final = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})*"
_URI: Final = (
    rf"[a-z][a-z0-9+-]{{1,11}}://([A-Za-z0-9._~-]{{1,20}}(:[A-Za-z0-9._~-]{{1,20}})?@)?{_HOST}(:[1-9][0-9]{{0,3}})?"
    rf"(/{_SEGMENT})*(\?([A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{{2}})*)?"
    r"(#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?"
)


def _date() -> Node:
    """Real days only; the 29th of February in years that 4 divides and 100 does not."""
    year = seq(chars("12"), Repeat(DIGIT, 3, 3))
    leap = seq(
        chars("12"),
        DIGIT,
        alt([seq("0", chars("48")), seq(chars("2468"), chars("048")), seq(chars("13579"), chars("26"))]),
    )
    to_28 = alt([seq("0", chars("1-9")), seq("1", DIGIT), seq("2", chars("0-8"))])
    to_30 = alt([seq("0", chars("1-9")), seq(chars("12"), DIGIT), "30"])
    long = alt(["01", "03", "05", "07", "08", "10", "12"])
    short = alt(["04", "06", "09", "11"])
    return alt(
        [
            seq(year, "-", long, "-", alt([to_30, "31"])),
            seq(year, "-", short, "-", to_30),
            seq(year, "-02-", to_28),
            seq(leap, "-02-29"),
        ]
    )


def _read(pattern: str) -> Node:
    return read_pattern(f"^({pattern})$")


FORMATS: Final[Mapping[str, Node]] = {
    "date": _date(),
    "time": _read(_TIME),
    "date-time": seq(_date(), "T", _read(_TIME)),
    "duration": _read("P([1-9][0-9]{0,2}[DWMY]|T[1-9][0-9]{0,3}[HMS])"),
    "uuid": _read("[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "email": _read(rf"[A-Za-z0-9_+-]{{1,24}}(\.[A-Za-z0-9_+-]{{1,24}}){{0,1}}@{_NAMED}"),
    "idn-email": _read(rf"[A-Za-z0-9_+-]{{1,24}}@{_NAMED}"),
    "hostname": _read(_HOST),
    "idn-hostname": _read(_HOST),
    "ipv4": _read(_V4),
    "ipv6": _read(_V6),
    "uri": _read(_URI),
    "uri-reference": _read(_URI),
    "iri": _read(_URI),
    "iri-reference": _read(_URI),
    "json-pointer": _read("(/[A-Za-z0-9_]{1,24}){0,8}"),
}
"""Raw nodes by the name of the format."""

ANNOTATIONS: Final = frozenset(
    {"int32", "int64", "float", "double", "byte", "binary", "password", "textarea", "path", "file-path"}
)
"""Formats of other standards that JSON Schema does not assert."""
