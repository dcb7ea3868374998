"""Who may read what, over HTTP: each refusal beside the same request in its allowed form."""

import base64
import hashlib
import hmac
import http.client
import http.server
import json
import subprocess
import threading
import time
import types
import urllib.parse
import uuid

import blake3
import cbor2
import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import checker
from conftest import SIM, Server, grant, party, run, sim, trust, wait_until

ORDER = (1 << 252) + 27742317777372353535851937790883648493  # of the group that Ed25519 signs in


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Two beds with a minute of two patients each, sealed and anchored, and those who want to read them."""
    base = tmp_path_factory.mktemp("ward")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server)
    with server:
        w.ann, w.ben = party(server, base, "ann", "patient"), party(server, base, "ben", "patient")
        w.roe, w.poe = party(server, base, "roe", "requester"), party(server, base, "poe", "requester")
        for bed, patient in (("bed-1", w.ann), ("bed-2", w.ben)):
            server.cli("device", "add", bed, "--out", base / "certs")
            server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{patient}.pub")
            sim(server, "--device", bed, "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20",
                "--for", "60s")
    w.trust = trust(server, base)
    w.origin = json.loads(w.trust.read_text())["origin"]
    with server:
        w.did, w.other = server.did("bed-1/ecg"), server.did("bed-2/ecg")
        w.unknown = str(uuid.uuid4())
        w.chain, w.leads, w.rows = stored(server, w.did)
        assert len(w.rows) == 6000 and w.leads == ["I", "II"]
        yield w


def stored(server, did):
    """Links, lead names and rows (time first) of a stream, as the files have them."""
    chain = checker.links(server.folder)[did]
    chunks = [checker.Chunk(server.folder / checker.object_name(did, link.index)) for link in chain]
    rows = np.concatenate([np.stack([c.times, *c.codes], axis=1) for c in chunks])
    return chain, [lead["name"] for lead in chunks[0].meta["leads"]], rows[np.argsort(rows[:, 0], kind="stable")]


# ---- requests

def send(w, target, token=None, method="GET", body=None):
    door = http.client.HTTPConnection(urllib.parse.urlsplit(w.server.http).netloc, timeout=60)
    try:
        headers = {"Authorization": f"Chordae {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/cbor"
        door.request(method, target, body=body, headers=headers)
        answer = door.getresponse()
        head = {k.lower(): v for k, v in answer.getheaders() if k.lower() != "date"}
        return types.SimpleNamespace(status=answer.status, head=head, body=answer.read())
    finally:
        door.close()


def token(w, key, target, sid=None, method="GET"):
    args = ["--session", sid] if sid else []
    return run("token", "--key", key, "--trust", w.trust, "--method", method, "--url", w.server.http + target,
               *args).stdout.strip()


def get(w, key, target, sid=None):
    return send(w, target, token(w, key, target, sid))


def window(did, a, b, more="&format=csv"):
    return f"/v1/streams/{did}/window?from={a}&until={b}{more}"


def rows_of(answer):
    """The rows of an answered window; at least one."""
    assert answer.status == 200 and answer.head["content-type"].startswith("text/csv"), answer
    lines = answer.body.decode().splitlines()
    assert lines[0].startswith("time_ns,") and len(lines) > 1
    return np.array([[int(v) for v in line.split(",")] for line in lines[1:]])


def refused(answer, status, code):
    """A refusal of this kind, with nothing of the data in it; its problem."""
    assert answer.status == status, (answer.status, answer.body[:300])
    assert answer.head["content-type"] == "application/problem+json"
    assert not {"chordae-coverage", "chordae-integrity", "chordae-window", "link"} & set(answer.head)
    assert b"time_ns" not in answer.body and b"PAR1" not in answer.body and b"ARROW" not in answer.body
    problem = json.loads(answer.body)
    assert set(problem) <= {"type", "title", "status", "detail", "allowed"} and len(answer.body) < 1000
    assert (problem["type"], problem["status"]) == (f"urn:chordae:problem:{code}", status)
    return problem


def same(*answers):
    """All of them equal, byte for byte, headers too."""
    first = answers[0]
    for other in answers[1:]:
        assert (other.status, other.head, other.body) == (first.status, first.head, first.body)
    return first


# ---- the window

def test_h08_one_nanosecond_outside_the_grant_at_either_end(ward):
    w = ward
    a, b = int(w.rows[1000, 0]), int(w.rows[3000, 0])
    sid = grant(w.server, w.ann, w.roe, w.did, "--from", a, "--until", b, "--exact")
    rows = rows_of(get(w, w.roe, window(w.did, a, b), sid))
    assert np.array_equal(rows, w.rows[1000:3000])
    for x, y in ((a - 1, b), (a, b + 1), (a - 1, b + 1), (a - 1, a), (b, b + 1), (0, 1 << 62)):
        for more in ("&format=csv", "", "&format=csv&snap=page"):
            problem = refused(get(w, w.roe, window(w.did, x, y, more), sid), 403, "window")
            assert problem["allowed"] == [{"from_ns": a, "until_ns": b, "leads": None}]
        refused(get(w, w.roe, f"/v1/streams/{w.did}/proof?from={x}&until={y}", sid), 403, "window")
        refused(get(w, w.roe, f"/v1/streams/{w.did}/chunks?from={x}&until={y}", sid), 403, "window")
    for kind in ("proof", "chunks"):
        assert get(w, w.roe, f"/v1/streams/{w.did}/{kind}?from={a}&until={b}", sid).status == 200
    # Widening to pages and clipping stay inside.
    for target in (window(w.did, a, b, "&format=csv&snap=page"), window(w.did, 0, 1 << 62, "&format=csv&clip=true"),
                   window(w.did, a - 1, b + 1, "&format=csv&clip=true&snap=page")):
        assert np.array_equal(rows_of(get(w, w.roe, target, sid)), w.rows[1000:3000])


def test_a_whole_chunk_needs_a_grant_of_all_of_it(ward):
    w = ward
    link = w.chain[2]
    target = f"/v1/streams/{w.did}/chunks/{link.index}"

    def asked(first, end, *more):
        return get(w, w.roe, target, grant(w.server, w.ann, w.roe, w.did, "--from", first, "--until", end,
                                           "--exact", *more))

    answer = asked(link.first, link.end)
    assert answer.status == 200 and blake3.blake3(answer.body).digest() == link.file_root
    refused(asked(link.first + 1, link.end), 403, "window")
    refused(asked(link.first, link.end - 1), 403, "window")
    refused(asked(link.first, link.end, "--leads", "I"), 403, "window")
    # Beside it: the chunks before and after are not granted.
    sid = grant(w.server, w.ann, w.roe, w.did, "--from", link.first, "--until", link.end, "--exact")
    for index in (link.index - 1, link.index + 1):
        refused(get(w, w.roe, f"/v1/streams/{w.did}/chunks/{index}", sid), 403, "window")


def test_a_lead_that_is_not_granted(ward):
    w = ward
    a, b = int(w.rows[0, 0]), int(w.rows[200, 0])
    sid = grant(w.server, w.ann, w.roe, w.did, "--leads", "I")
    rows = rows_of(get(w, w.roe, window(w.did, a, b, "&format=csv&leads=I"), sid))
    assert np.array_equal(rows, w.rows[:200, :2])
    for leads in ("&leads=II", "&leads=I,II", ""):
        refused(get(w, w.roe, window(w.did, a, b, f"&format=csv{leads}"), sid), 403, "window")
        refused(get(w, w.roe, f"/v1/streams/{w.did}/proof?from={a}&until={b}{leads}", sid), 403, "window")
    clipped = get(w, w.roe, window(w.did, a, b, "&format=csv&clip=true"), sid)
    assert np.array_equal(rows_of(clipped), w.rows[:200, :2])


# ---- whose

def everywhere(did):
    return [window(did, 0, 1 << 62), window(did, 0, 1 << 62, ""), window(did, 0, 1 << 62, "&format=csv&clip=true"),
            f"/v1/streams/{did}/proof?from=0&until={1 << 62}", f"/v1/streams/{did}/chunks?from=0&until={1 << 62}",
            f"/v1/streams/{did}/chunks/0"]


def test_h11_another_patients_stream_looks_like_one_that_does_not_exist(ward):
    w = ward
    hers = grant(w.server, w.ann, w.roe, w.did)
    his = grant(w.server, w.ben, w.roe, w.other)
    for mine, forbidden, unknown in zip(everywhere(w.did), everywhere(w.other), everywhere(w.unknown)):
        assert get(w, w.roe, mine, hers).status == 200
        assert get(w, w.roe, forbidden, his).status == 200
        refused(same(get(w, w.roe, forbidden, hers), get(w, w.roe, unknown, hers)), 404, "stream")
        # The patients themselves, without a session.
        assert get(w, w.ben, forbidden).status == 200
        refused(same(get(w, w.ann, forbidden), get(w, w.ann, unknown)), 404, "stream")
        # A requester has nothing of her own.
        refused(same(get(w, w.roe, mine), get(w, w.roe, unknown)), 404, "stream")
    listed = [s["did"] for s in json.loads(get(w, w.roe, "/v1/streams", hers).body)["streams"]]
    assert listed == [w.did]


def test_h06_a_session_that_is_made_out_to_somebody_else(ward):
    w = ward
    sid = grant(w.server, w.ann, w.roe, w.did)
    target = window(w.did, 0, 1 << 62)
    assert len(rows_of(get(w, w.roe, target, sid))) == 6000
    nobodys = hashlib.sha256(b"no session").hexdigest()
    refused(same(get(w, w.poe, target, sid), get(w, w.poe, target, nobodys)), 403, "session")
    refused(same(get(w, w.ben, target, sid), get(w, w.ben, target, nobodys)), 403, "session")


def test_an_expired_session(ward):
    w = ward
    target, expires = window(w.did, 0, 1 << 62), time.time_ns() + 8 * 10**9
    sid = grant(w.server, w.ann, w.roe, w.did, "--expires", expires)
    answer = get(w, w.roe, target, sid)
    assert time.time_ns() < expires, "this machine is too slow for the control"
    assert len(rows_of(answer)) == 6000
    time.sleep(max(0, expires - time.time_ns()) / 1e9 + 0.1)
    refused(get(w, w.roe, target, sid), 403, "session")


def test_a_grant_by_somebody_who_is_not_the_streams_patient(ward):
    w = ward

    def granted(key, did, code):
        return w.server.cli("session", "grant", "--key", key, "--to", f"{w.roe}.pub", "--stream", did, ok=(code,))

    assert len(granted(w.ann, w.did, 0).stdout.split()[-1]) == 64
    before = json.loads(w.server.cli("session", "list", "--json").stdout)
    forbidden, unknown = granted(w.ben, w.did, 1), granted(w.ben, w.unknown, 1)
    assert forbidden.stderr == unknown.stderr and "not the signer's" in forbidden.stderr
    assert granted(w.roe, w.did, 1).stderr.strip()  # a requester signs no grants
    # Her session, signed again by him: he would be the signer of a grant of her stream.
    body, sid = recorded_grant(w)
    entry, (claimed, sections) = cbor2.loads(body)
    assert claimed.hex() == sid

    def post(entry, claimed, sections):
        return send(w, "/v1/sessions", method="POST", body=cbor2.dumps([entry, [claimed, sections]], canonical=True))

    protected, unprotected, payload, _ = cbor2.loads(entry).value

    def signed_by(key):
        secret = signing_key(key)
        kid = hashlib.sha256(public(secret)).digest()
        head = cbor2.dumps({**cbor2.loads(protected), 4: kid}, canonical=True)
        signature = secret.sign(cbor2.dumps(["Signature1", head, b"", payload]))
        made = cbor2.dumps(cbor2.CBORTag(18, [head, unprotected, payload, signature]), canonical=True)
        return made, hashlib.sha256(b"\0" + made).digest()

    assert signed_by(w.ann)[0] == entry  # the control: this is how a session is signed
    assert post(entry, None, sections).status == 201 and post(entry, claimed, sections).status == 201
    his, made = signed_by(w.ben)
    for name in (None, made):
        problem = refused(post(his, name, sections), 400, "bad-request")
        assert "names another patient than the signer" in problem["detail"]
    assert "of another session" in refused(post(his, claimed, sections), 400, "bad-request")["detail"]
    refused(post(signed_by(w.roe)[0], None, sections), 403, "signer")
    refused(post(entry[:-1] + bytes([entry[-1] ^ 1]), None, sections), 403, "signer")
    # Nor what another session of hers allows, under the signature of this one.
    _, wider = cbor2.loads(recorded_grant(w, "--purpose", "another")[0])[1]
    problem = refused(post(entry, None, wider), 400, "bad-request")
    assert "not the ones that the event signs" in problem["detail"]
    # Nothing of all this can be read with, hers still can.
    target = window(w.did, 0, 1 << 62)
    refused(get(w, w.roe, target, made.hex()), 403, "session")
    assert len(rows_of(get(w, w.roe, target, sid))) == 6000
    assert len(json.loads(w.server.cli("session", "list", "--json").stdout)) == len(before) + 2  # hers, and the other purpose


def test_the_readers_door_has_no_operators_routes(ward):
    w = ward
    for target in ("streams", "parties", "sessions", "devices", "status"):
        for text in (None, token(w, w.roe, f"/v1/admin/{target}"), token(w, w.ann, f"/v1/admin/{target}")):
            answer = send(w, f"/v1/admin/{target}", text)
            assert answer.status in (401, 403, 404) and answer.head["content-type"] == "application/problem+json"
            assert w.did.encode() not in answer.body and b"bed-1" not in answer.body
    assert w.did in w.server.cli("stream", "list", "--json").stdout


# ---- revoked

class Recorder(http.server.BaseHTTPRequestHandler):
    """Passes a POST on, and keeps its body."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        answer = send(self.server.ward, self.path, method="POST", body=body)
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_):
        pass


