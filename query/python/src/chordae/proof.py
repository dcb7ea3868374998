"""The judge of an answer: its rows, its proof bundle, what was asked, and whom the reader trusts (docs/FORMATS.md 6).

```text
rows of the answer -> columns of whole pages -> leaves -> pages_root - link
                      (hidden ones by digest)               metadata --'  | prev, prev, ...
                                                                          v
                                  trusted log <- checkpoint <- entry - anchored link
```

Nothing in the bundle is believed: each claim leads, over digests, to the signed entry in the trusted log, or it is a
finding, or it is counted as not proven. A page that the window cuts proves nothing of its rows. A
chunk of the window that was linked after the newest one listed is told in `newer`: the answer lacks it.
"""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from typing import Any

import numpy as np
import numpy.typing as npt

from . import digests, event, meta, policy, strict, trust
from .digests import NO_VALUE, PAGE_NS, Codes, Link, Times
from .errors import BadInput, Finding

LINKS_MAX = 100_000
FINDINGS_MAX = 1_000
_I64 = (-(2**63), 2**63 - 1)
_U64 = 2**64 - 1


@dataclasses.dataclass(frozen=True)
class Rows:
    """The rows of an answer as ADC codes: by time, then by index of their chunk."""

    leads: tuple[str, ...]
    times: Times
    """One per row, ns since 1970."""
    codes: tuple[Codes, ...]
    """Per lead one code per row, `NO_VALUE` where there is none."""


