"""Writes ed25519.json: signatures that lax verifiers and strict ones judge differently.

The cases are those of the public collections (speccheck of "Taming the many EdDSAs", Wycheproof, CCTV), made here from
the arithmetic of RFC 8032 5.1 alone, over the bytes that a ledger entry's signature covers, so that one table serves
both the bare signature and the entry. `python3 ed25519.py > ed25519.json`; it uses nothing but the standard library.

Our rule (docs/FORMATS.md 5): S < L; A and R canonical and not of small order; SB = R + kA without cofactor.
`lax` says whether a verifier that only computes that equation, after reducing S and y, would accept.
"""

import hashlib
import json

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P


def mul(n, point):
    total = (0, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


def neg(point):
    return -point[0] % P, point[1]


def text(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def point_of(data):
    """The point of 32 bytes as a lax reader takes it: y modulo p, any sign of x = 0. None: not on the curve."""
    n = int.from_bytes(data, "little")
    y, sign = (n & (2**255 - 1)) % P, n >> 255
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == -u % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if v * x * x % P != u:
        return None
    return (P - x if x & 1 != sign else x) % P, y


B = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
# A point of order 8: L times a point that is not in the prime subgroup.
TORSION = next(
    t for y in range(2, 99) if (q := point_of(y.to_bytes(32, "little"))) and mul(4, t := mul(L, q)) != (0, 1)
)
ORDERS = {8: TORSION, 4: mul(2, TORSION), 2: mul(4, TORSION), 1: (0, 1)}


def sha512(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def secret(seed):
    head = bytearray(hashlib.sha512(bytes([seed]) * 32).digest()[:32])
    head[0] &= 248
    head[31] = head[31] & 63 | 64
    return int.from_bytes(head, "little")


# ---- a ledger entry: COSE_Sign1 in deterministic CBOR


def head(major, n):
    return bytes([major << 5 | n]) if n < 24 else bytes([major << 5 | 24, n])


def blob(data):
    return head(2, len(data)) + data


def string(words):
    return head(3, len(words)) + words.encode()


def parts(key, n):
    """Protected header and payload of the n-th revoke-session entry under a key."""
    kid = hashlib.sha256(key).digest()
    protected = b"\xa3\x01\x27\x03" + string("application/chordae-event+cbor") + b"\x04" + blob(kid)
    payload = b"\xa3" + string("sid") + blob(bytes(32)) + string("type") + string("revoke-session")
    return protected, payload + string("nonce") + blob(n.to_bytes(16, "big"))


def covered(key, n):
    protected, payload = parts(key, n)
    return b"\x84" + string("Signature1") + blob(protected) + blob(b"") + blob(payload)


def entry(key, n, signature):
    protected, payload = parts(key, n)
    return b"\xd2\x84" + blob(protected) + b"\xa0" + blob(payload) + blob(signature)


# ---- cases

CASES = []


def holds(key, message, signature):
    """SB = R + kA, S and y reduced, nothing else looked at."""
    a, r = point_of(key), point_of(signature[:32])
    if len(key) != 32 or len(signature) != 64 or not a or not r:
        return False
    k = sha512(signature[:32], key, message) % L
    return mul(int.from_bytes(signature[32:], "little") % L, B) == add(r, mul(k, a))


def case(name, why, valid, key, n, signature, message=None):
    message = message or covered(key, n)
    CASES.append({
        "name": name, "why": why, "valid": valid, "lax": holds(key, message, signature),
        "key": key.hex(), "message": message.hex(), "signature": signature.hex(),
        "entry": entry(key, n, signature).hex(),
    })  # fmt: skip


def scalar(n):
    return n.to_bytes(32, "little")


def search(key, r_text, wanted):
    """The first entry whose k is as wanted."""
    return next(n for n in range(10**6) if wanted(sha512(r_text, key, covered(key, n)) % L))


def signed(a, key, r, r_text, n):
    """R of r, S = r + ka."""
    return r_text + scalar((r + sha512(r_text, key, covered(key, n)) % L * a) % L)


def main():
    a, r = secret(1), secret(2)
    key, r_text = text(mul(a, B)), text(mul(r, B))
    good = signed(a, key, r, r_text, 0)
    s = int.from_bytes(good[32:], "little")
    case("valid", "the control", True, key, 0, good)
    other = text(mul(secret(3), B))
    case("valid-other-key", "the control", True, other, 7, signed(secret(3), other, r, r_text, 7))

    for name, more in (("s-plus-l", 1), ("s-plus-2l", 2), ("s-plus-14l", 14)):
        case(name, "S >= L: a second text for one signature", False, key, 0, r_text + scalar(s + more * L))
    case("s-high-bits", "the three high bits of S are not zero", False, key, 0, r_text + scalar(s | 7 << 253))
    zero = search(text(ORDERS[1]), text(ORDERS[1]), lambda k: True)
    case("s-is-l", "S = L stands for 0", False, text(ORDERS[1]), zero, text(ORDERS[1]) + scalar(L))

    for order, t in ORDERS.items():
        small = text(t)
        n = search(small, r_text, lambda k, order=order: k % order == 0)
        many = "A of small order: one signature for many messages"
        case(f"a-order-{order}", many, False, small, n, r_text + scalar(r % L))
        case(f"r-order-{order}", "R of small order", False, key, 0, signed(a, key, 0, small, 0))
        for r_small in dict.fromkeys(text(mul(j, t)) for j in range(order)):
            fits = lambda k, t=t, r_small=r_small: add(mul(k, t), point_of(r_small)) == (0, 1)  # noqa: E731
            n = search(small, r_small, fits)
            name = f"a-and-r-order-{order}-{r_small[:1].hex()}{r_small[31:].hex()}"
            case(name, "A and R of small order, S = 0", False, small, n, r_small + scalar(0))

    without, only = "; the equation holds without cofactor", "; the equation holds with cofactor only"
    mixed = text(add(mul(a, B), TORSION))
    n = search(mixed, r_text, lambda k: k % 8 == 0)
    case("a-mixed-equal", "A of mixed order" + without, True, mixed, n, signed(a, mixed, r, r_text, n))
    n = search(mixed, r_text, lambda k: k % 8 == 1)
    case("a-mixed-cofactor", "A of mixed order" + only, False, mixed, n, signed(a, mixed, r, r_text, n))
    r_mixed = text(add(mul(r, B), TORSION))
    case("r-mixed", "R of mixed order" + only, False, key, 0, signed(a, key, r, r_mixed, 0))
    n = search(mixed, r_mixed, lambda k: k % 8 == 7)
    cancel = signed(a, mixed, r, r_mixed, n)
    case("a-and-r-mixed-equal", "A and R of mixed order cancel out" + without, True, mixed, n, cancel)
    n = search(mixed, r_mixed, lambda k: k % 8 == 3)
    remain = signed(a, mixed, r, r_mixed, n)
    case("a-and-r-mixed-cofactor", "A and R of mixed order" + only, False, mixed, n, remain)

    def other_texts(t):
        """Further texts of a point: y + p where it fits into 255 bits, and the sign of x = 0."""
        for y in (t[1], t[1] + P):
            for sign in (0, 1):
                data = (y | sign << 255).to_bytes(32, "little") if y < 2**255 else None
                if data and data != text(t) and point_of(data) == t:
                    yield data

    for order, t in ((1, ORDERS[1]), (2, ORDERS[2]), (4, ORDERS[4]), (4, neg(ORDERS[4]))):
        for data in other_texts(t):
            name = f"order-{order}-{data[:1].hex()}{data[31:].hex()}"
            n = search(data, r_text, lambda k, order=order: k % order == 0)
            case(f"a-not-canonical-{name}", "a second text for A", False, data, n, r_text + scalar(r % L))
            case(f"r-not-canonical-{name}", "a second text for R", False, key, 0, signed(a, key, 0, data, 0))

    off = next(y.to_bytes(32, "little") for y in range(2, 99) if point_of(y.to_bytes(32, "little")) is None)
    case("a-off-curve", "no point has this y", False, off, 0, good)
    case("r-off-curve", "no point has this y", False, key, 0, off + good[32:])
    case("r-other", "R changed", False, key, 0, other + good[32:])
    case("s-other", "S changed", False, key, 0, r_text + scalar((s + 1) % L))
    case("other-message", "another entry", False, key, 1, good)
    case("other-key", "another key", False, other, 0, good)
    for n in (0, 32, 63, 65):
        case(f"signature-of-{n}", "wrong length", False, key, 0, (good + b"\0")[:n])
    for n in (0, 31, 33):
        case(f"key-of-{n}", "wrong length", False, (key + b"\0")[:n], 0, good)

    plain = (y for y in range(2, 19) if point_of(y.to_bytes(32, "little")))
    keys = [("good", key, True), ("mixed order", mixed, True), ("off the curve", off, False)]
    keys += [(f"y + p for y = {y}", (y + P).to_bytes(32, "little"), False) for y in plain]
    keys += [(f"order {order}", text(t), False) for order, t in ORDERS.items()]
    keys = [{"name": name, "key": data.hex(), "valid": valid} for name, data, valid in keys]
    rule = __doc__.split("\n\n")[2].replace("\n", " ").strip()
    print(json.dumps({"rule": rule, "keys": keys, "signatures": CASES}, indent=1))


main()
