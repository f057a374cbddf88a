from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add
from nacl.signing import SigningKey

from agentmesh_ledger import LedgerError
from agentmesh_ledger.identity import agent_id, is_signed, public_key, require_sound

# The did:key specification's own example for Ed25519, and the key it stands for.
EXAMPLE = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"

P = 2**255 - 19
ZEROS = "00" * 31
EIGHTH = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc"
OTHER_EIGHTH = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03"

# Each point of small order in its canonical encoding (y, little-endian, and the sign of x), with its order.
SMALL = {
    "01" + ZEROS: 1,
    "ec" + "ff" * 30 + "7f": 2,
    "00" + ZEROS: 4,
    "00" * 31 + "80": 4,
    EIGHTH + "05": 8,
    EIGHTH + "85": 8,
    OTHER_EIGHTH + "7a": 8,
    OTHER_EIGHTH + "fa": 8,
}


@pytest.mark.spec("L-05")
@given(st.binary(min_size=32, max_size=32))
def test_an_agent_id_reads_back_to_its_key(seed: bytes) -> None:
    key = bytes(SigningKey(seed).verify_key)
    name = agent_id(key)
    assert name.startswith("did:key:z6Mk") and len(name) == 56
    assert public_key(name) == key


@pytest.mark.spec("L-05")
def test_the_did_key_example_is_read() -> None:
    assert public_key(EXAMPLE).hex() == "2e6fcce36701dc791488e0d0b1745cc1e33a4c1c9fcc41c63bd343dbbe0970e6"


@pytest.mark.spec("L-05")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "did:key:z",
        EXAMPLE.upper(),
        EXAMPLE + "1",
        EXAMPLE[:-1],
        EXAMPLE.replace("z6", "z16"),
        EXAMPLE.replace("did:key:z", "did:key:u"),
        EXAMPLE + " ",
        EXAMPLE.replace("6Mk", "6Mo"),
        "did:key:z" + "1" * 40,
        "did:key:z" + "l" * 40,
        "did:key:z" + "z" * 54,
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2do\u0138",
    ],
)
def test_no_other_text_names_a_key(text: str) -> None:
    with pytest.raises(LedgerError) as caught:
        public_key(text)
    assert caught.value.reason == "identity"


def why_refused(key: bytes) -> str:
    with pytest.raises(LedgerError) as caught:
        require_sound(key)
    assert caught.value.reason == "identity"
    return caught.value.message


@pytest.mark.spec("L-06")
@pytest.mark.parametrize(("text", "order"), SMALL.items())
def test_a_key_of_small_order_is_refused_as_one(text: str, order: int) -> None:
    assert f"small order ({order})" in why_refused(bytes.fromhex(text))


@pytest.mark.spec("L-06")
def test_the_small_orders_are_what_the_table_says() -> None:
    base = bytes.fromhex("58" + "66" * 31)
    for text, order in SMALL.items():
        point = base
        orders = []
        for step in range(1, 9):  # adding a point of order n comes back for the first time after n steps
            point = crypto_core_ed25519_add(point, bytes.fromhex(text))
            if point == base:
                orders.append(step)
        assert orders[0] == order, text


@pytest.mark.spec("L-06")
@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", range(P, 2**255))
def test_each_encoding_beyond_the_prime_is_refused_as_one(y: int, sign: int) -> None:
    assert "not a canonical encoding: its y" in why_refused((y | sign << 255).to_bytes(32, "little"))


@pytest.mark.spec("L-06")
@pytest.mark.parametrize("y", [1, P - 1])
def test_a_zero_with_a_sign_is_refused_as_one(y: int) -> None:
    assert "its sign bit is set" in why_refused((y | 1 << 255).to_bytes(32, "little"))


@pytest.mark.spec("L-06")
@given(st.binary(min_size=32, max_size=32), st.sampled_from(sorted(SMALL)))
def test_a_key_with_a_component_of_small_order_is_refused_as_one(seed: bytes, text: str) -> None:
    sound = bytes(SigningKey(seed).verify_key)
    require_sound(sound)
    if SMALL[text] > 1:
        assert "mixed order" in why_refused(crypto_core_ed25519_add(sound, bytes.fromhex(text)))


