"""Keys of the parties: key files, public identities, strict Ed25519, request tokens (docs/FORMATS.md 1 and 8)."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import secrets
import stat
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from . import strict
from .errors import BadInput

FILE_BYTES_MAX = 4096
TOKEN_S = 120
"""How long a token counts, in seconds; the server takes at most 300."""
ROLES = ("patient", "requester", "provider", "sequencer", "operator", "auditor", "device", "log", "witness")

_BEGIN, _END = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
_P = 2**255 - 19
_D = -121665 * pow(121666, -1, _P) % _P
# The y of every point of small order, RFC 7748's curve in Edwards form: orders 4, 1, 2 and 8.
_SMALL_ORDER_Y = {
    0,
    1,
    _P - 1,
    int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
}


def key_id(sign_public: bytes) -> bytes:
    """SHA-256 of an Ed25519 public key."""
    return hashlib.sha256(sign_public).digest()


def _strong_point(point: bytes) -> bool:
    """Whether 32 bytes spell a point canonically and not one of small order (off the curve, nothing verifies)."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return len(point) == 32 and y < _P and y not in _SMALL_ORDER_Y


def _on_curve(point: bytes) -> bool:
    """Whether a point has this y: (y^2 - 1) / (d y^2 + 1) is a square (RFC 8032 5.1.3)."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    u, v = y * y - 1, _D * y * y + 1
    return pow(u * pow(v, -1, _P), (_P - 1) // 2, _P) in (0, 1)


def strong_key(key: bytes) -> bool:
    """Whether 32 bytes can be a public key: a canonical point, on the curve, not of small order."""
    return _strong_point(key) and _on_curve(key)


def verify_strict(sign_public: bytes, message: bytes, signature: bytes) -> bool:
    """Ed25519 after RFC 8032 with canonical points and scalar, and no key or R of small order.

    OpenSSL checks the scalar, that the key is a point and, by comparing encodings, that R is canonical; the rest is
    checked here.
    """
    if len(signature) != 64 or not _strong_point(sign_public) or not _strong_point(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(sign_public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Identity:
    """What others may know of a party: `{"name","role","sign","seal"}`."""

    name: str
    role: str
    sign: bytes
    """Ed25519 public key."""
    seal: bytes | None
    """X25519 public key, where things are sealed to the party."""

    @property
    def key_id(self) -> bytes:
        """SHA-256 of `sign`."""
        return key_id(self.sign)

    @classmethod
    def of(cls, value: object) -> Identity:
        """From parsed JSON, checked."""
        found = strict.fields(value, "public identity", ("name", "role", "sign"), ("seal",))
        name, role = strict.text(found["name"], "name"), strict.text(found["role"], "role")
        sign = strict.key_bytes(found["sign"], "sign")
        seal = None if found.get("seal") is None else strict.key_bytes(found["seal"], "seal")
        if role not in ROLES or len(name.encode()) > 128:
            raise BadInput(f"public identity: {role!r} is no role of a party, or the name is too long")
        if not strong_key(sign):
            raise BadInput("public identity: the Ed25519 key is not canonical or is weak")
        return cls(name, role, sign, seal)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Identity:
        """From a `.pub` file, as `chordae key new` writes it beside the key."""
        return cls.of(strict.loads(pathlib.Path(path).read_text(), str(path)))


class Keys:
    """A party's secret keys: Ed25519 to sign, X25519 to open what is sealed to her."""

    def __init__(self, sign: Ed25519PrivateKey, seal: X25519PrivateKey | None = None) -> None:
        self.sign = sign
        self.seal = seal

    def __repr__(self) -> str:
        return f"Keys({self.key_id.hex()})"

    @property
    def public(self) -> bytes:
        """The Ed25519 public key."""
        return self.sign.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        """The party's key id."""
        return key_id(self.public)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Keys:
        """Reads a key file as `chordae key new` writes it.

        Raises:
            BadInput: if others can read the file (mode 0600 is due), or it is not one Ed25519 block in PKCS#8 and
                at most one X25519 block.
        """
        try:
            with open(path, encoding="ascii") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(FILE_BYTES_MAX + 1)
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"{path}: cannot read the key file: {e}") from None
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadInput(f"{path}: others can read this key; chmod 600 it")
        try:
            return cls.from_pem(text)
        except BadInput as e:
            raise BadInput(f"{path}: {e}") from None

    @classmethod
    def from_pem(cls, text: str) -> Keys:
        """Reads the text of a key file."""
        blocks, rest = [], text.strip()
        while rest and len(text) <= FILE_BYTES_MAX:
            end = rest.find(_END) + len(_END)
            if not rest.startswith(_BEGIN) or end < len(_END):
                raise BadInput("expected a block PRIVATE KEY (PKCS#8, not encrypted)")
            blocks.append(rest[:end])
            rest = rest[end:].lstrip()
        try:
            keys = [load_pem_private_key(block.encode(), None) for block in blocks]
        except (ValueError, TypeError):
            keys = []
        match keys:
            case [Ed25519PrivateKey() as sign]:
                return cls(sign)
            case [Ed25519PrivateKey() as sign, X25519PrivateKey() as seal]:
                return cls(sign, seal)
        raise BadInput("a key file holds one Ed25519 block and at most one X25519 block, in PKCS#8")

    def token(self, origin: str, method: str, target: str, session: str | None = None) -> str:
        """A request token: a JWT for this one request, with a fresh `jti`.

        Args:
            origin: of the server's ledger, as the trust file has it.
            method: e.g. `GET`.
            target: path and query exactly as they are sent.
            session: SID in hex; None when a patient or operator acts for herself.
        """
        now = int(time.time())
        header = {"alg": "EdDSA", "typ": "chordae-request+jwt", "kid": self.key_id.hex()}
        claims: dict[str, object] = {"aud": origin}
        if session is not None:
            claims["sid"] = session
        claims |= {"htm": method, "target": target, "iat": now, "exp": now + TOKEN_S, "jti": secrets.token_hex(16)}
        signed = f"{_part(header)}.{_part(claims)}"
        signature = base64.urlsafe_b64encode(self.sign.sign(signed.encode())).rstrip(b"=").decode()
        return f"{signed}.{signature}"


def _part(value: object) -> str:
    raw = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
