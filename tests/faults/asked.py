"""R09q damage at rest, asked for over HTTP: a running server, one flipped bit in a chunk on its disk, three requests.

Each flip has a chunk of its own, between two that are left alone. (Every byte of a chunk in memory: R09.)
"""

import json
import pathlib
import re
import subprocess
import urllib.request

import pyarrow.parquet as pq

import checker
import reader
from conftest import BIN
from rig import Ward, seeds
from score import Score

# 100 Hz in slots of 10 s: a thousand rows a chunk.
EACH = 1000
DEVICE = ("--leads", 2, "--rate", 100, "--frame", "1s", "--max-rate")


def classes(path, rng):
    """A byte of each kind that a chunk file has: {kind: place}."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = len(data) - 8 - length
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    begin = [c.dictionary_page_offset or c.data_page_offset for c in columns]
    ends = [b + c.total_compressed_size for b, c in zip(begin, columns)]
    words = data.index(b"chordae", footer)
    # The times of even sampling take a few bytes; leads have pages worth the name.
    n = max(range(len(columns)), key=lambda i: ends[i] - begin[i])
    return {
        "first magic": rng.randrange(4),
        "page header": begin[n] + rng.randrange(4),
        "page data begins": begin[n] + rng.randrange(40, 60),
        "page data": rng.randrange(begin[n] + 60, ends[n]),
        "page data ends": ends[n] - 1 - rng.randrange(4),
        "column index": max(ends) + rng.randrange(8),
        "indexes": rng.randrange(max(ends), footer),
        "offset index": footer - 1 - rng.randrange(8),
        "footer": rng.randrange(footer, words),
        "metadata's name": words + rng.randrange(7),
        "metadata": rng.randrange(words + 20, words + 200),
        "footer ends": len(data) - 9 - rng.randrange(8),
        "footer length": len(data) - 8 + rng.randrange(4),
        "last magic": len(data) - 4 + rng.randrange(4),
    }


def flip(path, at, bit):
    with open(path, "r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


def counted(house):
    text = urllib.request.urlopen(f"http://{house.doors['metrics']}/metrics", timeout=10).read().decode()
    return float(re.search(r"^chordae_verify_failures_total (\S+)", text, re.M)[1])


class Stream:
    """A stream of many small chunks, and somebody who may read it."""

    def __init__(self, ward, chunks):
        self.house, self.reader = ward.house, reader.Reader(ward.house, ward.base)
        self.did = self.reader.assign("dev/ecg")
        ward.go()
        if code := ward.devices[0].process.wait(timeout=120):
            raise AssertionError(f"the device ended with {code}")
        # An orderly stop seals what is open.
        self.house.stop()
        self.house.start()
        self.sid = self.reader.grant(self.did)
        chain = checker.links(self.house.folder)[self.did]
        self.paths = [pathlib.Path(self.house.folder) / checker.object_name(self.did, link.index) for link in chain]
        spans = [checker.Chunk(path).times for path in self.paths]
        self.whole = [n for n, times in enumerate(spans) if len(times) == EACH]
        self.spans = [(int(times[0]), int(times[-1]) + 1) for times in spans]
        if len(self.whole) < chunks:
            raise AssertionError(f"only {len(self.whole)} whole chunks of {chunks}")

    def window(self, first, last=None):
        until = self.spans[first if last is None else last][1]
        return self.reader.get(reader.window(self.did, self.spans[first][0], until), self.sid)

    def three(self, n):
        """The requests that read chunk n."""
        a, b = self.spans[n]
        yield "window", lambda: self.window(n)
        yield "proof", lambda: self.reader.get(f"/v1/streams/{self.did}/proof?from={a}&until={b}", self.sid)
        yield "chunk", lambda: self.reader.get(f"/v1/streams/{self.did}/chunks/{n}", self.sid)


def rows(answer):
    return [int(line.split(b",")[0]) for line in answer.body.splitlines(keepends=True)[1:] if line.endswith(b"\n")]


def untouched(stream, score, n):
    """All three are answered whole, and the window has its rows."""
    for what, ask in stream.three(n):
        answer = ask()
        good = answer.status == 200 and answer.whole and (what != "window" or len(rows(answer)) == EACH)
        good &= what != "chunk" or answer.body == stream.paths[n].read_bytes()
        score.demand(good, f"the {what} of untouched chunk {n}: {answer.status} {answer.body[:80]}")


def damaged(stream, score, n, kind):
    """All three are refused as damaged, whichever comes first, and that is counted (the chunk is then known as damaged).
    An answer that has begun with a good chunk is broken off before it."""
    three, first = list(stream.three(n)), counted(stream.house)
    for what, ask in three[score.cycles % 3:] + three[:score.cycles % 3]:
        answer = ask()
        said = reader.problem(answer) if answer.status != 200 else "answered"
        score.demand((answer.status, said) == (500, "damaged"), f"{kind}: the {what} was answered {answer.status} {said}")
        now = counted(stream.house)
        score.demand(now > first, f"{kind}: nothing was counted after the {what}")
    score.cycles += 1
    both, end = stream.window(n - 1, n), stream.spans[n - 1][1]
    there = rows(both) if both.status == 200 else []
    whole = both.status == 200 and both.whole
    score.demand(not whole, f"{kind}: a window over it and the one before was answered whole")
    score.demand(all(t < end for t in there), f"{kind}: rows of a damaged chunk were sent")


def r09q(seed, short):
    score, rng = Score("R09q", "a flipped bit, asked for over HTTP", seed), seeds(seed)
    rounds = 1 if short else 4
    need = 2 * 14 * rounds + 1
    with Ward(fleet=(("dev", "mqtt", (*DEVICE, "--for", f"{(need + 4) * 10}s")),), slot=10) as ward:
        stream = Stream(ward, need)
        places, struck, n = [], {}, 1
        for _ in range(rounds):
            kinds = classes(stream.paths[n], rng)
            for kind in kinds:
                while n + 1 not in stream.whole or n not in stream.whole or n - 1 not in stream.whole:
                    n += 1
                # Each file has its own places.
                place = classes(stream.paths[n], rng)[kind]
                untouched(stream, score, n)
                flip(stream.paths[n], place, rng.randrange(8))
                damaged(stream, score, n, kind)
                places.append(n)
                struck[kind] = struck.get(kind, 0) + 1
                n += 2
        for n in places:
            untouched(stream, score, n - 1)
        untouched(stream, score, places[-1] + 1)
        # A copy, as somebody else would check it: exactly these are named.
        ward.devices[0].end()
        ward.house.stop()
        said = subprocess.run([str(BIN), "verify", str(ward.house.folder), "--json"], capture_output=True, text=True)
        named = {f["object"] for f in json.loads(said.stdout)["findings"]}
        wrong = [n for n, path in enumerate(stream.paths) if (n in places) != any(path.name in o for o in named)]
        score.demand(not wrong and said.returncode == 3,
                     f"verify ended with {said.returncode}; wrongly named or not named: {wrong[:5]}")
        score.figures |= {"flips": len(places), "kinds of bytes": len(struck), "requests refused": 3 * score.cycles}
    score.control = "untouched, each chunk is served"
    return score


ROWS = {"R09q": r09q}
