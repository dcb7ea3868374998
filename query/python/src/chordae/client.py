"""A reader at a server: what she may see, windows with their proof, live rows; a patient's grants."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
import urllib.parse
import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import httpx

from . import answer as answers
from . import live, sessions, times
from .digests import PAGE_NS
from .errors import Allowed, BadInput, Damaged, Finding, Unreachable, damaged
from .http import ANSWER_BYTES_MAX, PROOF_BYTES_MAX, Door, allowed_of
from .keys import Identity, Keys
from .memory import Memory
from .times import Instant, to_ns
from .trust import TrustFile
from .window import Window

CLOCK_SKEW_NS = 60 * 10**9
"""How far the server's clock may lie behind ours before an answer up to its now counts as cut short."""
PART_NS = 600 * 10**9
NEWER_TRIES = 3
_LISTING_BYTES_MAX = 64 * 1024**2
_PLAIN = "-._~,"

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Stream:
    """A stream that this key, on this session, may see something of."""

    did: str
    """The data stream."""
    allowed: tuple[Allowed, ...]
    """The granted parts; empty where the key's holder sees all of it."""
    name: str | None
    """`device/stream`, for those who may know the device."""
    newest: int | None
    """Index of the newest chunk, for those who see all of it."""


class Client:
    """Asks one server, signed with one key, and verifies what comes.

    Args:
        url: `https://HOST:PORT`, or `http://` on loopback.
        key: key file as `chordae key new` writes it, or `Keys`.
        trust: the trust file that the operator exported once; without it nothing is better than `linked`.
        session: the SID that the patient gave; None when a patient acts for herself.
        origin: of the server's ledger, where there is no trust file to say it.
        ca: PEM file of the server's authority, where there is no trust file to say it.

    Example:
        >>> with Client("https://node:8443", "roe.pem", "trust.json", session=sid) as node:      # doctest: +SKIP
        ...     window = node.pull(did, "2026-11-28T10:00:00Z", "2026-11-28T10:00:10Z").require_proof()
        ...     window.to_pandas()
    """

    def __init__(
        self,
        url: str,
        key: Keys | PathLike,
        trust: TrustFile | PathLike | None = None,
        session: str | None = None,
        *,
        origin: str | None = None,
        ca: PathLike | None = None,
    ) -> None:
        self.keys = key if isinstance(key, Keys) else Keys.read(key)
        self.trust = trust if isinstance(trust, TrustFile) or trust is None else TrustFile.read(trust)
        if self.trust is None and origin is None:
            raise BadInput("without a trust file, say the origin of the server's ledger: tokens are addressed to it")
        if session is not None and (len(session) != 64 or set(session) - set("0123456789abcdef")):
            raise BadInput("a session id is 64 lower-case hex digits")
        pem = self.trust.ca if self.trust is not None else None
        if ca is not None:
            pem = pathlib.Path(ca).read_text()
        name = self.trust.origin if self.trust is not None else str(origin)
        self._door = Door(url, self.keys, name, session, pem)
        self._memory = Memory()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._door.close()

    def streams(self) -> list[Stream]:
        """What this session, patient or operator may see."""
        found = []
        for one in _listed(self._json("/v1/streams"), "streams"):
            newest, name = one.get("newest"), one.get("stream")
            found.append(Stream(str(one.get("did")), allowed_of(one.get("allowed")), name, newest))
        return found

    def pull(
        self,
        did: str,
        from_: Instant,
        until: Instant,
        *,
        leads: Sequence[str] | None = None,
        snap: bool = True,
        clip: bool = False,
    ) -> Window:
        """Rows of `[from_, until)` and their proof, verified.

        Args:
            did: the data stream.
            from_: first instant: integer ns, RFC 3339 text or an aware datetime.
            until: first instant no longer wanted.
            leads: names; None: all (only a grant of all leads covers that).
            snap: widen to whole pages of 10 s inside the grant, since a page that is cut proves nothing.
            clip: take the part that the session allows, if it does not allow all of it.

        Returns:
            A window that agrees with its proof. Whether every row leads to the trusted ledger is `window.proven`;
            `window.require_proof()` insists on it.

        Raises:
            Damaged: if the answer does not match its proof; no row of it is handed out.
            Refused: if the session does not allow it; `e.allowed` names what it does allow.
        """
        asked = (_did(did), to_ns(from_), to_ns(until))
        for tries in range(1, NEWER_TRIES + 1):
            window = self._pull(*asked, None if leads is None else tuple(leads), snap, clip)
            # A chunk was linked between answer and proof: its rows are there now.
            if not window.newer or tries == NEWER_TRIES:
                return window
        raise AssertionError("unreachable")

    def _pull(
        self, did: str, from_ns: int, until_ns: int, leads: tuple[str, ...] | None, snap: bool, clip: bool
    ) -> Window:
        query = f"from={from_ns}&until={until_ns}&format=arrow"
        query += f"&leads={_leads_text(leads)}" if leads is not None else ""
        query += ("&snap=page" if snap else "") + ("&clip=true" if clip else "")
        asked_ns = time.time_ns()
        body, headers = self._door.get(f"/v1/streams/{did}/window?{query}", ANSWER_BYTES_MAX)
        proof, _ = self._door.get(_proof_target(headers, did), PROOF_BYTES_MAX)
        window = answers.verify(body, proof, self.trust, did=did, leads=leads)
        # The server may widen to whole pages and answers nothing later than its now; it may not answer another window.
        due = (from_ns, min(until_ns, asked_ns - CLOCK_SKEW_NS))
        wide = (from_ns // PAGE_NS * PAGE_NS, -(-until_ns // PAGE_NS) * PAGE_NS) if snap else (from_ns, until_ns)
        covers = clip or (window.from_ns <= due[0] and window.until_ns >= due[1])
        if not covers or window.from_ns < wide[0] or window.until_ns > wide[1]:
            raise damaged("answer", "metadata", "the answer is not for the window that was asked for")
        forked = self._memory.compare(window)
        if forked:
            raise Damaged(forked)
        return window

    def parts(
        self,
        did: str,
        from_: Instant,
        until: Instant,
        *,
        leads: Sequence[str] | None = None,
        part_s: float = PART_NS / 1e9,
    ) -> Iterator[Window]:
        """A long window in parts, one after the other, each verified before it is handed out: memory stays bounded.

        Args:
            did: the data stream.
            from_: first instant; as in `pull`.
            until: first instant no longer wanted.
            leads: names; None: all.
            part_s: seconds of a part, rounded up to pages of 10 s.

        Raises:
            Damaged: at the first part that does not match its proof; the parts before it stand.
        """
        start, end = to_ns(from_), to_ns(until)
        step = max(-(-int(part_s * 1e9) // PAGE_NS), 1) * PAGE_NS
        while start < end:
            stop = min(start // PAGE_NS * PAGE_NS + step, end)
            window = self.pull(did, start, stop, leads=leads)
            yield window
            if window.until_ns < stop:
                # Nothing is later than the server's now.
                return
            start = stop

    def live(
        self, did: str, *, leads: Sequence[str] | None = None, after: str | None = None
    ) -> Iterator[live.LiveRows | live.Hole]:
        """Rows as they become durable: those of the open slots first, then everything new, until the session ends.

        They are acknowledged and **not proven**; `pull` the same span later. Stop by leaving the loop.

        Args:
            did: the data stream.
            leads: names; None: all.
            after: `id` of the last rows seen, to go on behind them after a break.

        Raises:
            LiveEnded: when the server ends it: the grant was revoked or ran out, or the reader was too slow.
            Unreachable: when the connection breaks; go on with `after`.

        Example:
            >>> for event in node.live(did):                                                     # doctest: +SKIP
            ...     if isinstance(event, LiveRows):
            ...         print(event.id, event.physical("I").max(), event.leads[0].unit)
        """
        names = None if leads is None else tuple(leads)
        target = f"/v1/streams/{_did(did)}/live" + (f"?leads={_leads_text(names)}" if names is not None else "")
        more = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        reading = live.Reading(names)
        with self._door.open("GET", target, more=more) as answer:
            for event in live.events(answer.iter_bytes()):
                taken = reading.take(event)
                if taken is not None:
                    yield taken
        raise Unreachable("the live answer broke off")

    def session(self, sid: str) -> dict[str, Any]:
        """What the server tells a party of this session about it."""
        said = self._json(f"/v1/sessions/{_sid(sid)}")
        return said if isinstance(said, dict) else {}

    def sessions(self) -> Iterator[dict[str, Any]]:
        """The sessions that this key's holder is a party of: `sid`, `state` and her `sections`."""
        target = "/v1/sessions"
        while True:
            said = self._json(target)
            yield from _listed(said, "sessions")
            if not said.get("next"):
                return
            target = f"/v1/sessions?from={_sid(said['next'])}"

    def trail(self, did: str) -> list[dict[str, Any]]:
        """Who read of the patient's own stream, and what became of it: the newest records, oldest first."""
        return _listed(self._json(f"/v1/trail?did={_did(did)}"), "records")

    def grant(
        self,
        to: Identity | PathLike,
        did: str,
        from_: Instant | None = None,
        until: Instant | None = None,
        *,
        leads: Sequence[str] | None = None,
        expires: Instant | None = None,
        purpose: str = "",
        exact: bool = False,
    ) -> str:
        """Grants a requester a window of the patient's own stream; this client's key is the patient's.

        Args:
            to: the requester's public identity (`.pub`).
            did: the data stream.
            from_: first instant allowed; None: no bound.
            until: first instant no longer allowed; None: no bound.
            leads: those allowed; None: all.
            expires: when the session ends by itself; None: never.
            purpose: for people.
            exact: keep the bounds; otherwise they are rounded inwards to whole pages of 10 s, which can be proven.

        Returns:
            The session id.
        """
        provider = None if self.trust is None else self.trust.in_force_now()
        if provider is None or provider.seal is None:
            raise BadInput("granting needs a trust file that names the provider's sealing key")
        who = to if isinstance(to, Identity) else Identity.read(to)
        bounds = sessions.bounds(from_, until, exact)
        terms = sessions.Terms(uuid.UUID(did).bytes, *bounds, None if leads is None else tuple(leads))
        ends = None if expires is None else to_ns(expires)
        sid, body = sessions.make(self.keys, provider.seal, who, [terms], ends, purpose)
        self._door.call("POST", "/v1/sessions", _LISTING_BYTES_MAX, body)
        return sid

    def revoke(self, sid: str) -> None:
        """Ends a session of the patient whose key this client has."""
        body = sessions.revocation(self.keys, _sid(sid))
        self._door.call("DELETE", f"/v1/sessions/{sid}", _LISTING_BYTES_MAX, body)

    def _json(self, target: str) -> Any:
        body, _ = self._door.get(target, _LISTING_BYTES_MAX)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise damaged("answer", "metadata", f"{target}: not JSON") from None


def _listed(said: Any, key: str) -> list[dict[str, Any]]:
    """The objects of a listing."""
    found = said.get(key) if isinstance(said, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise damaged("answer", "metadata", f"a listing without {key}")
    return found


def _did(text: str) -> str:
    try:
        did = str(uuid.UUID(text))
    except ValueError:
        did = ""
    if did != text:
        raise BadInput(f"{text!r} is no did (lower-case UUID)")
    return did


def _sid(text: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise BadInput("a session id is 64 lower-case hex digits")
    return text


def _leads_text(names: tuple[str, ...]) -> str:
    escaped = (name.replace("\\", "\\\\").replace(",", "\\,") for name in names)
    return urllib.parse.quote(",".join(escaped), safe=_PLAIN)


def _proof_target(headers: httpx.Headers, did: str) -> str:
    """The target of `Link: <...>; rel="proof"`; it must be a proof of this stream on this server."""
    for value in headers.get_list("link"):
        target, _, rest = value.removeprefix("<").partition(">")
        if 'rel="proof"' in rest and target.isascii() and target.startswith(f"/v1/streams/{did}/proof?"):
            return target
    raise Damaged((Finding("answer", "metadata", "the answer names no proof of this stream"),))


__all__ = ["Client", "Stream", "times"]
