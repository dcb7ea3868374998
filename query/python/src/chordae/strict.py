"""Reading JSON and base64 in exactly one way."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, NoReturn

from .errors import BadInput


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("a key occurs twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise BadInput(f"{text} is no JSON number")


def loads(text: str | bytes, what: str) -> Any:
    """JSON without repeated keys and without NaN or Infinity."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except BadInput as e:
        raise BadInput(f"{what}: {e}") from None
    except (ValueError, RecursionError) as e:
        raise BadInput(f"{what}: not JSON: {e}") from None


def fields(value: Any, what: str, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """A JSON object with all required keys and no unknown one."""
    must = set(required)
    if not isinstance(value, dict) or not must <= set(value) or set(value) - must - set(optional):
        raise BadInput(f"{what}: must be an object with the keys {', '.join(sorted(must))}, and no unknown ones")
    return value


def integer(value: Any, what: str, low: int, high: int) -> int:
    """An integer in `[low, high]`."""
    if type(value) is not int or not low <= value <= high:
        raise BadInput(f"{what}: must be an integer in [{low}, {high}]")
    return value


def text(value: Any, what: str) -> str:
    """A string that UTF-8 can hold."""
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError:
        pass
    raise BadInput(f"{what}: must be a text")


def items(value: Any, what: str, at_most: int) -> list[Any]:
    """A JSON array of bounded length."""
    if not isinstance(value, list) or len(value) > at_most:
        raise BadInput(f"{what}: must be an array of at most {at_most}")
    return value


def pair(value: Any, what: str, low: int, high: int) -> tuple[int, int]:
    """`[a, b]`, both integers in `[low, high]`."""
    if not isinstance(value, list) or len(value) != 2:
        raise BadInput(f"{what}: must be a pair")
    return integer(value[0], what, low, high), integer(value[1], what, low, high)


def lower_hex(value: Any, what: str, size: int) -> bytes:
    """Exactly `size` bytes in lower-case hex."""
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != size or raw.hex() != value:
        raise BadInput(f"{what}: must be {2 * size} lower-case hex digits")
    return raw


def base64_bytes(value: Any, what: str) -> bytes:
    """Standard base64 with padding, in its one spelling."""
    try:
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError:
        raw = None
    if raw is None or base64.b64encode(raw).decode() != value:
        raise BadInput(f"{what}: must be base64")
    return raw


def key_bytes(value: Any, what: str) -> bytes:
    """A 32-byte key in base64url without padding, in its one spelling."""
    try:
        raw = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != 32 or base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != value:
        raise BadInput(f"{what}: a key must be 32 bytes in base64url without padding")
    return raw
