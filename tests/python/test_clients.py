"""Clients nobody here wrote, through every door: what they are told is stored, and monitors see it live."""

import base64
import itertools
import json
import queue
import socket
import ssl
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
import zmq

import checker
from conftest import ROOT, SETTINGS, Server, wait_until
from ports import free_port
from ecg import Ecg

NODE = ROOT / "tests/node"
DEVICES = ["mosq", "paho", "js", "zeromq"]
VERSIONS = {"3.1.1": paho.MQTTv311, "5": paho.MQTTv5}
ENCODINGS = {"protobuf": "", "json": ".json"}


class Ward:
    """One server with every door open, its devices, and what was acknowledged to them."""

    def __init__(self, folder):
        text = SETTINGS.format(slot=60, anchor=1, mqtt_tls="127.0.0.1:0", zmq_tls="127.0.0.1:0")
        self.folder, self.certs = folder, folder / "certs"
        self.server = Server(folder / "data", settings=text)
        self.acked, self.numbers = [], itertools.count()

    def start(self):
        self.server.start()
        for name in DEVICES:
            self.server.cli("device", "add", name, "--out", self.certs)
        for name in ("desk", "desk-js"):
            self.server.cli("device", "add", name, "--kind", "monitor", "--watches", "all", "--out", self.certs)

    def port(self, door):
        return int(self.server.doors[door].rpartition(":")[2])

    def ecg(self, device):
        """A new stream of a device: no two cases meet, and none has more streams than it may."""
        return Ecg(device, f"s{next(self.numbers)}")

    def stored(self, ecg, *seqs):
        self.acked += [ecg.line(seq) for seq in seqs]

    def files(self, name):
        return {"ca": self.certs / "ca.crt", "cert": self.certs / f"{name}.crt", "key": self.certs / f"{name}.key"}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    made = Ward(tmp_path_factory.mktemp("ward"))
    made.start()
    yield made
    if made.server.process.poll() is None:
        made.server.kill9()


def telemetry(ecg, encoding, seqs=(0, 1)):
    """A birth and frames, as (topic, payload)."""
    end = ENCODINGS[encoding]
    birth, frame = (ecg.birth_json, ecg.frame_json) if end else (ecg.birth, ecg.frame)
    return [(ecg.topic("birth" + end), birth()), *((ecg.topic("frame" + end), frame(seq)) for seq in seqs)]


# ---- mosquitto_pub, mosquitto_sub

def mosquitto(command, ward, name, transport, *args, **kw):
    where = ["-p", ward.port("mqtt-plain")]
    if transport == "tls":
        files = ward.files(name)
        where = ["-p", ward.port("mqtt-tls"), "--cafile", files["ca"], "--cert", files["cert"], "--key", files["key"]]
    # The name on a plain door; over TLS the certificate decides, and the client id must agree.
    return [command, "-h", "127.0.0.1", "-i", name, *map(str, where), *map(str, args)]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("transport", ["plain", "tls"])
