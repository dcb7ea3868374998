"""Signed requests to a server, bounded in bytes, time and tries."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from .errors import Allowed, BadInput, Busy, NotFound, NotKnown, Refused, ServerError, Unreachable
from .keys import Keys

ANSWER_BYTES_MAX = 4 * 1024**3
PROOF_BYTES_MAX = 256 * 1024**2
PROBLEM_BYTES_MAX = 1024**2
TRIES = 4
RETRY_S_MAX = 5.0
TIMEOUT_S = 120.0


class Door:
    """One server, one key: every request is signed anew, over exactly the target that is sent."""

    def __init__(self, url: str, keys: Keys, origin: str, session: str | None, ca: str | None) -> None:
        base = httpx.URL(url)
        if base.scheme not in ("http", "https") or not base.host or base.path not in ("", "/"):
            raise BadInput(f"{url!r}: use https://HOST:PORT (or http:// on loopback)")
        verify: ssl.SSLContext | bool = True
        if base.scheme == "https":
            if ca is None:
                raise BadInput("https needs the trust file, or ca: it names the authority of the server")
            try:
                verify = ssl.create_default_context(cadata=ca)
            except ssl.SSLError as e:
                raise BadInput(f"the certificate authority cannot be read: {e}") from None
        elif base.host not in ("localhost", "127.0.0.1", "::1"):
            raise BadInput("http without TLS is for loopback only")
        self._base, self._keys, self._origin, self._session = base, keys, origin, session
        # Proxies and .netrc of the surroundings are none of a signed request's business.
        self._http = httpx.Client(
            verify=verify, trust_env=False, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}
        )

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def get(self, target: str, at_most: int) -> tuple[bytes, httpx.Headers]:
        """The body of a success, at most that many bytes."""
        return self.call("GET", target, at_most)

    def call(self, method: str, target: str, at_most: int, body: bytes | None = None) -> tuple[bytes, httpx.Headers]:
        """Asks, and asks again a few times where the server is busy.

        Raises:
            ServerError: or one of its kinds, for a refusal; Unreachable for a broken connection.
        """
        for tries in range(1, TRIES + 1):
            try:
                with self.open(method, target, body) as answer:
                    return self._read(answer, at_most), answer.headers
            except Busy as e:
                if tries == TRIES or e.retry_after_s > RETRY_S_MAX:
                    raise
                time.sleep(e.retry_after_s)
        raise AssertionError("unreachable")

    @contextmanager
    def open(
        self, method: str, target: str, body: bytes | None = None, more: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """A request whose answer is read by the caller; refusals are raised."""
        url = self._base.copy_with(raw_path=target.encode("ascii"))
        headers = {"Accept": "*/*"} | (more or {})
        if body is None:
            # What is signed is what goes out, after any escaping.
            token = self._keys.token(self._origin, method, url.raw_path.decode("ascii"), self._session)
            headers["Authorization"] = f"Chordae {token}"
        else:
            headers["Content-Type"] = "application/cbor"
        try:
            with self._http.stream(method, url, headers=headers, content=body) as answer:
                if not answer.is_success:
                    raise self._problem(answer)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            raise Unreachable(f"{self._base}: {e or type(e).__name__}") from None

    @staticmethod
    def _read(answer: httpx.Response, at_most: int) -> bytes:
        pieces, size = [], 0
        for piece in answer.iter_bytes():
            size += len(piece)
            if size > at_most:
                raise Unreachable(f"the answer is longer than {at_most} bytes: ask for a part, or use parts()")
            pieces.append(piece)
        return b"".join(pieces)

    def _problem(self, answer: httpx.Response) -> ServerError:
        status = answer.status_code
        try:
            said: Any = json.loads(self._read(answer, PROBLEM_BYTES_MAX))
        except (ValueError, RecursionError):
            said = None
        said = said if isinstance(said, dict) else {}
        code = str(said.get("type", "")).rpartition(":")[2] or str(said.get("title", ""))
        detail = str(said.get("detail", ""))
        if status == 401:
            return NotKnown(status, code, detail)
        if status == 403:
            return Refused(status, code, detail, allowed_of(said.get("allowed")))
        if status == 404:
            return NotFound(status, code, detail)
        if status in (429, 503):
            wait = answer.headers.get("Retry-After", "1")
            return Busy(status, code, detail, float(wait) if wait.isascii() and wait.isdigit() else 1.0)
        return ServerError(status, code, detail)


def allowed_of(value: Any) -> tuple[Allowed, ...]:
    """The parts that a refusal or a listing names; what is malformed is left out."""
    parts = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, dict):
            leads = one.get("leads")
            names = tuple(map(str, leads)) if isinstance(leads, list) else None
            ends = [one.get(k) if isinstance(one.get(k), int) else None for k in ("from_ns", "until_ns")]
            parts.append(Allowed(ends[0], ends[1], names))
    return tuple(parts)
