"""What every row stands on: a server that is killed and started again, devices that never give up, and the judge.

Devices are other processes, and what they were told is acknowledged is fsynced by them on a disk that no fault
touches. In the end they stop in order, so that everything sent is acknowledged: then what is stored must be exactly
what is on their lists, once, where it belongs.
"""

import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/python"))

import checker  # noqa: E402
import stored  # noqa: E402
from conftest import BIN, CONTROL_BIN, SIM, Server, run  # noqa: E402
from ports import free_port  # noqa: E402

TARGET = BIN.parent
POWERLOSS = pathlib.Path(os.environ.get("POWERLOSS_BIN", TARGET / "chordae-powerloss"))
NOSYNC_BIN = CONTROL_BIN.parent / "chordae-no-sync"

SETTINGS = """
[mqtt]
tls = "off"
plain = "127.0.0.1:{mqtt}"
[zmq]
tls = "off"
plain = "127.0.0.1:{zmq}"
[http]
tls = "off"
plain = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = {wal}
min-free-bytes = 67108864
[chunks]
slot-seconds = {slot}
[ledger]
anchor-seconds = 1
"""

# Small segments, so that the log turns over soon.
SMALL_LOG = SETTINGS.replace("max-bytes = {wal}", "max-bytes = {wal}\nsegment-bytes = 4194304")


class Gone(Exception):
    """The server ended, or did not come up."""


class House(Server):
    """A server on fixed ports, whose complaints go to a file that no fault touches."""

    def __init__(self, folder, log, binary=BIN, slot=60, wal=1 << 30, prefix=(), env=None, settings=SETTINGS):
        self.mqtt_port, self.zmq_port, self.mqtts_port = free_port(), free_port(), free_port()
        self.log, self.env = pathlib.Path(log), env
        super().__init__(folder, binary=binary, prefix=prefix, settings=settings.format(
            mqtt=self.mqtt_port, mqtts=self.mqtts_port, zmq=self.zmq_port, slot=slot, wal=wal))
        # An editor syncs what it saves.
        with open(self.folder / "chordae.toml") as settings:
            os.fsync(settings.fileno())

    def start(self, timeout=30):
        """Up, or `Gone`."""
        err = open(self.log, "ab")
        self.process = subprocess.Popen([*self.prefix, *self.command()], stdout=subprocess.PIPE, stderr=err,
                                        env={**os.environ, **(self.env or {})})
        err.close()
        self.doors, end, text = {}, time.monotonic() + timeout, b""
        os.set_blocking(self.process.stdout.fileno(), False)
        while time.monotonic() < end:
            text += self.process.stdout.read() or b""
            for line in text.decode().splitlines():
                words = line.split()
                if words[:1] == ["listening"]:
                    self.doors[words[1]] = words[2]
                if words[:1] == ["ready"]:
                    return self
            if self.process.poll() is not None:
                raise Gone(f"ended with {self.process.returncode}: {self.tail()[-300:]}")
            time.sleep(0.005)
        raise Gone("not ready in time")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def end(self):
        """SIGKILL, and everything it left is read."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def stop(self, timeout=180):
        """SIGTERM: seals, links, anchors."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=timeout)
        if code != 0:
            raise Gone(f"stopped with {code}: {self.tail()}")

    def tail(self):
        return self.log.read_text(errors="replace")[-1500:]

    def said(self, *words):
        text = self.log.read_text(errors="replace")
        return [w for w in words if w in text]


