"""What a device sends, written from docs/FORMATS.md 2 alone: births and frames, as protobuf and as JSON."""

import json
import random
import struct
import time

from blake3 import blake3


def varint(n):
    out = b""
    while n > 0x7F:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n % 2**64)


def signed(field, n):
    return number(field, n << 1 if n >= 0 else (-n << 1) - 1)


def blob(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


class Ecg:
    """One boot of one stream: codes that depend on the seq alone, a synced clock."""

    def __init__(self, device, stream="ecg", boot=None, hz=1000, samples=10, leads=1, t0_ns=None):
        self.device, self.stream, self.hz, self.samples = device, stream, hz, samples
        self.boot = boot or random.getrandbits(53)
        self.leads = [f"L{i}" for i in range(leads)]
        # A little in the past, so that what is sent faster than it is recorded is not from the future.
        self.t0_ns = t0_ns or time.time_ns() - 120 * 10**9

    def topic(self, last):
        return f"chordae/v1/{self.device}/{self.stream}/{last}"

    def birth(self):
        leads = (blob(1, name.encode()) + varint(3 << 3 | 1) + struct.pack("<d", 200.0) + blob(5, b"mV")
                 + number(6, 16) for name in self.leads)
        return (number(1, self.boot) + number(2, self.hz) + number(3, 1) + b"".join(blob(4, lead) for lead in leads)
                + number(7, 1))

    def birth_json(self):
        return json.dumps({
            "boot": self.boot, "rate_num": self.hz, "rate_den": 1, "clock": "SYNCED",
            "leads": [{"name": name, "gain": 200.0, "unit": "mV", "bits": 16} for name in self.leads]}).encode()

    def codes(self, seq):
        """Lead after lead."""
        rng = random.Random(self.boot * 1_000_003 + seq)
        return [[rng.randint(-2000, 2000) for _ in range(self.samples)] for _ in self.leads]

    def frame_t0(self, seq):
        return self.t0_ns + seq * self.samples * 10**9 // self.hz

    def frame(self, seq):
        flat = [code for lead in self.codes(seq) for code in lead]
        return (number(1, self.boot) + number(2, seq) + signed(3, self.frame_t0(seq)) + number(4, self.samples)
                + blob(6, struct.pack(f"<{len(flat)}h", *flat)) + number(8, 1))

    def frame_json(self, seq):
        return json.dumps({"boot": self.boot, "seq": seq, "t0_ns": self.frame_t0(seq), "samples": self.samples,
                           "leads": self.codes(seq), "clock": "SYNCED"}).encode()

    def line(self, seq):
        """As `device-sim --acked` writes it, for checker.frames."""
        flat = [code for lead in self.codes(seq) for code in lead]
        digest = blake3(struct.pack(f"<{len(flat)}i", *flat)).hexdigest()
        return f"{self.device} {self.stream} {self.boot} {seq} {self.frame_t0(seq)} {self.samples} {digest}\n"
