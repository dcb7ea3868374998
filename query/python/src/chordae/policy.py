"""Which signatures make a checkpoint count: the log's, and those of witnesses (C2SP tlog-policy, tlog-cosignature).

A checkpoint that the log has signed and too few witnesses have cosigned is not damaged: cosignatures may come. What
is proven by it is at best unanchored.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping

from . import strict
from .errors import BadInput
from .keys import strong_key, verify_strict

TEXT_MAX = 1024 * 1024
NOTE_MAX = 64 * 1024
SIGNATURES_MAX = 100
NAMES_MAX = 64
NAME_BYTES_MAX = 255
TIME_S_MAX = 2**63 - 1
U64 = 2**64 - 1
_LOG, _WITNESS = 0x01, 0x04
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NOT_IN_A_POLICY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class NotTheLogs(Exception):
    """A receipt that does not hold; `code` is the finding's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclasses.dataclass(frozen=True)
class Log:
    """A log and its key, from a C2SP verifier key `origin+hash+base64`."""

    origin: str
    key: bytes
    key_hash: bytes
    until: int | None = None
    """Largest size that it may sign; None while it is in force."""

    @classmethod
    def of(cls, vkey: str) -> Log:
        """Reads the one spelling of an Ed25519 (0x01) verifier key."""
        return cls(*_verifier_key(vkey, _LOG))


@dataclasses.dataclass(frozen=True)
class Witness:
    """A witness: its name in the policy, and its key from a C2SP verifier key `signing name+hash+base64`."""

    name: str
    signs_as: str
    key: bytes
    key_hash: bytes
    until: int | None = None
    """Largest size that it may cosign; None while it is in force."""

    @classmethod
    def of(cls, name: str, vkey: str) -> Witness:
        """Reads the one spelling of an Ed25519 cosignature (0x04) verifier key."""
        return cls(name, *_verifier_key(vkey, _WITNESS))


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A log's size and RFC 6962 root, signed by a trusted key."""

    origin: str
    size: int
    root: bytes


@dataclasses.dataclass(frozen=True)
class Cosigned:
    """Who has cosigned a checkpoint, and when."""

    witness: str
    """The witness's name in the policy."""
    time_s: int
    """Seconds since 1970 by its clock."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A checkpoint that a trusted log has signed."""

    checkpoint: Checkpoint
    cosigned: tuple[Cosigned, ...]
    """The witnesses of the policy that have cosigned it."""
    lacks: str | None
    """What the quorum lacks, for people; None if the checkpoint counts."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """A policy, read and checked."""

    logs: tuple[Log, ...]
    witnesses: tuple[Witness, ...] = ()
    groups: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    """Name, threshold and members; each names only what stands before it."""
    quorum: str | None = None
    """Who must have cosigned; None where nobody must."""

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Reads tlog-policy text.

        Raises:
            BadInput: naming the line that is wrong.
        """
        if len(text) > TEXT_MAX or _NOT_IN_A_POLICY.search(text):
            raise BadInput("policy: too long, or it holds a control character")
        logs: list[Log] = []
        witnesses: list[Witness] = []
        groups: list[tuple[str, int, tuple[str, ...]]] = []
        free: dict[str, bool] = {}
        quorum: str | None = None
        for line in text.split("\n"):
            words = [word for word in line.replace("\t", " ").split(" ") if word]
            match words:
                case []:
                    continue
                case [first, *_] if first.startswith("#"):
                    continue
                case ["log", vkey] | ["log", vkey, _]:
                    logs.append(Log.of(vkey))
                case ["witness", name, vkey] | ["witness", name, vkey, _] if name not in free and name != "none":
                    witnesses.append(Witness.of(name, vkey))
                    free[name] = True
                case ["group", name, k, *members] if name not in free and name != "none":
                    groups.append((name, _threshold(k, len(members)), tuple(members)))
                    for member in members:
                        if not free.get(member, False):
                            raise BadInput(f"policy: {member!r} is not defined above, or a member twice")
                        free[member] = False
                    free[name] = True
                case ["quorum", name] if quorum is None and (name in free or name == "none"):
                    quorum = name
                case _:
                    raise BadInput(f"policy: {line!r} is no log, witness, group or (one) quorum line, or takes a name")
        if quorum is None or not logs:
            raise BadInput("policy: there is no quorum line, or no log")
        keys = [log.key for log in logs] + [witness.key for witness in witnesses]
        if len(set(keys)) != len(keys) or max(len(logs), len(witnesses), len(groups)) > NAMES_MAX:
            raise BadInput("policy: a key occurs twice, or there are too many logs, witnesses or groups")
        return cls(tuple(logs), tuple(witnesses), tuple(groups), None if quorum == "none" else quorum)

    def retiring(self, retired: Mapping[bytes, int]) -> Policy:
        """The same, with some keys, by their key ids, counting for checkpoints up to a size only."""

        def until(one: Log | Witness) -> int | None:
            return retired.get(hashlib.sha256(one.key).digest())

        logs = tuple(dataclasses.replace(log, until=until(log)) for log in self.logs)
        witnesses = tuple(dataclasses.replace(witness, until=until(witness)) for witness in self.witnesses)
        return dataclasses.replace(self, logs=logs, witnesses=witnesses)

    def open(self, text: str) -> Opened:
        """The checkpoint in a signed note, if one of the logs has signed it, and who has cosigned it.

        Signatures of unknown keys are ignored; extension lines are refused. A cosignature that does not hold counts
        for nothing and against nothing.

        Raises:
            NotTheLogs: for anything else.
        """
        checkpoint, body, signatures = _note(text)

        def of(name: str, key_hash: bytes) -> bytes:
            return next((sig for n, h, sig in signatures if (n, h) == (name, key_hash)), b"")

        signers = [
            log
            for log in self.logs
            if log.origin == checkpoint.origin and verify_strict(log.key, body, of(log.origin, log.key_hash))
        ]
        if signers and not any(_in_force(log, checkpoint) for log in signers):
            raise _bad(f"the log key that signed the checkpoint was retired at size {signers[0].until}")
        if not signers:
            raise _bad("the checkpoint is not signed by the trusted log key under the trusted origin")
        cosigned = []
        for witness in self.witnesses:
            timed = of(witness.signs_as, witness.key_hash)
            time_s = int.from_bytes(timed[:8], "big")
            message = f"cosignature/v1\ntime {time_s}\n".encode() + body
            if not _in_force(witness, checkpoint):
                continue
            if time_s <= TIME_S_MAX and verify_strict(witness.key, message, timed[8:]):
                cosigned.append(Cosigned(witness.name, time_s))
        return Opened(checkpoint, tuple(cosigned), self._lacks({one.witness for one in cosigned}))

    def _lacks(self, cosigned: set[str]) -> str | None:
        if self.quorum is None:
            return None
        known = {w.name: None if w.name in cosigned else w.name for w in self.witnesses}
        for name, threshold, members in self.groups:
            lacking = [word for word in (known[member] for member in members) if word is not None]
            short = threshold - (len(members) - len(lacking))
            known[name] = f"{short} of {name} ({', '.join(lacking)})" if short > 0 else None
        return known[self.quorum]


