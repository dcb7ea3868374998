"""R19 overload, R20 noisy neighbours: memory and the time to an acknowledgement."""

import os
import random
import re
import socket
import struct
import threading
import time

import mqtt_raw
from net import leftovers
from probe import Probe
from rig import Ward, Watch, seeds
from score import Score, percentile


# Most resident memory under a flood.
RSS_MIB = 512
# By how much the median of a round trip under a millisecond moves from one second to the next.
STIR_S = 0.0005
SLOW = ("--leads", 2, "--rate", 100, "--frame", "1s")


class Pair:
    """A good device with a stopwatch beside the machine's own, over the same seconds."""

    def __init__(self, ward):
        self.probe = Probe("mqtt", ward.base, "probe", ward.house.mqtt_port)
        self.machine = Probe("machine", ward.base, "machine")
        while not (self.probe.all() and self.machine.all()):
            time.sleep(0.05)

    def settled(self, seconds):
        """p50 and p99 of the device over the next seconds, p50 and p99 of the machine."""
        began = time.monotonic()
        time.sleep(seconds)
        times = [one.between(began) for one in (self.probe, self.machine)]
        return [percentile(t, p) for t in times for p in (50, 99)]

    def end(self, ward, score):
        for one in (self.probe, self.machine):
            one.stop()
        score.demand(self.probe.dropped == 0, f"the good device was cut off {self.probe.dropped} times")
        ward.devices.append(self.probe)


def slower(before, after):
    """By what the machine alone, without the product, became slower: others use its cores and its disk too."""
    return max(1.0, after / before)


def ms(*seconds):
    return ", ".join(f"{s * 1e3:.1f}" for s in seconds) + " ms"


def r19(seed, short):
    """Ten times what one paced device asks, then one time again."""
    score = Score("R19", "overload, then calm", seed, cycles=1)
    live = ("--leads", 12, "--rate", 500, "--frame", "1s", "--for", "30000s")
    # What is judged in the end is every sample: small frames in the short form.
    shape = ("--leads", 2, "--rate", 250) if short else ("--leads", 12, "--rate", 500)
    flood = (*shape, "--frame", "1s", "--max-rate", "--burst", 64, "--precomputed", "--for", "600000s")
    hold, floods = (4, 3) if short else (60, 6)
    fleet = (("dev-live", "mqtt", live), *((f"dev-{n}", "mqtt" if n % 2 else "zmq", flood) for n in range(floods)))
    with Ward(fleet=fleet, slot=10, also=["probe"]) as ward:
        pair = Pair(ward)
        time.sleep(1)
        # The worst of some spans as long as the one that is held against it: a p50 of so few varies by itself.
        calm = [max(of) for of in zip(*(pair.settled(0.75) for _ in range(4)))]
        ward.go().first_ack(ward.counts(), every=True)
        loaded = pair.settled(hold)
        peak = leftovers(ward.house)[2]
        score.demand(ward.house.alive(), "the server goes on")
        # In order: everything that was sent is acknowledged, so nothing was dropped in silence.
        codes = [d.finish() for d in ward.devices]
        score.demand(codes == [0] * len(codes), f"every device has everything acknowledged: {codes}")
        watch, back, course = Watch(), False, []
        while not back and watch() < 4.5:
            after = pair.settled(0.75)
            course.append(after[0])
            # p50 as before within a tenth, or within what that of the machine alone moves by, too, while nothing happens; p99
            # of so few is one value, and so has the bound that it had.
            before = max(1.1 * calm[0] * slower(calm[2], after[2]), calm[0] + STIR_S)
            back = after[0] <= before and after[1] <= max(calm[1] * 1.5, 0.05)
        score.figures |= {"p50, p99 calm": ms(*calm[:2]), "overloaded": ms(*loaded[:2]),
                          "after": f"{ms(*after[:2])} within {watch():.1f} s", "p50 on the way": ms(*course), "p50 of the machine before, after": ms(calm[2], after[2]),
                          "RSS at the peak": f"{peak:.0f} MiB"}
        score.demand_time(back, f"calm again within 5 s: {ms(*after[:2])}, before {ms(*calm[:2])}")
        score.demand(peak < RSS_MIB, f"memory under {RSS_MIB} MiB: {peak:.0f}")
        pair.end(ward, score)
        ward.judge(score)
    score.control = "as R05"
    return score


def rude(port, zmq_port, rng, over):
    """One abusive peer after another: garbage, silence, half a packet, a flood, a stranger."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL".ljust(23, b"\0") + bytes(32)
    connect = mqtt_raw.packet(mqtt_raw.CONNECT, mqtt_raw.text("MQTT") + bytes([4, 2, 0, 60]) + mqtt_raw.text("stranger"))
    # What the peers cost as programs is not the server's: they get what it and the good devices leave.
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    texts = [os.urandom(64), b"", b"\x10", connect, connect + b"\x30\xff\xff\xff\x7f" + bytes(1000), b"GET / HTTP/1.1\r\n\r\n",
             greeting, greeting + b"\x04\x19\x05READY", greeting + b"\x02" + struct.pack(">Q", 2**46), bytes(100_000)]
    while not over.is_set():
        try:
            with socket.create_connection(("127.0.0.1", rng.choice((port, zmq_port))), timeout=2) as s:
                s.sendall(rng.choice(texts))
                over.wait(rng.uniform(0.05, 2))
        except OSError:
            over.wait(0.05)


def connections(device):
    """How often a device came in, as its last line says."""
    return [int(n) for n in re.findall(r"; (\d+) connections", device.tail())]


def r20(seed, short):
    score, rng = Score("R20", "200 rude peers beside 20 devices", seed, cycles=200), seeds(seed)
    fleet = tuple((f"dev-{n:02}", "mqtt" if n % 2 else "zmq", (*SLOW, "--for", "30000s")) for n in range(20))
    with Ward(fleet=fleet, slot=60, also=["probe"]) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        pair = Pair(ward)
        time.sleep(1)
        calm = pair.settled(3 if short else 10)
        over = threading.Event()
        rudes = [threading.Thread(target=rude, daemon=True, args=(ward.house.mqtt_port, ward.house.zmq_port,
                                                                 random.Random(rng.getrandbits(32)), over))
                 for _ in range(200)]
        for thread in rudes:
            thread.start()
        noisy = pair.settled(6 if short else 60)
        over.set()
        for thread in rudes:
            thread.join(5)
        pair.end(ward, score)
        by = slower(calm[3], noisy[3])
        score.figures |= {"p99 alone": ms(calm[1]), "among them": ms(noisy[1]), "machine": ms(calm[3], noisy[3])}
        # What else the machine does costs a round trip without the product, too: that is allowed for.
        allowed = min(2 * calm[1] * by, max(2 * calm[1], 0.1))
        score.demand_time(noisy[1] <= allowed, f"p99 {ms(noisy[1])}, alone {ms(calm[1])} (machine: {by:.1f} times)")
        score.demand(ward.house.alive(), "the server goes on")
        ward.judge(score)
        again = {d.name: n for d in ward.devices if d is not pair.probe and (n := connections(d)) != [1]}
        score.demand(not again, f"every good device kept its one connection: {again}")
    score.control = "as R05"
    return score


ROWS = {"R19": r19, "R20": r20}
