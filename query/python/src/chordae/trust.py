"""What a reader trusts: the trust file, and what its log has signed (docs/FORMATS.md 1, 5 and 6).

Trust never comes from what is being checked. The operator exports the file once; the reader keeps it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re

from . import strict
from .errors import BadInput
from .keys import Identity, verify_strict

TEXT_MAX = 1024 * 1024
NOTE_MAX = 64 * 1024
PROOF_MAX = 256 * 1024
NAMES_MAX = 64
PATH_MAX = 64
ENTRY_BYTES_MAX = 65_535
U64 = 2**64 - 1
_ED25519 = b"\x01"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"


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

    @classmethod
    def of(cls, vkey: str) -> Log:
        """Reads the one spelling of an Ed25519 (0x01) verifier key."""
        origin, _, rest = vkey.partition("+")
        digits, _, text = rest.partition("+")
        typed = strict.base64_bytes(text, "verifier key")
        key_hash = hashlib.sha256(origin.encode() + b"\n" + typed).digest()[:4]
        plain = bool(origin) and len(origin.encode()) <= 255 and not any(c.isspace() or ord(c) < 32 for c in origin)
        if not plain or typed[:1] != _ED25519 or len(typed) != 33 or key_hash.hex() != digits:
            raise BadInput(f"{vkey!r} is not a verifier key of type 0x01")
        return cls(origin, typed[1:], key_hash)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A log's size and RFC 6962 root, signed by a trusted key."""

    origin: str
    size: int
    root: bytes


@dataclasses.dataclass(frozen=True)
class Receipt:
    """Where an entry lies in the log, and the checkpoint that covers it."""

    leaf_index: int
    checkpoint: Checkpoint


