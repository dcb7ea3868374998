"""Ledger entries: events as COSE_Sign1 (docs/FORMATS.md 5), in exactly one encoding."""

from __future__ import annotations

import dataclasses
from typing import Any

from . import cbor
from .errors import BadInput
from .keys import Keys, key_id, strong_key, verify_strict
from .trust import ENTRY_BYTES_MAX

CONTENT_TYPE = "application/chordae-event+cbor"
EDDSA = -8
# Of the types that count something, how many there are at most; at least one.
_COUNTED = {"block": 400, "add-heads": 4096}
U64, U32 = 2**64 - 1, 2**32 - 1

_ROTATING = ("provider", "sequencer", "log", "witness")

# Per type the fields beside `type`: bytes of that length, bytes of any (0), an integer up to (negative), or a word.
_FIELDS: dict[str, dict[str, int | tuple[str, ...]]] = {
    "add-data": {"digest": 32, "tag": 32, "content": 0},
    "add-heads": {"root": 32, "count": -U32},
    "create-session": {"sections": 32, "content": 0, "nonce": 16},
    "revoke-session": {"sid": 32, "nonce": 16},
    "audit-head": {"digest": 32, "count": -U64, "time_ms": -U64},
    "rotate-key": {"role": _ROTATING, "old": 32, "new": 32, "time_ms": -U64},
    "block": {"height": -U64, "prev": 32, "events_root": 32, "first": -U64, "count": -U32, "time_ms": -U64},
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry taken apart: a claim, until `signed_by` says otherwise."""

    kind: str
    """`add-data`, `add-heads`, `create-session`, `revoke-session`, `audit-head`, `rotate-key` or `block`."""
    fields: dict[str, Any]
    """What it says."""
    kid: bytes
    """Key id of who says that they say it."""
    signed: bytes
    signature: bytes

    def signed_by(self, sign_public: bytes) -> bool:
        """Whether this key, which the caller trusts, is the one that is named, and the signature holds, strictly."""
        return key_id(sign_public) == self.kid and verify_strict(sign_public, self.signed, self.signature)


def decode(entry: bytes) -> Entry:
    """Takes an entry apart, strictly; checks no signature.

    Raises:
        BadInput: for anything that is not the one encoding of a known event.
    """
    if len(entry) > ENTRY_BYTES_MAX:
        raise BadInput("ledger entry: longer than 65,535 bytes")
    match cbor.decode(entry):
        case cbor.Tag(18, [bytes() as protected, dict() as unprotected, bytes() as payload, bytes() as signature]):
            pass
        case _:
            raise BadInput("ledger entry: not a COSE_Sign1 with tag 18")
    match cbor.decode(protected):
        case {1: alg, 3: content_type, 4: bytes() as kid, **more}:
            known = (alg, content_type, len(kid), more) == (EDDSA, CONTENT_TYPE, 32, {})
        case _:
            known = False
    if not known or unprotected or len(signature) != 64:
        raise BadInput("ledger entry: its headers or its signature are not those of an event")
    fields = cbor.decode(payload)
    kind = fields.pop("type", None) if isinstance(fields, dict) else None
    wanted = _FIELDS.get(kind) if isinstance(kind, str) else None
    if wanted is None or set(fields) != set(wanted):
        raise BadInput(f"ledger entry: of unknown type {kind!r}, or with other fields than its type has")
    for name, rule in wanted.items():
        _check(name, fields[name], rule)
    if kind in _COUNTED and not 1 <= fields["count"] <= _COUNTED[kind]:
        raise BadInput(f"ledger entry: {kind} counts 1-{_COUNTED[kind]}")
    if kind == "rotate-key" and (not strong_key(fields["new"]) or key_id(fields["new"]) == fields["old"]):
        raise BadInput("ledger entry: the key that comes is weak, or the one that goes")
    signed = cbor.encode(["Signature1", protected, b"", payload])
    return Entry(str(kind), fields, kid, signed, signature)


def _check(name: str, value: Any, rule: int | tuple[str, ...]) -> None:
    if isinstance(rule, tuple):
        fits = isinstance(value, str) and value in rule
    elif rule < 0:
        fits = type(value) is int and 0 <= value <= -rule
    else:
        fits = isinstance(value, bytes) and rule in (0, len(value))
    if not fits:
        raise BadInput(f"ledger entry: {name} has another type or length")


def sign(kind: str, fields: dict[str, Any], keys: Keys) -> bytes:
    """The bytes of a signed entry."""
    protected = cbor.encode({1: EDDSA, 3: CONTENT_TYPE, 4: keys.key_id})
    payload = cbor.encode({"type": kind, **fields})
    signature = keys.sign.sign(cbor.encode(["Signature1", protected, b"", payload]))
    entry = cbor.encode(cbor.Tag(18, [protected, {}, payload, signature]))
    decode(entry)
    return entry
