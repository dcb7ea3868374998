"""What can go wrong, one type each, so that a program can tell a refusal from damage."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .window import Window


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that does not verify: the object, a code as `chordae verify --json` has it, and a line for people."""

    object: str
    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.object} {self.code}: {self.detail}"


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A part of a stream that this reader may see: `[from_ns, until_ns)`, None for no bound; leads, None for all."""

    from_ns: int | None
    until_ns: int | None
    leads: tuple[str, ...] | None


class ChordaeError(Exception):
    """Anything that this package raises on purpose."""


class BadInput(ChordaeError, ValueError):
    """What was handed in is not what it should be: a key file, a trust file, a time, a window."""


class Unreachable(ChordaeError):
    """Nobody answered at that address, the connection broke, or its certificate is not of the trusted authority."""


class ServerError(ChordaeError):
    """The server answered with a problem (RFC 9457) that is none of the types below."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}" if detail else f"{status} {code}")
        self.status = status
        """HTTP status."""
        self.code = code
        """Last word of the problem's `type`, e.g. `bad-request`."""
        self.detail = detail
        """The server's own words."""


class NotKnown(ServerError):
    """401: the request was not signed by a key that is known there (or clocks differ by more than a minute)."""


class NotFound(ServerError):
    """404: there is no such stream, or none that this reader may see; nobody is told which."""


class Refused(ServerError):
    """403: the session does not allow this. `allowed` names the parts that it does allow, if it is about the window."""

    def __init__(self, status: int, code: str, detail: str, allowed: tuple[Allowed, ...] = ()) -> None:
        super().__init__(status, code, detail)
        self.allowed = allowed
        """What may be asked for instead."""


class Busy(ServerError):
    """429 or 503, also after the retries: try again later."""

    def __init__(self, status: int, code: str, detail: str, retry_after_s: float) -> None:
        super().__init__(status, code, detail)
        self.retry_after_s = retry_after_s
        """Seconds that the server asks to wait."""


class Damaged(ChordaeError):
    """The answer does not match its proof, or is no answer at all. No row of it is handed out."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        first = findings[0] if findings else None
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(f"{first}{more}")
        self.findings = findings
        """Everything that was found."""


class Unproven(ChordaeError):
    """The answer is intact, but not every row leads to the trusted ledger. `window` has it, for who takes it so."""

    def __init__(self, why: str, window: Window) -> None:
        super().__init__(why)
        self.window = window
        """The window, intact as far as can be told."""


def damaged(object_name: str, code: str, detail: str) -> Damaged:
    """A `Damaged` with one finding."""
    return Damaged((Finding(object_name, code, detail),))