@dataclasses.dataclass(frozen=True)
class Page:
    """A page: for each column its salt (shown in the answer) or its digest (hidden)."""

    p: int
    salts: dict[int, bytes]
    hidden: dict[int, bytes]


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the bundle shows of a touched chunk."""

    index: int
    meta: str
    leaves: list[bytes]
    pages: list[Page]


@dataclasses.dataclass(frozen=True)
class Anchor:
    """The ledger's word for the last link."""

    entry: bytes
    """The `add-data` or `add-heads` entry."""
    proof: str
    """Its receipt, tlog-proof text."""
    head: tuple[int, list[bytes]] | None
    """Of an `add-heads` entry the link's place among its heads, and the path from it to their root."""

    def vouches(self, signed: event.Entry, tag: bytes, digest: bytes) -> bool:
        """Whether the entry names a link's tag and digest, itself or by the way to the root of its heads."""
        if self.head is None:
            return (signed.fields["tag"], signed.fields["digest"]) == (tag, digest)
        place, path = self.head
        leaf = trust.leaf_hash(tag + digest)
        return trust.included(signed.fields["count"], signed.fields["root"], place, leaf, path)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A proof bundle. Plain data: nothing in it is believed before `judge`."""

    did: bytes
    from_ns: int
    until_ns: int
    links: list[Link]
    chunks: list[Shown]
    rows: list[tuple[int, int]]
    anchor: Anchor | None

    @classmethod
    def parse(cls, text: str | bytes) -> Bundle:
        """Reads the JSON text.

        Raises:
            BadInput: for what is no bundle of version 1; unknown keys are refused.
        """
        keys = ("v", "did", "from_ns", "until_ns", "links", "chunks", "rows", "anchor")
        found = strict.fields(strict.loads(text, "proof bundle"), "proof bundle", keys)
        if strict.integer(found["v"], "v", 0, 2**32) != 1:
            raise BadInput("proof bundle: of another version than 1")
        did = strict.text(found["did"], "did")
        try:
            raw = uuid.UUID(did)
        except ValueError:
            raise BadInput("proof bundle: did is no UUID") from None
        links = strict.items(found["links"], "links", LINKS_MAX)
        chunks = strict.items(found["chunks"], "chunks", len(links))
        return cls(
            did=raw.bytes,
            from_ns=strict.integer(found["from_ns"], "from_ns", *_I64),
            until_ns=strict.integer(found["until_ns"], "until_ns", *_I64),
            links=[Link.decode(strict.lower_hex(one, "link", digests.LINK_BYTES)) for one in links],
            chunks=[_shown(one) for one in chunks],
            rows=[strict.pair(one, "rows", 0, _U64) for one in strict.items(found["rows"], "rows", 1 << 24)],
            anchor=_anchor(found["anchor"]),
        )


def _shown(value: Any) -> Shown:
    found = strict.fields(value, "chunk", ("index", "meta", "leaves", "pages"))
    leaves = strict.items(found["leaves"], "leaves", digests.SLOT_NS_MAX // PAGE_NS)
    pages = strict.items(found["pages"], "pages", digests.SLOT_NS_MAX // PAGE_NS)
    return Shown(
        strict.integer(found["index"], "index", 0, _U64),
        strict.text(found["meta"], "meta"),
        [strict.lower_hex(leaf, "leaf", 32) for leaf in leaves],
        [_page(page) for page in pages],
    )


def _page(value: Any) -> Page:
    found = strict.fields(value, "page", ("p", "salts", "hidden"))
    salts = _columns(found["salts"], "salts", 16)
    return Page(strict.integer(found["p"], "p", 0, 2**32 - 1), salts, _columns(found["hidden"], "hidden", 32))


def _columns(value: Any, what: str, size: int) -> dict[int, bytes]:
    if not isinstance(value, dict) or not all(k.isascii() and k.isdigit() and str(int(k)) == k for k in value):
        raise BadInput(f"{what}: must be an object with column numbers as keys")
    return {int(k): strict.lower_hex(v, what, size) for k, v in value.items()}


def _anchor(value: Any) -> Anchor | None:
    if value is None:
        return None
    found = strict.fields(value, "anchor", ("entry", "proof"), ("head",))
    head = found.get("head")
    if head is not None:
        way = strict.fields(head, "head", ("at", "path"))
        path = [strict.lower_hex(one, "path", 32) for one in strict.items(way["path"], "path", 64)]
        head = strict.integer(way["at"], "at", 0, _U64), path
    return Anchor(strict.base64_bytes(found["entry"], "entry"), strict.text(found["proof"], "proof"), head)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """How far an answer is proven."""

    findings: tuple[Finding, ...]
    """Everything that is wrong; the answer is damaged if there is anything."""
    held: npt.NDArray[np.bool_]
    """Per row of the answer, whether it was held against a page; rows of pages that the window cuts cannot be."""
    newer: tuple[int, ...]
    """Chunks of the window that were linked after the answer was made."""
    receipt: trust.Receipt | None
    """Where the trusted log holds the entry, under a checkpoint that counts; None if nothing leads to one."""
    lacks: str | None
    """The log holds the entry, but its checkpoint is not cosigned as the policy demands: what it lacks, for people."""
    metas: dict[int, meta.ChunkMeta]
    """Metadata of the listed chunks, proven as far as the answer is."""


def judge(bundle: Bundle, rows: Rows, leads: tuple[str, ...] | None, trusted: trust.TrustFile | None) -> Judgement:
    """Judges an answer by its bundle. `leads` are those that were asked for, None for all.

    Without a trust file nothing is better than linked.
    """
    judging = _Judge(bundle, rows, leads)
    judging.question()
    judging.chain()
    newer = judging.completeness()
    runs = judging.runs()
    for chunk in bundle.chunks:
        judging.chunk(chunk, runs.get(chunk.index, []))
    receipt = judging.anchor(trusted)
    findings = tuple(judging.findings[:FINDINGS_MAX])
    lacks = receipt.lacks if receipt else None
    counts = receipt if not findings and lacks is None else None
    return Judgement(findings, judging.held, newer, counts, lacks, judging.metas)


class _Judge:
    def __init__(self, bundle: Bundle, rows: Rows, leads: tuple[str, ...] | None) -> None:
        self.bundle, self.rows, self.leads = bundle, rows, leads
        self.links = {link.index: link for link in bundle.links}
        self.listed = [chunk.index for chunk in bundle.chunks]
        self.findings: list[Finding] = []
        self.held = np.zeros(len(rows.times), np.bool_)
        self.metas: dict[int, meta.ChunkMeta] = {}

    def found(self, where: str | int, code: str, detail: str) -> None:
        name = digests.object_name(self.bundle.did, where) if isinstance(where, int) else where
        self.findings.append(Finding(name, code, detail))

    def question(self) -> None:
        """The bundle is about a window, and the answer a table with the leads that were asked for."""
        if self.bundle.from_ns >= self.bundle.until_ns:
            self.found("answer", "metadata", "the window is empty")
        if any(len(codes) != len(self.rows.times) for codes in self.rows.codes):
            self.found("answer", "metadata", "the answer's columns do not have equal lengths")
        if len(set(self.rows.leads)) != len(self.rows.leads):
            self.found("answer", "metadata", "the answer has a lead twice")
        if self.leads is not None and set(self.leads) != set(self.rows.leads):
            self.found("answer", "metadata", "the answer does not have exactly the leads that were asked for")

    def chain(self) -> None:
        """Each link is what the next one names; the last one is the ledger's business."""
        links = self.bundle.links
        for link in links:
            if link.did != self.bundle.did:
                self.found(link.index, "metadata", "the link belongs to another stream")
            if link.index == 0 and link.prev != digests.genesis(link.did):
                self.found(0, "link-prev", "the first link does not begin its stream")
        for a, b in itertools.pairwise(links):
            if a.index + 1 != b.index:
                self.found(a.index, "index-gap", f"link {a.index} is followed by link {b.index}")
            if b.prev != a.digest:
                self.found(a.index, "link-prev", f"link {a.index} is not the one that link {b.index} names")

    def completeness(self) -> tuple[int, ...]:
        """Every linked chunk that meets the window is listed, once, in order."""
        for first, second in zip(self.listed, self.listed[1:], strict=False):
            if first >= second:
                self.found(second, "duplicate-index", "chunks are not listed once each by ascending index")
        listed, newer = set(self.listed), []
        for link in self.bundle.links:
            if link.index in listed or not link.meets(self.bundle.from_ns, self.bundle.until_ns):
                continue
            if self.listed and link.index > self.listed[-1]:
                newer.append(link.index)
            else:
                self.found(link.index, "index-gap", "the chunk meets the window and is left out")
        return tuple(newer)

    def runs(self) -> dict[int, list[slice]]:
        """The answer's row ranges per chunk; each row inside the window and in order."""
        runs: dict[int, list[slice]] = {}
        times, at, before = self.rows.times, 0, (-(2**64), 0)
        for index, count in self.bundle.rows:
            part = times[at : at + count]
            if not count or len(part) != count:
                self.found("rows", "pages-digest", f"the run [{index},{count}] is empty or longer than the answer")
                return runs
            low, high = int(part[0]), int(part[-1])
            rising = bool((part[1:] > part[:-1]).all()) and before < (low, index)
            if not rising or low < self.bundle.from_ns or high >= self.bundle.until_ns:
                self.found(index, "pages-digest", f"rows from {low} on are outside the window or out of order")
            if index not in self.links or index not in self.listed:
                self.found(index, "pages-digest", "rows of the answer come from a chunk that is not listed")
            runs.setdefault(index, []).append(slice(at, at + count))
            at, before = at + count, (high, index)
        if at != len(times):
            self.found("rows", "pages-digest", f"{len(times) - at} rows of the answer belong to no run")
        return runs

    def chunk(self, chunk: Shown, runs: list[slice]) -> None:
        """A listed chunk leads to its link; its rows of the answer lead to it."""
        link = self.links.get(chunk.index)
        if link is None:
            return self.found(chunk.index, "index-gap", "the chunk is listed but has no link")
        try:
            said = meta.parse(chunk.meta)
        except BadInput as e:
            return self.found(chunk.index, "metadata", str(e))
        self.metas[chunk.index] = said
        differs = said.differs(link)
        if differs:
            self.found(chunk.index, "metadata", f"metadata and link differ in {differs}")
        counted = len(chunk.leaves) == link.slot_len_ns // PAGE_NS
        if not counted or digests.pages_root(chunk.meta, chunk.leaves) != link.pages_root:
            self.found(chunk.index, "pages-digest", "metadata and leaves do not lead to the link's pages_root")
        lacks = [lead.name for lead in said.leads if lead.name not in self.rows.leads]
        if lacks and self.leads is None:
            self.found(chunk.index, "pages-digest", f"all leads were asked for and {lacks[0]!r} is left out")
        times = _cut(self.rows.times, runs)
        if len(times) and (times[0] < link.first_ns or times[-1] >= link.end_ns):
            self.found(chunk.index, "pages-digest", "the answer has rows before the chunk's first or after its last")
        self.pages(chunk, link, said, times, runs)

    def pages(self, chunk: Shown, link: Link, said: meta.ChunkMeta, times: Times, runs: list[slice]) -> None:
        """Holds the rows against the shown pages; counts those that no page can prove."""
        due = link.provable_pages(self.bundle.from_ns, self.bundle.until_ns)
        if [page.p for page in chunk.pages] != list(due):
            why = "the pages shown are not those with rows wholly inside the window, in order"
            self.found(chunk.index, "pages-digest", why)
        answered = dict(zip(self.rows.leads, self.rows.codes, strict=False))
        codes = {name: _cut(column, runs) for name, column in answered.items()}
        own = {lead.name for lead in said.leads}
        strange = [column for name, column in codes.items() if name not in own]
        columns = [codes.get(lead.name) for lead in said.leads]
        place = _cut(np.arange(len(self.rows.times)), runs)
        for page in chunk.pages:
            if page.p not in due or page.p >= len(chunk.leaves):
                continue
            start = link.slot_start_ns + page.p * PAGE_NS
            at, end = (int(i) for i in np.searchsorted(times, [start, start + PAGE_NS]))
            self.held[place[at:end]] = True
            if any((column[at:end] != NO_VALUE).any() for column in strange):
                why = f"page {page.p} has values in a lead that the chunk does not have"
                self.found(chunk.index, "pages-digest", why)
            part = [None if column is None else column[at:end] for column in columns]
            differs = _page_differs(page, times[at:end], part, chunk.leaves)
            if differs:
                self.found(chunk.index, "pages-digest", f"page {page.p}: {differs}")

    def anchor(self, trusted: trust.TrustFile | None) -> trust.Receipt | None:
        """The entry names the last link, a trusted provider signed it, the trusted log holds it."""
        if self.bundle.anchor is None:
            return None
        if not self.bundle.links:
            self.found("anchor", "link-prev", "there is an anchor but no link")
            return None
        anchor = self.bundle.anchor
        last = self.bundle.links[-1]
        try:
            signed = event.decode(anchor.entry)
        except BadInput as e:
            self.found("anchor", "entry-signature", str(e))
            return None
        if signed.kind != ("add-data" if anchor.head is None else "add-heads"):
            self.found("anchor", "entry-signature", f"the entry is another event ({signed.kind}) than its proof is for")
            return None
        if not anchor.vouches(signed, digests.tag(last.did, last.index), last.digest):
            self.found(last.index, "link-prev", "the last link is not the one that the ledger names")
        if trusted is None:
            return None
        provider = trusted.provider(signed.kid)
        if provider is None or not signed.signed_by(provider.sign):
            self.found(
                "anchor",
                "entry-signature",
                "the entry is not signed by a trusted provider (has its key changed since? then ask for the new trust"
                " file)",
            )
        try:
            receipt = trust.check_receipt(anchor.entry, anchor.proof, trusted)
            if not trusted.in_force(signed.kid, receipt.leaf_index):
                size = trusted.retired[signed.kid]
                self.found("anchor", "entry-signature", f"its signer's key was retired at size {size} of the log")
            return receipt
        except policy.NotTheLogs as e:
            self.found("anchor", e.code, str(e))
            return None


def _cut(column: Any, runs: list[slice]) -> Any:
    """The rows of some runs, without a copy where there is one run."""
    if len(runs) == 1:
        return column[runs[0]]
    return np.concatenate([column[run] for run in runs]) if runs else column[:0]


def _page_differs(page: Page, times: Times, columns: list[Codes | None], leaves: list[bytes]) -> str | None:
    if 0 not in page.salts:
        return "the salt of the times is missing"
    cols = [digests.col_times(page.salts[0], times)]
    for c, codes in enumerate(columns, 1):
        shown = c in page.salts
        if (codes is not None) != shown or shown == (c in page.hidden):
            return f"column {c} is not shown where it is answered, or not hidden where it is not"
        cols.append(page.hidden[c] if codes is None else digests.col_lead(page.salts[c], codes))
    if len(page.salts) + len(page.hidden) != len(cols):
        return "it names columns that the chunk does not have"
    return None if digests.leaf(cols) == leaves[page.p] else "the rows are not the chunk's"
