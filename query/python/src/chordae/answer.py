"""An answer and its proof to a `Window`, or to `Damaged`: offline, from bytes alone."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import proof, times
from .digests import NO_VALUE
from .errors import BadInput, Damaged, Finding, damaged
from .meta import LEADS_MAX, ChunkMeta, Lead
from .trust import TrustFile
from .window import Coverage, Evidence, Integrity, Window, find_gaps

_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SCALE = ("chordae.gain", "chordae.baseline", "chordae.unit", "chordae.mdc")


def verify(
    answer: bytes,
    bundle: bytes | str,
    trust: TrustFile | None = None,
    *,
    did: str | None = None,
    window: tuple[times.Instant, times.Instant] | None = None,
    leads: Sequence[str] | None = None,
) -> Window:
    """Verifies an Arrow answer by its proof bundle, without any server.

    Args:
        answer: Arrow IPC stream, as `format=arrow` is sent.
        bundle: the proof bundle's JSON.
        trust: whom to believe; None: nothing is better than `linked`.
        did: the stream that was asked for; None takes what the bundle says.
        window: what was asked for, after snapping or clipping; None takes what the bundle says.
        leads: those that were asked for; None: all that the chunks have.

    Raises:
        Damaged: if anything does not fit; nothing of the answer is handed out then.

    Example:
        >>> verify(open("w.arrow", "rb").read(), open("w.json").read(), TrustFile.read("trust.json"))  # doctest: +SKIP
    """
    try:
        read = proof.Bundle.parse(bundle)
    except BadInput as e:
        raise damaged("proof", "metadata", str(e)) from None
    if did is not None and uuid.UUID(did).bytes != read.did:
        raise damaged("answer", "metadata", "the proof is about another stream than was asked for")
    if window is not None and (times.to_ns(window[0]), times.to_ns(window[1])) != (read.from_ns, read.until_ns):
        raise damaged("answer", "metadata", "the proof is about another window than was asked for")
    rows, scales = read_arrow(answer)
    asked = None if leads is None else tuple(leads)
    judgement = proof.judge(read, rows, asked, trust)
    findings = list(judgement.findings)
    found_leads = _leads(read, rows, judgement.metas, scales, findings) if not findings else ()
    if findings:
        raise Damaged(tuple(findings))
    evidence = Evidence(answer, bundle.encode() if isinstance(bundle, str) else bundle)
    return _window(read, rows, found_leads, judgement, evidence)


def read_arrow(answer: bytes) -> tuple[proof.Rows, dict[str, tuple[str, ...]]]:
    """The rows of an Arrow IPC stream as the server writes it, and what it says about the leads' scale: all claims.

    Raises:
        Damaged: for anything else, and for a stream that was cut off.
    """

    def bad(why: object) -> Damaged:
        return damaged("answer", "metadata", f"the answer is no whole Arrow stream: {why}")

    # A stream that ends without its end mark was cut: the library takes it for an end.
    if not answer.endswith(_END):
        raise bad("its end is missing")
    try:
        with pa.ipc.open_stream(pa.py_buffer(answer)) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as e:
        raise bad(e) from None
    names = table.column_names
    if names[:1] != ["time"] or not len(names) - 1 <= LEADS_MAX:
        raise bad("its columns are not `time` and leads")
    typed = table.schema.field(0).type == pa.timestamp("ns", "UTC") and table.column(0).null_count == 0
    if not typed or any(field.type != pa.int32() for field in list(table.schema)[1:]):
        raise bad("a column has another type")
    when = table.column(0).cast(pa.int64()).to_numpy().astype(np.int64, copy=False)
    codes = []
    for place in range(1, len(names)):
        column = table.column(place)
        if column.null_count:
            # A value that is the mark itself would be read as null by others.
            column = pc.fill_null(column, NO_VALUE)
        codes.append(column.to_numpy().astype(np.int32, copy=False))
    scales = {}
    for field in list(table.schema)[1:]:
        said = {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in (field.metadata or {}).items()}
        scales[field.name] = tuple(said.get(key, "") for key in _SCALE)
    return proof.Rows(tuple(names[1:]), when, tuple(codes)), scales


def _leads(
    bundle: proof.Bundle,
    rows: proof.Rows,
    metas: dict[int, ChunkMeta],
    scales: dict[str, tuple[str, ...]],
    findings: list[Finding],
) -> tuple[Lead, ...]:
    """The leads as the proven metadata has them: the answer's own word must be the same, and nothing may change."""
    found: dict[str, Lead] = {}
    for index in sorted(metas):
        for lead in metas[index].leads:
            first = found.setdefault(lead.name, lead)
            if lead.name in rows.leads and not first.same_scale(lead):
                findings.append(Finding("answer", "metadata", f"the scale of lead {lead.name!r} changes in the window"))
    leads = []
    for name in rows.leads:
        known = found.get(name)
        if known is None:
            if bundle.chunks:
                findings.append(Finding("answer", "metadata", f"lead {name!r} is of no chunk of the window"))
            known = Lead(name, float("nan"), 0, "", 0)
        elif not _same(known, scales[name]):
            why = f"what the answer says about the scale of lead {name!r} is not what its chunks say"
            findings.append(Finding("answer", "metadata", why))
        leads.append(known)
    return tuple(leads)


