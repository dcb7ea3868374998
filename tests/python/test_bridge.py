"""The bridge to Debian's Mosquitto: what that has acknowledged to its publishers is stored, once."""

import os
import random
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import paho.mqtt.client as paho
import pytest

import checker
from conftest import BIN, CONTROL_BIN, SETTINGS, Server, wait_until
from ecg import Ecg
from ports import free_port

FRAMES = 12_000


class Mosquitto:
    """A broker that keeps what it acknowledged through a SIGTERM."""

    def __init__(self, folder, *lines):
        self.folder, self.port, self.process = folder, free_port(), None
        folder.mkdir()
        (folder / "mosquitto.conf").write_text("\n".join([
            "per_listener_settings true", f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root",
            "persistence true", f"persistence_location {folder}/", "max_queued_messages 0", "max_queued_bytes 0",
            *lines, ""]))

    def start(self):
        self.log = open(self.folder / "log", "ab")
        exe = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert exe, "mosquitto is not installed"
        self.process = subprocess.Popen([exe, "-c", self.folder / "mosquitto.conf"], stdout=self.log, stderr=self.log)
        wait_until(self.answers)
        return self

    def answers(self):
        assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


class Publisher:
    """Publishes with QoS; remembers what was acknowledged. Its own session survives the broker's restart."""

    def __init__(self, port, qos=1, window=200):
        # By packet id: no test publishes so much that one is used twice.
        self.qos, self.names, self.acked, self.room = qos, {}, set(), threading.Semaphore(window)
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, "ward", clean_session=False)
        self.client.max_queued_messages_set(0)
        # Mosquitto ends a client with more QoS 2 messages open than this, its default.
        self.client.max_inflight_messages_set(20)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_publish = self.published
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def published(self, client, userdata, mid, code, properties):
        self.acked.add(mid)
        self.room.release()

    def send(self, name, topic, payload):
        assert self.room.acquire(timeout=60), "the broker does not acknowledge"
        self.names[name] = self.client.publish(topic, payload, qos=self.qos).mid

    def wait(self, *names, seconds=60):
        mids = [self.names[name] for name in names]
        wait_until(lambda: self.acked.issuperset(mids), seconds)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


def settings(broker, more="", scheme="mqtt"):
    return SETTINGS.format(slot=60, anchor=1, mqtt_tls="off", zmq_tls="off") \
        + f'[bridge]\nurl = "{scheme}://127.0.0.1:{broker.port}"\n{more}'


def metrics(server):
    url = f"http://{server.doors['metrics']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def connected(server):
    return metrics(server)["chordae_bridge_connected"] == 1


def frames_in(server, outcome=None):
    return sum(value for name, value in metrics(server).items()
               if name.startswith("chordae_ingest_frames_total") and 'door="bridge"' in name
               and (outcome is None or f'outcome="{outcome}"' in name))


def everything_came(server, publisher, ecg):
    """The broker gives one client its messages in order: when this birth is here, all before it are."""
    last = Ecg(ecg.device, f"end-{random.getrandbits(32):08x}")
    publisher.send(last.stream, last.topic("birth"), last.birth())
    publisher.wait(last.stream)
    name = f"{last.device}/{last.stream}"
    wait_until(lambda: name in [s["stream"] for s in server.streams()], 90)