def _in_force(one: Log | Witness, checkpoint: Checkpoint) -> bool:
    return one.until is None or checkpoint.size <= one.until


def _threshold(k: str, members: int) -> int:
    threshold = {"any": 1, "all": members}.get(k, int(k) if number(k) else 0)
    if not 1 <= threshold <= members:
        raise BadInput("policy: a group has no usable threshold")
    return threshold


def _verifier_key(vkey: str, kind: int) -> tuple[str, bytes, bytes]:
    """Name, key and key hash of a verifier key of this type, in its one spelling."""
    name, _, rest = vkey.partition("+")
    digits, _, text = rest.partition("+")
    typed = strict.base64_bytes(text, "verifier key")
    key_hash = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    fits = bool(name) and len(name.encode()) <= NAME_BYTES_MAX and not any(c.isspace() or ord(c) < 32 for c in name)
    strong = len(typed) == 33 and typed[0] == kind and strong_key(typed[1:])
    if not fits or not strong or key_hash.hex() != digits:
        raise BadInput(f"{vkey!r} is not a verifier key of type {kind:#04x} in its one spelling")
    return name, typed[1:], key_hash


def _bad(why: str) -> NotTheLogs:
    return NotTheLogs("checkpoint-signature", why)


def _note(text: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes, bytes]]]:
    """The checkpoint in a note, the bytes that are signed, and the signatures: name, key hash, signature."""
    at = text.rfind("\n\n")
    body, lines = text[: at + 1], text[at + 2 :]
    if at < 0 or len(text.encode()) > NOTE_MAX or not lines.endswith("\n") or _CONTROL.search(text):
        raise _bad("the receipt holds no signed note")
    parts = body.split("\n")
    if len(parts) != 4 or not parts[0] or not number(parts[1]):
        raise _bad("the note is no checkpoint, or has extension lines")
    try:
        root = strict.base64_bytes(parts[2], "root")
        signatures = [_signature(line) for line in lines[:-1].split("\n")]
    except BadInput as e:
        raise _bad(str(e)) from None
    if len(root) != 32 or len(signatures) > SIGNATURES_MAX:
        raise _bad("the checkpoint's root is not 32 bytes, or it has too many signatures")
    return Checkpoint(parts[0], int(parts[1]), root), body.encode(), signatures


def number(digits: str) -> bool:
    """Whether this is the one spelling of an unsigned 64-bit number."""
    plain = digits.isascii() and digits.isdigit() and len(digits) <= 20
    return plain and str(int(digits)) == digits and int(digits) <= U64


def _signature(line: str) -> tuple[str, bytes, bytes]:
    if not line.startswith("— "):
        raise BadInput("a signature line of the note is malformed")
    name, _, text = line[2:].partition(" ")
    raw = strict.base64_bytes(text, "signature")
    if not name or "+" in name or len(raw) < 5:
        raise BadInput("a signature line of the note is malformed")
    return name, raw[:4], raw[4:]
