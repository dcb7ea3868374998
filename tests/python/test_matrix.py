"""Who may do what: 8 parties x the objects x every verb, each cell with the outcome it must have."""

import http.client
import json
import types
import urllib.parse
import uuid

import pytest

from conftest import Server, grant, party, run, sim, trust
from signing import Signer

VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]

# The whole of it. owner: Ann, whose stream it is. other: Ben, a patient too. session: Roe on a live session of Ann's.
# bare: Roe without one. revoked: Roe on one that Ann took back. operator. disabled: Poe, on a live session, but
# refused by the operator. unknown: a key that nobody registered.
# A verb that is not listed is 405 for everybody. POST and DELETE of sessions take events that the patient signs, no
# token: what is no event is refused, whoever sends it (the events themselves: test_access.py).
TABLE = """
object        verb    owner  other  session  bare  revoked  operator  disabled  unknown
streams       GET     200    200    200      404   403      200       401       401
window        GET     200    404    200      404   403      404       401       401
proof         GET     200    404    200      404   403      404       401       401
metadata      GET     200    404    200      404   403      404       401       401
aside         GET     200    404    200      404   403      404       401       401
chunks        GET     200    404    200      404   403      404       401       401
chunk         GET     200    404    200      404   403      404       401       401
live          GET     200    404    200      404   403      404       401       401
sessions      GET     200    200    200      200   200      200       401       401
sessions      POST    400    400    400      400   400      400       400       400
session       GET     200    404    200      200   200      404       401       401
session       DELETE  400    400    400      400   400      400       400       400
trail         GET     200    404    404      404   404      404       401       401
admin         GET     403    403    403      403   403      200       401       401
admin         POST    403    403    403      403   403      200       401       401
status        GET     403    403    403      403   403      200       401       401
"""
HEAD, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
PARTIES = HEAD[2:]
EXPECTED = {(row[0], row[1], who): int(cell) for row in ROWS for who, cell in zip(PARTIES, row[2:])}
OBJECTS = list(dict.fromkeys(row[0] for row in ROWS))
# Objects of one stream, which must not tell a forbidden one from one that does not exist.
OF_A_STREAM = ["window", "proof", "metadata", "aside", "chunks", "chunk", "live", "trail"]


def target(name, did, sid, a, b):
    stream = f"/v1/streams/{did}"
    return {
        "streams": "/v1/streams", "window": f"{stream}/window?from={a}&until={b}&format=csv",
        "proof": f"{stream}/proof?from={a}&until={b}", "metadata": f"{stream}/proof?from={a}&until={b}&pages=none",
        "aside": f"{stream}/aside?from={a}&until={b}",
        "chunks": f"{stream}/chunks?from={a}&until={b}", "chunk": f"{stream}/chunks/0", "live": f"{stream}/live",
        "sessions": "/v1/sessions", "session": f"/v1/sessions/{sid}", "trail": f"/v1/trail?did={did}",
        "admin": "/v1/admin/devices", "status": "/v1/admin/status",
    }[name]


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    base = tmp_path_factory.mktemp("matrix")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server, added=0)
    with server:
        ann, ben = party(server, base, "ann", "patient"), party(server, base, "ben", "patient")
        roe, poe = party(server, base, "roe", "requester"), party(server, base, "poe", "requester")
        op, nobody = party(server, base, "op", "operator"), base / "nobody.pem"
        run("key", "new", "--role", "requester", "--out", nobody)
        for bed, patient in (("bed-1", ann), ("bed-2", ben)):
            server.cli("device", "add", bed, "--out", base / "certs")
            server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{patient}.pub")
            sim(server, "--device", bed, "--leads", "2", "--rate", "100", "--speed", "20", "--for", "20s")
    origin = json.loads(trust(server, base).read_text())["origin"]
    with server:
        w.did, w.other = server.did("bed-1/ecg"), server.did("bed-2/ecg")
        w.sid, gone = grant(server, ann, roe, w.did), grant(server, ann, roe, w.did)
        poes = grant(server, ann, poe, w.did)
        server.cli("session", "revoke", "--key", ann, "--session", gone)
        server.cli("party", "disable", Signer(poe, origin).kid)
        who = {"owner": (ann, None), "other": (ben, None), "session": (roe, w.sid), "bare": (roe, None),
               "revoked": (roe, gone), "operator": (op, None), "disabled": (poe, poes), "unknown": (nobody, None)}
        w.parties = {name: (Signer(key, origin), sid) for name, (key, sid) in who.items()}
        links = ask(w, "owner", "GET", f"/v1/streams/{w.did}/chunks?from=0&until={1 << 62}")
        spans = [(link["first_ns"], link["end_ns"]) for link in json.loads(links.body)["links"]]
        w.span = min(a for a, _ in spans), max(b for _, b in spans)
        probe = ask(w, "owner", "GET", f"/v1/streams/{w.did}/live")
        w.live = not (probe.status == 404 and b"no-route" in probe.body)
        yield w