def _same(lead: Lead, said: tuple[str, ...]) -> bool:
    gain, baseline, unit, _ = said
    try:
        return (float(gain), int(baseline), unit) == (lead.gain, lead.baseline, lead.unit)
    except ValueError:
        return False


def _window(
    bundle: proof.Bundle,
    rows: proof.Rows,
    leads: tuple[Lead, ...],
    judgement: proof.Judgement,
    evidence: Evidence,
) -> Window:
    metas = judgement.metas
    rates = {metas[index].rate for index, _ in bundle.rows}
    steps = [(count, metas[index].step_ns) for index, count in bundle.rows]
    anchored = judgement.receipt is not None
    rows.times.setflags(write=False)
    judgement.held.setflags(write=False)
    for column in rows.codes:
        column.setflags(write=False)
    return Window(
        did=str(uuid.UUID(bytes=bundle.did)),
        from_ns=bundle.from_ns,
        until_ns=bundle.until_ns,
        leads=leads,
        rate=rates.pop() if len(rates) == 1 else None,
        times=rows.times,
        codes=rows.codes,
        gaps=find_gaps(rows.times, steps, bundle.from_ns, bundle.until_ns),
        coverage=_coverage(bundle, metas),
        integrity=Integrity.ANCHORED if anchored else Integrity.LINKED,
        held=judgement.held,
        newer=judgement.newer,
        anchored_to=bundle.links[-1].index if anchored else None,
        receipt=judgement.receipt,
        lacks=judgement.lacks,
        evidence=evidence,
    )


def _coverage(bundle: proof.Bundle, metas: dict[int, ChunkMeta]) -> Coverage:
    links = sorted((link for link in bundle.links if link.index in metas), key=lambda link: link.first_ns)
    covered, reached = 0, bundle.from_ns
    for link in links:
        until = min(link.end_ns, bundle.until_ns)
        covered += max(until - max(link.first_ns, reached), 0)
        reached = max(reached, until)
    return Coverage(covered, bundle.until_ns - bundle.from_ns, len(metas), _missing(metas))


def _missing(metas: dict[int, ChunkMeta]) -> int:
    """Frames that some chunk names as missing and no chunk of the window holds, per boot."""
    held: dict[int, list[tuple[int, int]]] = {}
    named: dict[int, list[tuple[int, int]]] = {}
    for meta in metas.values():
        at = meta.seq[0]
        for a, b in (*meta.missing, (meta.seq[1] + 1, meta.seq[1])):
            held.setdefault(meta.boot, []).append((at, a - 1))
            at = b + 1
        named.setdefault(meta.boot, []).extend(meta.missing)
    return sum(_uncovered(sorted(spans), sorted(held[boot])) for boot, spans in named.items())


def _uncovered(spans: list[tuple[int, int]], by: list[tuple[int, int]]) -> int:
    """Numbers in any of `spans` and in none of `by`; both sorted, inclusive."""
    count, reached = 0, -1
    for a, b in spans:
        at = max(a, reached + 1)
        for c, d in by:
            if d >= at and c <= b:
                count += max(c - at, 0)
                at = max(at, d + 1)
        count += max(b - at + 1, 0)
        reached = max(reached, b)
    return count