@pytest.mark.spec("L-06")
@given(st.integers(0, P - 1))
def test_every_y_is_a_sound_key_or_refused_with_its_reason(y: int) -> None:
    # Half of all y are on no point of the curve; of the rest one in eight is in the prime-order group.
    key = y.to_bytes(32, "little")
    # Euler's criterion over the curve's equation, x^2 = (y^2 - 1) / (d y^2 + 1), independent of libsodium.
    d = -121665 * pow(121666, -1, P) % P
    square = (y * y - 1) * pow(d * y * y + 1, -1, P) % P
    if pow(square, (P - 1) // 2, P) == P - 1:
        assert "not a point on the curve" in why_refused(key)
        return
    try:
        require_sound(key)
    except LedgerError as error:
        assert "small order" in error.message or "mixed order" in error.message


@pytest.mark.spec("L-06")
@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_key_of_another_length_is_refused_as_one(length: int) -> None:
    assert f"{length} bytes" in why_refused(b"\x58" * length)


@pytest.mark.spec("L-06", "L-07")
def test_of_the_twelve_speccheck_cases_none_is_accepted(vectors: Callable[[str], Path]) -> None:
    cases = json.loads((vectors("ed25519") / "speccheck_cases.json").read_text())
    assert len(cases) == 12
    by_signature, accepted, flaws = [], [], []
    for number, case in enumerate(cases):
        key, message = bytes.fromhex(case["pub_key"]), bytes.fromhex(case["message"])
        try:
            require_sound(key)
            flaws.append("")
        except LedgerError as error:
            flaws.append(error.message.removeprefix("the public key ").split(" (")[0].split(":")[0])
        if is_signed(key, message, bytes.fromhex(case["signature"])):
            by_signature.append(number)
            if not flaws[-1]:
                accepted.append(number)
    assert by_signature == [3]  # libsodium's verdict; its key has a component of small order,
    assert accepted == []  # and such keys are not read here
    small, mixed, odd = "has small order", "has mixed order", "is not a canonical encoding"
    assert flaws == [small] * 2 + [mixed] * 4 + [""] * 2 + [mixed] * 2 + [odd] * 2


@pytest.mark.spec("L-06", "L-07")
def test_all_cctv_keys_are_refused_for_the_published_flaw(vectors: Callable[[str], Path]) -> None:
    path = vectors("ed25519") / "cctv_ed25519.json"
    if not path.exists():
        pytest.skip("C2SP/CCTV's ed25519vectors.json is not among the vectors as cctv_ed25519.json")
    cases = json.loads(path.read_text())
    accepted = []
    for case in cases:
        key, flags = bytes.fromhex(case["key"]), set(case["flags"] or ())
        try:
            require_sound(key)
            flaw = ""
        except LedgerError as error:
            flaw = error.message
        for flag, text in (
            ("non_canonical_A", "not a canonical encoding"),
            ("low_order_A", "small order"),
            ("low_order_component_A", "mixed order"),
        ):
            if flag in flags:
                assert text in flaw, case
                break
        else:
            assert flaw == "", case
            if is_signed(key, case["msg"].encode(), bytes.fromhex(case["sig"])):
                accepted.append(case["flags"])
    assert len(cases) == 914 and accepted == [None]


@pytest.mark.spec("L-07")
def test_all_wycheproof_signatures_are_judged_as_published(vectors: Callable[[str], Path]) -> None:
    groups = json.loads((vectors("ed25519") / "wycheproof_ed25519.json").read_text())["testGroups"]
    seen = 0
    for group in groups:
        key = bytes.fromhex(group["publicKey"]["pk"])
        for test in group["tests"]:
            good = is_signed(key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
            assert good == (test["result"] == "valid"), test
            seen += 1
    assert seen == 151


@pytest.mark.spec("L-07")
@given(st.binary(max_size=32), st.binary(max_size=64), st.binary(max_size=64))
def test_no_bytes_make_the_signature_check_raise(key: bytes, message: bytes, signature: bytes) -> None:
    assert not is_signed(key, message, signature)