class Device:
    """A simulated device that goes on through every fault."""

    def __init__(self, base, house, name, door="mqtt", *args):
        self.name, self.acked, self.asked = name, base / f"{name}.acked", False
        address = f"{door}://127.0.0.1:{ {'mqtt': house.mqtt_port, 'mqtts': house.mqtts_port, 'zmq': house.zmq_port}[door] }"
        self.log = open(base / f"{name}.log", "ab")
        # `--devices N` names its own: sim-0001 and so on.
        who = [] if "--devices" in args else ["--device", name]
        self.process = subprocess.Popen(
            [str(SIM), "--url", address, *who, "--stream", "ecg", "--acked", str(self.acked),
             "--patience", "600s", *map(str, args)], stdout=self.log, stderr=subprocess.STDOUT)

    def tail(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")[-400:]

    def count(self):
        return self.acked.stat().st_size if self.acked.exists() else 0

    def ask(self):
        """Asks for the end of the stream."""
        if self.process.poll() is None and not self.asked:
            self.process.send_signal(signal.SIGINT)
        self.asked = True

    def finish(self, timeout=120):
        """Ends the stream in order; everything sent is acknowledged."""
        self.ask()
        try:
            return self.process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.end()
            return -1

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


HISTORY = ("--leads", 2, "--rate", 100, "--frame", "1s", "--max-rate", "--burst", 16, "--for", "250000s")
LIVE = ("--leads", 2, "--rate", 100, "--frame", "100ms", "--for", "30000s")
FLEET = (("dev-mqtt", "mqtt", HISTORY), ("dev-zmq", "zmq", HISTORY), ("dev-live", "mqtt", LIVE))


class Ward:
    """A house with devices, in a folder of its own that goes away in the end."""

    def __init__(self, binary=BIN, fleet=FLEET, on=None, also=(), **settings):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
        self.disk, self.devices, self.fleet, self.house, self.ready = None, [], fleet, None, []
        try:
            at = self.base
            if on == "power":
                self.disk = at = PowerDisk(self.base)
                at = self.disk.folder
            elif on is not None:
                at = on
            self.house = House(at / "data", self.base / "server.log", binary=binary, **settings)
            if self.disk:
                # What `init` made must be there, though no server has run.
                self.disk.say("lose drop 0")
            self.house.start()
            for name in sorted({f[0] for f in fleet} | set(also)):
                self.house.cli("device", "add", name, "--out", self.base / "certs")
        except BaseException:
            self.close()
            raise

    def go(self):
        """The devices begin."""
        self.devices = [Device(self.base, self.house, name, door, *args) for name, door, args in self.fleet]
        return self

    def counts(self):
        return [d.count() for d in self.devices]

    def first_ack(self, before, seconds=60, every=False):
        """Seconds until a device (each of them) has one more acknowledgement than `before`."""
        watch, need = Watch(), all if every else any
        while not need(n > b for n, b in zip(self.counts(), before)):
            if watch() > seconds:
                raise Gone(f"no acknowledgement in {seconds} s: {self.house.tail()}")
            if not self.house.alive():
                raise Gone(f"ended with {self.house.process.poll()}")
            time.sleep(0.003)
        return watch()

    def again(self, seconds=60):
        """Starts the server; seconds from its start to the first acknowledgement of what was sent after it."""
        watch, before = Watch(), self.counts()
        self.house.start()
        self.ready.append(watch())
        self.first_ack(before, seconds)
        return watch()

    def judge(self, score, control=False):
        """Ends everything in order and holds what is stored against what was acknowledged."""
        for device in self.devices:
            device.ask()
        for device in self.devices:
            # A control may have lost who the device is: it will not come to an end in order.
            code = device.finish(10 if control else 120)
            score.demand(control or code == 0, f"{device.name} ended with {code}, not with everything acknowledged: {device.tail()}")
        lines = [line for d in self.devices if d.acked.exists() for line in stored.acknowledged(d.acked)]
        streams = defaultdict(lambda: "unknown", {s["did"]: s["stream"] for s in self.house.streams()})
        self.house.stop()
        result = verdict(self.house.folder, streams, lines)
        if not control:
            score.add(result)
        return result

    def close(self):
        for device in self.devices:
            device.end()
        if self.house:
            self.house.end()
        if self.disk:
            self.disk.close()
        if os.environ.get("FAULTS_KEEP"):
            print(f"  kept: {self.base}")
        else:
            shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Watch:
    def __init__(self):
        self.began = time.monotonic()

    def __call__(self):
        return time.monotonic() - self.began


def verdict(folder, streams, lines):
    """Counts of stored.compare, and the findings of the second implementation's check of the whole folder."""
    compared = stored.compare(folder, streams, lines)
    wrong = compared["wrong"]
    n = {what: len(wrong.get(what, ())) for what in ("lost", "twice", "unasked", "different", "elsewhen")}
    findings = [f"{what}: {wrong[what][:3]}" for what in wrong]
    findings += [f"checker: {f}" for f in checker.check(folder)["findings"][:3]]
    return {"acknowledged": compared["acknowledged"], "stored": compared["acknowledged"] - n["lost"],
            "lost": n["lost"] + n["different"], "duplicate": n["twice"], "phantom": n["unasked"], "findings": findings}


class PowerDisk:
    """The file system that forgets what was not synced (tests/powerloss)."""

    def __init__(self, base):
        self.folder, path = base / "mnt", base / "ctl"
        self.folder.mkdir()
        self.process = subprocess.Popen([str(POWERLOSS), str(self.folder), str(path)], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "ready":
            raise Gone("the power loss file system did not mount")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r")

    def say(self, line):
        self.socket.sendall(f"{line}\n".encode())
        answer = self.lines.readline().strip()
        if answer.startswith("what?"):
            raise ValueError(answer)
        return answer

    def cut(self, op="any", place="-", n=1, when="before"):
        # The root of the file system has no name.
        self.say(f"cut {op} {place or '-'} {n} {when}")

    def wait(self, seconds):
        """What the power was cut at, or None."""
        answer = self.say(f"wait {int(seconds * 1000)}")
        return answer.removeprefix("cut ") if answer.startswith("cut ") else None

    def points(self):
        """(op, place) -> how often."""
        self.socket.sendall(b"points\n")
        found = {}
        for line in self.lines:
            if line.strip() == ".":
                return found
            op, place, n = line.rstrip("\n").split(" ")
            found[op, place] = int(n)
        raise Gone("the power loss file system has gone")

    def close(self):
        try:
            self.socket.sendall(b"quit\n")
            self.process.wait(timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        subprocess.run(["umount", "-l", str(self.folder)], stderr=subprocess.DEVNULL)


def seeds(seed):
    return random.Random(seed)
