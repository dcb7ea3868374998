"""Deterministic CBOR (RFC 8949 4.2.1), as much of it as the ledger and the sessions use.

What is not the one encoding of its value is refused: longer integers than needed, indefinite lengths, keys out of
order or twice, bytes that follow. So no two readers can read the same bytes differently.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .errors import BadInput

DEPTH_MAX = 16
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _TRUE, _NULL = 20, 21, 22


@dataclasses.dataclass(frozen=True)
class Tag:
    """A tagged value."""

    number: int
    value: Any


def _head(major: int, n: int) -> bytes:
    if n < 24:
        return bytes([major << 5 | n])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if n < 1 << 8 * size:
            return bytes([major << 5 | code]) + n.to_bytes(size, "big")
    raise BadInput("CBOR: an integer beyond 64 bits")


def encode(value: Any) -> bytes:
    """The one encoding of None, bool, int, bytes, str, list, dict (of int, bytes and text keys) or `Tag`."""
    match value:
        case None:
            return bytes([_SIMPLE << 5 | _NULL])
        case bool():
            return bytes([_SIMPLE << 5 | (_TRUE if value else _FALSE)])
        case int():
            return _head(_UINT, value) if value >= 0 else _head(_NINT, -1 - value)
        case bytes():
            return _head(_BYTES, len(value)) + value
        case str():
            text = value.encode()
            return _head(_TEXT, len(text)) + text
        case list() | tuple():
            return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
        case dict():
            pairs = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(_MAP, len(pairs)) + b"".join(key + item for key, item in pairs)
        case Tag():
            return _head(_TAG, value.number) + encode(value.value)
    raise BadInput(f"CBOR: no encoding for a {type(value).__name__}")


def decode(data: bytes) -> Any:
    """The value whose one encoding these bytes are.

    Raises:
        BadInput: for anything else.
    """
    value, end = _item(data, 0, 0)
    if end != len(data):
        raise BadInput("CBOR: bytes follow the value")
    return value


def _number(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type, argument and the place behind it."""
    if at >= len(data):
        raise BadInput("CBOR: cut off")
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low < 24:
        return major, low, at
    if low > 27 or major == _SIMPLE:
        raise BadInput("CBOR: an indefinite length, or a float or simple value that nothing here has")
    size = 1 << (low - 24)
    if at + size > len(data):
        raise BadInput("CBOR: cut off")
    n = int.from_bytes(data[at : at + size], "big")
    if n < (24 if size == 1 else 1 << 4 * size):
        raise BadInput("CBOR: an integer or length is longer than it need be")
    return major, n, at + size


def _item(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > DEPTH_MAX:
        raise BadInput("CBOR: nested too deep")
    major, n, at = _number(data, at)
    if major == _UINT:
        return n, at
    if major == _NINT:
        return -1 - n, at
    if major in (_BYTES, _TEXT):
        raw = data[at : at + n]
        if len(raw) != n:
            raise BadInput("CBOR: cut off")
        if major == _BYTES:
            return raw, at + n
        try:
            return raw.decode(), at + n
        except UnicodeDecodeError:
            raise BadInput("CBOR: a text is not UTF-8") from None
    if major == _ARRAY:
        items: list[Any] = []
        for _ in range(n):
            item, at = _item(data, at, depth + 1)
            items.append(item)
        return items, at
    if major == _MAP:
        return _map(data, at, n, depth)
    if major == _TAG:
        value, at = _item(data, at, depth + 1)
        return Tag(n, value), at
    if n in (_FALSE, _TRUE, _NULL):
        return {_FALSE: False, _TRUE: True, _NULL: None}[n], at
    raise BadInput("CBOR: a simple value that nothing here has")


def _map(data: bytes, at: int, n: int, depth: int) -> tuple[dict[Any, Any], int]:
    found: dict[Any, Any] = {}
    before = b""
    for _ in range(n):
        start = at
        key, at = _item(data, at, depth + 1)
        if isinstance(key, bool) or not isinstance(key, int | bytes | str):
            raise BadInput("CBOR: a map key must be text, bytes or a number")
        encoded = data[start:at]
        if encoded <= before:
            raise BadInput("CBOR: map keys out of order, or one twice")
        before = encoded
        found[key], at = _item(data, at, depth + 1)
    return found, at
