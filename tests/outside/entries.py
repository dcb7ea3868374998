"""Verifies every entry of a ledger with a COSE library, cwt: a COSE_Sign1 by a key that its reader knows.

    entries.py TRUST.json [PARTY.pub ...] FOLDER ...

Providers and sequencers come from the trust file, patients from public identities beside it.
Exit status: 0 every entry is signed by one of them, 3 one is not.
"""

import base64
import hashlib
import json
import pathlib
import sys

import cwt
import tilelog
from cwt.cose_key_interface import COSEKeyInterface

OKP, ED25519, EDDSA, VERIFY = 1, 6, -8, 2


def key_of(identity: dict[str, str]) -> COSEKeyInterface:
    """A party's key as a COSE_Key (RFC 9052 7, RFC 9053 7.2)."""
    public = base64.urlsafe_b64decode(identity["sign"] + "=")
    kid = hashlib.sha256(public).digest()
    return cwt.COSEKey.new({1: OKP, 2: kid, 3: EDDSA, 4: [VERIFY], -1: ED25519, -2: public})


def check(keys: list[COSEKeyInterface], ledger: pathlib.Path) -> str:
    size = int((ledger / "checkpoint").read_text().split("\n")[1])
    for n, entry in enumerate(tilelog.entries(ledger, size)):
        try:
            # By the key that it names, and that one must be known.
            cwt.COSE.new(verify_kid=True).decode(entry, keys)
        except (cwt.CWTError, ValueError) as e:
            raise ValueError(f"entry {n}: {e or type(e).__name__}") from None
    return f"{size} entries, each signed by one of {len(keys)} known keys"


def main(trust: str, *others: str) -> int:
    said = json.loads(pathlib.Path(trust).read_text())
    parties = [json.loads(pathlib.Path(path).read_text()) for path in others if path.endswith(".pub")]
    keys = [key_of(identity) for identity in (*said["providers"], *said["sequencers"], *parties)]
    status = 0
    for folder in others[len(parties) :]:
        try:
            print(f"{folder}: {check(keys, pathlib.Path(folder))}")
        except ValueError as e:
            print(f"{folder}: does not hold: {e}")
            status = 3
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
