"""What a reader trusts: the trust file, and what its log has signed (docs/FORMATS.md 1, 5 and 6).

Trust never comes from what is being checked. The operator exports the file once; the reader keeps it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping

from . import strict
from .errors import BadInput
from .keys import Identity
from .policy import NAMES_MAX, U64, Checkpoint, Cosigned, NotTheLogs, Policy, number

TEXT_MAX = 1024 * 1024
PROOF_MAX = 256 * 1024
PATH_MAX = 64
RETIRED_MAX = 4096
ENTRY_BYTES_MAX = 65_535
_PROOF_HEADER = "c2sp.org/tlog-proof@v1"


@dataclasses.dataclass(frozen=True)
class Receipt:
    """Where an entry lies in the log, and the checkpoint that covers it."""

    leaf_index: int
    checkpoint: Checkpoint
    cosigned: tuple[Cosigned, ...]
    """The witnesses of the policy that have cosigned the checkpoint."""
    lacks: str | None
    """What the policy's quorum still lacks, for people; then nothing is wrong, and nothing is proven."""


@dataclasses.dataclass(frozen=True)
class TrustFile:
    """A trust file, read and checked."""

    origin: str
    policy: Policy
    """Which signatures make a checkpoint count."""
    providers: tuple[Identity, ...]
    sequencers: tuple[Identity, ...]
    ca: str | None
    """PEM of the certificate authority, for TLS only."""
    retired: Mapping[bytes, int] = dataclasses.field(default_factory=dict)
    """Keys that were replaced, by key id, each with the size of the log up to which it counts."""

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> TrustFile:
        """Reads `trust.json`.

        Raises:
            BadInput: for what is no trust file.
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
            strict.loads(text, "trust file"),
            "trust file",
            ("origin", "policy", "providers", "sequencers"),
            ("ca", "retired"),
        )
        origin, policy = strict.text(found["origin"], "origin"), Policy.parse(strict.text(found["policy"], "policy"))
        if any(log.origin != origin for log in policy.logs):
            raise BadInput("trust file: the policy trusts a log of another origin")
        lists = []
        for name, role in (("providers", "provider"), ("sequencers", "sequencer")):
            who = tuple(Identity.of(one) for one in strict.items(found[name], name, NAMES_MAX))
            if any(one.role != role for one in who):
                raise BadInput(f"trust file: one of the {name} is no {role}")
            lists.append(who)
        ca = None if found.get("ca") is None else strict.text(found["ca"], "ca")
        retired = _retired(found.get("retired", []))
        return cls(origin, policy.retiring(retired), lists[0], lists[1], ca, retired)

    def provider(self, kid: bytes) -> Identity | None:
        """The trusted provider with this key id."""
        return next((who for who in self.providers if who.key_id == kid), None)

    def in_force_now(self) -> Identity | None:
        """The provider whose key was not replaced: to it things are sealed."""
        return next((who for who in self.providers if who.key_id not in self.retired), None)

    def in_force(self, kid: bytes, leaf: int) -> bool:
        """Whether what this key signed as entry `leaf` of the log counts, as far as its retirement goes."""
        return leaf < self.retired.get(kid, leaf + 1)


def _retired(value: object) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    for item in strict.items(value, "retired", RETIRED_MAX):
        one = strict.fields(item, "retired", ("key", "size"))
        key = strict.lower_hex(one["key"], "key", 32)
        if key in found:
            raise BadInput("trust file: a key is retired twice")
        found[key] = strict.integer(one["size"], "size", 0, U64)
    return found


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
    """Verifies that an entry lies in the trusted log, by its receipt (tlog-proof text). Look at its `lacks`.

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
        if word != "index" or not number(digits):
            raise BadInput("the receipt has no index")
        path = [strict.base64_bytes(line, "path") for line in lines]
    except BadInput as e:
        raise NotTheLogs("log-root", f"not a receipt: {e}") from None
    opened = trust.policy.open(checkpoint_text)
    checkpoint = opened.checkpoint
    lengths = all(len(node) == 32 for node in path) and len(entry) <= ENTRY_BYTES_MAX
    if not lengths or not included(checkpoint.size, checkpoint.root, int(digits), leaf_hash(entry), path):
        raise NotTheLogs("log-root", f"the inclusion path does not lead from entry {digits} to the log's root")
    return Receipt(int(digits), checkpoint, opened.cosigned, opened.lacks)
