"""Times: integer nanoseconds since 1970 UTC, as everywhere in chordae; what people write, to these."""

from __future__ import annotations

import datetime
import re

from .errors import BadInput

Instant = int | str | datetime.datetime
"""Integer ns since 1970, RFC 3339 text with up to nine digits (or ns as text), or an aware datetime."""

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def to_ns(when: Instant) -> int:
    """Nanoseconds since 1970.

    >>> to_ns("2023-11-14T22:13:20.000000001Z")
    1700000000000000001

    Raises:
        BadInput: for anything that is no time, and for a datetime without a time zone.
    """
    if isinstance(when, bool) or not isinstance(when, int | str | datetime.datetime):
        raise BadInput(f"{when!r} is no time: use integer ns, RFC 3339 text or an aware datetime")
    if isinstance(when, int):
        return when
    if isinstance(when, datetime.datetime):
        if when.tzinfo is None:
            raise BadInput(f"{when!r} has no time zone")
        # A pandas timestamp is a datetime with nanoseconds.
        return _whole(when) + int(getattr(when, "nanosecond", 0))
    if re.fullmatch(r"-?\d{1,19}", when):
        return int(when)
    found = _RFC3339.fullmatch(when)
    if not found:
        raise BadInput(f"{when!r} is neither RFC 3339 nor integer nanoseconds")
    day, clock, digits, zone = found.groups()
    try:
        whole = datetime.datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    except ValueError as e:
        raise BadInput(f"{when!r}: {e}") from None
    return _whole(whole) + int((digits or "0").ljust(9, "0"))


def _whole(when: datetime.datetime) -> int:
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def show(ns: int) -> str:
    """RFC 3339 in UTC with nine digits.

    >>> show(1700000000000000001)
    '2023-11-14T22:13:20.000000001Z'
    """
    seconds, rest = divmod(ns, 10**9)
    return f"{_EPOCH + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
