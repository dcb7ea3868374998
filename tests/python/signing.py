"""Request tokens by hand (FORMATS.md 8), for tests that ask often."""

import base64
import hashlib
import json
import time
import uuid

from cryptography.hazmat.primitives.serialization import load_pem_private_key


def signing_key(path):
    """The first block of a key file; the second one seals."""
    return load_pem_private_key(b"-----BEGIN" + path.read_bytes().split(b"-----BEGIN")[1], None)


def public(secret):
    return secret.public_key().public_bytes_raw()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """Who signs requests to one origin."""

    def __init__(self, path, origin):
        self.secret, self.origin = signing_key(path), origin
        self.kid = hashlib.sha256(public(self.secret)).hexdigest()

    def token(self, target, method="GET", sid=None, body=None):
        now = int(time.time())
        head = {"alg": "EdDSA", "typ": "chordae-request+jwt", "kid": self.kid}
        said = {"aud": self.origin, "htm": method, "target": target, "iat": now, "exp": now + 60,
                "jti": uuid.uuid4().hex}
        if sid:
            said["sid"] = sid
        if body is not None:
            said["body"] = hashlib.sha256(body).hexdigest()
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, said))
        return f"{text}.{b64(self.secret.sign(text.encode()))}"

    def header(self, *args, **kw):
        return {"Authorization": f"Chordae {self.token(*args, **kw)}"}
