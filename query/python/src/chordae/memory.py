"""What a reader has seen of a stream's chain and of the log, so that two histories cannot be shown to her."""

from __future__ import annotations

from collections import OrderedDict

from .digests import object_name
from .errors import Finding
from .proof import Bundle
from .window import Window

LINKS_MAX = 100_000
CHECKPOINTS_MAX = 10_000


class Memory:
    """Digests of anchored links and roots of checkpoints, the newest of each, for the life of a client."""

    def __init__(self) -> None:
        self._links: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._roots: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def compare(self, window: Window) -> tuple[Finding, ...]:
        """Forks between this anchored answer and those before; an answer without any is remembered."""
        if window.receipt is None:
            return ()
        findings = []
        links = Bundle.parse(window.evidence.bundle).links
        for link in links:
            if self._links.get((link.did, link.index), link.digest) != link.digest:
                why = "another link under this index was anchored in an answer before"
                findings.append(Finding(object_name(link.did, link.index), "fork", why))
        mark = window.receipt.checkpoint
        if self._roots.get((mark.origin, mark.size), mark.root) != mark.root:
            findings.append(Finding("ledger/checkpoint", "fork", f"two roots of {mark.size} entries are signed"))
        if not findings:
            self._links.update({(link.did, link.index): link.digest for link in links})
            self._roots[(mark.origin, mark.size)] = mark.root
            while len(self._links) > LINKS_MAX:
                self._links.popitem(last=False)
            while len(self._roots) > CHECKPOINTS_MAX:
                self._roots.popitem(last=False)
        return tuple(findings)
