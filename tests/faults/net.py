"""R15 a network that misbehaves, between devices and doors; R16 a client cut at every byte of its session."""

import pathlib
import random
import socket
import struct
import threading
import time

import checker
import ecg
import mqtt_raw
import stored
from rig import LIVE, Ward, free_port, seeds, verdict
from score import Score

# Seconds from the end of a fault to acknowledgements of every device; and in which a device finds a connection dead.
BACK_S, SILENCE_S, SHORT_SILENCE_S = 2, 20, 6
RST = struct.pack("ii", 1, 0)


class Chaos:
    """A TCP proxy of our own that delays, stalls, cuts, throttles and goes deaf, as its seed says.

    One thread per direction of a connection; what is read waits here until its time, in order, as TCP would have it:
    a lost packet is a stall of what comes after it.
    """

    def __init__(self, target, rng):
        self.target, self.rng, self.kind, self.open, self.cuts = target, rng, "clean", set(), 0
        self.listener = socket.create_server(("127.0.0.1", free_port()), backlog=128)
        self.port, self.lock = self.listener.getsockname()[1], threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            for s in (near, far):
                s.settimeout(None)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = (near, far)
            with self.lock:
                self.open.add(pair)
            deaf = []
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=(a, b, pair, deaf, random.Random(self.rng.getrandbits(64))),
                                 daemon=True).start()

    def carry(self, a, b, pair, deaf, rng):
        due = 0.0
        try:
            while data := a.recv(65536 if self.kind != "slow" else 4096):
                kind = self.kind
                if kind == "reset" and rng.random() < 0.05:
                    # Up to a byte somewhere in the middle, then the connection is reset.
                    b.sendall(data[:rng.randrange(len(data))])
                    self.cuts += 1
                    return self.cut(pair)
                if kind == "deaf":
                    deaf.append(True)
                if deaf:
                    # Half-open for good: what was swallowed never comes, only a new connection helps.
                    continue
                if kind == "delay":
                    due = max(due, time.monotonic() + rng.uniform(0.15, 0.25))
                elif kind == "loss" and rng.random() < 0.05:
                    due = max(due, time.monotonic() + rng.uniform(0.2, 0.6))
                elif kind == "slow":
                    due = max(due, time.monotonic()) + len(data) * 8 / 1_000_000
                time.sleep(max(0.0, due - time.monotonic()))
                b.sendall(data)
        except OSError:
            pass
        self.cut(pair, gently=True)

    def cut(self, pair, gently=False):
        with self.lock:
            self.open.discard(pair)
        for s in pair:
            try:
                if not gently:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                # Whoever waits in `recv` holds the socket open: it is woken first.
                s.shutdown(socket.SHUT_RDWR if gently else socket.SHUT_RD)
                s.close()
            except OSError:
                pass

    def cut_all(self):
        for pair in list(self.open):
            self.cut(pair)

    def close(self):
        self.listener.close()
        self.cut_all()


FLEET = tuple((f"dev-{n}", door, LIVE) for n, door in enumerate(("mqtt", "mqtt", "zmq", "zmq")))


def r15(seed, short):
    score, rng = Score("R15", "delay, loss, 1 Mbit/s, reset, half-open", seed), seeds(seed)
    each, patient = (3, SHORT_SILENCE_S) if short else (20, SILENCE_S)
    fleet = [(name, door, (*args, "--silence", f"{patient}s")) for name, door, args in FLEET]
    with Ward(fleet=fleet, slot=10) as ward:
        house, real = ward.house, (ward.house.mqtt_port, ward.house.zmq_port)
        nets = [Chaos(port, rng) for port in real]
        house.mqtt_port, house.zmq_port = (n.port for n in nets)
        ward.go().first_ack(ward.counts(), every=True)
        back = []
        for kind in ("delay", "loss", "slow", "reset", "deaf"):
            for net in nets:
                net.kind = kind
            time.sleep(each)
            for net in nets:
                net.kind = "clean"
            before = ward.counts()
            back.append(ward.first_ack(before, 60, every=True))
            score.figures[f"after {kind}"] = f"{back[-1]:.1f} s"
            score.cycles += 1
        score.figures["resets"] = sum(n.cuts for n in nets)
        score.demand(score.figures["resets"] > 0, "some connections must have been reset")
        score.demand_time(max(back[:-1]) <= BACK_S, f"all devices acknowledged again within {BACK_S} s, not {max(back[:-1]):.1f}")
        # Nothing tells of a half-open connection but that no acknowledgement comes: it began `each` before.
        silent = each + back[-1]
        score.demand_time(silent <= patient + BACK_S, f"half-open connections were left after {silent:.1f} s of silence")
        result = ward.judge(score)
        for net in nets:
            net.close()
        gaps = false_gaps(house.folder)
        score.demand(not gaps, f"gaps that no frame is missing from: {gaps[:2]}")
    score.control = "as R05"
    return score


