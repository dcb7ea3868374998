"""Somebody who reads: signed requests over HTTP, made from docs/FORMATS.md alone."""

import base64
import hashlib
import http.client
import json
import time
import types
import urllib.parse
import uuid

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from conftest import grant, party, trust


# As long as a token may live.
LIFE_S = 300


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Reader:
    """A patient, whose streams they are, and a requester who may read them."""

    def __init__(self, house, base, now=time.time):
        self.house, self.now = house, now
        self.patient, self.key = party(house, base, "ann", "patient"), party(house, base, "roe", "requester")
        # The first block of a key file signs; the second one seals.
        self.secret = load_pem_private_key(b"-----BEGIN" + self.key.read_bytes().split(b"-----BEGIN")[1], None)
        self.kid = hashlib.sha256(self.secret.public_key().public_bytes_raw()).hexdigest()
        self.origin = json.loads(trust(house, base).read_text())["origin"]

    def assign(self, stream):
        """The stream is the patient's; its did."""
        return self.house.cli("stream", "assign", stream, "--patient", f"{self.patient}.pub").stdout.split()[-1]

    def grant(self, did, *args):
        return grant(self.house, self.patient, self.key, did, *args)

    def token(self, target, sid, life=60):
        now = int(self.now())
        head = {"alg": "EdDSA", "typ": "chordae-request+jwt", "kid": self.kid}
        said = {"aud": self.origin, "sid": sid, "htm": "GET", "target": target, "iat": now, "exp": now + life,
                "jti": uuid.uuid4().hex}
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, said))
        return f"{text}.{b64(self.secret.sign(text.encode()))}"

    def get(self, target, sid=None, token=None):
        """One request, with a fresh token unless one is given; status, headers and whole body, or how it broke off.

        A fresh one is made anew if it went stale on its way: where clocks run fast, a busy machine is enough.
        """
        for _ in range(10):
            began = self.now()
            answer = self.send(target, token or (self.token(target, sid, LIFE_S) if sid else None))
            if token or answer.status != 401 or self.now() - began < LIFE_S / 2:
                break
        return answer

    def send(self, target, token):
        door = http.client.HTTPConnection(urllib.parse.urlsplit(self.house.http).netloc, timeout=60)
        try:
            door.request("GET", target, headers={"Authorization": f"Chordae {token}"} if token else {})
            answer = door.getresponse()
            head = {k.lower(): v for k, v in answer.getheaders()}
            try:
                body, whole = answer.read(), True
            except (http.client.IncompleteRead, ConnectionError) as broke:
                body, whole = getattr(broke, "partial", b""), False
            return types.SimpleNamespace(status=answer.status, head=head, body=body, whole=whole)
        finally:
            door.close()


def window(did, a, b, more="&format=csv"):
    return f"/v1/streams/{did}/window?from={a}&until={b}{more}"


def problem(answer):
    """The word of a refusal, or what was answered instead."""
    try:
        return json.loads(answer.body)["type"].rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status} {answer.body[:60]!r}"
