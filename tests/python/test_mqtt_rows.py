"""Bad inputs at the MQTT door by their number, with raw sockets against a real server; and what a session keeps when
the server is killed. Each beside the form that is allowed. What takes no real socket is in ingest/tests/it/rows_*.rs."""

import resource
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import checker
from conftest import Server, run, wait_until
from ecg import Ecg

OPEN = """
[mqtt]
tls = "off"
plain = "127.0.0.1:0"
open = true
[http]
tls = "off"
plain = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = 1073741824
min-free-bytes = 67108864
"""


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    length, n = b"", len(body)
    while n >= 0x80:
        length, n = length + bytes([n & 0x7F | 0x80]), n >> 7
    return bytes([first]) + length + bytes([n]) + body


def properties(*parts):
    body = b"".join(parts)
    assert len(body) < 128
    return bytes([len(body)]) + body


class Client:
    """MQTT 5 by hand, on a plain or TLS socket."""

    def __init__(self, sock):
        self.sock, self.buf = sock, b""
        sock.settimeout(20)

    def send(self, *packets):
        self.sock.sendall(b"".join(packets))

    def read(self):
        """The next packet: first byte and body; None at the end."""
        while True:
            n, at, shift = 0, 1, 0
            while at < len(self.buf):
                byte = self.buf[at]
                n, at, shift = n | (byte & 0x7F) << shift, at + 1, shift + 7
                if not byte & 0x80:
                    if len(self.buf) >= at + n:
                        whole, self.buf = self.buf[: at + n], self.buf[at + n:]
                        return whole[0], whole[at:]
                    break
            try:
                more = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLError, OSError) as end:
                if isinstance(end, TimeoutError):
                    raise
                return None
            if not more:
                return None
            self.buf += more

    def connect(self, client_id, clean=True, expiry=0, receive_max=100, keep_alive=60, will=None):
        """CONNECT; gives (session present, reason)."""
        flags = (2 if clean else 0) | (0 if will is None else 0x2C)
        head = text("MQTT") + bytes([5, flags]) + struct.pack(">H", keep_alive)
        head += properties(b"\x11" + struct.pack(">I", expiry), b"\x21" + struct.pack(">H", receive_max))
        body = text(client_id)
        if will:
            body += b"\0" + text(will[0]) + text(will[1])
        self.send(packet(0x10, head + body))
        answer = self.read()
        assert answer and answer[0] == 0x20, answer
        return answer[1][0], answer[1][1]

    def publish(self, topic, payload, qos=0, packet_id=0, retain=False, dup=False):
        ids = struct.pack(">H", packet_id) if qos else b""
        first = 0x30 | dup << 3 | qos << 1 | retain
        self.send(packet(first, text(topic) + ids + b"\0" + payload))

    def subscribe(self, *filters, qos=1):
        self.send(packet(0x82, b"\0\x05\0" + b"".join(text(f) + bytes([qos]) for f in filters)))
        first, body = self.read()
        assert first == 0x90, first
        return list(body[3:])

    def ack(self):
        """Reason of a PUBACK or PUBREC and its id."""
        first, body = self.read()
        assert first in (0x40, 0x50), (first, body)
        return (body[2] if len(body) > 2 else 0), struct.unpack(">H", body[:2])[0]

    def delivery(self):
        """(topic, payload, qos, id, dup, retain) of the next PUBLISH."""
        first, body = self.read()
        assert first & 0xF0 == 0x30, (hex(first), body)
        n = struct.unpack(">H", body[:2])[0]
        topic, rest, qos, packet_id = body[2: 2 + n], body[2 + n:], first >> 1 & 3, 0
        if qos:
            packet_id, rest = struct.unpack(">H", rest[:2])[0], rest[2:]
        return topic.decode(), rest[1 + rest[0]:], qos, packet_id, bool(first & 8), bool(first & 1)

    def take(self, count):
        """That many messages at QoS > 0, each acknowledged to its end: {topic: (payload, qos, dup)}."""
        got, open_ids = {}, set()
        while len(got) < count or open_ids:
            first, body = self.read()
            if first & 0xF0 == 0x60:
                self.send(b"\x70\x02" + body[:2])
                open_ids.discard(body[:2])
                continue
            n = struct.unpack(">H", body[:2])[0]
            topic, packet_id, rest = body[2: 2 + n].decode(), body[2 + n: 4 + n], body[4 + n:]
            assert topic not in got, "nothing twice"
            got[topic] = (rest[1 + rest[0]:], first >> 1 & 3, bool(first & 8))
            if first & 4:
                open_ids.add(packet_id)
            self.send((b"\x50\x02" if first & 4 else b"\x40\x02") + packet_id)
        return got

    def ping(self):
        self.send(b"\xc0\0")
        assert self.read() == (0xD0, b""), "no answer to a ping"

    def close(self):
        self.sock.close()


