"""Remote control, certificates that are taken back, operators over HTTP: a real server, and devices that are paho."""

import base64
import datetime
import hashlib
import http.client
import json
import queue
import re
import secrets
import ssl
import time
import urllib.parse

import cbor2
import checker
import paho.mqtt.client as mqtt
import pytest
from conftest import Server, party, run, sim, trust, wait_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

BED = "bed-1"


class Device:
    """A device as a maker would write it on paho: hears commands, and answers as it is told to."""

    def __init__(self, server, device=BED, certs=None, version=mqtt.MQTTv311, client_id=None, keep_s=0, answer=None, listen=True):
        self.device, self.answer, self.version = device, answer, version
        self.commands, self.codes, self.gone = queue.Queue(), queue.Queue(), queue.Queue()
        self.heard = queue.Queue()
        more = {} if version == mqtt.MQTTv5 else {"clean_session": keep_s == 0}
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id or device, protocol=version, **more)
        self.listen = listen
        self.client.on_connect = self.connected
        self.client.on_subscribe = lambda *_: self.heard.put(True)
        self.client.on_message = self.told
        self.client.on_disconnect = lambda _c, _u, _f, code, _p: self.gone.put(code)
        door = "mqtt-plain"
        if certs:
            door = "mqtt-tls"
            tls = ssl.create_default_context(cafile=str(certs / "ca.crt"))
            tls.load_cert_chain(str(certs / f"{device}.crt"), str(certs / f"{device}.key"))
            self.client.tls_set_context(tls)
        host, port = server.doors[door].rsplit(":", 1)
        props = None
        if version == mqtt.MQTTv5 and keep_s:
            props = Properties(PacketTypes.CONNECT)
            props.SessionExpiryInterval = keep_s
        # One attempt: whoever wants to come again makes another.
        self.client.reconnect_delay_set(3600, 3600)
        if version == mqtt.MQTTv5:
            self.client.connect("localhost" if certs else host, int(port), clean_start=keep_s == 0, properties=props)
        else:
            self.client.connect("localhost" if certs else host, int(port))
        self.client.loop_start()

    def connected(self, _client, _user, flags, code, _props):
        if self.listen and not code.is_failure:
            self.client.subscribe(f"chordae/v1/{self.device}/cmd", 1)
        self.codes.put((code, flags.session_present))

    def told(self, _client, _user, message):
        command = json.loads(message.payload)
        self.commands.put(command)
        if self.answer:
            reply = self.answer(command)
            if reply is not None:
                self.client.publish(f"chordae/v1/{self.device}/cmd/{command['id']}", json.dumps(reply), qos=1)

    def up(self, timeout=20):
        code, self.present = self.codes.get(timeout=timeout)
        assert not code.is_failure, code
        if self.listen:
            self.heard.get(timeout=timeout)
        return self

    def next(self, timeout=20):
        return self.commands.get(timeout=timeout)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.close()


def reaches(server, certs, device=BED):
    """Whether this certificate gets a session."""
    try:
        one = Device(server, device, certs)
    except (ssl.SSLError, ConnectionError, OSError):
        return False
    try:
        # TLS 1.3: a client hears only after its handshake that its certificate was refused.
        code, _ = one.codes.get(timeout=5)
        return not code.is_failure
    except queue.Empty:
        return False
    finally:
        one.client.loop_stop()
        one.client.disconnect()


def command(server, text, *args, **kw):
    return server.cli("device", "command", BED, text, *args, **kw)


def commands(server, *args):
    return json.loads(server.cli("device", "commands", *args, "--json").stdout)


def state_of(server, id):
    return next(c for c in commands(server) if c["id"] == id)


def yes(_):
    return {"ok": True}


@pytest.fixture
def bed(folder, tmp_path):
    with Server(folder) as server:
        server.cli("device", "add", BED, "--out", tmp_path / "certs")
        yield server


# ---- commands

