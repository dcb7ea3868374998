"""What is hashed: pages, leaves, links (docs/FORMATS.md 4)."""

from __future__ import annotations

import dataclasses
import struct
import uuid

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from .errors import BadInput

PAGE_NS = 10**10
SLOT_NS_MAX = 3_600 * 10**9
NO_VALUE = -(2**31)
"""The code that means: no value."""
LINK_BYTES = 168
ROWS_MAX = 1_048_576 + 65_536

Times = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


def dk(context: str, data: bytes) -> bytes:
    """BLAKE3 in derive_key mode, 32 bytes."""
    return blake3(data, derive_key_context=context).digest()


@dataclasses.dataclass(frozen=True)
class Link:
    """The record of a chunk in the chain of its stream. Times in ns since 1970."""

    did: bytes
    index: int
    slot_start_ns: int
    slot_len_ns: int
    first_ns: int
    end_ns: int
    rows: int
    file_root: bytes
    pages_root: bytes
    prev: bytes
    digest: bytes

    @classmethod
    def decode(cls, raw: bytes) -> Link:
        """Reads 168 bytes; what could be no link is refused."""
        if len(raw) != LINK_BYTES or raw[:8] != b"CHLINK01" or raw[68:72] != bytes(4):
            raise BadInput("not a link")
        index, start, length, first, end, rows = struct.unpack(">QqqqqI", raw[24:68])
        check_frame(start, length, first, end, rows)
        return cls(
            raw[8:24], index, start, length, first, end, rows,
            raw[72:104], raw[104:136], raw[136:168], dk("chordae v1 link", raw),
        )  # fmt: skip

    def meets(self, from_ns: int, until_ns: int) -> bool:
        """Whether its rows' span meets `[from_ns, until_ns)`."""
        return self.first_ns < until_ns and from_ns < self.end_ns

    @property
    def name(self) -> str:
        """Its chunk's object name."""
        return object_name(self.did, self.index)

    def provable_pages(self, from_ns: int, until_ns: int) -> range:
        """The pages of its chunk that lie wholly inside a window and meet its rows."""
        start = self.slot_start_ns
        first = max(-((start - from_ns) // PAGE_NS), (self.first_ns - start) // PAGE_NS, 0)
        last = min((until_ns - start) // PAGE_NS, -((start - self.end_ns) // PAGE_NS))
        return range(first, max(first, last))


def check_frame(start: int, length: int, first: int, end: int, rows: int) -> None:
    """The rules that a slot, its span of rows and their number obey."""
    whole = PAGE_NS <= length <= SLOT_NS_MAX and length % PAGE_NS == 0 and start % length == 0
    if not whole or start + length >= 2**63 or not start <= first < end <= start + length or not 1 <= rows <= ROWS_MAX:
        raise BadInput("slot, span and rows of a chunk do not fit each other")


def object_name(did: bytes, index: int) -> str:
    """`chunks/{did}/{index / 1000}/{index}.parquet`."""
    return f"chunks/{uuid.UUID(bytes=did)}/{index // 1000:07d}/{index:010d}.parquet"


def genesis(did: bytes) -> bytes:
    """`prev` of the first link."""
    return dk("chordae v1 genesis", did)


def tag(did: bytes, index: int) -> bytes:
    """By which whoever knows the did finds its event."""
    return dk("chordae v1 tag", did + struct.pack(">Q", index))


def col_times(salt: bytes, times: Times) -> bytes:
    """Digest of a page's times."""
    return dk("chordae v1 times", salt + struct.pack("<I", len(times)) + times.astype("<i8", copy=False).tobytes())


def col_lead(salt: bytes, codes: Codes) -> bytes:
    """Digest of a lead's codes in a page."""
    return dk("chordae v1 lead", salt + struct.pack("<I", len(codes)) + codes.astype("<i4", copy=False).tobytes())


def leaf(cols: list[bytes]) -> bytes:
    """Digest of a page."""
    return dk("chordae v1 page", b"".join(cols))


def pages_root(meta: str, leaves: list[bytes]) -> bytes:
    """Digest of a chunk's metadata and pages, as its link has it."""
    return dk("chordae v1 pages", dk("chordae v1 meta", meta.encode()) + b"".join(leaves))
