"""R18 soak, R19 overload, R20 noisy neighbours: memory, descriptors and the time to an acknowledgement."""

import os
import random
import socket
import statistics
import struct
import threading
import time

import ecg
import mqtt_raw
from net import leftovers
from rig import Ward, Watch, seeds
from score import Score, percentile


class Probe(threading.Thread):
    """A good device with a stopwatch: a frame every 20 ms, one in flight; the time to each acknowledgement."""

    def __init__(self, port, name):
        super().__init__(daemon=True)
        self.port, self.name_, self.times, self.dropped, self.over = port, name, [], 0, threading.Event()
        self.acked = []

    def run(self):
        boot = 0
        while not self.over.is_set():
            boot += 1
            try:
                self.stream(boot)
            except (OSError, AssertionError, TimeoutError):
                if not self.over.is_set():
                    self.dropped += 1
                    time.sleep(0.2)

    def stream(self, boot):
        signal = ecg.Ecg(self.name_, hz=500, samples=10, boot=random.getrandbits(50), t0_ns=time.time_ns())
        with mqtt_raw.Client(self.port) as client:
            client.up(self.name_)
            client.published(signal.topic("birth"), signal.birth(), 1)
            for seq in range(1_000_000):
                if self.over.is_set():
                    return client.disconnect()
                began = time.monotonic()
                client.publish(signal.topic("frame"), signal.frame(seq), 1, id=seq % 60000 + 1)
                client.expect(mqtt_raw.PUBACK, 20)
                self.times.append((began, time.monotonic() - began))
                self.acked.append(signal.line(seq))
                time.sleep(max(0.0, 0.02 - (time.monotonic() - began)))

    def p99(self, since, until=float("inf")):
        return percentile([t for at, t in self.times if since <= at < until], 99)

    def end(self, base):
        self.over.set()
        self.join(30)
        (base / f"{self.name_}.acked").write_text("".join(self.acked))


class Listed:
    """The list of a probe, as a device's."""

    def __init__(self, base, name):
        self.name, self.acked = name, base / f"{name}.acked"

    def count(self):
        return 1

    def ask(self):
        pass

    def finish(self, _=0):
        return 0

    def tail(self):
        return ""

    def end(self):
        pass


SLOW = ("--leads", 2, "--rate", 100, "--frame", "1s")


