"""Chunk metadata: the JSON of a chunk, read strictly (docs/FORMATS.md 3).

One chunk has one text, but for the spelling of `gain`. What would be written otherwise is refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import uuid
from typing import Any

from . import strict
from .digests import PAGE_NS, Link, check_frame
from .errors import BadInput

META_BYTES_MAX = 1024 * 1024
LEADS_MAX = 32
NAME_BYTES_MAX = 16
TEXT_BYTES_MAX = 128
RATE_HZ_MAX = 10_000
_U64, _U32 = 2**64 - 1, 2**32 - 1
_I64 = (-(2**63), 2**63 - 1)
# fmt: off
_KEYS = (
    "boot", "clock", "did", "end_ns", "first_ns", "index", "jitter_ns", "lane", "leads", "missing", "page_ns", "prev",
    "profile", "rate", "received", "rows", "seq", "slot_len_ns", "slot_start_ns", "v",
)
# fmt: on
_LEAD_KEYS = ("baseline", "bits", "gain", "mdc", "name", "unit")


@dataclasses.dataclass(frozen=True)
class Lead:
    """A lead and what its codes mean: a code is `(code - baseline) / gain` in `unit`."""

    name: str
    """E.g. `I`, `V5`, `MLII`."""
    gain: float
    """ADC codes per unit."""
    baseline: int
    """ADC code of 0 units."""
    unit: str
    """UCUM, e.g. `mV`; marks have `1`."""
    mdc: int
    """ISO/IEEE 11073-10101 code, 0 if none."""

    def same_scale(self, other: Lead) -> bool:
        """Whether codes of both mean the same."""
        return (self.gain, self.baseline, self.unit) == (other.gain, other.baseline, other.unit)


@dataclasses.dataclass(frozen=True)
class ChunkMeta:
    """What a chunk says about itself, as far as a reader of windows needs it."""

    did: bytes
    index: int
    boot: int
    leads: tuple[Lead, ...]
    rate: tuple[int, int]
    """Samples, seconds."""
    clock: str
    """`synced`, `free-running` or `unknown`."""
    seq: tuple[int, int]
    missing: tuple[tuple[int, int], ...]
    """Inclusive ranges of frames inside `seq` that have no row in this chunk."""
    lane: str
    framed: tuple[int, int, int, int, int, bytes]

    @property
    def step_ns(self) -> float:
        """Nanoseconds from one sample to the next."""
        return 1e9 * self.rate[1] / self.rate[0]

    def differs(self, link: Link) -> str | None:
        """The field in which metadata and link differ, if they do."""
        names = ("did", "index", "slot_start_ns", "slot_len_ns", "first_ns", "end_ns", "rows", "prev")
        mine = (self.did, self.index, *self.framed)
        theirs = tuple(getattr(link, name) for name in names)
        return next((name for name, a, b in zip(names, mine, theirs, strict=True) if a != b), None)


class _Float(str):
    """The text of a JSON number with a fraction or an exponent."""


def parse(text: str) -> ChunkMeta:
    """Reads a chunk's metadata.

    Raises:
        BadInput: for a text that is not how these values are written, or values that break a rule.
    """
    what = "chunk metadata"
    if len(text.encode()) > META_BYTES_MAX:
        raise BadInput(f"{what}: too long")
    try:
        value = json.loads(text, parse_float=_Float, parse_constant=_Float)
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{what}: not JSON: {e}") from None
    found = strict.fields(value, what, _KEYS)
    leads, gains = _leads(found["leads"])
    _one_spelling(text, found, gains)
    meta = _meta(found, leads)
    _rules(found, meta)
    return meta


def _leads(value: Any) -> tuple[tuple[Lead, ...], list[str]]:
    leads: list[Lead] = []
    gains: list[str] = []
    for one in strict.items(value, "leads", LEADS_MAX):
        lead = strict.fields(one, "lead", _LEAD_KEYS)
        token = lead["gain"]
        if not isinstance(token, _Float) and type(token) is not int:
            raise BadInput("gain: must be a number")
        try:
            gain = float(token)
        except (ValueError, OverflowError):
            gain = 0.0
        name, unit = strict.text(lead["name"], "lead name"), strict.text(lead["unit"], "unit")
        plain = all(" " <= c < "~" for c in name) and name.strip(" ") == name and name.lower() != "time"
        if not plain or not 1 <= len(name) <= NAME_BYTES_MAX or len(unit.encode()) > TEXT_BYTES_MAX:
            raise BadInput(f"chunk metadata: {name!r} is no lead name, or its unit is too long")
        if any(other.name.lower() == name.lower() for other in leads):
            raise BadInput(f"chunk metadata: lead {name!r} occurs twice")
        if not math.isfinite(gain) or gain == 0:
            raise BadInput(f"chunk metadata: lead {name!r} has no usable gain")
        strict.integer(lead["bits"], "bits", 8, 31)
        baseline = strict.integer(lead["baseline"], "baseline", -(2**31), 2**31 - 1)
        leads.append(Lead(name, gain, baseline, unit, strict.integer(lead["mdc"], "mdc", 0, _U32)))
        gains.append(str(token))
    if not leads:
        raise BadInput("chunk metadata: no lead")
    return tuple(leads), gains


def _one_spelling(text: str, found: dict[str, Any], gains: list[str]) -> None:
    """Writes the values again and compares; only gains keep their text. (A repeated key is lost on the way, too.)"""
    bare = found | {"leads": [lead | {"gain": None} for lead in found["leads"]]}
    pieces = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).split('"gain":null')
    again = pieces[0] + "".join(f'"gain":{gain}{piece}' for gain, piece in zip(gains, pieces[1:], strict=False))
    if again != text:
        raise BadInput("chunk metadata: not how these values are written (keys sorted and unique, no spaces)")


def _meta(found: dict[str, Any], leads: tuple[Lead, ...]) -> ChunkMeta:
    clock = strict.fields(found["clock"], "clock", ("offset_ns", "quality"))
    offset = strict.integer(clock["offset_ns"], "offset_ns", *_I64)
    if clock["quality"] not in ("synced", "free-running", "unknown") or (clock["quality"] == "synced" and offset):
        raise BadInput("chunk metadata: a clock of unknown quality, or a synced one with an offset")
    did = strict.text(found["did"], "did")
    try:
        raw = uuid.UUID(did)
    except ValueError:
        raise BadInput("chunk metadata: did is no UUID") from None
    if str(raw) != did:
        raise BadInput("chunk metadata: did has a second spelling")
    missing = tuple(strict.pair(one, "missing", 0, _U64) for one in strict.items(found["missing"], "missing", 1 << 20))
    times = [strict.integer(found[k], k, *_I64) for k in ("slot_start_ns", "slot_len_ns", "first_ns", "end_ns")]
    rows = strict.integer(found["rows"], "rows", 0, _U32)
    prev = strict.lower_hex(found["prev"], "prev", 32)
    return ChunkMeta(
        did=raw.bytes,
        index=strict.integer(found["index"], "index", 0, _U64),
        boot=strict.integer(found["boot"], "boot", 0, _U64),
        leads=leads,
        rate=strict.pair(found["rate"], "rate", 0, _U32),
        clock=clock["quality"],
        seq=strict.pair(found["seq"], "seq", 0, _U64),
        missing=missing,
        lane=strict.text(found["lane"], "lane"),
        framed=(times[0], times[1], times[2], times[3], rows, prev),
    )


def _rules(found: dict[str, Any], meta: ChunkMeta) -> None:
    """The rules that hold between the fields."""
    start, length, first, end, rows, _ = meta.framed
    check_frame(start, length, first, end, rows)
    num, den = meta.rate
    jitter = strict.pair(found["jitter_ns"], "jitter_ns", *_I64)
    received = strict.pair(found["received"], "received", *_I64)
    last = meta.seq[0]
    inside = True
    for a, b in meta.missing:
        inside = inside and last < a <= b < meta.seq[1]
        last = b + 1
    broken = (
        (strict.integer(found["v"], "v", 0, _U32) != 1, "version is not 1"),
        (strict.integer(found["page_ns"], "page_ns", *_I64) != PAGE_NS, "page_ns is not 10^10"),
        (meta.lane not in ("live", "late") or found["profile"] != "open", "unknown lane or profile"),
        (not (den > 0 and den <= num <= den * RATE_HZ_MAX), "the rate is not 1 to 10,000 Hz"),
        (jitter[0] > jitter[1] or received[0] > received[1], "jitter_ns or received is not [min,max]"),
        (meta.seq[0] > meta.seq[1], "seq is not [first,last]"),
        (not inside, "missing is not made of ascending separate ranges strictly inside seq"),
    )
    for wrong, why in broken:
        if wrong:
            raise BadInput(f"chunk metadata: {why}")
