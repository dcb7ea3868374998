"""For `schemathesis run`: signs each request as it goes out, with the key and session of the environment."""

import os
import pathlib
import urllib.parse

import requests
import schemathesis

from signing import Signer


class Signed(requests.auth.AuthBase):
    """A fresh token per request, over path and query as they are sent; over the body where operators change."""

    def __init__(self, signer, sid):
        self.signer, self.sid = signer, sid

    def __call__(self, request):
        parts = urllib.parse.urlsplit(request.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        covered = body if path.startswith("/v1/admin/") and request.method != "GET" else None
        request.headers["Authorization"] = self.signer.header(path, request.method, self.sid, covered)["Authorization"]
        return request


schemathesis.auth.set_from_requests(Signed(
    Signer(pathlib.Path(os.environ["SIGN_KEY"]), os.environ["SIGN_ORIGIN"]), os.environ.get("SIGN_SID")))


@schemathesis.serializer("application/cbor")
def cbor(ctx, value):
    """The bodies that patients sign are bytes as they stand."""
    return value if isinstance(value, bytes) else str(value).encode()