def r18(seed, short):
    """24 hours of four devices, sent as history at many times their speed."""
    score = Score("R18", "soak: 24 h at 160 times the speed", seed, cycles=1)
    hours, speed = (0.3, 160) if short else (24, 160)
    args = (*SLOW, "--speed", speed, "--for", f"{int(hours * 3600)}s")
    fleet = tuple((f"dev-{n}", door, args) for n, door in enumerate(("mqtt", "mqtt", "zmq", "zmq")))
    samples = []
    with Ward(fleet=fleet, slot=60) as ward:
        ward.go()
        watch = Watch()
        while any(d.process.poll() is None for d in ward.devices) and watch() < hours * 3600 / speed * 3 + 60:
            samples.append((watch(), *leftovers(ward.house)))
            time.sleep(max(0.2, hours * 3600 / speed / 200))
        calm = [s for s in samples if s[0] > samples[-1][0] * 0.3]
        early, late = calm[: max(1, len(calm) // 5)], calm[-max(1, len(calm) // 5):]
        rss = [statistics.median(s[3] for s in part) for part in (early, late)]
        fds = [max(s[1] for s in part) for part in (early, late)]
        score.figures |= {"simulated hours": hours, "RSS": f"{rss[0]:.0f} to {rss[1]:.0f} MiB", "fd": f"{fds[0]} to {fds[1]}"}
        # The catalogue holds every chunk (decision 0004): a little per chunk is what it should be.
        score.demand(rss[1] - rss[0] < 1 * hours + 4, f"memory grows by {rss[1] - rss[0]:.0f} MiB in {hours} h")
        score.demand(fds[1] <= fds[0] + 2, f"descriptors grow: {fds}")
        ward.judge(score)
    score.control = "as R05"
    return score


def settled(probe, seconds):
    began = time.monotonic()
    time.sleep(seconds)
    return probe.p99(began)


def r19(seed, short):
    """Ten times what one paced device asks, then one time again."""
    score = Score("R19", "overload, then calm", seed, cycles=1)
    live = ("--leads", 12, "--rate", 500, "--frame", "1s", "--for", "30000s")
    flood = ("--leads", 12, "--rate", 500, "--frame", "1s", "--max-rate", "--burst", 64, "--precomputed", "--for", "600000s")
    hold, floods = (5, 3) if short else (60, 6)
    fleet = (("dev-live", "mqtt", live), *((f"dev-{n}", "mqtt" if n % 2 else "zmq", flood) for n in range(floods)))
    with Ward(fleet=fleet, slot=10) as ward:
        ward.house.cli("device", "add", "probe", "--out", ward.base / "certs")
        probe = Probe(ward.house.mqtt_port, "probe")
        probe.start()
        time.sleep(1)
        calm = settled(probe, 4)
        ward.go().first_ack(ward.counts(), every=True)
        loaded = settled(probe, hold)
        peak = leftovers(ward.house)[2]
        score.demand(ward.house.alive(), "the server goes on")
        # In order: everything that was sent is acknowledged, so nothing was dropped in silence.
        codes = [d.finish() for d in ward.devices]
        score.demand(codes == [0] * len(codes), f"every device has everything acknowledged: {codes}")
        watch, after = Watch(), float("inf")
        while watch() < 10:
            after = settled(probe, 1.5)
            if after <= max(calm * 1.1, 0.02):
                break
        score.figures |= {"p99 calm": f"{calm * 1e3:.1f} ms", "overloaded": f"{loaded * 1e3:.0f} ms",
                          "after": f"{after * 1e3:.1f} ms within {watch():.0f} s", "RSS at the peak": f"{peak:.0f} MiB"}
        score.demand(after <= max(calm * 1.5, 0.05), f"calm again within 10 s: {after * 1e3:.0f} ms, before {calm * 1e3:.0f}")
        score.demand(peak < 2048, f"memory under 2 GiB: {peak:.0f} MiB")
        probe.end(ward.base)
        score.demand(probe.dropped == 0, f"the good device was cut off {probe.dropped} times")
        ward.devices.append(Listed(ward.base, "probe"))
        ward.judge(score)
    score.control = "as R05"
    return score


def rude(port, zmq_port, rng, over):
    """One abusive peer after another: garbage, silence, half a packet, a flood, a stranger."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
    connect = mqtt_raw.packet(mqtt_raw.CONNECT, mqtt_raw.text("MQTT") + bytes([4, 2, 0, 60]) + mqtt_raw.text("stranger"))
    texts = [os.urandom(64), b"", b"\x10", connect, connect + b"\x30\xff\xff\xff\x7f" + bytes(1000), b"GET / HTTP/1.1\r\n\r\n",
             greeting, greeting + b"\x04\x19\x05READY", greeting + b"\x02" + struct.pack(">Q", 2**46), bytes(100_000)]
    while not over.is_set():
        try:
            with socket.create_connection(("127.0.0.1", rng.choice((port, zmq_port))), timeout=2) as s:
                s.sendall(rng.choice(texts))
                over.wait(rng.uniform(0.05, 2))
        except OSError:
            over.wait(0.05)


def r20(seed, short):
    score, rng = Score("R20", "200 rude peers beside 20 devices", seed, cycles=200), seeds(seed)
    fleet = tuple((f"dev-{n:02}", "mqtt" if n % 2 else "zmq", (*SLOW, "--for", "30000s")) for n in range(20))
    with Ward(fleet=fleet, slot=60) as ward:
        ward.house.cli("device", "add", "probe", "--out", ward.base / "certs")
        ward.go().first_ack(ward.counts(), every=True)
        probe = Probe(ward.house.mqtt_port, "probe")
        probe.start()
        time.sleep(1)
        calm = settled(probe, 5)
        over = threading.Event()
        rudes = [threading.Thread(target=rude, daemon=True, args=(ward.house.mqtt_port, ward.house.zmq_port,
                                                                 random.Random(rng.getrandbits(32)), over))
                 for _ in range(200)]
        for thread in rudes:
            thread.start()
        noisy = settled(probe, 8 if short else 60)
        over.set()
        for thread in rudes:
            thread.join(5)
        probe.end(ward.base)
        score.figures |= {"p99 alone": f"{calm * 1e3:.1f} ms", "among them": f"{noisy * 1e3:.1f} ms"}
        score.demand(noisy <= max(2 * calm, 0.1), f"p99 {noisy * 1e3:.0f} ms, alone {calm * 1e3:.0f} ms")
        score.demand(probe.dropped == 0, f"the good device was cut off {probe.dropped} times")
        score.demand(ward.house.alive(), "the server goes on")
        ward.devices.append(Listed(ward.base, "probe"))
        ward.judge(score)
    score.control = "as R05"
    return score


ROWS = {"R18": r18, "R19": r19, "R20": r20}
