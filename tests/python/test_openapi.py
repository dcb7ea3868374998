"""The OpenAPI document against the server: each operation is a route, and schemathesis drives them all."""

import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest
import requests

from conftest import Server, grant, party, sim, trust
from signing import Signer

HERE = pathlib.Path(__file__).parent
SEED = "20261128"
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance")
# What each caller drives. An operator does not enable or disable the parties that the others are.
# A live answer does not end: its refusals and its beginning are in the matrix and in the live tests.
WHO = {"patient": ["--exclude-path-regex", "^/v1/admin/|/live$"],
       "requester": ["--exclude-path-regex", "^/v1/admin/|/live$"],
       "operator": ["--include-path-regex", "^/v1/(admin/|streams$)"]}


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    base = tmp_path_factory.mktemp("openapi")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(server=server, base=base)
    with server:
        ann, roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        op = party(server, base, "op", "operator")
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{ann}.pub")
        sim(server, "--device", "bed-1", "--leads", "2", "--rate", "100", "--speed", "20", "--for", "20s")
    w.origin = json.loads(trust(server, base).read_text())["origin"]
    with server:
        w.did = server.did("bed-1/ecg")
        w.sid = grant(server, ann, roe, w.did)
        w.callers = {"patient": (ann, None), "requester": (roe, w.sid), "operator": (op, None)}
        w.document = requests.get(server.http + "/openapi.json", timeout=60).json()
        yield w


def test_every_operation_is_a_route_and_says_how_it_is_signed(ward):
    """Without a token each signed one answers 401, the others never; no other verb is a route."""
    document, base = ward.document, ward.server.http
    count = sum(len(item) for item in document["paths"].values())
    assert document["openapi"].startswith("3.1") and count >= 30
    assert document["components"]["securitySchemes"]["Chordae"]["scheme"] == "Chordae"
    fill = {"did": ward.did, "sid": ward.sid, "index": "0", "id": "bed-1", "level": "0", "number": "000",
            "shelf": "00", "root": "0" * 64}
    for path, item in document["paths"].items():
        url = base + path.format(**fill)
        for verb in ("get", "post", "put", "patch", "delete", "head"):
            answer = requests.request(verb, url, timeout=60)
            status = answer.status_code
            if verb not in item:
                assert status == 405, (verb, path, status)
                allowed = {v.strip().lower() for v in answer.headers["allow"].split(",")}
                assert allowed == set(item), (verb, path, allowed)
            elif item[verb].get("security"):
                assert status == 401, (verb, path, status)
            else:
                assert status not in (401, 405), (verb, path, status)
            assert verb not in item or str(status) in item[verb]["responses"], (verb, path, status)
    assert requests.get(base + "/v1/nothing", timeout=60).status_code == 404


def test_the_control_a_signed_request_is_answered(ward):
    key, sid = ward.callers["requester"]
    path = f"/v1/streams/{ward.did}/window?from=0&until=9000000000000000000&format=csv"
    answer = requests.get(ward.server.http + path, headers=Signer(key, ward.origin).header(path, sid=sid), timeout=60)
    assert answer.status_code == 200 and answer.text.count("\n") == 2001


@pytest.mark.parametrize("who", WHO)
def test_schemathesis_finds_nothing(ward, who, tmp_path):
    # What exists is among the examples, so that not every answer is a 404.
    document = json.loads(json.dumps(ward.document))
    known = {"did": ward.did, "sid": ward.sid, "index": 0}
    for item in document["paths"].values():
        for op in item.values():
            for p in op.get("parameters", []):
                if p["name"] in known:
                    p["example"] = known[p["name"]]
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    key, sid = ward.callers[who]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(HERE), "SIGN_KEY": str(key),
           "SIGN_ORIGIN": ward.origin, **({"SIGN_SID": sid} if sid else {})}
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "schemathesis", "run", tmp_path / "openapi.json", "--url",
         ward.server.http, "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "5",
         "--seed", SEED, "--suppress-health-check", "all", "--no-color", "--continue-on-failure", "--no-shrink",
         "--warnings", "off", *WHO[who]],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    print(done.stdout[-20000:], done.stderr[-2000:])
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) >= 50, "the fuzzer asked something"