def address(server, door="mqtt-plain"):
    host, port = server.doors[door].rsplit(":", 1)
    return host, int(port)


def plain(server):
    return Client(socket.create_connection(address(server)))


def context(server, cert=None, key=None):
    tls = ssl.create_default_context(cafile=str(server.folder / "keys" / "ca.crt"))
    tls.check_hostname = False
    if cert:
        tls.load_cert_chain(str(cert), str(key))
    return tls


def over_tls(server, cert, key):
    raw = socket.create_connection(address(server, "mqtt-tls"))
    raw.settimeout(20)
    return Client(context(server, cert, key).wrap_socket(raw))


def device(server, name, out, *args):
    server.cli("device", "add", name, "--out", out, *args)
    return out / f"{name}.crt", out / f"{name}.key"


def refused_of(server, reason):
    import urllib.request
    metrics = urllib.request.urlopen(f"http://{server.doors['metrics']}/metrics").read().decode()
    for line in metrics.splitlines():
        if line.startswith("chordae_refused_total{") and f'"{reason}"' in line:
            return float(line.rsplit(" ", 1)[1])
    return 0


@pytest.fixture
def tls_server(folder):
    with Server(folder, tls=True) as server:
        yield server


@pytest.fixture
def open_server(folder):
    with Server(folder, settings=OPEN) as server:
        yield server


# ---- rows


def test_d02_a_thousand_sockets_that_say_nothing(tls_server, tmp_path):
    cert, key = device(tls_server, "bed-1", tmp_path)
    silent = [socket.create_connection(address(tls_server, "mqtt-tls")) for _ in range(1000)]
    client = over_tls(tls_server, cert, key)
    assert client.connect("bed-1") == (0, 0), "served while they wait"
    for sock in silent:
        sock.settimeout(20)
        assert sock.recv(1) == b"", "closed without a word"
        sock.close()
    client.ping()
    wait_until(lambda: refused_of(tls_server, "handshake-timeout") >= 1000)


def test_d19_a_lost_puback(tmp_path):
    """The same packet again: on its connection, on the next, after a crash. Each is acknowledged, one is stored."""
    ecg = Ecg("bed-7")
    server = Server(tmp_path / "data", settings=OPEN.replace("open = true\n", "")).start()
    server.cli("device", "add", "bed-7", "--out", tmp_path / "certs")

    def send(client, dup):
        client.publish(ecg.topic("frame"), ecg.frame(0), 1, 2, dup=dup)
        assert client.ack() == (0, 2)

    def connected():
        client = plain(server)
        client.connect("bed-7")
        client.publish(ecg.topic("birth"), ecg.birth(), 1, 1)
        assert client.ack()[0] in (0, 0x10)
        return client

    first = connected()
    send(first, dup=False)
    send(first, dup=True)
    first.close()
    send(connected(), dup=True)
    server.kill9()
    server.start()
    send(connected(), dup=True)
    server.stop()
    (tmp_path / "acked").write_text(ecg.line(0))
    result = checker.frames(server.folder, tmp_path / "acked")
    assert (result["acknowledged"], result["lost"], result["duplicate"], result["different"]) == (1, [], [], [])


def test_d24_ten_thousand_retained_topics(open_server):
    client = plain(open_server)
    client.connect("hoarder")
    kept, refused, payload = 0, 0, b"x" * 65536
    for n in range(10_000):
        client.publish(f"hoard/{n}", payload, 1, n + 1, retain=True)
        reason, _ = client.ack()
        kept, refused = kept + (reason in (0, 0x10)), refused + (reason == 0x97)
    assert refused > 0 and kept + refused == 10_000, (kept, refused)
    assert kept * len(payload) <= 64 << 20, "bounded"
    other = plain(open_server)
    other.connect("other")
    other.publish("other/topic", b"small", 1, 1, retain=True)
    assert other.ack()[0] in (0, 0x10), "the quota of one is not the quota of all"


def test_d27_a_storm_of_one_identity(open_server):
    steady = plain(open_server)
    steady.connect("steady")
    stop, answers = threading.Event(), []

    def storm():
        while not stop.is_set():
            try:
                client = plain(open_server)
                answers.append(client.connect("storm")[1])
                client.close()
            except (OSError, AssertionError, TypeError):
                pass

    threads = [threading.Thread(target=storm) for _ in range(8)]
    [t.start() for t in threads]
    for n in range(50):
        steady.ping()
        fresh = plain(open_server)
        assert fresh.connect(f"fresh-{n}") == (0, 0), "others come as they please"
        fresh.close()
    wait_until(lambda: 0x9F in answers)
    stop.set()
    [t.join() for t in threads]
    assert answers.count(0) >= 50, "it may come, in its measure"


