"""R18 soak: a day of the server's own clock in nine minutes, with all that goes on in a day, and nothing grows."""

import os
import statistics
import threading
import time
import urllib.request
from email.utils import parsedate_to_datetime

import reader
from clock import LIBRARY
from net import leftovers
from probe import Probe
from rig import SMALL_LOG, Device, Ward, Watch, free_port
from score import Score, percentile

# How much faster the server's wall clock runs. Its stopwatch (CLOCK_MONOTONIC) is left alone.
FASTER = 160
DAY_H, SHORT_H = 24, 0.3
SLOW = ("--leads", 2, "--rate", 100, "--frame", "1s", "--speed", FASTER)
# Frames of the probe are as long as its beat is on the server's clock: 20 ms times 160.
BEAT_HZ, BEAT_SAMPLES = 10, 32
# The log turns over many times in a day, and one door has TLS.
SOAK = SMALL_LOG.replace('tls = "off"\nplain = "127.0.0.1:{mqtt}"', 'tls = "127.0.0.1:{mqtts}"\nplain = "127.0.0.1:{mqtt}"')


def utc(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class Day:
    """What goes on while devices stream: windows are read, sessions and tokens end, certificates are renewed."""

    def __init__(self, ward, hours, score):
        self.ward, self.house, self.hours, self.score = ward, ward.house, hours, score
        self.over, self.read, self.refused, self.renewed, self.troubles = threading.Event(), 0, 0, 0, []
        self.certs = ward.base / "certs"
        self.began = self.now()
        self.reader = reader.Reader(self.house, ward.base, self.now)
        self.dids = [self.reader.assign(f"dev-{n}/ecg") for n in range(4)]
        self.house.cli("device", "add", "dev-spare", "--out", self.certs)

    def now(self):
        """Seconds since 1970 on the server's clock, which it tells with every answer."""
        if not hasattr(self, "told"):
            try:
                answer = urllib.request.urlopen(f"{self.house.http}/ledger/checkpoint", timeout=10)
            except urllib.error.HTTPError as refused:
                answer = refused
            self.told = parsedate_to_datetime(answer.headers["Date"]).timestamp(), time.monotonic()
        wall, mono = self.told
        return wall + (time.monotonic() - mono) * FASTER

    def start(self):
        sids = [self.reader.grant(did) for did in self.dids]
        ends = self.began + self.hours * 3600 / 2
        self.short = self.reader.grant(self.dids[0], "--expires", utc(ends))
        self.threads = [threading.Thread(target=self.guard, args=(what,), daemon=True)
                        for what in (lambda: self.reads(sids, ends), self.renews)]
        for thread in self.threads:
            thread.start()
        return self

    def guard(self, what):
        try:
            what()
        except Exception as why:
            self.troubles.append(f"{type(why).__name__}: {why}")

    def window(self, n):
        """A minute that device n sent long enough ago: history has eight slots open, the ninth seals the first."""
        lines = self.ward.devices[n].acked.read_bytes()[-400:].rpartition(b"\n")[0].splitlines()
        newest = int(lines[-1].split()[4]) // 10**9
        until = (newest - 660) // 10 * 10
        return reader.window(self.dids[n], (until - 60) * 10**9, until * 10**9), until - 60 > self.first
    def reads(self, sids, ends):
        """A minute that was sealed long ago, once a second; it must have all its rows. Then what has ended."""
        n = 0
        while not self.over.wait(1 if self.hours == DAY_H else 0.3):
            n = (n + 1) % 4
            target, there = self.window(n)
            if not there:
                continue
            answer = self.reader.get(target, sids[n])
            rows = answer.body.count(b"\n") - 1
            if answer.status != 200 or rows != 6000:
                self.troubles.append(f"{target}: {answer.status}, {rows} rows, {answer.body[:200]}")
            self.read += 1
            if n == 0:
                self.ended(target, sids[n], ends)

    def ended(self, target, sid, ends):
        """A proof; a token of half a minute, used after two; and the session that ends at noon."""
        proof = self.reader.get(target.replace("/window?", "/proof?").removesuffix("&format=csv"), sid)
        if proof.status != 200:
            self.troubles.append(f"proof: {proof.status} {proof.body[:200]}")
        old, before = self.reader.token(target, sid, life=30), self.now() < ends - 120
        noon, after = self.reader.get(target, self.short).status, self.now() > ends + 120
        if (before and noon != 200) or (after and noon != 403):
            self.troubles.append(f"the session that ends at noon: {noon} at {self.now() - ends:+.0f} s")
        time.sleep(120 / FASTER)
        if (answer := self.reader.get(target, token=old)).status != 401:
            self.troubles.append(f"a token that has expired was answered {answer.status}")
        self.refused += 1 + (noon == 403)

    def renews(self):
        """A device loses its certificate and streams with another; the doors read the new list meanwhile."""
        while not self.over.wait(2 if self.hours < DAY_H else 15):
            out = self.ward.base / f"certs-{self.renewed}"
            self.house.cli("device", "revoke", "dev-spare")
            self.house.cli("device", "renew", "dev-spare", "--out", out)
            papers = ("--ca", out / "ca.crt", "--cert", out / "dev-spare.crt", "--key", out / "dev-spare.key")
            spare = Device(self.ward.base, self.house, "dev-spare", "mqtts", *papers, *SLOW, "--start", utc(self.now()),
                           "--for", "60s")
            code = spare.process.wait(timeout=60)
            spare.end()
            if code != 0:
                self.troubles.append(f"the renewed device ended with {code}: {spare.tail()}")
            self.renewed += 1
            self.spare = spare

    def end(self):
        self.over.set()
        for thread in self.threads:
            thread.join(90)
        self.score.figures |= {"windows read": self.read, "refused as expired": self.refused,
                               "certificates renewed": self.renewed}
        self.score.demand(not self.troubles, f"{len(self.troubles)} troubles: {self.troubles[:3]}")
        self.score.demand(self.read > 0 and self.renewed > 0, "windows were read, certificates renewed")
        self.ward.devices.append(self.spare)


def slope(points):
    """The middle of all slopes between two points (Theil and Sen): a burst here and there does not move it."""
    pairs = ((a, b) for n, a in enumerate(points) for b in points[n + 1:] if b[0] > a[0])
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)


