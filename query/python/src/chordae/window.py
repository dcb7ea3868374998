"""A verified window of a stream, and the shapes in which tools want it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import times
from .digests import NO_VALUE, Codes, Times
from .errors import BadInput, Unproven
from .meta import Lead
from .trust import Receipt

if TYPE_CHECKING:
    import mne
    import pandas
    import polars

Unit = Literal["physical", "codes"]
_PER_VOLT = {"V": 1.0, "mV": 1e3, "uV": 1e6, "µV": 1e6, "nV": 1e9}


class Integrity(enum.Enum):
    """How far the rows are proven. (Damaged ones are never handed out.)"""

    ANCHORED = "anchored"
    """They lead, over digests, to an entry in the trusted ledger."""
    LINKED = "linked"
    """They agree with their own proof, but nothing leads to a trusted ledger: not anchored or not cosigned yet, or no
    trust file."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """A span of the window `[from_ns, until_ns)` without rows."""

    from_ns: int
    until_ns: int

    @property
    def seconds(self) -> float:
        """Its length in s."""
        return (self.until_ns - self.from_ns) / 1e9


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of the window is there, computed from the proof and not taken from the server's word."""

    covered_ns: int
    """Nanoseconds of the window inside some chunk's `[first_ns, end_ns)`."""
    window_ns: int
    """Nanoseconds of the window."""
    chunks: int
    """Chunks that meet it."""
    missing_frames: int
    """Frames that the chunks name as missing and no chunk of the window holds: what the device never delivered."""

    @property
    def share(self) -> float:
        """Covered part, 0 to 1."""
        return self.covered_ns / self.window_ns


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The bytes as they came: with both and a trust file anybody can verify again (`chordae verify`)."""

    answer: bytes
    """Arrow IPC stream."""
    bundle: bytes
    """Proof bundle, JSON."""


@dataclasses.dataclass(frozen=True, repr=False)
class Window:
    """Rows of a stream that agree with their proof.

    >>> window.integrity, window.unproven_rows        # doctest: +SKIP
    (<Integrity.ANCHORED: 'anchored'>, 0)
    >>> window.to_pandas()["MLII"].max()              # in window.leads[0].unit, e.g. mV   # doctest: +SKIP
    1.435
    """

    did: str
    """The data stream."""
    from_ns: int
    """Start of the window that was answered, ns since 1970."""
    until_ns: int
    """Its end (half-open)."""
    leads: tuple[Lead, ...]
    """The leads, with what their codes mean."""
    rate: tuple[int, int] | None
    """Samples per seconds, e.g. `(360, 1)`; None if it changes inside the window or there are no rows."""
    times: Times
    """Time of each row, ns since 1970."""
    codes: tuple[Codes, ...]
    """Per lead the ADC code of each row; `NO_VALUE` where there is none."""
    gaps: tuple[Gap, ...]
    """Spans without rows, also at the edges of the window."""
    coverage: Coverage
    """How much of the window is there."""
    integrity: Integrity
    """How far it is proven; look at `proven` for the whole verdict."""
    held: npt.NDArray[np.bool_]
    """Per row, whether it was held against a page of the proof; rows of pages (10 s) that the window cuts cannot be."""
    newer: tuple[int, ...]
    """Chunks that were linked after the answer was made: their rows are missing here; pull again."""
    anchored_to: int | None
    """Index of the link that the ledger names."""
    receipt: Receipt | None
    """Where the ledger has it."""
    lacks: str | None
    """The ledger has it, but too few witnesses have cosigned: what the policy's quorum lacks, for people."""
    evidence: Evidence
    """The bytes as they came."""

    def __repr__(self) -> str:
        state = self.integrity.value + (f", {self.unproven_rows} rows unproven" if self.unproven_rows else "")
        span = f"[{times.show(self.from_ns)}, {times.show(self.until_ns)})"
        names = ",".join(lead.name for lead in self.leads)
        return f"<Window {self.did} {span} {len(self)} rows of {names}: {state}, {len(self.gaps)} gaps>"

    def __len__(self) -> int:
        return len(self.times)

    @property
    def unproven_rows(self) -> int:
        """Rows in pages (10 s) that the window cuts: nothing shows whether they are right. Ask for whole pages."""
        return len(self) - int(np.count_nonzero(self.held))

    @property
    def proven(self) -> bool:
        """Whether every row is proven and none is known to be missing: where `chordae pull` exits 0."""
        return self.integrity is Integrity.ANCHORED and not self.unproven_rows and not self.newer

    def require_proof(self) -> Window:
        """Itself, if `proven`.

        Raises:
            Unproven: otherwise, saying what is missing.
        """
        if self.proven:
            return self
        why = []
        if self.integrity is not Integrity.ANCHORED:
            why.append(
                f"the ledger's checkpoint is not cosigned as the trust file demands: it lacks {self.lacks}"
                if self.lacks
                else "not anchored in a trusted ledger (not yet, or there is no trust file)"
            )
        if self.unproven_rows:
            why.append(f"{self.unproven_rows} rows lie in pages that the window cuts")
        if self.newer:
            why.append(f"chunks {list(self.newer)} were linked after the answer was made")
        raise Unproven("; ".join(why), self)

    def lead(self, name: str) -> Lead:
        """A lead by its name.

        Raises:
            BadInput: if the window does not have it.
        """
        return self.leads[self._place(name)]

    def _place(self, name: str) -> int:
        for place, lead in enumerate(self.leads):
            if lead.name == name:
                return place
        raise BadInput(f"the window has no lead {name!r}, only {', '.join(lead.name for lead in self.leads)}")

    def physical(self, lead: str | int) -> npt.NDArray[np.float64]:
        """One lead in its unit (`(code - baseline) / gain`), nan where there is no value."""
        place = self._place(lead) if isinstance(lead, str) else lead
        codes, scale = self.codes[place], self.leads[place]
        values = (codes.astype(np.float64) - scale.baseline) / scale.gain
        values[codes == NO_VALUE] = np.nan
        return values

    def to_numpy(self, unit: Unit = "physical") -> npt.NDArray[Any]:
        """Rows by leads: float64 in physical units with nan for no value, or int32 codes with `NO_VALUE`."""
        if unit == "codes":
            return np.stack(self.codes, axis=1) if self.codes else np.empty((len(self), 0), np.int32)
        columns = [self.physical(place) for place in range(len(self.leads))]
        return np.stack(columns, axis=1) if columns else np.empty((len(self), 0))

    def to_arrow(self, unit: Unit = "codes") -> pa.Table:
        """`time` as timestamp[ns, UTC] and a column per lead, null for no value; the fields' metadata has the scale."""
        arrays = [pa.array(self.times, pa.timestamp("ns", "UTC"))]
        fields = [pa.field("time", pa.timestamp("ns", "UTC"), nullable=False)]
        for place, lead in enumerate(self.leads):
            missing = self.codes[place] == NO_VALUE
            column = self.codes[place] if unit == "codes" else self.physical(place)
            arrays.append(pa.array(column, mask=missing))
            scale = {"gain": repr(lead.gain), "baseline": str(lead.baseline), "unit": lead.unit, "mdc": str(lead.mdc)}
            metadata = {f"chordae.{k}": v for k, v in scale.items()} if unit == "codes" else {"chordae.unit": lead.unit}
            fields.append(pa.field(lead.name, arrays[-1].type, metadata=metadata))
        rate = "" if self.rate is None else f"{self.rate[0]}/{self.rate[1]}"
        schema = pa.schema(fields, {"chordae.did": self.did, "chordae.rate": rate})
        return pa.Table.from_arrays(arrays, schema=schema)

    def to_pandas(self, unit: Unit = "physical") -> pandas.DataFrame:
        """Indexed by time (UTC, ns); float64 in physical units, or nullable Int32 codes. Needs the extra `pandas`."""
        import pandas as pd

        index = pd.DatetimeIndex(self.times.view("datetime64[ns]"), name="time").tz_localize("UTC")
        if unit == "physical":
            columns = {lead.name: self.physical(place) for place, lead in enumerate(self.leads)}
            return pd.DataFrame(columns, index=index)
        masked = {
            lead.name: pd.arrays.IntegerArray(codes.copy(), codes == NO_VALUE)
            for lead, codes in zip(self.leads, self.codes, strict=True)
        }
        return pd.DataFrame(masked, index=index)

    def to_polars(self, unit: Unit = "physical") -> polars.DataFrame:
        """Column `time` (UTC, ns) and one per lead, null for no value. Needs the extra `polars`."""
        import polars as pl

        frame = pl.from_arrow(self.to_arrow(unit))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_mne(self, fill: float = float("nan")) -> mne.io.RawArray:
        """An MNE `RawArray` on an even grid; gaps hold `fill` and are annotated `BAD_gap`. Needs the extra `mne`.

        Voltages are channels of type `ecg` in V, others of type `misc` in their own unit. No value is nan. Filters of
        MNE spread nan: choose another `fill`, and interpolate what is nan, before filtering. `info["meas_date"]` is
        the first row's time (MNE keeps microseconds).

        Raises:
            BadInput: for a window without rows, with several rates, or with rows of several chunks at one time.
        """
        import datetime

        import mne

        places, size = self.grid()
        start_ns = int(self.times[0])
        data = np.full((len(self.leads), size), fill)
        for place, lead in enumerate(self.leads):
            data[place, places] = self.physical(place) / _PER_VOLT.get(lead.unit, 1.0)
        assert self.rate is not None
        types = ["ecg" if lead.unit in _PER_VOLT else "misc" for lead in self.leads]
        hz = self.rate[0] / self.rate[1]
        info = mne.create_info([lead.name for lead in self.leads], hz, types)
        raw = mne.io.RawArray(data, info, verbose="error")
        raw.set_meas_date(
            datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=start_ns // 1000)
        )
        inside = _holes(places)
        raw.set_annotations(
            mne.Annotations(
                [at / hz for at, _ in inside],
                [n / hz for _, n in inside],
                ["BAD_gap"] * len(inside),
                orig_time=raw.info["meas_date"],
            )
        )
        return raw

    def grid(self) -> tuple[npt.NDArray[np.int64], int]:
        """Place of each row on an even grid that begins with the first row, and how many places it has.

        Raises:
            BadInput: for a window without rows, with several rates, or with rows of several chunks at one time.
        """
        if self.rate is None or not len(self):
            raise BadInput("a window without rows, or with several rates, has no even grid: ask for a part of it")
        num, den = self.rate
        step = 1e9 * den / num
        apart = np.diff(self.times)
        if (apart < step / 2).any():
            raise BadInput("several chunks have rows at the same times: no even grid holds them all")
        # Between gaps the rows are neighbours, whatever the crystal of the device does; after one the clock decides.
        first = np.flatnonzero(np.concatenate(([True], apart > 1.5 * step)))
        places = np.arange(len(self))
        free = 0
        for n, at in enumerate(first):
            end = int(first[n + 1]) if n + 1 < len(first) else len(self)
            due = round((int(self.times[at]) - int(self.times[0])) / step)
            places[at:end] += max(due, free) - int(at)
            free = int(places[end - 1]) + 1
        return places, free


def _holes(places: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """First place and length of each hole in ascending places."""
    after = np.flatnonzero(np.diff(places) > 1)
    return [(int(places[i]) + 1, int(places[i + 1] - places[i]) - 1) for i in after]


def find_gaps(when: Times, steps: Sequence[tuple[int, float]], from_ns: int, until_ns: int) -> tuple[Gap, ...]:
    """Spans of a window without rows. `steps` are runs of rows with the time from one sample to the next, in ns."""
    if not len(when):
        return (Gap(from_ns, until_ns),)
    step = np.repeat(np.array([s for _, s in steps]), np.array([n for n, _ in steps]))
    end = when + step.astype(np.int64)
    after = np.maximum.accumulate(end)[:-1]
    holes = np.flatnonzero(when[1:] - after > step[:-1] / 2)
    gaps = [Gap(int(after[i]), int(when[i + 1])) for i in holes]
    if when[0] - from_ns >= step[0]:
        gaps.insert(0, Gap(from_ns, int(when[0])))
    last = int(end.max())
    if until_ns - last > step[-1] / 2:
        gaps.append(Gap(last, until_ns))
    return tuple(gaps)