def test_d28_ten_thousand_idle_sockets(open_server):
    old = plain(open_server)
    old.connect("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(12_000, hard), hard))
    idle = []
    for _ in range(min(10_000, hard - 1000)):
        # Beyond what one address may hold open without a name it is closed at once.
        idle.append(socket.create_connection(address(open_server), timeout=10))
    old.ping()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    [sock.close() for sock in idle]
    old.ping()

    def again():
        fresh = plain(open_server)
        try:
            return fresh.connect("fresh") == (0, 0)
        except AssertionError:
            return False
    wait_until(again)


def test_d30_websocket_over_tls(tls_server, tmp_path):
    cert, key = device(tls_server, "desk", tmp_path, "--kind", "monitor", "--watches", "all")
    raw = socket.create_connection(address(tls_server, "mqtt-tls"))
    raw.settimeout(20)
    tls = context(tls_server, cert, key)
    tls.set_alpn_protocols(["http/1.1"])
    sock = tls.wrap_socket(raw)
    ask = ("GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{}"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    sock.sendall(ask.format("Sec-WebSocket-Protocol: mqtt\r\n").encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101"), head
    body = text("MQTT") + b"\x05\x02\0\x3c\0" + text("desk")
    connect = packet(0x10, body)
    sock.sendall(bytes([0x82, 0x80 | len(connect), 0, 0, 0, 0]) + connect)
    first = sock.recv(6)
    assert first[0] == 0x82 and first[2] == 0x20 and first[5] == 0, first
    # What speaks must be what the handshake named.
    for named, speaks in [("mqtt", ask.format("Sec-WebSocket-Protocol: mqtt\r\n").encode()), ("http/1.1", connect)]:
        raw = socket.create_connection(address(tls_server, "mqtt-tls"))
        raw.settimeout(20)
        tls = context(tls_server, cert, key)
        tls.set_alpn_protocols([named])
        sock = tls.wrap_socket(raw)
        sock.sendall(speaks)
        assert Client(sock).read() is None
    assert refused_of(tls_server, "alpn") == 2


def openssl(*args, cwd):
    subprocess.run(["openssl", *map(str, args)], cwd=cwd, check=True, capture_output=True)


def test_d31_weak_keys_and_digests(tls_server, tmp_path):
    """SHA-1 and RSA with 1,024 bits, signed by our own authority; and the same with what is allowed."""
    tls_server.cli("device", "add", "bed-1", "--out", tmp_path / "given")
    keys = tls_server.folder / "keys"
    (tmp_path / "ext").write_text("subjectAltName=URI:urn:chordae:device:bed-1\nextendedKeyUsage=clientAuth\n")

    def made(name, bits, digest):
        openssl("req", "-newkey", f"rsa:{bits}", "-nodes", "-keyout", f"{name}.key", "-subj", "/CN=x", "-out",
                f"{name}.csr", cwd=tmp_path)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", keys / "ca.crt", "-CAkey", keys / "ca.key", f"-{digest}",
                "-days", "1", "-extfile", "ext", "-out", f"{name}.crt", cwd=tmp_path)
        return tmp_path / f"{name}.crt", tmp_path / f"{name}.key"

    def gets_in(cert, key):
        tls = context(tls_server)
        tls.set_ciphers("DEFAULT@SECLEVEL=0")
        tls.load_cert_chain(str(cert), str(key))
        raw = socket.create_connection(address(tls_server, "mqtt-tls"))
        raw.settimeout(20)
        try:
            return Client(tls.wrap_socket(raw)).connect("bed-1") == (0, 0)
        except (AssertionError, OSError):
            return False

    assert gets_in(*made("good", 2048, "sha256"))
    assert not gets_in(*made("short", 1024, "sha256"))
    assert not gets_in(*made("sha1", 2048, "sha1"))


def test_d32_disabled_while_connected(tls_server, tmp_path):
    cert, key = device(tls_server, "bed-1", tmp_path / "one")
    other_cert, other_key = device(tls_server, "bed-2", tmp_path / "two")
    client, other = over_tls(tls_server, cert, key), over_tls(tls_server, other_cert, other_key)
    assert client.connect("bed-1") == (0, 0) and other.connect("bed-2") == (0, 0)
    tls_server.cli("device", "disable", "bed-1")
    client.sock.settimeout(60)
    first, body = client.read()
    assert (first, body[0]) == (0xE0, 0x98), "cut, and told"
    other.ping()

    def refused():
        try:
            return over_tls(tls_server, cert, key).connect("bed-1") != (0, 0)
        except (AssertionError, OSError):
            return True
    wait_until(refused)


def test_certificates_are_read_anew(tls_server, tmp_path):
    """Another server certificate of the same authority: new handshakes see it, old connections stay."""
    cert, key = device(tls_server, "bed-1", tmp_path)
    standing = over_tls(tls_server, cert, key)
    standing.connect("bed-1")
    keys = tls_server.folder / "keys"
    before = standing.sock.getpeercert(True)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "new.key", "-subj", "/CN=new", "-out", "new.csr", cwd=tmp_path)
    (tmp_path / "ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", "new.csr", "-CA", keys / "ca.crt", "-CAkey", keys / "ca.key", "-sha256", "-days", "1",
            "-extfile", "ext", "-out", "new.crt", cwd=tmp_path)

    def shown():
        return over_tls(tls_server, cert, key).sock.getpeercert(True)

    # A broken change keeps the old one.
    (keys / "server.crt").write_text("not a certificate")
    wait_until(lambda: 'outcome="failed"} 0' not in metrics(tls_server) and 'outcome="failed"}' in metrics(tls_server))
    assert shown() == before
    (keys / "server.key").write_bytes((tmp_path / "new.key").read_bytes())
    (keys / "server.crt").write_bytes((tmp_path / "new.crt").read_bytes())
    wait_until(lambda: shown() != before)
    standing.ping()


def metrics(server):
    import urllib.request
    return urllib.request.urlopen(f"http://{server.doors['metrics']}/metrics").read().decode()


# ---- what a session keeps


def test_a_session_survives_kill_9(open_server):
    """Queued messages, ids in flight both ways, retained messages and wills, across a kill."""
    reader = plain(open_server)
    assert reader.connect("reader", clean=False, expiry=600) == (0, 0)
    assert reader.subscribe("kept/#", qos=2) == [2]
    writer = plain(open_server)
    writer.connect("writer", clean=False, expiry=600, will=("kept/will", "gone"))
    writer.publish("kept/1", b"in flight", 1, 1)
    assert writer.ack() == (0, 1)
    topic, payload, qos, packet_id, dup, _ = reader.delivery()
    assert (topic, payload, qos, dup) == ("kept/1", b"in flight", 1, False)
    reader.close()
    writer.publish("kept/2", b"queued", 2, 2)
    assert writer.ack() == (0, 2), "PUBREC: it is ours now"
    writer.publish("kept/retained", b"there", 1, 3, retain=True)
    assert writer.ack() == (0, 3)
    open_server.kill9()
    open_server.start()
    writer = plain(open_server)
    assert writer.connect("writer", clean=False, expiry=600) == (1, 0)
    # The same message again, as a client does that has lost our PUBREC: it is known, and not delivered twice.
    writer.publish("kept/2", b"queued", 2, 2, dup=True)
    assert writer.ack() == (0, 2)
    writer.send(b"\x62\x02\0\x02")
    assert writer.read() == (0x70, b"\0\x02")
    writer.send(b"\x62\x02\0\x02")
    assert writer.read()[1][2] == 0x92
    reader = plain(open_server)
    assert reader.connect("reader", clean=False, expiry=600) == (1, 0)
    got = reader.take(4)
    assert got["kept/1"] == (b"in flight", 1, True), "again, and it says so"
    assert got["kept/2"][0] == b"queued" and got["kept/retained"][0] == b"there"
    assert got["kept/will"][0] == b"gone", "the will of a connection that ended with the server"
    fresh = plain(open_server)
    fresh.connect("fresh")
    fresh.subscribe("kept/retained")
    assert fresh.delivery()[1] == b"there"


def test_births_and_statuses_wait_for_monitors(folder, tmp_path):
    """A monitor that comes late sees the newest birth and status of each device it watches."""
    sent = ("--devices", "1", "--leads", "2", "--rate", "250", "--frame", "500ms", "--for", "2s")
    from conftest import sim
    with Server(folder, tls=True) as server:
        server.cli("device", "add", "sim-0001", "--out", tmp_path)
        server.cli("device", "add", "desk", "--kind", "monitor", "--watches", "all", "--out", tmp_path)
        sim(server, *sent)
        talker = plain(server)
        talker.connect("talker")
        talker.publish("chordae/v1/sim-0001/status", b"online", 1, 1, retain=True)
        assert talker.ack() == (0, 1)
        for _again in range(2):
            monitor = over_tls(server, tmp_path / "desk.crt", tmp_path / "desk.key")
            monitor.connect("desk")
            assert monitor.subscribe("chordae/v1/+/+/birth", "chordae/v1/+/status", "#") == [1, 1, 0x87]
            got = {}
            for _ in range(2):
                topic, payload, qos, packet_id, _, retain = monitor.delivery()
                monitor.send(b"\x40\x02" + struct.pack(">H", packet_id))
                assert retain
                got[topic] = payload
            assert got["chordae/v1/sim-0001/status"] == b"online"
            birth = next(v for k, v in got.items() if k.endswith("/birth"))
            assert birth, "as protobuf"
            monitor.close()
            if not _again:
                server.kill9()
                server.start()