@dataclasses.dataclass(frozen=True)
class TrustFile:
    """A trust file, read and checked."""

    origin: str
    logs: tuple[Log, ...]
    providers: tuple[Identity, ...]
    sequencers: tuple[Identity, ...]
    ca: str | None
    """PEM of the certificate authority, for TLS only."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TrustFile:
        """Reads `trust.json`.

        Raises:
            BadInput: for what is no trust file, or one whose policy demands what this version cannot check.
        """
        try:
            return cls.parse(pathlib.Path(path).read_text())
        except (OSError, UnicodeDecodeError) as e:
            raise BadInput(f"{path}: cannot read the trust file: {e}") from None
        except BadInput as e:
            raise BadInput(f"{path}: {e}") from None

    @classmethod
    def parse(cls, text: str) -> TrustFile:
        """Reads the text of a trust file."""
        if len(text) > TEXT_MAX:
            raise BadInput("the trust file is longer than 1 MiB")
        found = strict.fields(
            strict.loads(text, "trust file"), "trust file", ("origin", "policy", "providers", "sequencers"), ("ca",)
        )
        origin, logs = strict.text(found["origin"], "origin"), _policy(strict.text(found["policy"], "policy"))
        if any(log.origin != origin for log in logs):
            raise BadInput("trust file: the policy trusts a log of another origin")
        lists = []
        for name, role in (("providers", "provider"), ("sequencers", "sequencer")):
            who = tuple(Identity.of(one) for one in strict.items(found[name], name, NAMES_MAX))
            if any(one.role != role for one in who):
                raise BadInput(f"trust file: one of the {name} is no {role}")
            lists.append(who)
        ca = None if found.get("ca") is None else strict.text(found["ca"], "ca")
        return cls(origin, logs, lists[0], lists[1], ca)

    def provider(self, kid: bytes) -> Identity | None:
        """The trusted provider with this key id."""
        return next((who for who in self.providers if who.key_id == kid), None)


def _policy(text: str) -> tuple[Log, ...]:
    """tlog-policy text; it must end `quorum none`: a policy that cannot be enforced must not be believed to be."""
    if any(c < " " and c not in "\t\n" for c in text):
        raise BadInput("policy: it holds a control character")
    logs: list[Log] = []
    names: set[str] = set()
    quorum: str | None = None
    for line in text.split("\n"):
        words = line.replace("\t", " ").split(" ")
        words = [w for w in words if w]
        match words:
            case []:
                continue
            case [first, *_] if first.startswith("#"):
                continue
            case ["log", vkey] | ["log", vkey, _]:
                logs.append(Log.of(vkey))
            case ["witness", name, _] | ["witness", name, _, _] | ["group", name, _, _, *_] if name not in names:
                names.add(name)
            case ["quorum", name] if quorum is None:
                quorum = name
            case _:
                raise BadInput(f"policy: {line!r} is not a log, witness, group or (one) quorum line")
    if quorum != "none":
        raise BadInput(f"policy: quorum {quorum!r} demands witnesses; not supported yet")
    if not logs or len({log.key for log in logs}) != len(logs) or len(logs) > NAMES_MAX:
        raise BadInput("policy: no log, one twice, or too many")
    return tuple(logs)


def open_checkpoint(text: str, logs: tuple[Log, ...]) -> Checkpoint:
    """The checkpoint in a signed note, if one of these logs has signed it.

    Raises:
        NotTheLogs: for anything else. Signatures of unknown keys are ignored; extension lines are refused.
    """

    def bad(why: str) -> NotTheLogs:
        return NotTheLogs("checkpoint-signature", why)

    at = text.rfind("\n\n")
    body, lines = text[: at + 1], text[at + 2 :]
    if at < 0 or len(text.encode()) > NOTE_MAX or not lines.endswith("\n") or _CONTROL.search(text):
        raise bad("the receipt holds no signed note")
    parts = body.split("\n")
    if len(parts) != 4 or not parts[0] or not _number(parts[1]):
        raise bad("the note is no checkpoint, or has extension lines")
    origin, size = parts[0], int(parts[1])
    try:
        root = strict.base64_bytes(parts[2], "root")
        signatures = [_signature(line) for line in lines[:-1].split("\n")]
    except BadInput as e:
        raise bad(str(e)) from None
    if len(root) != 32 or len(signatures) > 100:
        raise bad("the checkpoint's root is not 32 bytes, or it has too many signatures")
    for log in logs:
        mine = [sig for name, key_hash, sig in signatures if (name, key_hash) == (log.origin, log.key_hash)]
        if origin == log.origin and mine and verify_strict(log.key, body.encode(), mine[0]):
            return Checkpoint(origin, size, root)
    raise bad("the checkpoint is not signed by the trusted log key under the trusted origin")


def _number(digits: str) -> bool:
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


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962: SHA-256(0x00 || entry). Of a create-session entry, the SID."""
    return hashlib.sha256(b"\x00" + entry).digest()


def included(size: int, root: bytes, index: int, leaf: bytes, path: list[bytes]) -> bool:
    """Whether the path leads from leaf `index` to the root of the tree of `size` leaves (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size or len(path) > PATH_MAX:
        return False
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and r == root


def check_receipt(entry: bytes, text: str, trust: TrustFile) -> Receipt:
    """Verifies that an entry lies in the trusted log, by its receipt (tlog-proof text).

    Raises:
        NotTheLogs: if it is not shown.
    """
    head, gap, checkpoint_text = text.partition("\n\n")
    lines = head.split("\n")
    if not gap or len(text) > PROOF_MAX or lines[0] != _PROOF_HEADER:
        raise NotTheLogs("log-root", "not a receipt (tlog-proof)")
    lines = lines[1:]
    try:
        if lines and lines[0].startswith("extra "):
            strict.base64_bytes(lines.pop(0)[6:], "extra")
        word, _, digits = lines.pop(0).partition(" ") if lines else ("", "", "")
        if word != "index" or not _number(digits):
            raise BadInput("the receipt has no index")
        path = [strict.base64_bytes(line, "path") for line in lines]
    except BadInput as e:
        raise NotTheLogs("log-root", f"not a receipt: {e}") from None
    checkpoint = open_checkpoint(checkpoint_text, trust.logs)
    lengths = all(len(node) == 32 for node in path) and len(entry) <= ENTRY_BYTES_MAX
    if not lengths or not included(checkpoint.size, checkpoint.root, int(digits), leaf_hash(entry), path):
        raise NotTheLogs("log-root", f"the inclusion path does not lead from entry {digits} to the log's root")
    return Receipt(int(digits), checkpoint)
