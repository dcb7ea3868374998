"""What lies in the chunks and in quarantine, held against what devices were told is acknowledged.

Written from docs/FORMATS.md alone, like checker.py, whose readers it uses. Where checker.frames looks rows up by
their claimed time, this one deals the rows of each chunk out to its frames in order of seq: so it also holds for
clocks that jitter, drift and step, where rows are spread and times overlap.
"""

import json
import pathlib
from collections import defaultdict, namedtuple

import numpy as np
from blake3 import blake3

import checker

Line = namedtuple("Line", "stream boot seq t0 samples digest")
SPREAD_NS = 50_000_000  # formats.md 2: rows begin at most this far from the claimed time


def acknowledged(path):
    """The lines of `device-sim --acked`, the first of each frame."""
    lines = {}
    for text in pathlib.Path(path).read_text().splitlines():
        device, stream, boot, seq, t0, samples, digest = text.split()
        line = Line(f"{device}/{stream}", int(boot), int(seq), int(t0), int(samples), digest)
        assert lines.setdefault((line.stream, line.boot, line.seq), line) == line, f"listed twice: {text}"
    return list(lines.values())


def quarantined(folder):
    """[(reason, stream, boot or None, seq or None)]"""
    found = []
    for raw in checker.journal(pathlib.Path(folder) / "quarantine"):
        head = json.loads(raw.split(b"\n", 1)[0])
        frame = head.get("frame") or {}
        stream = head["stream"]
        name = stream if isinstance(stream, str) else f"{stream['device']}/{stream['stream']}"
        found.append((head["reason"], name, frame.get("boot"), frame.get("seq")))
    return found


def seqs(meta):
    """The seqs with rows in a chunk, without counting through what is missing."""
    at, last = meta["seq"]
    for a, b in [*meta["missing"], (last + 1, last + 1)]:
        yield from range(at, a)
        at = b + 1


def chunks(folder, streams):
    """(stream, boot) -> its chunks; `streams` says whose each did is."""
    folder, found = pathlib.Path(folder), defaultdict(list)
    for did, chain in checker.links(folder).items():
        for link in chain:
            chunk = checker.Chunk(folder / checker.object_name(did, link.index))
            found[streams[did], chunk.meta["boot"]].append(chunk)
    for group in found.values():
        group.sort(key=lambda c: (c.meta["slot_start_ns"], c.meta["seq"][0], c.meta["index"]))
    return found


def compare(folder, streams, lines):
    """Every acknowledged frame is stored exactly once, with its content, where it belongs; returns what is not so."""
    wanted = {(line.stream, line.boot, line.seq): line for line in lines}
    dealt, found = defaultdict(list), {"unasked": [], "twice": [], "lost": [], "different": [], "elsewhen": []}
    rows, lanes = 0, defaultdict(int)
    for (stream, boot), group in chunks(folder, streams).items():
        have = defaultdict(int)
        for chunk in group:
            times, codes, at = chunk.times, np.stack(chunk.codes), 0
            rows, lanes[chunk.meta["lane"]] = rows + len(times), lanes[chunk.meta["lane"]] + len(times)
            for seq in seqs(chunk.meta):
                line = wanted.get((stream, boot, seq))
                if line is None:
                    found["unasked"].append((stream, boot, seq))
                    break
                n = min(line.samples - have[seq], len(times) - at)
                if n == 0:
                    found["twice"].append((stream, boot, seq))
                dealt[stream, boot, seq].append((times[at:at + n], codes[:, at:at + n]))
                have[seq], at = have[seq] + n, at + n
            else:
                if at < len(times):
                    found["twice"].append((stream, boot, f"{len(times) - at} rows too many in chunk {chunk.meta['index']}"))
    for key, line in wanted.items():
        times = np.concatenate([t for t, _ in dealt[key]]) if dealt[key] else np.array([])
        if len(times) < line.samples:
            found["lost"].append(key)
            continue
        codes = np.concatenate([c for _, c in dealt[key]], axis=1)
        if blake3(codes.astype("<i4").tobytes()).hexdigest() != line.digest:
            found["different"].append(key)
        if abs(int(times[0]) - line.t0) > SPREAD_NS or not (np.diff(times) > 0).all():
            found["elsewhen"].append(key)
    return {"acknowledged": len(wanted), "rows": rows, "lanes": dict(lanes),
            "wrong": {what: keys for what, keys in found.items() if keys}}