def recorded_grant(w, *args):
    """A grant by ann to roe, as it went over the wire: its body and its id."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as proxy:
        proxy.ward, proxy.bodies = w, []
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            out = run("session", "grant", "--key", w.ann, "--to", f"{w.roe}.pub", "--stream", w.did, "--trust", w.trust,
                      "--url", f"http://127.0.0.1:{proxy.server_port}", *args)
        finally:
            proxy.shutdown()
    [body] = proxy.bodies
    return body, out.stdout.split()[-1]


def test_h07_revoked_stays_revoked(ward):
    w = ward
    body, sid = recorded_grant(w)
    target = window(w.did, 0, 1 << 62)
    again = send(w, "/v1/sessions", method="POST", body=body)
    assert again.status == 201 and json.loads(again.body)["sid"] == sid  # the control: it is a good body
    assert len(rows_of(get(w, w.roe, target, sid))) == 6000
    # Not by somebody else.
    done = w.server.cli("session", "revoke", "--key", w.ben, "--session", sid, ok=(1,))
    assert done.stderr.strip() and get(w, w.roe, target, sid).status == 200
    unused = token(w, w.roe, target, sid)
    w.server.cli("session", "revoke", "--key", w.ann, "--session", sid)
    refused(send(w, target, unused), 403, "session")  # a token from before does not help
    for _ in range(2):
        refused(send(w, "/v1/sessions", method="POST", body=body), 409, "revoked")
        for forbidden in everywhere(w.did):
            refused(get(w, w.roe, forbidden, sid), 403, "session")
    assert sid not in w.server.cli("session", "list", "--json").stdout


# ---- tokens

def signing_key(path):
    """The first block of a key file; the second one seals."""
    return load_pem_private_key(b"-----BEGIN" + path.read_bytes().split(b"-----BEGIN")[1], None)


def public(secret):
    return secret.public_key().public_bytes_raw()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(w, key, target, sid, header=(), claims=(), sign=None):
    """A token by hand; with nothing changed it is a good one."""
    secret, now = signing_key(key), int(time.time())
    head = {"alg": "EdDSA", "typ": "chordae-request+jwt", "kid": hashlib.sha256(public(secret)).hexdigest()}
    said = {"aud": w.origin, "sid": sid, "htm": "GET", "target": target, "iat": now, "exp": now + 60,
            "jti": uuid.uuid4().hex}
    text = ".".join(b64(json.dumps({**part, **dict(change)}).encode()) for part, change in ((head, header),
                                                                                            (said, claims)))
    return f"{text}.{b64((sign or secret.sign)(text.encode()))}"


def test_h05_only_a_fresh_token_of_a_known_key_for_this_request(ward):
    w = ward
    sid, target = grant(w.server, w.ann, w.roe, w.did), window(w.did, 0, 1 << 62)
    roe, now = signing_key(w.roe), int(time.time())
    kid = hashlib.sha256(public(roe)).hexdigest()
    stranger = w.base / "stranger.pem"
    run("key", "new", "--role", "requester", "--out", stranger)

    def good(**change):
        answer = send(w, target, jwt(w, w.roe, target, sid, **change))
        assert len(rows_of(answer)) == 6000

    def added_order(text):
        s = roe.sign(text)
        return s[:32] + (int.from_bytes(s[32:], "little") + ORDER).to_bytes(32, "little")

    def flipped(text):
        s = roe.sign(text)
        return s[:-1] + bytes([s[-1] ^ 1])

    def by_hmac(text):
        return hmac.digest(public(roe), text, "sha256")

    good()
    assert len(rows_of(get(w, w.roe, target, sid))) == 6000
    once = token(w, w.roe, target, sid)
    assert len(rows_of(send(w, target, once))) == 6000
    mine = jwt(w, w.roe, target, sid)
    elsewhere = window(w.other, 0, 1 << 62)
    bad = {
        "none at all": None,
        "no token": "x",
        "replayed": once,
        "signed by an unknown key": jwt(w, stranger, target, sid),
        "signed by another key in roe's name": jwt(w, w.roe, target, sid, sign=signing_key(w.poe).sign),
        "roe's signature in poe's name": jwt(w, w.poe, target, sid, sign=roe.sign),
        "signature flipped": jwt(w, w.roe, target, sid, sign=flipped),
        "signature not canonical": jwt(w, w.roe, target, sid, sign=added_order),
        "no signature": mine.rpartition(".")[0] + ".",
        "alg none": jwt(w, w.roe, target, sid, header={"alg": "none"}, sign=lambda _: b""),
        "alg none, signed": jwt(w, w.roe, target, sid, header={"alg": "none"}),
        "HS256 with the public key": jwt(w, w.roe, target, sid, header={"alg": "HS256"}, sign=by_hmac),
        "that, called EdDSA": jwt(w, w.roe, target, sid, sign=by_hmac),
        "another typ": jwt(w, w.roe, target, sid, header={"typ": "JWT"}),
        "a key of its own": jwt(w, stranger, target, sid, header={
            "kid": kid, "jwk": {"kty": "OKP", "crv": "Ed25519", "x": b64(public(signing_key(stranger)))}}),
        "expired": jwt(w, w.roe, target, sid, claims={"iat": now - 120, "exp": now - 1}),
        "expired long ago": jwt(w, w.roe, target, sid, claims={"iat": now - 86400, "exp": now - 86300}),
        "lives too long": jwt(w, w.roe, target, sid, claims={"iat": now, "exp": now + 301}),
        "from the future": jwt(w, w.roe, target, sid, claims={"iat": now + 240, "exp": now + 300}),
        "for another stream": jwt(w, w.roe, elsewhere, sid),
        "for a part of the query": jwt(w, w.roe, target.partition("&")[0], sid),
        "for the path alone": jwt(w, w.roe, target.partition("?")[0], sid),
        "for the same in other letters": jwt(w, w.roe, target.replace("csv", "%63sv"), sid),
        "for another method": jwt(w, w.roe, target, sid, claims={"htm": "POST"}),
        "for another node": jwt(w, w.roe, target, sid, claims={"aud": w.origin + "0"}),
        "without an id": jwt(w, w.roe, target, sid, claims={"jti": ""}),
        "session is no session": jwt(w, w.roe, target, sid, claims={"sid": "0"}),
        "a claim too many": jwt(w, w.roe, target, sid, claims={"admin": True}),
    }
    answers = {what: send(w, target, text) for what, text in bad.items()}
    print({what: answer.status for what, answer in answers.items()})
    assert all(answer.status == 401 for answer in answers.values())
    refused(same(*answers.values()), 401, "token")
    # A refused token tells nothing of streams either, and does not use up a good one with its id.
    refused(same(send(w, elsewhere, mine), send(w, window(w.unknown, 0, 1), mine), answers["replayed"]), 401, "token")
    assert len(rows_of(send(w, target, mine))) == 6000
    refused(send(w, target, mine), 401, "token")
    # At the edge of what is allowed.
    good(claims={"iat": now, "exp": now + 300})
    good(claims={"iat": now + 30, "exp": now + 60})


def test_h07_a_token_is_good_once_also_across_a_restart_and_revoked_survives_it(ward):
    w = ward
    body, revoked = recorded_grant(w)
    w.server.cli("session", "revoke", "--key", w.ann, "--session", revoked)
    sid, target = grant(w.server, w.ann, w.roe, w.did), window(w.did, 0, 1 << 62)
    elsewhere = window(w.other, 0, 1)
    for stop in (w.server.stop, w.server.kill9):
        used, unused, misused = (token(w, w.roe, t, sid) for t in (target, target, elsewhere))
        assert len(rows_of(send(w, target, used))) == 6000
        refused(send(w, elsewhere, misused), 404, "stream")
        stop()
        w.server.start()
        refused(same(send(w, target, used), send(w, elsewhere, misused)), 401, "token")
        refused(send(w, "/v1/sessions", method="POST", body=body), 409, "revoked")
        refused(get(w, w.roe, target, revoked), 403, "session")
        assert len(rows_of(send(w, target, unused))) == 6000


# ---- the trail

def trail(w, patient, did):
    return json.loads(get(w, patient, f"/v1/trail?did={did}").body)["records"]


def test_the_patient_sees_who_asked_and_what_became_of_it(ward):
    w = ward
    a, b = int(w.rows[1000, 0]), int(w.rows[2000, 0])
    sid = grant(w.server, w.ann, w.roe, w.did, "--from", a, "--until", b, "--exact")
    asked = {"answered": (window(w.did, a, b), 200), "exceeds": (window(w.did, a, b + 1), 403),
             "hidden": (window(w.other, a, b), 404)}
    tokens = {}
    for what, (target, status) in asked.items():
        tokens[what] = token(w, w.roe, target, sid)
        assert send(w, target, tokens[what]).status == status
    jti = {what: json.loads(base64.urlsafe_b64decode(t.split(".")[1] + "=="))["jti"] for what, t in tokens.items()}

    def about(patient, did, what):
        return [r for r in trail(w, patient, did) if r["jti"] == jti[what]]

    wait_until(lambda: len(about(w.ann, w.did, "answered")) == 2)  # the second when the last row has gone out
    first, last = about(w.ann, w.did, "answered")
    [exceeds] = about(w.ann, w.did, "exceeds")
    [hidden] = about(w.ben, w.other, "hidden")
    roe = hashlib.sha256(public(signing_key(w.roe))).hexdigest()
    for record in (first, last, exceeds, hidden):
        assert (record["name"], record["kid"], record["sid"]) == ("roe", roe, sid)
    assert (first["outcome"], first["rows"]) == ("answered", None)
    assert (last["outcome"], last["rows"]) == ("complete", 1000)
    assert (exceeds["outcome"], exceeds["rows"], exceeds["until_ns"]) == ("window", None, b + 1)
    assert (hidden["outcome"], hidden["rows"]) == ("stream", None)
    assert (first["from_ns"], first["until_ns"], first["did"]) == (a, b, w.did)
    # To nobody else.
    of = f"/v1/trail?did={w.did}"
    nowhere = f"/v1/trail?did={w.unknown}"
    refused(same(get(w, w.ben, of), get(w, w.ben, nowhere), get(w, w.roe, of), get(w, w.roe, of, sid)), 404, "stream")
    assert get(w, w.ann, of).status == 200
    # And it is a chain, as is all the rest.
    w.server.stop()
    assert checker.check(w.server.folder, json.loads(w.trust.read_text()))["findings"] == []
    w.server.start()


# ---- a party, and a stream, that change hands

def test_a_requester_who_is_disabled(ward):
    w = ward
    doe = party(w.server, w.base, "doe", "requester")
    sid, target = grant(w.server, w.ann, doe, w.did), window(w.did, 0, 1 << 62)
    assert len(rows_of(get(w, doe, target, sid))) == 6000
    before = token(w, doe, target, sid)
    w.server.cli("party", "disable", hashlib.sha256(public(signing_key(doe))).hexdigest())
    nobody = send(w, target)
    refused(same(send(w, target, before), get(w, doe, target, sid), get(w, doe, "/v1/streams", sid), nobody), 401,
            "token")
    done = w.server.cli("session", "grant", "--key", w.ann, "--to", f"{doe}.pub", "--stream", w.did, ok=(1,))
    assert "not known here" in done.stderr
    assert len(rows_of(get(w, w.roe, target, grant(w.server, w.ann, w.roe, w.did)))) == 6000


def test_a_stream_that_goes_to_another_patient(ward):
    """While the device streams: a cut at one instant, and the old grant ends there."""
    w = ward
    w.server.cli("device", "add", "bed-3", "--out", w.base / "certs")
    w.server.cli("stream", "assign", "bed-3/ecg", "--patient", f"{w.ann}.pub")
    old = w.server.did("bed-3/ecg")
    sid, acked = grant(w.server, w.ann, w.roe, old), w.base / "acked"  # all of it, for ever
    device = subprocess.Popen(
        [str(SIM), "--url", w.server.mqtt, "--device", "bed-3", "--stream", "ecg", "--leads", "1", "--rate", "100",
         "--frame", "100ms", "--for", "8s", "--acked", str(acked)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: acked.exists() and acked.read_text().count("\n") >= 20)
    new = w.server.cli("stream", "assign", "bed-3/ecg", "--patient", f"{w.ben}.pub").stdout.split()[-1]
    out, _ = device.communicate(timeout=60)
    assert device.returncode == 0 and "(800 samples" in out, out
    w.server.stop()
    w.server.start()
    line = next(s for s in w.server.streams() if s["did"] == new)
    cut = line["from_ns"]
    assert new != old and line["stream"] == "bed-3/ecg"
    before, after = (rows_of(get(w, key, window(did, 0, 1 << 62)))[:, 0] for key, did in ((w.ann, old), (w.ben, new)))
    assert len(before) + len(after) == 800 and len(before) > 100 and len(after) > 100
    assert before.max() < cut <= after.min() and np.ptp(np.diff(np.concatenate([before, after]))) <= 1
    # The old grant: what was hers, nothing of his, on either did.
    assert np.array_equal(rows_of(get(w, w.roe, window(old, 0, 1 << 62), sid))[:, 0], before)
    header, *rows = get(w, w.roe, window(old, cut, 1 << 62), sid).body.decode().splitlines()
    assert header.startswith("time_ns,") and rows == []
    for forbidden, unknown in zip(everywhere(new), everywhere(w.unknown)):
        refused(same(get(w, w.roe, forbidden, sid), get(w, w.roe, unknown, sid)), 404, "stream")
        refused(same(get(w, w.ann, forbidden), get(w, w.ann, unknown)), 404, "stream")
    refused(get(w, w.ben, window(old, 0, 1 << 62)), 404, "stream")
    w.server.cli("session", "grant", "--key", w.ann, "--to", f"{w.roe}.pub", "--stream", new, ok=(1,))
    his = grant(w.server, w.ben, w.roe, new)
    assert np.array_equal(rows_of(get(w, w.roe, window(new, 0, 1 << 62), his))[:, 0], after)