def test_a_command_waits_for_its_device_and_what_came_of_it_survives(bed, folder):
    id = command(bed, '{"do":"set-rate","hz":250}').stdout.strip()
    line = state_of(bed, id)
    assert (line["state"], line["by"], line["device"]) == ("waiting", "control socket", BED)
    assert line["issued_ns"] < line["expires_ns"] and line["replied_ns"] is None
    assert line["command"]["rate_num"] == 250
    # Nobody but the power went: it is kept.
    bed.kill9()
    bed.start()
    assert state_of(bed, id) == line
    with Device(bed) as device:
        told = device.next()
        assert told == {"id": id, "do": "set-rate", "by": "control socket", "rate_num": 250, "rate_den": 1}
        wait_until(lambda: state_of(bed, id)["state"] == "delivered")
        # A kill between delivery and reply loses neither. Nobody waits for the mark: it is committed within 100 ms.
        time.sleep(0.5)
        bed.kill9()
    bed.start()
    assert state_of(bed, id)["state"] == "delivered"
    with Device(bed) as device:
        device.client.publish(f"chordae/v1/{BED}/cmd/{id}", '{"ok":false,"why":"no such rate"}', qos=1).wait_for_publish(10)
        seen = state_of(bed, id)
        assert (seen["state"], seen["ok"], seen["why"]) == ("replied", False, "no such rate")
        assert seen["replied_ns"] >= seen["issued_ns"]
        # The first reply stays.
        device.client.publish(f"chordae/v1/{BED}/cmd/{id}", '{"ok":true}', qos=1).wait_for_publish(10)
        assert state_of(bed, id) == seen
    bed.kill9()
    bed.start()
    assert state_of(bed, id) == seen
    bed.stop()
    bed.start()
    assert state_of(bed, id) == seen
    # What is done is not sent again.
    other = command(bed, '{"do":"identify"}').stdout.strip()
    with Device(bed) as device:
        assert device.next()["id"] == other


@pytest.mark.parametrize("version", [mqtt.MQTTv311, mqtt.MQTTv5])
def test_a_session_that_was_kept_needs_no_second_subscription(bed, version):
    with Device(bed, version=version, keep_s=600) as device:
        assert not device.present
    id = command(bed, '{"do":"identify"}').stdout.strip()
    with Device(bed, version=version, keep_s=600, listen=False, answer=yes) as device:
        assert device.present and device.next()["id"] == id
        wait_until(lambda: state_of(bed, id)["state"] == "replied")


def test_a_command_expires_and_is_never_sent_then(bed):
    late = command(bed, '{"do":"stop"}', "--expires", "1s").stdout.strip()
    wait_until(lambda: state_of(bed, late)["state"] == "expired")
    good = command(bed, '{"do":"start"}').stdout.strip()
    with Device(bed, answer=yes) as device:
        assert device.next()["id"] == good
        wait_until(lambda: state_of(bed, good)["state"] == "replied")
        assert device.commands.empty()
    assert state_of(bed, late)["state"] == "expired"


def test_waiting_for_a_reply_says_what_became_of_it(bed):
    silent = command(bed, '{"do":"identify"}', "--wait", "1s", ok=(1,))
    assert re.fullmatch(r"\S+\n", silent.stdout) and silent.stderr.count("\n") == 1
    assert "no reply of bed-1 yet (waiting)" in silent.stderr
    with Device(bed, answer=lambda c: {"ok": c["do"] != "stop", "why": "a patient is on it" if c["do"] == "stop" else "ECG-7"}):
        done = command(bed, '{"do":"sync-time"}', "--wait", "20s")
        assert done.stdout.splitlines()[1] == "bed-1 did it ECG-7"
        refused = command(bed, '{"do":"stop"}', "--wait", "20s", ok=(1,))
        assert "bed-1 could not: a patient is on it" in refused.stderr