@pytest.mark.parametrize("version", VERSIONS)
def test_mosquitto_pub(ward, tmp_path, version, transport, qos, encoding):
    ecg = ward.ecg("mosq")
    for topic, payload in telemetry(ecg, encoding):
        (tmp_path / "payload").write_bytes(payload)
        # It ends with 0 when its PUBACK or PUBCOMP has come.
        done = subprocess.run(mosquitto("mosquitto_pub", ward, "mosq", transport, "-V", f"mqttv{version.replace('.', '')}",
                                        "-q", qos, "-t", topic, "-f", tmp_path / "payload"),
                              capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and not done.stderr, done.stderr
    ward.stored(ecg, 0, 1)


# ---- paho-mqtt

class Paho:
    """A paho client whose acknowledgements and messages are waited for."""

    def __init__(self, ward, name, version, transport, will=None, clean=True, subscribe=()):
        socket = "websockets" if transport in ("ws", "wss") else "tcp"
        session = {} if version == "5" else {"clean_session": clean}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=VERSIONS[version], transport=socket,
                                  **session)
        self.messages, self.connected, self.subscribed = queue.Queue(), threading.Event(), threading.Event()
        self.client.on_message = lambda client, data, message: self.messages.put(message)
        self.client.on_connect = lambda client, data, flags, code, properties: code == 0 and self.connected.set()
        self.client.on_subscribe = lambda client, data, mid, codes, properties: self.granted(codes)
        if transport in ("tls", "wss"):
            files = ward.files(name)
            self.client.tls_set(files["ca"], files["cert"], files["key"], tls_version=ssl.PROTOCOL_TLS_CLIENT)
        if will:
            self.client.will_set(*will)
        self.client.connect("127.0.0.1", ward.port("mqtt-tls" if transport in ("tls", "wss") else "mqtt-plain"))
        self.client.loop_start()
        assert self.connected.wait(20), "not connected"
        for filter in subscribe:
            self.subscribed.clear()
            self.client.subscribe(filter, qos=1)
            assert self.subscribed.wait(20), f"not subscribed to {filter}"

    def granted(self, codes):
        if not any(code.is_failure for code in codes):
            self.subscribed.set()

    def publish(self, topic, payload, qos, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(20)
        assert info.is_published(), f"{topic} was not acknowledged"

    def message(self, fits, seconds=20):
        end = time.monotonic() + seconds
        while True:
            message = self.messages.get(timeout=max(end - time.monotonic(), 0.01))
            if fits(message):
                return message

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("transport", ["plain", "tls", "ws", "wss"])
@pytest.mark.parametrize("version", VERSIONS)
def test_paho(ward, version, transport, qos, encoding):
    ecg = ward.ecg("paho")
    with Paho(ward, "paho", version, transport, subscribe=["chordae/v1/paho/ack"]) as device:
        for topic, payload in telemetry(ecg, encoding):
            device.publish(topic, payload, qos)

        def all_durable(message):
            told = json.loads(message.payload)
            return (told["stream"], told["boot"], told["durable"]) == (ecg.stream, ecg.boot, [[0, 1]])

        # With QoS 0 this is the only acknowledgement; with the others it says the same.
        device.message(all_durable)
    ward.stored(ecg, 0, 1)


# ---- MQTT.js

def node(ward, name, url, version, **wish):
    paths = {key: str(path) for key, path in ward.files(name).items()} if url.startswith(("wss", "mqtts")) else {}
    wish = {"url": url, "client": name, "version": {"3.1.1": 4, "5": 5}[version], **paths, **wish}
    return ["node", str(NODE / "client.mjs"), json.dumps(wish)]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("scheme", ["ws", "wss", "mqtts"])
@pytest.mark.parametrize("version", VERSIONS)
def test_mqtt_js(ward, version, scheme, qos):
    url = f"{scheme}://127.0.0.1:{ward.port('mqtt-plain' if scheme == 'ws' else 'mqtt-tls')}/mqtt"
    ecg = ward.ecg("js")
    publish = [{"topic": topic, "payload": base64.b64encode(payload).decode(), "qos": qos}
               for encoding in ENCODINGS for topic, payload in telemetry(ecg, encoding, [len(encoding)])]
    done = subprocess.run(node(ward, "js", url, version, publish=publish), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("acknowledged") == len(publish)
    ward.stored(ecg, *map(len, ENCODINGS))


# ---- pyzmq

@pytest.fixture
def tunnel(ward, tmp_path):
    """An ordinary TLS tunnel: stunnel with the device's certificate; gives its plain address."""
    port = free_port()
    files = ward.files("zeromq")
    (tmp_path / "stunnel.conf").write_text(
        f"foreground = yes\npid =\n[zmq]\nclient = yes\naccept = 127.0.0.1:{port}\n"
        f"connect = 127.0.0.1:{ward.port('zmq-tls')}\nCAfile = {files['ca']}\ncert = {files['cert']}\n"
        f"key = {files['key']}\nverifyChain = yes\ncheckIP = 127.0.0.1\n")
    process = subprocess.Popen(["stunnel", tmp_path / "stunnel.conf"], stderr=subprocess.DEVNULL)
    try:
        def answers():
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", port)) == 0
        wait_until(answers)
        yield f"tcp://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("through", ["plain", "tls"])
def test_pyzmq(ward, request, through):
    address = request.getfixturevalue("tunnel") if through == "tls" else f"tcp://127.0.0.1:{ward.port('zmq-plain')}"
    ecg = ward.ecg("zeromq")
    name = f"{ecg.device}/{ecg.stream}".encode()
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.RCVTIMEO, 20_000)
        if through == "plain":
            dealer.setsockopt(zmq.ROUTING_ID, b"zeromq")
        dealer.connect(address)
        dealer.send_multipart([b"birth", name, ecg.birth()])
        for seq in range(20):
            dealer.send_multipart([b"frame", name, ecg.frame(seq)])
        acked = set()
        while len(acked) < 20:
            kind, about, *rest = dealer.recv_multipart()
            if kind != b"ack":
                assert kind in (b"cmd", b"archived"), (kind, about, rest)
                continue
            boot, first, last = (int.from_bytes(part, "big") for part in rest)
            assert (about, boot) == (name, ecg.boot)
            acked |= {seq for seq in range(20) if first <= seq <= last}
    ward.stored(ecg, *range(20))


# ---- monitors, status, commands

class Lines(list):
    """The lines of a program, as they come."""

    def __init__(self, process):
        super().__init__()
        threading.Thread(target=self.read, args=(process,), daemon=True).start()

    def read(self, process):
        for line in process.stdout:
            self.append(line)


def until_heard(ward, device, ecg, form, heard):
    """Frames, until `heard`: no answer tells when a monitor is linked to live frames, and those before are not for it."""
    frame = ecg.frame_json if form else ecg.frame
    seqs = itertools.count()

    def one_more():
        seq = next(seqs)
        device.publish(ecg.topic("frame" + form), frame(seq), 1)
        ward.stored(ecg, seq)
        return heard()

    wait_until(one_more)
    return next(seqs)


def test_monitors_see_births_frames_and_status(ward):
    """Three foreign monitors at once; what is retained is there for who comes late."""
    ecg = ward.ecg("paho")
    live, birth, status = ecg.topic("live"), ecg.topic("birth"), "chordae/v1/paho/status"
    port = ward.port("mqtt-tls")
    with Paho(ward, "paho", "5", "tls", will=(status, "offline", 1, True)) as device:
        device.publish(status, "online", 1, retain=True)
        device.publish(birth, ecg.birth(), 1)
        with Paho(ward, "desk", "5", "wss", subscribe=[birth, status, "chordae/v1/+/+/live"]) as desk:
            assert desk.message(lambda m: m.topic == birth).retain, "the birth is retained"
            seen = desk.message(lambda m: m.topic == status)
            assert seen.retain and seen.payload == b"online"
            js = subprocess.Popen(node(ward, "desk-js", f"wss://127.0.0.1:{port}/mqtt", "5",
                                       subscribe=[birth, status, live], last=base64.b64encode(b"offline").decode()),
                                  stdout=subprocess.PIPE, text=True)
            lines = Lines(js)
            wait_until(lambda: len(lines) >= 5)
            retained = [line["topic"] for line in map(json.loads, lines[:5]) if line.get("retain")]
            assert retained == [birth, status], lines

            def both():
                theirs = (json.loads(line) for line in list(lines))
                theirs = {base64.b64decode(line["payload"]) for line in theirs if line.get("topic") == live}
                return theirs & {m.payload for m in list(desk.messages.queue) if m.topic == live}

            # Monitors get one form, whatever the device sends.
            until_heard(ward, device, ecg, ".json", both)
            # Cut, not closed: the will speaks.
            device.client._sock_close() if hasattr(device.client, "_sock_close") else device.client.socket().close()
            assert desk.message(lambda m: m.topic == status).payload == b"offline"
            assert js.wait(timeout=20) == 0, lines


@pytest.mark.parametrize("version", ["311", "5"])
def test_mosquitto_sub_is_a_monitor(ward, version):
    ecg = ward.ecg("mosq")
    with Paho(ward, "mosq", "5", "plain") as device:
        device.publish(ecg.topic("birth"), ecg.birth(), 1)
        listener = subprocess.Popen(
            mosquitto("mosquitto_sub", ward, "desk", "tls", "-V", f"mqttv{version}", "-t", ecg.topic("birth"), "-t",
                      ecg.topic("live"), "-C", 2, "-F", "%t %r %x"),
            stdout=subprocess.PIPE, text=True)
        # It ends with its second message.
        sent = until_heard(ward, device, ecg, "", lambda: listener.poll() is not None)
        birth, live = (line.split() for line in listener.communicate(timeout=20)[0].splitlines())
        assert birth == [ecg.topic("birth"), "1", ecg.birth().hex()]
        assert live in [[ecg.topic("live"), "0", ecg.frame(seq).hex()] for seq in range(sent)]
        assert listener.returncode == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_command_waits_for_its_device_and_is_answered(ward, version):
    said = ward.server.cli("device", "command", "paho", '{"do":"identify"}').stdout
    with Paho(ward, "paho", version, "tls", subscribe=["chordae/v1/paho/cmd"]) as device:
        message = device.message(lambda m: json.loads(m.payload)["do"] == "identify")
        assert message.qos == 1
        id = json.loads(message.payload)["id"]
        assert id in said
        device.publish(f"chordae/v1/paho/cmd/{id}", '{"ok":true}', 1)
        # At once, when it is there.
        said = ward.server.cli("device", "command", "paho", '{"do":"sync-time"}').stdout
        message = device.message(lambda m: json.loads(m.payload)["do"] == "sync-time")
        assert json.loads(message.payload)["id"] in said
        device.publish(f"chordae/v1/paho/cmd/{json.loads(message.payload)['id']}", '{"ok":false,"why":"no clock"}', 1)


# ---- last: what was acknowledged

def test_everything_acknowledged_is_stored_once(ward):
    """Over all cases of this file."""
    ward.server.stop()
    acked = ward.folder / "acked"
    acked.write_text("".join(ward.acked))
    result = checker.frames(ward.server.folder, acked)
    print(result)
    assert result["acknowledged"] == len(ward.acked) > 100
    assert result["lost"] == [] and result["duplicate"] == [] and result["different"] == []
    assert checker.check(ward.server.folder)["findings"] == []
