"""Checks a ledger with sigstore's Python package, whose log Rekor has the same checkpoints and the same tree.

    checkpoint.py TRUST.json FOLDER ...

sigstore reads the checkpoint, verifies its signature, hashes the entries to the root, and leads every single entry to
it by an inclusion proof, as it does for an entry of Rekor. Its parts for that are not public, so the version is pinned
(requirements.txt). Exit status: 0 all of it holds, 3 something does not.
"""

import base64
import json
import pathlib
import sys
from types import SimpleNamespace

import tilelog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sigstore._internal import merkle
from sigstore._internal.rekor.checkpoint import SignedCheckpoint
from sigstore._internal.trust import Keyring
from sigstore._utils import KeyID
from sigstore.errors import Error
from sigstore_models.common import v1


def keyring_of(policy: str) -> tuple[Keyring, KeyID]:
    """The log's key as sigstore holds keys, and the hash by which a note names it (C2SP signed-note)."""
    vkey = next(line.split()[1] for line in policy.splitlines() if line.startswith("log "))
    _, digits, text = vkey.split("+", 2)
    typed = base64.b64decode(text)
    if len(typed) != 33 or typed[0] != 1:
        raise ValueError("the policy's log key is not of type 0x01")
    der = Ed25519PublicKey.from_public_bytes(typed[1:]).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    raw = base64.b64encode(der).decode()
    return Keyring([v1.PublicKey(raw_bytes=raw, key_details=v1.PublicKeyDetails.PKIX_ED25519)]), KeyID(
        bytes.fromhex(digits)
    )


def root_and_paths(leaves: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """RFC 6962 2.1 and 2.1.1, word for word: the root, and per leaf its path."""
    if len(leaves) == 1:
        return leaves[0], [[]]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    (left, lefts), (right, rights) = root_and_paths(leaves[:k]), root_and_paths(leaves[k:])
    root = merkle._hash_children(left, right)
    return root, [[*path, right] for path in lefts] + [[*path, left] for path in rights]


def check(said: dict[str, str], ledger: pathlib.Path) -> str:
    keyring, key_id = keyring_of(said["policy"])
    signed = SignedCheckpoint.from_text((ledger / "checkpoint").read_text())
    signed.signed_note.verify(keyring, key_id)
    mark = signed.checkpoint
    if mark.origin != said["origin"]:
        raise ValueError(f"the checkpoint is of {mark.origin}")
    entries = tilelog.entries(ledger, mark.log_size)
    root, paths = root_and_paths([merkle._hash_leaf(entry) for entry in entries])
    if root.hex() != mark.log_hash:
        raise ValueError("the entries do not give the root of the checkpoint")
    for n, (entry, path) in enumerate(zip(entries, paths, strict=True)):
        proof = SimpleNamespace(log_index=n, tree_size=len(entries), root_hash=root, hashes=path)
        inner = SimpleNamespace(inclusion_proof=proof, canonicalized_body=entry)
        merkle.verify_merkle_inclusion(SimpleNamespace(_inner=inner))
    return f"{len(entries)} entries, signed by {mark.origin}, each of them included"


def main(trust: str, *folders: str) -> int:
    said = json.loads(pathlib.Path(trust).read_text())
    status = 0
    for folder in folders:
        try:
            print(f"{folder}: {check(said, pathlib.Path(folder))}")
        except (Error, ValueError) as e:
            print(f"{folder}: does not hold: {e}")
            status = 3
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