def test_what_cannot_be_ordered_is_refused_in_one_line(bed):
    command(bed, '{"do":"stop","stream":"ecg"}')
    for text, word in (
        ("stop", "no JSON"), ("[]", "JSON object"), ('{"do":"explode"}', "use one of"), ('{"do":"stop","steam":"ecg"}', "steam"),
        ('{"do":"set-rate"}', "hz"), ('{"do":"set-rate","hz":100000}', "set-rate"), ('{"do":"set-leads","count":0}', "1-32"),
    ):
        refused = command(bed, text, ok=(1,))
        assert word in refused.stderr and refused.stderr.count("\n") == 1, refused.stderr
    for args in (("--expires", "8d"), ("--expires", "0s")):
        command(bed, '{"do":"stop"}', *args, ok=(1, 2))
    assert "no device" in bed.cli("device", "command", "bed-9", '{"do":"stop"}', ok=(1,)).stderr
    bed.cli("device", "disable", BED)
    assert "disabled" in command(bed, '{"do":"stop"}', ok=(1,)).stderr
    assert len(commands(bed)) == 1


def test_the_simulator_obeys(bed):
    acked = bed.folder / "acked"
    ids = [command(bed, text).stdout.strip() for text in ('{"do":"set-leads","count":3}', '{"do":"identify"}')]
    sim(bed, "--device", BED, "--stream", "ecg", "--leads", "1", "--rate", "250", "--for", "6s", "--acked", acked)
    for id in ids:
        wait_until(lambda: state_of(bed, id)["state"] == "replied")
        assert state_of(bed, id)["ok"] is True, state_of(bed, id)
    # Online while it lives, offline by its own word or its will.
    line = next(d for d in json.loads(bed.cli("device", "list", "--json").stdout) if d["id"] == BED)
    assert line["status"] == "offline"


# ---- certificates

@pytest.fixture
def tls(folder, tmp_path):
    with Server(folder, tls=True) as server:
        for bed in (BED, "bed-2"):
            server.cli("device", "add", bed, "--out", tmp_path / "certs")
        yield server, tmp_path / "certs"


def cut(device):
    """Waits until the server ends the connection; at most a minute (formats.md 2)."""
    return device.gone.get(timeout=60)


def test_a_revoked_device_is_cut_and_a_renewed_one_comes_back(tls, tmp_path):
    server, certs = tls
    with Device(server, certs=certs) as device, Device(server, "bed-2", certs) as other:
        server.cli("device", "revoke", BED)
        cut(device)
        assert not reaches(server, certs)
        fresh = tmp_path / "fresh"
        server.cli("device", "renew", BED, "--out", fresh)
        wait_until(lambda: reaches(server, fresh))
        assert not reaches(server, certs)
        assert other.gone.empty() and reaches(server, certs, "bed-2"), "the other device is left alone"
    # The list is signed anew at each start, and says the same.
    server.stop()
    server.start()
    assert reaches(server, fresh) and not reaches(server, certs)
    listed = server.cli("device", "list").stdout
    assert re.search(rf"^{BED} .*until 20\d\d-", listed, re.M), listed
    lines = json.loads(server.cli("device", "list", "--json").stdout)
    line = next(d for d in lines if d["id"] == BED)
    cert = x509.load_pem_x509_certificate((fresh / f"{BED}.crt").read_bytes())
    assert int(line["certificate"]["serial"], 16) == cert.serial_number
    assert line["certificate"]["fingerprint"] == cert.fingerprint(hashes.SHA256()).hex()
    assert line["certificate"]["not_after_ns"] == int(cert.not_valid_after_utc.timestamp()) * 10**9
    assert [c["revoked_ns"] is not None for c in line["earlier"]] == [True]
    crl = x509.load_pem_x509_crl((server.folder / "keys/ca.crl").read_bytes())
    ca = x509.load_pem_x509_certificate((certs / "ca.crt").read_bytes())
    assert crl.is_signature_valid(ca.public_key())
    assert [c.serial_number for c in crl] == [int(line["earlier"][0]["serial"], 16)]


def test_a_disabled_device_is_cut_and_an_enabled_one_comes_back(tls):
    server, certs = tls
    with Device(server, certs=certs) as device:
        server.cli("device", "disable", BED)
        cut(device)
    assert not reaches(server, certs)
    server.cli("device", "enable", BED)
    assert reaches(server, certs)