def ask(w, who, verb, path):
    """One signed request; of an answer that does not end only its beginning."""
    signer, sid = w.parties[who]
    body = b""
    if verb == "POST" and path.startswith("/v1/admin/"):
        w.added += 1
        body = json.dumps({"id": f"new-{w.added}", "kind": "device"}).encode()
    covered = body if path.startswith("/v1/admin/") and verb != "GET" else None
    headers = signer.header(path, verb, sid, covered)
    if body:
        headers["Content-Type"] = "application/json"
    door = http.client.HTTPConnection(urllib.parse.urlsplit(w.server.http).netloc, timeout=60)
    try:
        door.request(verb, path, body=body or None, headers=headers)
        answer = door.getresponse()
        head = {k.lower(): v for k, v in answer.getheaders() if k.lower() != "date"}
        endless = head.get("content-type", "").startswith("text/event-stream")
        return types.SimpleNamespace(status=answer.status, head=head, body=b"" if endless else answer.read())
    finally:
        door.close()


def test_every_cell_has_the_outcome_that_the_table_says(ward):
    w, wrong, allowed, denied = ward, [], 0, 0
    for name in OBJECTS:
        if name == "live" and not w.live:
            continue
        for verb in VERBS:
            for who in PARTIES:
                answer = ask(w, who, verb, target(name, w.did, w.sid, *w.span))
                expected = EXPECTED.get((name, verb, who), 405)
                if answer.status != expected:
                    wrong.append((name, verb, who, expected, answer.status, answer.body[:120]))
                if expected >= 400:
                    denied += 1
                    if b"time_ns" in answer.body or b"PAR1" in answer.body or answer.status < 400:
                        wrong.append((name, verb, who, "leaked", answer.status))
                else:
                    allowed += 1
    print(f"{allowed} allowed, {denied} denied")
    assert not wrong
    assert allowed >= 28 and denied >= 550


def test_what_is_forbidden_looks_like_what_does_not_exist(ward):
    w, compared = ward, 0
    for name in OF_A_STREAM:
        if name == "live" and not w.live:
            continue
        for who in PARTIES:
            unknown = ask(w, who, "GET", target(name, str(uuid.uuid4()), w.sid, *w.span))
            # Ben's stream is forbidden to all but him; Ann's to him and to who has no session.
            for did, mine in ((w.other, "other"), (w.did, None)):
                if who == mine or (mine is None and EXPECTED[name, "GET", who] == 200):
                    continue
                forbidden = ask(w, who, "GET", target(name, did, w.sid, *w.span))
                assert (forbidden.status, forbidden.head, forbidden.body) == (
                    unknown.status, unknown.head, unknown.body), (name, who)
                compared += 1
    assert compared >= 60


def test_lists_show_only_what_is_ones_own(ward):
    w = ward

    def dids(who):
        return {s["did"] for s in json.loads(ask(w, who, "GET", "/v1/streams").body)["streams"]}

    assert dids("owner") == dids("session") == {w.did} and dids("other") == {w.other}
    assert dids("operator") == {w.did, w.other}

    def sids(who):
        return [s["sid"] for s in json.loads(ask(w, who, "GET", "/v1/sessions").body)["sessions"]]

    assert w.sid in sids("owner") and len(sids("owner")) == 2
    assert sids("session") == [w.sid] and sids("other") == sids("operator") == []
