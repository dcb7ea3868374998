"""The client against a server that is a function: refusals by type, retries, and answers to other questions."""

from recorded import HERE, golden  # noqa: F401

import base64
import json
import time

import chordae
import httpx
import pytest

from chordae import (
    NO_VALUE,
    Allowed,
    BadInput,
    Busy,
    Client,
    Damaged,
    Keys,
    LiveEnded,
    NotFound,
    NotKnown,
    Refused,
    ServerError,
    TrustFile,
    Unreachable,
)
from chordae.keys import Ed25519PrivateKey

SID = "ab" * 32


class Node:
    """Answers as told, and remembers what it was asked."""

    def __init__(self, golden, session=SID):
        self.client = Client("http://localhost:1", Keys(Ed25519PrivateKey.generate()), golden.trust, session)
        self.asked, self.say = [], lambda request: httpx.Response(404)
        transport = httpx.MockTransport(self.answer)
        self.client._door._http = httpx.Client(transport=transport)

    def answer(self, request):
        self.asked.append(request)
        return self.say(request)

    def claims(self, n=-1):
        token = self.asked[n].headers["Authorization"].removeprefix("Chordae ")
        return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


@pytest.fixture
def node(golden, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda s: None)
    return Node(golden)


def problem(status, code, **more):
    return lambda request: httpx.Response(status, json={"type": f"urn:chordae:problem:{code}", "detail": "x", **more})


DID = "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e"


def test_refusals_have_types(node):
    for status, code, kind in ((400, "bad-request", ServerError), (401, "token", NotKnown), (403, "session", Refused),
                               (404, "stream", NotFound), (500, "damaged", ServerError)):  # fmt: skip
        node.say = problem(status, code)
        with pytest.raises(kind) as refused:
            node.client.pull(DID, 0, 10**10)
        assert type(refused.value) is kind and (refused.value.status, refused.value.code) == (status, code)
    node.say = problem(403, "window", allowed=[{"from_ns": 5, "until_ns": None, "leads": ["I"]}])
    with pytest.raises(Refused) as refused:
        node.client.pull(DID, 0, 10**10)
    assert refused.value.allowed == (Allowed(5, None, ("I",)),)
    node.say = lambda request: httpx.Response(502, text="<html>")
    with pytest.raises(ServerError):
        node.client.streams()


def test_a_listing_that_is_none_is_damaged(node):
    for body in (b"[]", b"{}", b'{"streams":7}', b'{"streams":[7]}', b"x", b"[" * 100_000):
        node.say = lambda request, body=body: httpx.Response(200, content=body)
        with pytest.raises(Damaged):
            node.client.streams()


def test_busy_is_tried_again_with_a_fresh_token_and_then_told(node):
    node.say = lambda request: httpx.Response(429, headers={"Retry-After": "1"}, json={"type": "a:busy"})
    with pytest.raises(Busy) as busy:
        node.client.streams()
    assert busy.value.retry_after_s == 1 and len(node.asked) == 4
    assert len({node.claims(n)["jti"] for n in range(4)}) == 4
    node.asked.clear()
    node.say = lambda request: httpx.Response(503, headers={"Retry-After": "3600"})
    with pytest.raises(Busy):
        node.client.streams()
    assert len(node.asked) == 1, "an hour is not waited for"


def test_the_target_that_is_signed_is_the_target_that_is_sent(node):
    for leads in (["I"], ["a,b", "x\\", "=1+2", "a&b", "%41", "a b", '"', "{"]):
        with pytest.raises(NotFound):
            node.client.pull(DID, 0, 10**10, leads=leads)
        claims = node.claims()
        assert claims["target"].encode() == node.asked[-1].url.raw_path and claims["sid"] == SID
        assert claims["htm"] == "GET" and 0 < claims["exp"] - claims["iat"] <= 300
        text = httpx.URL(node.asked[-1].url).params["leads"]
        assert text == ",".join(n.replace("\\", "\\\\").replace(",", "\\,") for n in leads)


def serve(golden, name, link=None, bundle=None):
    raw, text = golden.pair(name)
    did = json.loads(text)["did"]
    link = link or f'</v1/streams/{did}/proof?from=1&until=2>; rel="proof"'

    def say(request):
        if "/window" in request.url.path:
            return httpx.Response(200, content=raw, headers={"Link": link} if link != "none" else {})
        return httpx.Response(200, content=bundle or text)

    return did, json.loads(text), say


def test_the_answer_must_be_of_the_window_that_was_asked_for(node, golden):
    did, said, node.say = serve(golden, "all")
    a, b = said["from_ns"], said["until_ns"]
    assert len(node.client.pull(did, a, b)) == 750
    assert len(node.client.pull(did, a + 1, b - 1)) == 750, "widened to whole pages"
    for wrong in ((a - 1, b), (a, b + 1), (a + 10**10, b), (a, b - 10**10)):
        with pytest.raises(Damaged, match="window that was asked for"):
            node.client.pull(did, *wrong)
    with pytest.raises(Damaged, match="window that was asked for"):
        node.client.pull(did, a + 1, b - 1, snap=False)
    assert len(node.client.pull(did, a - 10**10, b + 10**10, clip=True)) == 750
    other = did[:-1] + ("0" if did[-1] != "0" else "1")
    with pytest.raises(Damaged):
        node.client.pull(other, a, b)


def test_the_proof_must_be_of_this_stream_on_this_server(node, golden):
    for link in ("none", '<https://elsewhere/v1/x>; rel="proof"', '</v1/streams>; rel="proof"', '</x>; rel="next"'):
        did, said, node.say = serve(golden, "all", link)
        node.asked.clear()
        with pytest.raises(Damaged, match="names no proof"):
            node.client.pull(did, said["from_ns"], said["until_ns"])
        assert len(node.asked) == 1, "nothing is asked, and no token given, elsewhere"


