"""A gateway between devices and a server: acknowledged at the bedside is stored in the end, whatever is killed."""

import json
import random
import subprocess
import time
import urllib.request

import checker
import paho.mqtt.client as mqtt
import pytest
import stored
from conftest import BIN, SIM, Server, run, wait_until
from ecg import Ecg
from ports import free_port

NAME = "ward-1"
DEVICE = "sim-0001"
STREAM = ("--stream", "ecg", "--leads", "2", "--rate", "250", "--frame", "100ms")

SERVER = """
[mqtt]
tls = "off"
plain = "127.0.0.1:0"
[zmq]
tls = "{zmq_tls}"
plain = "{zmq_plain}"
[http]
tls = "off"
plain = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = 1073741824
min-free-bytes = 67108864
[chunks]
slot-seconds = 60
[ledger]
anchor-seconds = 1
"""

GATEWAY = """
[mqtt]
tls = "{mqtt_tls}"
plain = "{mqtt_plain}"
[uplink]
url = "{url}"
name = "ward-1"
[keys]
cert = "keys/ward-1.crt"
key = "keys/ward-1.key"
ca = "keys/ca.crt"
[spool]
max-bytes = {spool}
min-free-bytes = 1048576
[metrics]
listen = "127.0.0.1:0"
"""


class Gateway(Server):
    """One `chordae gateway` over a folder; doors and kills as a server's."""

    def __init__(self, folder, url, tls=False, spool=64 << 20):
        self.folder, self.binary, self.prefix = folder, BIN, []
        self.process, self.doors = None, {}
        folder.mkdir(exist_ok=True)
        here = f"127.0.0.1:{free_port()}"
        text = GATEWAY.format(url=url, spool=spool, mqtt_tls=here if tls else "off", mqtt_plain="off" if tls else here)
        (folder / "gateway.toml").write_text(text)

    def command(self):
        return [str(self.binary), "gateway", "--data", str(self.folder)]

    def get(self, path):
        """Status and text of a probe."""
        try:
            with urllib.request.urlopen(f"http://{self.doors['metrics']}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def metric(self, name):
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith((name + " ", name + "{")):
                return float(line.split()[-1])
        return 0.0


@pytest.fixture
def ward(tmp_path):
    """A server, a gateway behind it, one device behind the gateway; nothing runs yet."""
    made = []

    def make(tls=False, spool=64 << 20):
        port = free_port()
        at = {"zmq_tls": f"127.0.0.1:{port}" if tls else "off", "zmq_plain": "off" if tls else f"127.0.0.1:{port}"}
        server = Server(tmp_path / "data", settings=SERVER.format(**at))
        server.start()
        url = f"zmq+tls://127.0.0.1:{port}" if tls else f"zmq://127.0.0.1:{port}"
        gateway = Gateway(tmp_path / "gateway", url, tls=tls, spool=spool)
        server.cli("device", "add", NAME, "--kind", "gateway", "--host", "127.0.0.1", "--out", gateway.folder / "keys")
        server.cli("device", "add", DEVICE, "--gateway", NAME, "--out", tmp_path / "certs")
        made.extend([gateway, server])
        return server, gateway

    yield make
    for running in made:
        if running.process and running.process.poll() is None:
            running.kill9()


def device(gateway, tmp_path, *args, tls=False):
    url = "mqtts://" + gateway.doors["mqtt-tls"] if tls else gateway.mqtt
    keys = ("--ca", tmp_path / "certs/ca.crt", "--cert", tmp_path / "certs", "--key", tmp_path / "certs") if tls else ()
    words = [SIM, "--url", url, "--device", DEVICE, *STREAM, *keys, "--acked", tmp_path / "acked", *args]
    return subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(tmp_path):
    path = tmp_path / "acked"
    return path.read_text().count("\n") if path.exists() else 0


def ends(process, timeout=180):
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out[-2000:]


def stored_is_acknowledged(server, tmp_path, at_least):
    """After the server's orderly stop: every acknowledged frame is stored, once, and as it was."""
    result = checker.frames(server.folder, tmp_path / "acked")
    print(result)
    assert result["acknowledged"] >= at_least
    assert result["lost"] == [] and result["duplicate"] == [] and result["different"] == []
    report = checker.check(server.folder)
    assert report["findings"] == [], report["findings"][:5]


def drained(gateway, seconds=60):
    wait_until(lambda: gateway.metric("chordae_spool_frames") == 0, seconds)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_the_gateway_acknowledges_is_stored(ward, tmp_path, tls):
    server, gateway = ward(tls=tls)
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    ends(device(gateway, tmp_path, "--max-rate", "--for", "200s", tls=tls))
    drained(gateway)
    assert gateway.metric("chordae_uplink_connected") == 1
    gateway.stop()
    server.stop()
    stored_is_acknowledged(server, tmp_path, 2000)


def test_kills_in_turns_lose_nothing_and_store_nothing_twice(ward, tmp_path):
    server, gateway = ward()
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    luck = random.Random(18)
    streaming = device(gateway, tmp_path, "--max-rate", "--burst", "64", "--for", "30000s")
    for turn in range(12):
        before = lines(tmp_path)
        wait_until(lambda: lines(tmp_path) >= before + 300, 60)
        time.sleep(luck.uniform(0, 0.3))
        # Both at once in the last turns.
        for victim in {0: [server], 1: [gateway], 2: [gateway, server]}[turn % 3]:
            victim.kill9()
        for victim in (server, gateway):
            if victim.process.poll() is not None:
                victim.start()
    streaming.send_signal(2)
    ends(streaming)
    drained(gateway)
    gateway.stop()
    server.stop()
    stored_is_acknowledged(server, tmp_path, 3600)


def test_a_node_that_is_away_is_not_missed_at_the_bedside(ward, tmp_path):
    server, gateway = ward()
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    server.kill9()
    # It starts without its uplink, and knows its devices.
    gateway.stop()
    gateway.start()
    ends(device(gateway, tmp_path, "--max-rate", "--for", "100s"))
    assert lines(tmp_path) >= 1000
    assert gateway.metric("chordae_spool_frames") >= 1000
    status, text = gateway.get("/readyz")
    assert status == 200 and "uplink:" in text, "it does its work, and says what is missing"
    server.start()
    drained(gateway)
    wait_until(lambda: "uplink:" not in gateway.get("/readyz")[1])
    gateway.stop()
    server.stop()
    stored_is_acknowledged(server, tmp_path, 1000)


def test_a_full_spool_refuses_and_heals(ward, tmp_path):
    server, gateway = ward(spool=1 << 20)
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    server.kill9()
    streaming = device(gateway, tmp_path, "--max-rate", "--for", "2000s")
    wait_until(lambda: gateway.get("/readyz")[0] == 503, 60)
    assert "spool is full" in gateway.get("/readyz")[1]
    assert gateway.metric("chordae_spool_bytes") < (1 << 20) + (300 << 10)
    server.start()
    ends(streaming)
    drained(gateway)
    assert gateway.metric('chordae_refused_total{reason="full"}') > 0
    gateway.stop()
    server.stop()
    stored_is_acknowledged(server, tmp_path, 20_000)


def test_a_disabled_gateway_is_cut(ward, tmp_path):
    server, gateway = ward(tls=True)
    gateway.start()
    wait_until(lambda: gateway.metric("chordae_uplink_connected") == 1)
    server.cli("device", "disable", NAME)
    wait_until(lambda: gateway.metric("chordae_uplink_connected") == 0, 60)
    streaming = device(gateway, tmp_path, "--max-rate", "--for", "20s", tls=True)
    ends(streaming)
    time.sleep(3)
    assert gateway.metric("chordae_uplink_connected") == 0
    assert gateway.metric("chordae_spool_frames") >= 200, "kept, not lost"


def test_a_device_that_is_disabled_is_cut_at_the_gateway(ward, tmp_path):
    server, gateway = ward()
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    server.cli("device", "disable", DEVICE)
    wait_until(lambda: '"enabled":false' in (gateway.folder / "devices.json").read_text())
    client, code = connected(gateway, "anybody")
    told = publish(client, f"chordae/v1/{DEVICE}/ecg/frame", b"x")
    assert told == 0x87


def connected(gateway, name):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
    codes = []
    client.on_connect = lambda c, u, flags, code, properties: codes.append(code)
    host, port = gateway.doors["mqtt-plain"].split(":")
    client.connect(host, int(port))
    client.loop_start()
    wait_until(lambda: codes)
    return client, codes[0]


def publish(client, topic, payload):
    """The reason code of the acknowledgement."""
    codes = []
    client.on_publish = lambda c, u, mid, code, properties: codes.append(code.value)
    client.publish(topic, payload, qos=1)
    wait_until(lambda: codes)
    return codes[0]


def test_commands_go_down_and_replies_come_up(ward, tmp_path):
    server, gateway = ward()
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    client, _ = connected(gateway, DEVICE)
    heard = []
    client.on_message = lambda c, u, message: heard.append(json.loads(message.payload))
    # The command waits at the gateway until its device listens; kept across a kill of both.
    server.cli("device", "command", DEVICE, '{"do":"identify"}')
    time.sleep(2)
    client.disconnect()
    gateway.kill9()
    server.kill9()
    server.start()
    gateway.start()
    client, _ = connected(gateway, DEVICE)
    client.on_message = lambda c, u, message: heard.append(json.loads(message.payload))
    client.subscribe(f"chordae/v1/{DEVICE}/cmd", qos=1)
    wait_until(lambda: heard)
    assert heard[0]["do"] == "identify"
    client.publish(f"chordae/v1/{DEVICE}/cmd/{heard[0]['id']}", '{"ok":true}', qos=1)
    wait_until(lambda: "replied" in server.cli("device", "commands", DEVICE).stdout)


def test_a_conflict_and_a_reused_boot_are_told_at_the_bedside(ward, tmp_path):
    """What the gateway has acknowledged and the node refuses shows in the device's `ack` topic, unasked."""
    server, gateway = ward()
    gateway.start()
    wait_until(lambda: gateway.get("/readyz")[0] == 200)
    client, _ = connected(gateway, DEVICE)
    heard = []
    client.on_message = lambda c, u, message: heard.append(json.loads(message.payload))
    client.subscribe(f"chordae/v1/{DEVICE}/ack")
    first, other = Ecg(DEVICE, boot=77, hz=1000), Ecg(DEVICE, boot=77, hz=500)

    def says(ecg, what, *seq):
        payload = getattr(ecg, what)(*seq)
        assert publish(client, f"chordae/v1/{DEVICE}/ecg/{what}", payload) == 0, "it is in the spool"

    def refused(*want):
        def told():
            ranges = heard[-1]["refused"] if heard else []
            return sorted((seq, why) for a, b, why in ranges for seq in range(a, b + 1))
        wait_until(lambda: told() == sorted(want))

    says(first, "birth")
    for seq in range(3):
        says(first, "frame", seq)
    drained(gateway)
    # Nothing is said after it: the gateway speaks by itself.
    says(other, "frame", 1)
    refused((1, "conflict"))
    says(other, "birth")
    for seq in (10, 11):
        says(other, "frame", seq)
    birth = (2**64 - 1, "boot-reused")
    refused((1, "conflict"), birth, (10, "boot-reused"), (11, "boot-reused"))
    # On the next connection the node has forgotten who it was; the gateway has not.
    server.kill9()
    says(other, "frame", 12)
    client.disconnect()
    client.loop_stop()
    gateway.kill9()
    server.start()
    gateway.start()
    drained(gateway)
    client, _ = connected(gateway, DEVICE)
    client.on_message = lambda c, u, message: heard.append(json.loads(message.payload))
    client.subscribe(f"chordae/v1/{DEVICE}/ack")
    says(other, "frame", 13)
    refused((1, "conflict"), birth, *((seq, "boot-reused") for seq in (10, 11, 12, 13)))
    gateway.stop()
    server.stop()
    aside = sorted((reason, seq) for reason, _, boot, seq in stored.quarantined(server.folder) if boot == 77)
    assert aside == [("boot-reused", 10), ("boot-reused", 11), ("boot-reused", 12), ("boot-reused", 13),
                     ("conflict", 1)]
    here = [(reason, seq) for reason, _, _, seq in stored.quarantined(gateway.folder)]
    assert here == [("boot-reused", None)], "the birth alone: the node does not keep it"
    (tmp_path / "acked").write_text("".join(first.line(seq) for seq in range(3)))
    stored_is_acknowledged(server, tmp_path, 3)
    rows = [chunk for group in stored.chunks(server.folder, {server_did: "" for server_did in checker.links(
        server.folder)}).values() for chunk in group]
    assert sum(len(chunk.times) for chunk in rows) == 3 * 10, "nothing else is among the rows"