def test_an_expired_list_lets_nobody_in(tls):
    server, certs = tls
    assert reaches(server, certs)
    keys = server.folder / "keys"
    ca = x509.load_pem_x509_certificate((keys / "ca.crt").read_bytes())
    key = serialization.load_pem_private_key((keys / "ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    old = (x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
           .last_update(now - datetime.timedelta(days=8)).next_update(now - datetime.timedelta(days=1))
           .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
           .add_extension(x509.CRLNumber(1), False).sign(key, hashes.SHA256()))
    (keys / "ca.crl").write_bytes(old.public_bytes(serialization.Encoding.PEM))
    wait_until(lambda: not reaches(server, certs), 60)
    server.stop()
    server.start()
    assert reaches(server, certs), "a start signs it anew"


def test_a_gateways_certificate_serves_on_both_sides(tls, tmp_path):
    server, _ = tls
    out = tmp_path / "ward"
    server.cli("device", "add", "ward-1", "--kind", "gateway", "--host", "ward.example.org", "--host", "10.1.2.3", "--out", out)
    server.cli("device", "add", "bed-3", "--gateway", "ward-1", "--out", out)
    cert = x509.load_pem_x509_certificate((out / "ward-1.crt").read_bytes())
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:chordae:gateway:ward-1"]
    assert san.get_values_for_type(x509.DNSName) == ["ward.example.org"]
    assert [str(ip) for ip in san.get_values_for_type(x509.IPAddress)] == ["10.1.2.3"]
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {u._name for u in usage} == {"clientAuth", "serverAuth"}
    again = tmp_path / "again"
    server.cli("device", "renew", "ward-1", "--out", again)
    renewed = x509.load_pem_x509_certificate((again / "ward-1.crt").read_bytes())
    assert renewed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == san
    lines = {d["id"]: d for d in json.loads(server.cli("device", "list", "--json").stdout)}
    assert lines["bed-3"]["gateway"] == "ward-1"
    assert "gateway" in server.cli("device", "add", "x", "--gateway", BED, "--out", out, ok=(1,)).stderr
    assert "gateway" in server.cli("device", "renew", BED, "--host", "a.b", "--out", again, ok=(1,)).stderr


# ---- operators over HTTP

class Signer:
    """Makes request tokens from the written format alone."""

    def __init__(self, key, origin):
        first = re.search(rb"-----BEGIN.*?-----END[^\n]*", key.read_bytes(), re.S)[0]
        self.key, self.origin = serialization.load_pem_private_key(first, None), origin
        raw = self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.kid = hashlib.sha256(raw).hexdigest()

    def token(self, method, target, body=None, **claims):
        now = int(time.time())
        head = {"alg": "EdDSA", "typ": "chordae-request+jwt", "kid": self.kid}
        all_claims = {"aud": self.origin, "htm": method, "target": target, "iat": now, "exp": now + 60, "jti": secrets.token_hex(16)}
        if body is not None:
            all_claims["body"] = hashlib.sha256(body).hexdigest()
        all_claims |= claims
        signed = b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (head, all_claims))
        return (signed + b"." + base64.urlsafe_b64encode(self.key.sign(signed)).rstrip(b"=")).decode()