def r18(seed, short):
    hours = SHORT_H if short else DAY_H
    score = Score("R18", f"soak: {hours:g} h at {FASTER} times the speed", seed, cycles=1)
    if LIBRARY is None:
        score.demand(False, "libfaketime is not installed (Debian: apt-get install libfaketime)")
        return score
    env = {"LD_PRELOAD": str(LIBRARY), "DONT_FAKE_MONOTONIC": "1", "FAKETIME": f"+0 x{FASTER}"}
    samples, names = [], [f"dev-{n}" for n in range(4)]
    with Ward(fleet=(), also=(*names, "probe"), slot=60, settings=SOAK, env=env) as ward:
        day = Day(ward, hours, score)
        start = day.first = int(day.now()) + 1
        ward.fleet = tuple((name, door, (*SLOW, "--start", utc(start), "--for", f"{int(hours * 3600)}s"))
                           for name, door in zip(names, ("mqtt", "mqtt", "zmq", "zmq")))
        ward.go().first_ack(ward.counts(), every=True)
        day.start()
        probe = Probe("mqtt", ward.base, "probe", ward.house.mqtt_port, BEAT_HZ, BEAT_SAMPLES, start * 10**9)
        machine = Probe("machine", ward.base, "machine")
        watch, began, seconds = Watch(), time.monotonic(), hours * 3600 / FASTER
        while any(d.process.poll() is None for d in ward.devices) and watch() < seconds * 1.5 + 60:
            fd, threads, rss = leftovers(ward.house)
            samples.append((watch() * FASTER / 3600, rss, fd, threads))
            time.sleep(max(0.2, seconds / 400))
        took = watch()
        day.end()
        for one in (probe, machine):
            one.stop()
        ward.devices.append(probe)
        score.demand(probe.dropped == 0, f"the probe was cut off {probe.dropped} times")
        score.figures["on the server's clock"] = f"{(day.now() - day.began) / 3600:.1f} h"
        score.figures["seconds"] = f"{took:.0f} of {seconds:.0f}"
        steady(score, samples, short)
        if not short:
            score.demand(took < seconds * 1.1 + 20, f"the devices kept pace: {took:.0f} s for {seconds:.0f}")
            same_as_before(score, probe, machine, began, took)
        ward.judge(score)
    score.control = "as R05"
    return score


def steady(score, samples, short):
    """Memory and descriptors after the first fifth."""
    calm = samples[len(samples) // 5:]
    fifth = max(1, len(calm) // 5)
    fds = [statistics.median_high(s[2] for s in part) for part in (calm[:fifth], calm[-fifth:])]
    threads = [statistics.median_high(s[3] for s in part) for part in (calm[:fifth], calm[-fifth:])]
    rss = [statistics.median(s[1] for s in part) for part in (calm[:fifth], calm[-fifth:])]
    score.figures |= {"RSS": f"{rss[0]:.0f} to {rss[1]:.0f} MiB", "fd": f"{fds[0]} to {fds[1]}",
                      "threads": f"{threads[0]} to {threads[1]}"}
    score.demand(fds[1] <= fds[0] + 2, f"descriptors grow: {fds}")
    score.demand(threads[1] <= threads[0] + 2, f"threads grow: {threads}")
    if short:
        # A moment has no slope; it must not run away.
        score.demand(rss[1] - rss[0] < 8, f"memory grows by {rss[1] - rss[0]:.0f} MiB in {SHORT_H} h")
        return
    # The catalogue holds every chunk (decision 0004), a little each: that is within the bound.
    grows = slope([s[:2] for s in calm])
    score.figures["memory"] = f"{grows:+.2f} MiB/h"
    score.demand(grows < 1, f"memory grows by {grows:.2f} MiB per hour")


def same_as_before(score, probe, machine, began, took):
    """The time to an acknowledgement in the last tenth against the first (after a warm-up of a twentieth)."""
    a, b = began + took * 0.05, began + took
    early, late = (lambda one: one.between(a, a + took / 10)), (lambda one: one.between(b - took / 10, b))
    p99 = [[percentile(part(one), 99) * 1e3 for part in (early, late)] for one in (probe, machine)]
    (first, last), (before, after) = p99
    score.figures |= {"p99 of the first and last tenth": f"{first:.1f}, {last:.1f} ms",
                      "machine alone": f"{before:.1f}, {after:.1f} ms"}
    # What a round trip and a sync without the product became slower by is not the product's.
    slower = max(1.0, after / before)
    score.demand(last <= 1.2 * first * slower,
                 f"p99 {last:.1f} ms in the last tenth, {first:.1f} in the first (machine: {slower:.2f} times)")
    score.figures["load of the machine"] = f"{os.getloadavg()[1]:.1f}"


ROWS = {"R18": r18}
