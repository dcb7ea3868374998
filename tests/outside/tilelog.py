"""Where a C2SP tile log keeps its entries (tlog-tiles)."""

import pathlib
import struct

WIDTH = 256


def path_of(n: int) -> str:
    """`x001/x234/067` for 1234067."""
    parts = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        parts.insert(0, f"x{n % 1000:03d}")
    return "/".join(parts)


def entries(folder: pathlib.Path, size: int) -> list[bytes]:
    """The entries of a log of this size, in order; ValueError if a bundle does not hold them."""
    found: list[bytes] = []
    while len(found) < size:
        width = min(WIDTH, size - len(found))
        full = folder / "tile/entries" / path_of(len(found) // WIDTH)
        # A partial bundle may be gone once the full one stands, which begins with it.
        partial = full.with_name(f"{full.name}.p") / str(width)
        data, at = (partial if width < WIDTH and partial.exists() else full).read_bytes(), 0
        for _ in range(width):
            if at + 2 > len(data):
                raise ValueError(f"entry {len(found)} is cut off")
            (length,) = struct.unpack_from(">H", data, at)
            found.append(data[at + 2 : at + 2 + length])
            at += 2 + length
            if at > len(data):
                raise ValueError(f"entry {len(found) - 1} is cut off")
    return found