def false_gaps(folder):
    """Ranges that every chunk of a boot calls missing, though each frame of it is stored."""
    said, have = {}, {}
    for did, chain in checker.links(folder).items():
        for link in chain:
            chunk = checker.Chunk(pathlib.Path(folder) / checker.object_name(did, link.index))
            key = (did, chunk.meta["boot"])
            have.setdefault(key, set()).update(stored.seqs(chunk.meta))
            said.setdefault(key, []).extend(chunk.meta["missing"])
    # `missing` of one chunk may lie in another; a true gap is what none holds.
    return [(key, gap) for key, gaps in said.items() for gap in gaps
            if not all(n in have[key] for n in range(gap[0], gap[1] + 1))]


def transcript(device):
    """What an MQTT client writes from its first byte to its last, and what a ZeroMQ peer does."""
    t = mqtt_raw.text
    signal = ecg.Ecg(device, samples=10, hz=100, boot=77, t0_ns=time.time_ns() - 60 * 10**9)
    connect = mqtt_raw.packet(mqtt_raw.CONNECT, t("MQTT") + bytes([4, 2 | 4]) + struct.pack(">H", 60) + t(device)
                              + t(f"chordae/v1/{device}/status") + t("offline"))
    listen = mqtt_raw.packet(mqtt_raw.SUBSCRIBE, struct.pack(">H", 1) + t(f"chordae/v1/{device}/ack") + b"\1", 2)

    def publish(topic, payload, id):
        return mqtt_raw.packet(mqtt_raw.PUBLISH, t(topic) + struct.pack(">H", id) + payload, 2)

    said = connect + listen + publish(signal.topic("birth"), signal.birth(), 2)
    for seq in range(4):
        said += publish(signal.topic("frame"), signal.frame(seq), 3 + seq)
    mqtt = said + mqtt_raw.packet(mqtt_raw.PINGREQ) + mqtt_raw.packet(mqtt_raw.DISCONNECT)

    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"

    def message(*parts):
        return b"".join(bytes([0x01 if n + 1 < len(parts) else 0x00, len(p)]) + p for n, p in enumerate(parts))

    address = f"{device}/ecg".encode()
    zmq = greeting + b"\x04" + bytes([len(ready)]) + ready + message(b"birth", address, signal.birth())
    for seq in range(4, 8):
        zmq += message(b"frame", address, signal.frame(seq))
    return signal, mqtt, zmq


def leftovers(house):
    """Descriptors, threads and resident MiB of the server."""
    proc = pathlib.Path(f"/proc/{house.process.pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return len(list((proc / "fd").iterdir())), int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024


def cut_at(port, data, n, hard):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.sendall(data[:n])
        if n % 7 == 0:
            # Now and then the server has answered before the cut.
            time.sleep(0.002)
        if hard:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)


def whole(port, data, quiet=0.3):
    """The session to its end; what came back."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.sendall(data)
        s.settimeout(quiet)
        try:
            while more := s.recv(65536):
                got += more
        except TimeoutError:
            pass
    return got


def r16(seed, short):
    score = Score("R16", "a client cut at every byte of a session", seed)
    with Ward(fleet=(("dev-cut", "mqtt", LIVE),), slot=10) as ward:
        signal, mqtt, zmq = transcript("dev-cut")
        sessions = [(ward.house.mqtt_port, mqtt), (ward.house.zmq_port, zmq)]
        step = 2 if short else 1
        for port, data in sessions:
            # Warm: buffers and threads that come once.
            for n in range(0, len(data), 29):
                cut_at(port, data, n, True)
        time.sleep(1)
        before = leftovers(ward.house)
        for port, data in sessions:
            for n in range(seed % step, len(data) + 1, step):
                cut_at(port, data, n, n % 2 == 0)
                score.cycles += 1
        time.sleep(2)
        after = leftovers(ward.house)
        score.figures |= {"fd": f"{before[0]} to {after[0]}", "threads": f"{before[1]} to {after[1]}",
                          "RSS": f"{before[2]:.0f} to {after[2]:.0f} MiB"}
        score.demand(after[0] <= before[0], f"no descriptor is left: {before[0]} to {after[0]}")
        score.demand(after[1] <= before[1] + 2, f"no thread is left: {before[1]} to {after[1]}")
        score.demand(after[2] <= before[2] + 5, f"memory within 5 MiB: {before[2]:.0f} to {after[2]:.0f}")
        score.demand(ward.house.alive(), "the server lives")
        # What was whole was acknowledged, or is now; nothing else may be stored.
        acks = whole(ward.house.mqtt_port, mqtt[:-2])
        score.demand(b"\x40\x02\x00\x06" in acks, "the whole session is acknowledged in the end")
        whole(ward.house.zmq_port, zmq)
        lines = [signal.line(seq) for seq in range(8)]
        acked = ward.base / "cut.acked"
        acked.write_text("".join(lines))
        streams = {s["did"]: s["stream"] for s in ward.house.streams()}
        ward.house.stop()
        score.add(verdict(ward.house.folder, streams, stored.acknowledged(acked)))
    score.control = "as R05"
    return score


ROWS = {"R15": r15, "R16": r16}

