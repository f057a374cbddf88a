"""Whose key made an ECDSA signature on secp256k1: recovery alone, of public data, so nothing here runs in constant time.

The curve: https://www.secg.org/sec2-v2.pdf section 2.4.1; recovery: https://www.secg.org/sec1-v2.pdf section 4.1.6.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from agentmesh_ledger.anchor.keccak import keccak256
from agentmesh_ledger.errors import LedgerError

_Point: TypeAlias = tuple[int, int, int]
"""Jacobian coordinates: (x/z^2, y/z^3); z = 0 is the point at infinity."""

_P: Final = 2**256 - 2**32 - 977
_N: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_G: Final[_Point] = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
    1,
)
_NOWHERE: Final[_Point] = (1, 1, 0)
SIGNATURE_SIZE: Final = 65


def recover_address(digest: bytes, signature: bytes) -> bytes:
    """The 20-byte Ethereum address whose key signed the 32-byte digest: r, s and v of 27 or 28, in 65 bytes.

    Only the lower of the two possible s is taken (EIP-2): otherwise anybody could make a second signature of one.
    Raises: LedgerError(usage), and nothing else, whatever the bytes.
    """
    if len(digest) != 32 or len(signature) != SIGNATURE_SIZE:
        raise LedgerError("usage", f"the account's signature has not {SIGNATURE_SIZE} bytes")
    r, s, v = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64]
    if v not in (27, 28):
        raise LedgerError("usage", "the account's signature ends in another byte than 27 and 28")
    if not 0 < r < _N or not 0 < s <= _N // 2:
        raise LedgerError(
            "usage", "the account's signature is out of range: r, or s, which must be the lower one"
        )
    # r is also taken for x itself: that x was r + n happens once in 2^127, and Ethereum knows no v for it.
    square = (pow(r, 3, _P) + 7) % _P
    y = pow(square, (_P + 1) // 4, _P)
    if y * y % _P != square:
        raise LedgerError("usage", "the account's signature is of no key: its r is not on the curve")
    if y & 1 != v - 27:
        y = _P - y
    inverse = pow(r, -1, _N)
    x, y, z = _sum_of_products(-int.from_bytes(digest) * inverse % _N, _G, s * inverse % _N, (r, y, 1))
    if z == 0:
        raise LedgerError("usage", "the account's signature is of no key: it leads to infinity")
    back = pow(z, -1, _P)
    x, y = x * back * back % _P, y * back * back * back % _P
    return keccak256(x.to_bytes(32) + y.to_bytes(32))[12:]


def _sum_of_products(a: int, first: _Point, b: int, second: _Point) -> _Point:
    """a times the first and b times the second point, added, in one run over the bits of both."""
    both = _added(first, second)
    found = _NOWHERE
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        found = _doubled(found)
        which = (a >> bit & 1, b >> bit & 1)
        if which != (0, 0):
            found = _added(found, both if which == (1, 1) else first if which[0] else second)
    return found


def _doubled(point: _Point) -> _Point:
    x, y, z = point
    if z == 0:  # no point of this curve has y = 0
        return _NOWHERE
    square = y * y % _P
    s = 4 * x * square % _P
    m = 3 * x * x % _P
    above = (m * m - 2 * s) % _P
    return above, (m * (s - above) - 8 * square * square) % _P, 2 * y * z % _P


def _added(one: _Point, other: _Point) -> _Point:
    if one[2] == 0:
        return other
    if other[2] == 0:
        return one
    (x1, y1, z1), (x2, y2, z2) = one, other
    z1z1, z2z2 = z1 * z1 % _P, z2 * z2 % _P
    u1, u2 = x1 * z2z2 % _P, x2 * z1z1 % _P
    s1, s2 = y1 * z2 * z2z2 % _P, y2 * z1 * z1z1 % _P
    if u1 == u2:
        return _doubled(one) if s1 == s2 else _NOWHERE
    h, r = u2 - u1, s2 - s1
    hh = h * h % _P
    hhh, v = h * hh % _P, u1 * hh % _P
    x = (r * r - hhh - 2 * v) % _P
    return x, (r * (v - x) - s1 * hhh) % _P, h * z1 * z2 % _P
