"""A patient's grants: session records, sealed and signed by her own key (docs/FORMATS.md 1 and 7)."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from . import cbor, event
from .digests import PAGE_NS
from .errors import BadInput
from .keys import Identity, Keys
from .times import Instant, to_ns
from .trust import leaf_hash

NO_INVENTORY = bytes(32)
PURPOSE_BYTES_MAX = 1024
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


@dataclasses.dataclass(frozen=True)
class Terms:
    """What is allowed of one stream: `[from_ns, until_ns)`, None for no bound; leads, None for all."""

    did: bytes
    from_ns: int | None
    until_ns: int | None
    leads: tuple[str, ...] | None


def seal(to: bytes, purpose: str, plain: bytes) -> bytes:
    """HPKE base mode to an X25519 key: `enc || ciphertext`."""
    return _SUITE.encrypt(plain, X25519PublicKey.from_public_bytes(to), b"chordae v1 " + purpose.encode())


def unseal(secret: X25519PrivateKey, purpose: str, sealed: bytes) -> bytes:
    """Opens what was sealed to a key for this purpose."""
    return _SUITE.decrypt(sealed, secret, b"chordae v1 " + purpose.encode())


def bounds(from_: Instant | None, until: Instant | None, exact: bool) -> tuple[int | None, int | None]:
    """The bounds of a grant, rounded inwards to whole pages unless they are to be kept."""
    start = None if from_ is None else to_ns(from_)
    end = None if until is None else to_ns(until)
    if not exact:
        start = None if start is None else -(-start // PAGE_NS) * PAGE_NS
        end = None if end is None else end // PAGE_NS * PAGE_NS
    if start is not None and end is not None and start >= end:
        raise BadInput("no whole page of 10 s lies inside: grant a longer window, or use exact")
    return start, end


def make(
    patient: Keys, provider: bytes, requester: Identity, grants: list[Terms], expires_ns: int | None, purpose: str
) -> tuple[str, bytes]:
    """A session: its id and the body of `POST /v1/sessions`."""
    if patient.seal is None or requester.seal is None:
        raise BadInput("patient and requester need key files with an X25519 key")
    if len(purpose.encode()) > PURPOSE_BYTES_MAX or any(g.leads == () for g in grants):
        raise BadInput("the purpose is over 1024 bytes, or a grant is of no leads")
    own = patient.seal.public_key().public_bytes_raw()
    allowed: list[Any] = [
        [g.did, {}, "", g.from_ns, g.until_ns, None if g.leads is None else list(g.leads)] for g in grants
    ]
    plain: list[Any] = [patient.public, requester.sign, expires_ns, purpose, allowed]
    ksec = secrets.token_bytes(32)
    ciphertext = ChaCha20Poly1305(ksec).encrypt(bytes(12), cbor.encode(plain), None)
    section = [NO_INVENTORY, ciphertext, *(seal(to, "ksec", ksec) for to in (provider, requester.seal, own))]
    fields = {
        "sections": hashlib.sha256(cbor.encode([section])).digest(),
        "content": seal(own, "create-session", cbor.encode([plain])),
        "nonce": secrets.token_bytes(16),
    }
    entry = event.sign("create-session", fields, patient)
    sid = leaf_hash(entry)
    return sid.hex(), cbor.encode([entry, [sid, [section]]])


def revocation(patient: Keys, sid: str) -> bytes:
    """The signed entry that ends a session."""
    return event.sign("revoke-session", {"sid": bytes.fromhex(sid), "nonce": secrets.token_bytes(16)}, patient)
