"""Stopwatches, as processes of their own: what else python does here is not in their times.

    probe.py mqtt PORT NAME TIMES ACKED [HZ SAMPLES T0_NS]   a good device, a frame every 20 ms, one in flight
    probe.py machine FOLDER TIMES                            the control, without the product: a message, a sync, an answer

Each line of TIMES is the monotonic time at which something was sent and the seconds until its answer; `x` marks a
connection that was lost. They end when their standard input does.
"""

import os
import pathlib
import random
import select
import socket
import subprocess
import sys
import time

BEAT = 0.02


def over():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def beats(times, once):
    """`once` every 20 ms until the end; the time of each is written down."""
    n = 0
    while not over():
        began = time.monotonic()
        once(n)
        took = time.monotonic() - began
        times.write(f"{began:.6f} {took:.6f}\n")
        time.sleep(max(0.0, BEAT - took))
        n += 1


def device(port, name, times, acked, hz=500, samples=10, t0_ns=0):
    import ecg
    import mqtt_raw

    port, hz, samples, t0_ns = int(port), int(hz), int(samples), int(t0_ns)
    began = time.monotonic()
    with open(times, "w", buffering=1) as times, open(acked, "w", buffering=1) as acked:
        while not over():
            # A boot that begins later goes on where the one before would be.
            since = t0_ns + int((time.monotonic() - began) / BEAT * samples / hz * 1e9) if t0_ns else time.time_ns()
            signal = ecg.Ecg(name, hz=hz, samples=samples, boot=random.getrandbits(50), t0_ns=since)

            def once(seq):
                client.publish(signal.topic("frame"), signal.frame(seq), 1, id=seq % 60000 + 1)
                client.expect(mqtt_raw.PUBACK, 20)
                acked.write(signal.line(seq))

            try:
                with mqtt_raw.Client(port) as client:
                    client.up(name)
                    client.published(signal.topic("birth"), signal.birth(), 1)
                    beats(times, once)
                    client.disconnect()
            except (OSError, AssertionError, TimeoutError):
                if not over():
                    times.write("x 0\n")
                    time.sleep(0.2)


def machine(folder, times):
    """Two processes and a disk, as the product has them: from one to the other over loopback, a sync, and back."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        near, _ = listener.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with open(pathlib.Path(folder) / "machine.bin", "wb", buffering=0) as file:
            while data := near.recv(8192):
                os.pwrite(file.fileno(), data.ljust(4096, b"\0"), 0)
                os.fdatasync(file.fileno())
                near.sendall(b"done")
        os._exit(0)
    far = socket.create_connection(listener.getsockname())
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def once(_):
        far.sendall(b"x" * 200)
        far.recv(4)

    with open(times, "w", buffering=1) as times:
        beats(times, once)
    far.close()
    os.wait()


class Probe:
    """One of them, and its times so far."""

    def __init__(self, what, base, name, *args):
        self.name, self.acked = name, base / f"{name}.acked"
        self.times, lists = base / f"{name}.times", [self.acked] if what == "mqtt" else []
        first = args[:1] if what == "mqtt" else [base]
        who = [name] if what == "mqtt" else []
        words = [what, *first, *who, self.times, *lists, *args[1:]]
        self.process = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdin=subprocess.PIPE)

    def all(self):
        text = self.times.read_text() if self.times.exists() else ""
        # The last line may be on its way.
        return [tuple(map(float, line.split())) for line in text.rpartition("\n")[0].splitlines() if line[0] != "x"]

    @property
    def dropped(self):
        return self.times.read_text().count("x") if self.times.exists() else 0

    def between(self, since, until=float("inf")):
        return [took for at, took in self.all() if since <= at < until]

    def stop(self):
        self.process.stdin.close()
        return self.process.wait(timeout=40)

    # As a device is to the judge.

    def count(self):
        return 1

    def ask(self):
        pass

    def finish(self, _=0):
        return 0 if self.process.poll() is not None else self.stop()

    def tail(self):
        return ""

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
    {"mqtt": device, "machine": machine}[sys.argv[1]](*sys.argv[2:])