def send(server, method, target, token=None, body=None):
    door = http.client.HTTPConnection(urllib.parse.urlsplit(server.http).netloc, timeout=60)
    try:
        headers = {"Authorization": f"Chordae {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        door.request(method, target, body=body, headers=headers)
        answer = door.getresponse()
        head = {k.lower(): v for k, v in answer.getheaders() if k.lower() != "date"}
        return answer.status, head, answer.read()
    finally:
        door.close()


@pytest.fixture
def office(bed, tmp_path):
    """A server, and signers: an operator, a second one, a patient, a requester, nobody."""
    origin = json.loads(trust(bed, tmp_path).read_text())["origin"]
    keys = {name: party(bed, tmp_path, name, role) for name, role in
            (("olga", "operator"), ("otto", "operator"), ("ann", "patient"), ("roe", "requester"))}
    run("key", "new", "--role", "operator", "--out", tmp_path / "nobody.pem")
    keys["nobody"] = tmp_path / "nobody.pem"
    return bed, keys, {name: Signer(key, origin) for name, key in keys.items()}


def devices(server):
    return {d["id"] for d in json.loads(server.cli("device", "list", "--json").stdout)}


def deeds(server):
    """The trail as the files have it: (kid, format, outcome, did) of each record."""
    records = [cbor2.loads(raw) for raw in checker.journal(server.folder / "trail")]
    return [(r["kid"].hex(), r["format"], r["outcome"], r["did"]) for r in records]


def test_operators_work_over_http_and_each_refusal_stands_beside_the_allowed_form(office):
    server, _, who = office
    target, olga = "/v1/admin/devices", who["olga"]

    def add(name):
        return json.dumps({"id": name, "kind": "device"}).encode()

    body = add("bed-20")
    used = olga.token("POST", target, body)
    status, head, made = send(server, "POST", target, used, body)
    assert status == 200 and head["cache-control"] == "no-store" and "BEGIN CERTIFICATE" in json.loads(made)["cert"]
    assert "bed-20" in devices(server)
    status, _, listed = send(server, "GET", target, olga.token("GET", target))
    assert status == 200 and {d["id"] for d in json.loads(listed)} == devices(server)

    before = devices(server)
    body, now = add("bed-21"), int(time.time())
    sid = secrets.token_hex(32)
    refusals = {
        "no token": None,
        "replayed": used,
        "no body claim": olga.token("POST", target),
        "another body": olga.token("POST", target, add("bed-22")),
        "another method": olga.token("GET", target, body),
        "another target": olga.token("POST", target + "?x", body),
        "another server": olga.token("POST", target, body, aud="elsewhere"),
        "expired": olga.token("POST", target, body, iat=now - 120, exp=now - 60),
        "unknown key": who["nobody"].token("POST", target, body),
        "forged": olga.token("POST", target, body)[:-8] + "AAAAAAAA",
        "bearer of nothing": "x",
    }
    answers = {why: send(server, "POST", target, token, body) for why, token in refusals.items()}
    for why, (status, head, text) in answers.items():
        assert status == 401 and head["content-type"] == "application/problem+json", why
        assert (head, text) == answers["no token"][1:], f"{why} looks different"
    for why, token in {
        "patient": who["ann"].token("POST", target, body), "requester": who["roe"].token("POST", target, body),
        "on a session": olga.token("POST", target, body, sid=sid),
    }.items():
        status, _, text = send(server, "POST", target, token, body)
        assert (status, json.loads(text)["type"]) == (403, "urn:chordae:problem:operator"), why
    status, *_ = send(server, "GET", target, olga.token("GET", target, b""))
    assert status == 401, "a claim on a body that is not looked at"
    assert send(server, "POST", target, olga.token("POST", target, b"x" * 70_000), b"x" * 70_000)[0] == 413
    assert devices(server) == before, "a refused request changed something"
    # The same, allowed.
    assert send(server, "POST", target, olga.token("POST", target, body), body)[0] == 200

    # Disabled by another operator, and enabled again.
    off = f"/v1/admin/parties/{olga.kid}"
    for how, status in (("disable", 401), ("enable", 200)):
        done = send(server, "POST", f"{off}/{how}", who["otto"].token("POST", f"{off}/{how}", b"{}"), b"{}")
        assert done[0] == 200
        answer = send(server, "GET", target, olga.token("GET", target))
        assert answer[0] == status
        if status == 401:
            assert answer[1:] == answers["no token"][1:]
    # A token is used up across a restart, too.
    token = olga.token("GET", target)
    assert send(server, "GET", target, token)[0] == 200
    server.stop()
    server.start()
    assert send(server, "GET", target, token)[0] == 401
    assert send(server, "GET", target, olga.token("GET", target))[0] == 200


def test_every_change_over_http_is_in_the_trail_before_it_is_made(office):
    server, _, who = office
    olga = who["olga"]

    def post(target, body):
        body = json.dumps(body).encode()
        return send(server, "POST", target, olga.token("POST", target, body), body)

    assert post("/v1/admin/devices", {"id": "bed-20", "kind": "device"})[0] == 200
    assert post("/v1/admin/devices", {"id": "bed-20", "kind": "device"})[0] == 403
    assert post("/v1/admin/devices/bed-20/disable", {})[0] == 200
    assert post("/v1/admin/commands", {"device": BED, "command": {"do": "stop"}})[0] == 200
    status, _, line = post("/v1/admin/streams/assign", {"stream": f"{BED}/ecg", "patient": who["ann"].kid, "at_ns": None})
    assert status == 200
    did = json.loads(line)["did"]
    assert send(server, "GET", "/v1/admin/status", olga.token("GET", "/v1/admin/status"))[0] == 200
    assert send(server, "GET", "/v1/admin/status", who["roe"].token("GET", "/v1/admin/status"))[0] == 403
    by = next(c["by"] for c in commands(server))
    assert by == olga.kid, "the list of commands says who gave it"
    server.stop()
    o, r = olga.kid, who["roe"].kid
    assert [(kid, what, outcome) for kid, what, outcome, _ in deeds(server)] == [
        (o, "POST /v1/admin/devices bed-20", "asked"), (o, "POST /v1/admin/devices bed-20", "done"),
        (o, "POST /v1/admin/devices bed-20", "asked"), (o, "POST /v1/admin/devices bed-20", "refused"),
        (o, "POST /v1/admin/devices/bed-20/disable", "asked"), (o, "POST /v1/admin/devices/bed-20/disable", "done"),
        (o, f"POST /v1/admin/commands {BED} stop", "asked"), (o, f"POST /v1/admin/commands {BED} stop", "done"),
        (o, f"POST /v1/admin/streams/assign {BED}/ecg", "asked"), (o, f"POST /v1/admin/streams/assign {BED}/ecg", "done"),
        (o, "GET /v1/admin/status", "answered"), (r, "GET /v1/admin/status", "operator"),
    ]
    assert [d for *_, d in deeds(server) if d is not None] == [bytes.fromhex(did.replace("-", ""))]
    server.start()
    # The patient reads who gave her stream to her.
    target = f"/v1/trail?did={did}"
    status, _, text = send(server, "GET", target, who["ann"].token("GET", target))
    assert status == 200
    assert [(x["name"], x["outcome"]) for x in json.loads(text)["records"]][:1] == [("olga", "done")]


def test_the_command_line_works_the_same_from_afar(office, tmp_path):
    server, keys, _ = office
    there = ("--url", server.http, "--key", keys["olga"], "--trust", tmp_path / "trust.json")
    here = server.cli("device", "list").stdout
    assert run("device", "list", *there).stdout == here and BED in here
    run("device", "add", "bed-30", *there, "--out", tmp_path / "far")
    assert (tmp_path / "far/bed-30.key").stat().st_mode & 0o077 == 0
    with Device(server, answer=yes):
        assert "bed-1 did it" in run("device", "command", BED, '{"do":"identify"}', "--wait", "20s", *there).stdout
    assert "replied ok" in run("device", "commands", BED, *there).stdout
    for words in (("party", "list"), ("stream", "list"), ("status",)):
        assert run(*words, *there).stdout.strip()
    as_ann = (*there[:3], keys["ann"], *there[4:])
    assert "operator" in run("device", "list", *as_ann, ok=(1,)).stderr
    nobody = (*there[:3], keys["nobody"], *there[4:])
    assert run("device", "list", *nobody, ok=(1,)).stderr.count("\n") == 1
    run("device", "list", "--url", server.http, ok=(2,))
    run("device", "list", ok=(2,))
    run("device", "list", "--data", server.folder, *there, ok=(1,))


@pytest.mark.parametrize("words", [
    ("device", "add"), ("device", "list"), ("device", "enable"), ("device", "disable"), ("device", "revoke"), ("device", "renew"),
    ("device", "command"), ("device", "commands"), ("party", "add"), ("party", "list"), ("party", "enable"),
    ("party", "disable"), ("stream", "list"), ("stream", "assign"), ("stream", "profile"), ("session", "list"), ("token",),
])
def test_help_has_an_example(words):
    text = run(*words, "--help").stdout
    assert re.search(r"Examples?:\s+(chordae|curl)", text), text
