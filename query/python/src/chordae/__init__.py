"""Pulls windows of ECG streams from a chordae server and verifies every row against its ledger.

    from chordae import Client

    with Client("https://node:8443", key="roe.pem", trust="trust.json", session=sid) as node:
        window = node.pull(did, "2026-11-28T10:00:00Z", "2026-11-28T10:10:00Z").require_proof()
        frame = window.to_pandas()          # index: time (UTC, ns); columns: leads, in window.leads[i].unit

Times are integer ns since 1970, RFC 3339 text or aware datetimes; spans are half-open. What does not match its proof
is never handed out (`Damaged`); what is not proven says so (`window.proven`, `window.unproven_rows`).
"""

from .answer import verify
from .client import Client, Stream
from .digests import NO_VALUE
from .errors import (
    Allowed,
    BadInput,
    Busy,
    ChordaeError,
    Damaged,
    Finding,
    NotFound,
    NotKnown,
    Refused,
    ServerError,
    Unproven,
    Unreachable,
)
from .keys import Identity, Keys
from .live import Hole, LiveEnded, LiveRows
from .meta import Lead
from .trust import TrustFile
from .window import Coverage, Evidence, Gap, Integrity, Window

__version__ = "0.1.0"
__all__ = [
    "NO_VALUE",
    "Allowed",
    "BadInput",
    "Busy",
    "ChordaeError",
    "Client",
    "Coverage",
    "Damaged",
    "Evidence",
    "Finding",
    "Gap",
    "Hole",
    "Identity",
    "Integrity",
    "Keys",
    "Lead",
    "LiveEnded",
    "LiveRows",
    "NotFound",
    "NotKnown",
    "Refused",
    "ServerError",
    "Stream",
    "TrustFile",
    "Unproven",
    "Unreachable",
    "Window",
    "verify",
]