def test_parts_follow_each_other_and_stop_at_damage(node, golden):
    did, said, node.say = serve(golden, "all")
    a, b = said["from_ns"], said["until_ns"]
    assert [len(w) for w in node.client.parts(did, a, b, part_s=3600)] == [750]
    with pytest.raises(Damaged):
        list(node.client.parts(did, a, b, part_s=10))
    assert list(node.client.parts(did, a, a)) == []


def test_what_cannot_be_asked_for(golden, tmp_path):
    key = Keys(Ed25519PrivateKey.generate())
    for args in (("http://example.org",), ("https://h:1/x", key, golden.trust), ("ftp://localhost", key, golden.trust)):
        with pytest.raises(BadInput):
            Client(args[0], key, golden.trust)
    with pytest.raises(BadInput, match="authority"):
        Client("https://localhost:1", key, golden.trust)
    with pytest.raises(BadInput, match="origin"):
        Client("http://localhost:1", key)
    with pytest.raises(BadInput, match="session id"):
        Client("http://localhost:1", key, golden.trust, "SID")
    with pytest.raises(Unreachable):
        Client("http://127.0.0.1:1", key, golden.trust).streams()
    for bad in ("x", DID.upper(), "0" * 32):
        with pytest.raises(BadInput):
            Client("http://localhost:1", key, golden.trust).pull(bad, 0, 1)


def test_a_trust_file_is_read_strictly(golden):
    text = (HERE / "golden/trust.json").read_text()
    good = json.loads(text)
    assert TrustFile.parse(text) == golden.trust
    for change in (
        {"origin": "elsewhere"},
        {"policy": good["policy"].replace("quorum none", "")},
        {"policy": good["policy"].replace("quorum none", "witness w w+01234567+BAAA\nquorum w")},
        {"policy": "quorum none\n"},
        {"policy": good["policy"] + good["policy"]},
        {"providers": good["sequencers"]},
        {"more": 1},
        {"policy": None},
    ):
        with pytest.raises(BadInput):
            TrustFile.parse(json.dumps(good | change))
    with pytest.raises(BadInput):
        TrustFile.parse("{}")


def sse(*events):
    return b"".join(
        b"".join(f"{k}: {v if isinstance(v, str) else json.dumps(v)}\n".encode() for k, v in e.items()) + b"\n"
        for e in events
    )


BIRTH = {"boot": 7, "rate": [100, 1],
         "leads": [{"name": "I", "mdc": 0, "gain": 200.0, "baseline": 100, "unit": "mV", "bits": 16}]}  # fmt: skip
ROWS = {"integrity": "open", "boot": 7, "seq": 3, "lane": "live", "first_ns": 10**18, "after_ns": [0, 10**7],
        "leads": {"I": [300, None]}}  # fmt: skip
OPEN = {"event": "open", "data": {"integrity": "open"}}


def test_live_rows_holes_and_the_end(node):
    body = sse(
        OPEN,
        {"event": "birth", "data": BIRTH},
        {"event": "rows", "id": "7.3", "data": ROWS},
        {"event": "hole", "data": {"code": "older", "detail": "x"}},
        {"event": "end", "data": {"code": "revoked", "detail": "the grant has ended"}},
    )
    node.say = lambda request: httpx.Response(200, content=b": beat\n\n" + body)
    live = node.client.live(DID, leads=["I"], after="7.2")
    rows, hole = next(live), next(live)
    assert node.asked[-1].headers["Last-Event-ID"] == "7.2" and node.asked[-1].url.query == b"leads=I"
    assert (rows.id, rows.rate, rows.late, len(rows)) == ("7.3", (100, 1), False, 2)
    assert rows.times.tolist() == [10**18, 10**18 + 10**7] and rows.codes[0].tolist() == [300, NO_VALUE]
    assert rows.physical("I")[0] == 1.0 and rows.physical(0)[1] != rows.physical(0)[1] and hole.code == "older"
    with pytest.raises(LiveEnded, match="revoked"):
        next(live)
    # In pieces of any length, and with the line ends of others.
    for size in (1, 7):
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert [e.name for e in chordae.live.events(pieces)] == ["open", "birth", "rows", "hole", "end"]
    assert len(list(chordae.live.events([body.replace(b"\n", b"\r\n")]))) == 5


@pytest.mark.parametrize(
    "rows",
    [ROWS | {"boot": 8}, ROWS | {"integrity": "anchored"}, ROWS | {"after_ns": [0, 0]}, ROWS | {"after_ns": [0]},
     ROWS | {"leads": {}}, ROWS | {"leads": {"I": [1, 2], "II": [1, 2]}}, ROWS | {"leads": {"I": [1.5, 2]}},
     ROWS | {"leads": {"I": [2**31, 2]}}, ROWS | {"after_ns": ["0", 1]}, ROWS | {"seq": -1}, [ROWS], {}],
)  # fmt: skip
def test_live_rows_that_are_none_are_refused(node, rows):
    good = [OPEN, {"event": "birth", "data": BIRTH}, {"event": "rows", "id": "7.3", "data": ROWS}]
    body = sse(*good, {"event": "rows", "id": "7.3", "data": rows})
    node.say = lambda request: httpx.Response(200, content=body)
    live = node.client.live(DID)
    assert next(live).seq == 3
    with pytest.raises(Damaged):
        next(live)


def test_a_live_answer_that_breaks_off_says_so(node):
    node.say = lambda request: httpx.Response(200, content=sse(OPEN))
    with pytest.raises(Unreachable, match="broke off"):
        next(node.client.live(DID))
