"""Rows as they become durable, before they are sealed: server-sent events, marked `open`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import strict
from .digests import NO_VALUE, Codes, Times
from .errors import BadInput, ChordaeError, Damaged, damaged
from .meta import LEADS_MAX, RATE_HZ_MAX, Lead

EVENT_BYTES_MAX = 64 * 1024**2
"""The longest frame, 65,536 samples of 32 leads, is below it."""
ROWS_MAX = 65_536
_I64 = (-(2**63), 2**63 - 1)
_U64 = 2**64 - 1


class LiveEnded(ChordaeError):
    """The server ended a live answer: `code` is `revoked`, `slow`, `stopped` or `failed`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        """Why."""


@dataclasses.dataclass(frozen=True)
class LiveRows:
    """Rows of one frame, acknowledged and **not proven**: they are in no chunk yet. `pull` them later for the proof."""

    id: str
    """Give it as `after` to go on behind this frame."""
    boot: int
    seq: int
    late: bool
    """Whether they were recorded earlier than sent."""
    rate: tuple[int, int]
    """Samples, seconds."""
    leads: tuple[Lead, ...]
    """The leads, with what their codes mean."""
    times: Times
    """Time of each row, ns since 1970."""
    codes: tuple[Codes, ...]
    """Per lead the ADC code of each row; `NO_VALUE` where there is none."""

    def __len__(self) -> int:
        return len(self.times)

    def physical(self, lead: str | int) -> npt.NDArray[np.float64]:
        """One lead in its unit, nan where there is no value."""
        names = [one.name for one in self.leads]
        if isinstance(lead, str) and lead not in names:
            raise BadInput(f"no lead {lead!r}, only {', '.join(names)}")
        place = names.index(lead) if isinstance(lead, str) else lead
        values = (self.codes[place].astype(np.float64) - self.leads[place].baseline) / self.leads[place].gain
        values[self.codes[place] == NO_VALUE] = np.nan
        return values


@dataclasses.dataclass(frozen=True)
class Hole:
    """Rows that this live answer does not have: `pull` the window later."""

    code: str
    """`older`, `not-here` or `later-than-now`."""
    detail: str


@dataclasses.dataclass
class _Event:
    name: str = ""
    id: str = ""
    data: str = ""


def events(pieces: Iterable[bytes]) -> Iterator[_Event]:
    """Server-sent events from the bytes of a body, each at most `EVENT_BYTES_MAX`."""
    event, rest = _Event(), bytearray()
    for piece in pieces:
        rest += piece
        if b"\n" not in piece and len(rest) <= EVENT_BYTES_MAX:
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        if len(rest) > EVENT_BYTES_MAX or any(len(line) > EVENT_BYTES_MAX for line in lines):
            raise damaged("live", "metadata", "an event is longer than any frame's")
        for line in lines:
            text = line.rstrip(b"\r").decode("utf-8", "replace")
            if not text:
                if event.data:
                    yield event
                event = _Event()
                continue
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                event.name = value
            elif field == "id":
                event.id = value
            elif field == "data":
                if event.data:
                    raise damaged("live", "metadata", "an event has two data lines")
                event.data = value


class Reading:
    """Turns events into rows and holes; what is not as it should be is `Damaged`."""

    def __init__(self, leads: tuple[str, ...] | None) -> None:
        self._asked = leads
        self._boot = -1
        self._rate = (0, 0)
        self._leads: tuple[Lead, ...] = ()

    def take(self, event: _Event) -> LiveRows | Hole | None:
        """What an event says, if it is something for the reader.

        Raises:
            LiveEnded: for the server's end.
        """
        try:
            said = strict.loads(event.data, "live")
            if not isinstance(said, dict):
                raise BadInput("not an object")
            match event.name:
                case "rows":
                    return self._rows(event.id, said)
                case "birth":
                    self._birth(said)
                case "hole":
                    return Hole(strict.text(said.get("code"), "code"), strict.text(said.get("detail"), "detail"))
                case "end":
                    raise LiveEnded(strict.text(said.get("code"), "code"), strict.text(said.get("detail"), "detail"))
        except (BadInput, KeyError) as e:
            raise Damaged(damaged("live", "metadata", f"event {event.name!r}: {e}").findings) from None
        return None

    def _birth(self, said: dict[str, Any]) -> None:
        leads = []
        for one in strict.items(said["leads"], "leads", LEADS_MAX):
            gain = one["gain"]
            if isinstance(gain, bool) or not isinstance(gain, int | float) or gain == 0:
                raise BadInput("a lead has no usable gain")
            baseline = strict.integer(one["baseline"], "baseline", -(2**31), 2**31 - 1)
            mdc = strict.integer(one["mdc"], "mdc", 0, 2**32 - 1)
            name, unit = strict.text(one["name"], "name"), strict.text(one["unit"], "unit")
            leads.append(Lead(name, float(gain), baseline, unit, mdc))
        names = [lead.name for lead in leads]
        if len(set(names)) != len(names) or (self._asked is not None and set(names) != set(self._asked)):
            raise BadInput("a lead twice, or not those that were asked for")
        num, den = strict.pair(said["rate"], "rate", 1, 2**32 - 1)
        if not den <= num <= den * RATE_HZ_MAX:
            raise BadInput("the rate is not 1 to 10,000 Hz")
        self._boot, self._rate, self._leads = strict.integer(said["boot"], "boot", 0, _U64), (num, den), tuple(leads)

    def _rows(self, name: str, said: dict[str, Any]) -> LiveRows:
        boot, seq = strict.integer(said["boot"], "boot", 0, _U64), strict.integer(said["seq"], "seq", 0, _U64)
        if boot != self._boot or name != f"{boot}.{seq}" or said["integrity"] != "open":
            raise BadInput("rows of a boot without its birth, or not marked open")
        first = strict.integer(said["first_ns"], "first_ns", *_I64)
        times = _integers(said["after_ns"], "after_ns", 2**62)
        times += first
        codes = tuple(_integers(said["leads"][lead.name], lead.name, 2**31).astype(np.int32) for lead in self._leads)
        if set(said["leads"]) != {lead.name for lead in self._leads} or any(len(c) != len(times) for c in codes):
            raise BadInput("leads and times do not fit each other")
        if (np.diff(times) <= 0).any():
            raise BadInput("rows out of order")
        return LiveRows(name, boot, seq, said["lane"] == "late", self._rate, self._leads, times, codes)


def _integers(value: Any, what: str, below: int) -> npt.NDArray[np.int64]:
    """A JSON array of integers in `[-below, below)`; null is no value."""
    found = np.array([NO_VALUE if one is None else one for one in strict.items(value, what, ROWS_MAX)])
    if len(found) and (found.dtype != np.int64 or found.min() < -below or found.max() >= below):
        raise BadInput(f"{what}: must be integers")
    return found.astype(np.int64)