def campaign(tmp_path, binary, protocol, frames, turns, seed):
    """Publishes while server and broker die in turns; gives folder and list of what the broker acknowledged."""
    rng = random.Random(seed)
    with Mosquitto(tmp_path / "broker") as broker:
        server = Server(tmp_path / "data", binary=binary, settings=settings(broker, f'protocol = "{protocol}"\n'))
        server.start()
        try:
            server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
            wait_until(lambda: connected(server))
            ecg, publisher = Ecg("bed-1"), Publisher(broker.port)
            publisher.send("birth", ecg.topic("birth"), ecg.birth())
            for seq in range(frames):
                publisher.send(seq, ecg.topic("frame"), ecg.frame(seq))
                if seq % (frames // turns) == frames // turns // 2:
                    wait_until(lambda: connected(server), 60)
                    before = frames_in(server)
                    wait_until(lambda: frames_in(server) > before or len(publisher.acked) > seq, 60)
                    time.sleep(rng.uniform(0, 0.2))
                    if binary != BIN or (seq // (frames // turns)) % 2 == 0:
                        server.kill9()
                        server.start()
                    else:
                        broker.stop()
                        broker.start()
            publisher.wait("birth", *range(frames))
            wait_until(lambda: connected(server), 60)
            everything_came(server, publisher, ecg)
            publisher.close()
            server.stop()
        finally:
            if server.process.poll() is None:
                server.kill9()
    acked = tmp_path / "acked"
    acked.write_text("".join(ecg.line(seq) for seq in range(frames)))
    return server.folder, acked, ecg


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_server_and_broker_die_in_turns_and_nothing_is_lost(tmp_path, protocol):
    folder, acked, ecg = campaign(tmp_path, BIN, protocol, FRAMES, 6, seed=6)
    result = checker.frames(folder, acked)
    print(result)
    assert result["acknowledged"] == FRAMES
    assert result["lost"] == [] and result["duplicate"] == [] and result["different"] == []
    assert result["rows"] == FRAMES * ecg.samples, "rows that nobody sent"
    assert checker.check(folder)["findings"] == []


def test_a_bridge_that_acknowledges_before_the_sync_loses(tmp_path):
    """The negative control: without it the test above counts for nothing. A kill finds something on its way or not."""
    for seed in range(7, 12):
        (at := tmp_path / str(seed)).mkdir()
        folder, acked, _ = campaign(at, CONTROL_BIN, "5", 6_000, 6, seed)
        result = checker.frames(folder, acked)
        print(result)
        if result["lost"]:
            return
    pytest.fail("the control lost nothing in five campaigns: the kills have no teeth")


def test_a_broker_that_forgot_our_session_is_said_aloud(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Server(tmp_path / "data", settings=settings(broker)) as server:
        wait_until(lambda: connected(server))
        assert metrics(server)["chordae_bridge_new_sessions_total"] == 1, "the first time there is none"
        broker.stop()
        wait_until(lambda: not connected(server))
        broker.start()
        wait_until(lambda: connected(server))
        assert metrics(server)["chordae_bridge_new_sessions_total"] == 1, "it had kept the session"
        broker.stop()
        (broker.folder / "mosquitto.db").unlink()
        broker.start()
        wait_until(lambda: connected(server) and metrics(server)["chordae_bridge_new_sessions_total"] == 2)
        assert (server.folder / "stderr.log").read_text().count("no session of ours") == 2


def test_what_is_wrong_upstream_is_told_and_does_not_come_for_ever(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Server(tmp_path / "data", settings=settings(broker)) as server:
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        wait_until(lambda: connected(server))
        ecg, publisher = Ecg("bed-1"), Publisher(broker.port)
        stranger = Ecg("bed-9")
        publisher.send("birth", ecg.topic("birth"), ecg.birth())
        publisher.send("broken", ecg.topic("frame"), b"no frame at all")
        publisher.send("long", ecg.topic("frame"), bytes(3 << 20))
        publisher.send("stranger", stranger.topic("frame"), stranger.frame(0))
        publisher.send("frame", ecg.topic("frame.json"), ecg.frame_json(0))
        everything_came(server, publisher, ecg)
        publisher.close()
        now = metrics(server)
        assert now['chordae_refused_total{reason="not-authorised"}'] == 1
        assert now['chordae_quarantined_total{reason="protobuf"}'] == 1
        assert now['chordae_quarantined_total{reason="payload-size"}'] == 1
        assert frames_in(server, "live") == 1
        wait_until(lambda: metrics(server)["chordae_bridge_unacknowledged"] == 0)
        assert now["chordae_bridge_connections_total"] == 1, "it had to connect again"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_tls_certificates_password_and_qos_2(tmp_path, protocol):
    """The broker is reached through everything it can ask for; QoS 2 is spoken where both sides want it."""
    folder = tmp_path / "data"
    keys = folder / "keys"
    tls_port = free_port()
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", passwords, "bridge", "secret"], check=True, capture_output=True)
    broker = Mosquitto(
        tmp_path / "broker", f"listener {tls_port} 127.0.0.1", f"cafile {keys}/ca.crt", f"certfile {keys}/server.crt",
        f"keyfile {keys}/server.key", "require_certificate true", "allow_anonymous false",
        f"password_file {passwords}")
    more = (f'protocol = "{protocol}"\nqos = 2\nuser = "bridge"\npassword-file = "password"\nca = "keys/ca.crt"\n'
            'cert = "upstream.crt"\nkey = "upstream.key"\n')
    server = Server(folder, slot=60)
    # Any client's certificate of an authority that the broker trusts; ours is at hand.
    with server:
        server.cli("device", "add", "upstream", "--out", folder)
    text = settings(broker, more, "mqtts").replace(str(broker.port), str(tls_port))
    (folder / "chordae.toml").write_text(text)
    (folder / "password").write_text("secret\n")
    (folder / "password").chmod(0o600)
    with broker, server:
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        wait_until(lambda: connected(server))
        ecg, publisher = Ecg("bed-1"), Publisher(broker.port, qos=2)
        publisher.send("birth", ecg.topic("birth.json"), ecg.birth_json())
        for seq in range(300):
            publisher.send(seq, ecg.topic("frame"), ecg.frame(seq))
        everything_came(server, publisher, ecg)
        publisher.close()
        # The wrong password: said, and tried again only after the longest pause.
    (folder / "password").write_text("wrong\n")
    with broker, server:
        wait_until(lambda: "does not accept us" in (folder / "stderr.log").read_text())
        assert not connected(server)
    acked = tmp_path / "acked"
    acked.write_text("".join(ecg.line(seq) for seq in range(300)))
    result = checker.frames(folder, acked)
    assert result == {"acknowledged": 300, "lost": [], "duplicate": [], "different": [], "rows": 3000}, result


def test_a_full_disk_leaves_the_rest_with_the_broker_and_heals(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", str(disk)], check=True)
    try:
        with Mosquitto(tmp_path / "broker") as broker:
            text = settings(broker).replace("max-bytes = 1073741824", "max-bytes = 268435456")
            with Server(disk / "data", settings=text) as server:
                server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
                wait_until(lambda: connected(server))
                ecg, publisher = Ecg("bed-1"), Publisher(broker.port)
                publisher.send("birth", ecg.topic("birth"), ecg.birth())
                for seq in range(100):
                    publisher.send(seq, ecg.topic("frame"), ecg.frame(seq))
                wait_until(lambda: frames_in(server, "live") == 100)
                with open(disk / "ballast", "wb") as f:
                    f.write(b"\0" * (400 << 20))
                wait_until(lambda: "doors shut" in (server.folder / "stderr.log").read_text())
                for seq in range(100, 1000):
                    publisher.send(seq, ecg.topic("frame"), ecg.frame(seq))
                publisher.wait(*range(1000))
                wait_until(lambda: metrics(server)["chordae_bridge_unacknowledged"] >= 20)
                assert frames_in(server, "live") == 100, "stored without room"
                assert metrics(server)["chordae_bridge_unacknowledged"] <= 128, "the window has no bound"
                (disk / "ballast").unlink()
                everything_came(server, publisher, ecg)
                publisher.close()
                assert metrics(server)["chordae_bridge_connections_total"] == 1
            acked = tmp_path / "acked"
            acked.write_text("".join(ecg.line(seq) for seq in range(1000)))
            result = checker.frames(server.folder, acked)
            assert not result["lost"] and not result["duplicate"] and not result["different"], result
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
