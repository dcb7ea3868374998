"""The ZeroMQ door with pyzmq (libzmq) as the client: plain on loopback, and through ordinary TLS tunnels.

Row by row in ingest/tests/it/zmtp.rs, zmq_*.rs; here is what a client that nobody here wrote does with it.
"""

import os
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

import blake3
import checker
import numpy as np
import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from conftest import Server, wait_until
from ports import free_port

BIRTH = 2**64 - 1
RATE = 100
KILLS = 12


# ---- what a device sends, by hand

def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def field(number, value):
    """A varint field, or a length-delimited one."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def birth(boot, leads=("I", "II")):
    lead = lambda name: (field(1, name.encode()) + varint(3 << 3 | 1) + struct.pack("<d", 200.0)
                         + field(5, b"mV") + field(6, 16))
    body = field(1, boot) + field(2, RATE) + field(3, 1)
    return body + b"".join(field(4, lead(name)) for name in leads) + field(7, 1)


class Frame:
    """`RATE` samples of two leads: one second."""

    def __init__(self, boot, seq, start_ns):
        self.boot, self.seq, self.t0 = boot, seq, start_ns + seq * 10**9
        random_codes = np.random.default_rng((boot, seq)).integers(-2000, 2000, (2, RATE))
        self.codes = random_codes.astype("<i2")

    @property
    def payload(self):
        zigzag = self.t0 << 1
        return (field(1, self.boot) + field(2, self.seq) + field(3, zigzag) + field(4, RATE)
                + field(6, self.codes.tobytes()) + field(8, 1))

    @property
    def line(self):
        digest = blake3.blake3(self.codes.astype("<i4").tobytes()).hexdigest()
        return f"bed-1 ecg {self.boot} {self.seq} {self.t0} {RATE} {digest}\n"


def stream(boot, n):
    """`n` frames that end now."""
    start = time.time_ns() - (n + 1) * 10**9
    return [Frame(boot, seq, start) for seq in range(n)]


class Dealer:
    """A DEALER that sends again what is not acknowledged, as every device must."""

    def __init__(self, url, name="bed-1/ecg", window=200, **options):
        self.context, self.name, self.window = zmq.Context(), name.encode(), window
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        for option, value in options.items():
            setattr(self.socket, option, value)
        self.socket.connect(url.replace("zmq://", "tcp://"))
        self.nacks = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.context.term()

    def hear(self, wait=0.2):
        """Inclusive ranges of what has been acknowledged, as (boot, first, last)."""
        acks = []
        while self.socket.poll(int(wait * 1000)):
            parts = self.socket.recv_multipart()
            if parts[0] == b"ack":
                assert parts[1] == self.name
                acks.append(tuple(int.from_bytes(n, "big") for n in parts[2:]))
            elif parts[0] == b"nack":
                self.nacks.append((parts[1], parts[2:4], parts[4].decode()))
            wait = 0
        return acks

    def born(self, boot, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.socket.send_multipart([b"birth", self.name, birth(boot)])
            if (boot, BIRTH, BIRTH) in self.hear(1):
                return
        raise AssertionError(f"the birth is not acknowledged; {self.nacks}")

    def send(self, frames, acked=None, seconds=120, again=1.0):
        """Until all are acknowledged; each acknowledged one is written down, synced."""
        waiting = {f.seq: f for f in frames}
        unsent, sent, end = list(reversed(frames)), {}, time.monotonic() + seconds
        while waiting:
            assert time.monotonic() < end, f"{len(waiting)} are not acknowledged; {self.nacks[-3:]}"
            now = time.monotonic()
            unsent.extend(waiting[seq] for seq, at in sent.items() if now - at > again)
            sent = {seq: at for seq, at in sent.items() if now - at <= again}
            while unsent and len(sent) < self.window:
                frame = unsent.pop()
                if frame.seq in waiting:
                    self.socket.send_multipart([b"frame", self.name, frame.payload])
                    sent[frame.seq] = now
            for boot, first, last in self.hear():
                for seq in range(first, last + 1) if first != BIRTH else ():
                    frame = waiting.pop(seq, None)
                    sent.pop(seq, None)
                    if frame and acked:
                        assert frame.boot == boot
                        acked.write(frame.line)
            if acked:
                acked.flush()
                os.fsync(acked.fileno())


@pytest.fixture
def server(folder):
    with Server(folder, slot=60, tls=True) as running:
        for bed in ("bed-1", "bed-2"):
            running.cli("device", "add", bed, "--out", folder.parent / "certs")
        yield running


def settled(server, acked, at_least):
    """After an orderly stop: every acknowledged frame is stored, once, and as it was."""
    server.stop()
    result = checker.frames(server.folder, acked)
    assert result["acknowledged"] >= at_least
    assert result["lost"] == [] and result["duplicate"] == [] and result["different"] == []
    assert checker.check(server.folder)["findings"] == []


# ---- through a TLS tunnel

class Pipe:
    """A few lines of Python between a plain port and the TLS door."""

    def __init__(self, door, certs, name):
        self.context = ssl.create_default_context(cafile=certs / "ca.crt")
        self.context.load_cert_chain(certs / f"{name}.crt", certs / f"{name}.key")
        host, port = door.rsplit(":", 1)
        self.door = (host, int(port))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = self.context.wrap_socket(socket.create_connection(self.door), server_hostname="localhost")
            except OSError:
                near.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    @staticmethod
    def copy(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            s.close()

    def close(self):
        self.listener.close()


class Stunnel:
    """stunnel as the hospital's administrator would set it up."""

    def __init__(self, door, certs, name):
        port, folder = free_port(), certs.parent
        path = folder / f"stunnel-{name}.conf"
        path.write_text(f"foreground = yes\npid =\n[chordae]\nclient = yes\naccept = 127.0.0.1:{port}\nconnect = {door}\n"
                        f"cert = {certs / (name + '.crt')}\nkey = {certs / (name + '.key')}\n"
                        f"CAfile = {certs / 'ca.crt'}\nverifyChain = yes\ncheckHost = localhost\n")
        log = open(folder / "stunnel.log", "ab")
        self.process = subprocess.Popen([shutil.which("stunnel4") or "stunnel", str(path)], stdout=log, stderr=log)
        self.url = f"tcp://127.0.0.1:{port}"

    def close(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(params=[Pipe, Stunnel], ids=["ssl-pipe", "stunnel"])
def tunnel(request, server, folder):
    if request.param is Stunnel and not (shutil.which("stunnel4") or shutil.which("stunnel")):
        if os.environ.get("CI") == "true":
            pytest.fail("stunnel is missing")
        pytest.skip("stunnel is missing")
    made = []

    def make(name):
        made.append(request.param(server.doors["zmq-tls"], folder.parent / "certs", name))
        return made[-1].url

    yield make
    for one in made:
        one.close()


# ---- the tests

def test_stored_is_acknowledged_over_loopback(server, folder):
    acked = folder.parent / "acked"
    with Dealer(server.zmq) as device, open(acked, "w") as list_of_acked:
        device.born(1)
        device.send(stream(1, 600), list_of_acked)
        assert device.nacks == []
    settled(server, acked, 600)


def test_stored_is_acknowledged_through_a_tls_tunnel(server, folder, tunnel):
    acked = folder.parent / "acked"
    with Dealer(tunnel("bed-1"), routing_id=b"bed-1") as device, open(acked, "w") as list_of_acked:
        device.born(1)
        device.send(stream(1, 600), list_of_acked)
        assert device.nacks == []
    settled(server, acked, 600)


def test_z13_the_certificate_in_the_tunnel_decides(server, tunnel):
    with Dealer(tunnel("bed-2"), name="bed-1/ecg") as device:
        device.socket.send_multipart([b"birth", b"bed-1/ecg", birth(1)])
        wait_until(lambda: device.hear() or device.nacks)
        assert device.nacks == [(b"bed-1/ecg", [(1).to_bytes(8, "big"), b"\xff" * 8], "not-authorised")]
        # Its own name works on the same connection: the negative control.
        device.name = b"bed-2/ecg"
        device.born(1)


def test_kills_in_mid_flight_lose_nothing_and_store_nothing_twice(server, folder):
    """SIGKILL again and again; libzmq reconnects by itself, the device sends again what was not acknowledged."""
    acked, luck = folder.parent / "acked", random.Random(15)
    door, toml = server.doors["zmq-plain"], folder / "chordae.toml"
    text = toml.read_text()
    head, tail = text.split("[zmq]")
    toml.write_text(head + "[zmq]" + tail.replace('plain = "127.0.0.1:0"', f'plain = "{door}"', 1))
    stop, struck = threading.Event(), []

    def strike():
        while not stop.wait(luck.uniform(0.1, 0.6)):
            server.kill9()
            server.start()
            struck.append(1)

    killer, boot = threading.Thread(target=strike), 0
    with Dealer(server.zmq, reconnect_ivl=50) as device, open(acked, "w") as list_of_acked:
        killer.start()
        try:
            while len(struck) < KILLS:
                assert killer.is_alive(), "the server did not start again"
                boot += 1
                device.born(boot)
                device.send(stream(boot, 400), list_of_acked, seconds=300)
        finally:
            stop.set()
            killer.join()
    print(f"{len(struck)} kills, {boot} boots of 400 frames")
    settled(server, acked, 400 * boot)


def test_z09_ten_times_the_rate_and_no_window_of_its_own(server, folder):
    """A client that ignores the credit: what is not read waits in TCP and in libzmq, and nothing is dropped."""
    acked = folder.parent / "acked"
    frames = stream(1, 4000)
    with Dealer(server.zmq, window=10**9, sndhwm=0, rcvhwm=0) as device, open(acked, "w") as list_of_acked:
        device.born(1)
        device.send(frames, list_of_acked, again=10**9)
    settled(server, acked, 4000)


def test_z08_a_peer_that_does_not_read_disturbs_nobody(server, folder):
    acked = folder.parent / "acked"
    # Other devices' frames, so that the good one's list is its own.
    with Dealer(server.zmq, name="bed-2/ecg", rcvhwm=1, sndhwm=0) as deaf, Dealer(server.zmq) as good:
        for frame in stream(7, 3000):
            deaf.socket.send_multipart([b"frame", b"bed-2/ecg", frame.payload])
        good.born(1)
        with open(acked, "w") as list_of_acked:
            good.send(stream(1, 300), list_of_acked)
    settled(server, acked, 300)


def test_z01_a_thousand_garbage_connections_beside_a_good_peer(server, folder):
    acked, luck = folder.parent / "acked", random.Random(1)
    host, port = server.doors["zmq-plain"].rsplit(":", 1)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL".ljust(23, b"\0") + bytes(32)
    assert len(greeting) == 64
    ready = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
    starts = [
        b"", b"\xff", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", greeting[:40], greeting,
        # Seventy-four bytes that end other implementations: a part of 2^46 bytes is announced.
        greeting + b"\x02" + (2**46).to_bytes(8, "big"),
        greeting + b"\x04" + bytes([len(ready)]) + ready + b"\x02" + (2**63).to_bytes(8, "big"),
        greeting + b"\x04" + bytes([len(ready)]) + ready + b"\x01\x00" * 100_000,
        greeting + b"\x06" + (2**32).to_bytes(8, "big") + b"\x05READY",
    ]
    sockets = []

    def rude():
        for n in range(1000):
            s = socket.create_connection((host, int(port)))
            s.settimeout(5)
            try:
                s.sendall(starts[n % len(starts)] + luck.randbytes(luck.randrange(2000)) * (n % 2))
            except OSError:
                pass
            sockets.append(s)

    with Dealer(server.zmq) as good, open(acked, "w") as list_of_acked:
        good.born(1)
        crowd = threading.Thread(target=rude)
        crowd.start()
        good.send(stream(1, 500), list_of_acked)
        crowd.join()
        # Each is closed, the silent ones by their deadline.
        for s in sockets:
            s.settimeout(30)
            try:
                while s.recv(65536):
                    pass
            except ConnectionError:
                pass
            s.close()
        good.send(stream(1, 501)[500:], list_of_acked)
    settled(server, acked, 501)


def events_of(server, kind=zmq.DEALER, seconds=3, **options):
    """What libzmq reports of a connection."""
    context = zmq.Context()
    s = context.socket(kind)
    s.linger = 0
    for option, value in options.items():
        setattr(s, option, value)
    monitor = s.get_monitor_socket()
    s.connect(server.zmq.replace("zmq://", "tcp://"))
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        if monitor.poll(100):
            seen.append(recv_monitor_message(monitor)["event"])
    s.disable_monitor()
    monitor.close()
    s.close()
    context.term()
    return seen


def test_z02_z06_other_mechanisms_and_sockets_are_refused(server):
    good = events_of(server, seconds=1)
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED in good and zmq.EVENT_DISCONNECTED not in good
    public, secret = zmq.curve_keypair()
    curve = {"curve_serverkey": public, "curve_publickey": public, "curve_secretkey": secret}
    plain = {"plain_username": b"bed-1", "plain_password": b"x"}
    for kind, options in [(zmq.DEALER, curve), (zmq.DEALER, plain), (zmq.PUSH, {}), (zmq.SUB, {}), (zmq.REQ, {})]:
        seen = events_of(server, kind, **options)
        assert zmq.EVENT_HANDSHAKE_SUCCEEDED not in seen and zmq.EVENT_CONNECTED in seen, (kind, options)
    with Dealer(server.zmq) as device:
        device.born(1)


def test_z07_heartbeats_of_libzmq_are_answered(server):
    seen = events_of(server, seconds=4, heartbeat_ivl=200, heartbeat_timeout=600)
    assert zmq.EVENT_HANDSHAKE_SUCCEEDED in seen and zmq.EVENT_DISCONNECTED not in seen


def test_refusals_name_the_frame_and_the_reason(server):
    number = lambda n: n.to_bytes(8, "big")
    with Dealer(server.zmq) as device:
        device.born(1)
        frame = stream(1, 1)[0]
        device.send([frame])
        other = Frame(1, 0, frame.t0 + 1)
        cases = [
            ([b"frame", b"bed-1/ecg", other.payload], [number(1), number(0)], "conflict"),
            ([b"frame", b"bed-1/ecg", frame.payload[:30]], [number(1), number(0)], None),
            ([b"frame", b"bed-1/ecg", b"\xff"], [b"", b""], "protobuf"),
            ([b"birth", b"bed-1/ecg", birth(1, leads=("I", "V5"))], [number(1), number(BIRTH)], "boot-reused"),
            ([b"frame", b"who/ecg", frame.payload], [number(1), number(0)], "not-authorised"),
            ([b"frame", b"bed-1", frame.payload], [b"", b""], "parts"),
            # Compressed: nothing here unpacks it.
            ([b"frame", b"bed-1/ecg", b"\x28\xb5\x2f\xfd" + bytes(20)], None, None),
        ]
        for parts, numbers, reason in cases:
            device.nacks.clear()
            device.socket.send_multipart(parts)
            wait_until(lambda: device.hear() or device.nacks)
            [(name, told, why)] = device.nacks
            assert name == parts[1]
            assert numbers is None or told == numbers, (parts, told)
            assert reason is None or why == reason, (parts, why)
