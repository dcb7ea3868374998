"""Traces: a collector that is not ours reads what a running house sends, and what it must never send; nobody waits for it."""

import base64
import hashlib
import http.client
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from conftest import SETTINGS, Server, grant, party, run, sim, trust, wait_until
from ports import free_port
from signing import public, signing_key
from test_operate import get

S = 10**9
# All that a span may say of what it is about.
ATTRIBUTES = {"http.request.method", "http.route", "http.response.status_code", "chunks", "rows", "codes", "records", "events"}
SAID = "takes no spans"


class Collector:
    """OTLP over HTTP: keeps what is posted to it, as it came."""

    def __init__(self, port=0):
        self.bodies, self.status = [], 200
        keep = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                keep.bodies.append(body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(keep.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def resources(self):
        return [r for body in self.bodies for r in ExportTraceServiceRequest.FromString(body).resource_spans]

    def spans(self):
        return [span for r in self.resources() for scope in r.scope_spans for span in scope.spans]


def house(folder, otlp, **kw):
    text = SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off")
    return Server(folder, settings=text + (f'[trace]\notlp = "{otlp}"\n' if otlp else ""), **kw)


def metric(server, outcome):
    line = f'chordae_trace_spans_total{{outcome="{outcome}"}} '
    return next((int(x.removeprefix(line)) for x in get(server, "/metrics")[1].splitlines() if x.startswith(line)), None)


def log(server):
    return (server.folder / "stderr.log").read_text()


def attributes(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def forms(name):
    """How a name may stand in bytes: as it is written, and if it is one of hex digits also as what it stands for."""
    written = {name, name.lower(), name.upper(), name.replace("-", "")}
    all_forms = {text.encode() for text in written} | {base64.b64encode(name.encode()).rstrip(b"=")}
    try:
        raw = bytes.fromhex(name.replace("-", "").removeprefix("did:chordae:"))
    except ValueError:
        return all_forms
    return all_forms | {raw, base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}


def named(names, data):
    return sorted({name for name in names if any(form in data for form in forms(name))})


def raw_request(server, method, path):
    host, port = server.doors["http-plain"].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A house that is traced: a minute of a patient's is published, sealed, anchored, and ten seconds of it are pulled."""
    base = tmp_path_factory.mktemp("traces")
    with Collector() as collector:
        t0 = (int(time.time()) - 3600) // 60 * 60 * S
        with house(base / "data", collector.url) as server:
            ann, roe = party(server, base, "annabel", "patient"), party(server, base, "roebuck", "requester")
            server.cli("device", "add", "bed-secret-7", "--out", base / "certs")
            server.cli("stream", "assign", "bed-secret-7/ecgstream", "--patient", f"{ann}.pub")
            sim(server, "--device", "bed-secret-7", "--stream", "ecgstream", "--leads", "2", "--rate", "100", "--start", t0,
                "--for", "60s", "--speed", "20")
        kept = trust(server, base)
        with server:
            did = server.did("bed-secret-7/ecgstream")
            sid = grant(server, ann, roe, did, "--from", t0, "--until", t0 + 30 * S)
            window = ["--stream", did, "--from", t0, "--until", t0 + 10 * S, "--url", server.http, "--trust", kept]
            run("pull", "--key", roe, "--session", sid, *window, "--format", "csv", "--out", base / "x.csv")
            # Whatever a stranger writes into a request is not passed on either.
            assert raw_request(server, "BREW-bed-secret-7", f"/v1/streams/{did}/window") == 405
            assert raw_request(server, "GET", f"/no/{did}/annabel?sid={sid}") == 404
            assert raw_request(server, "GET", f"/v1/streams/{did}/window?leads=annabel") == 401
            trail = run("trail", "--key", ann, "--stream", did, "--url", server.http, "--trust", kept, "--format", "json").stdout
            wait_until(lambda: metric(server, "sent"))
            assert metric(server, "dropped") == metric(server, "failed") == 0
    ids = [hashlib.sha256(public(signing_key(key))).hexdigest() for key in (ann, roe)]
    names = ["bed-secret-7", "ecgstream", "annabel", "roebuck", did, sid, *ids, str(base)]
    return collector, names, trail


def test_spans_say_what_took_how_long_and_belong_together(ward):
    collector, *_ = ward
    spans, by_id = collector.spans(), {}
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "each span is sent once"
    for span in spans:
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano and abs(span.end_time_unix_nano / S - time.time()) < 3600
        parent = by_id.get(span.parent_span_id)
        assert (parent is None) == (span.parent_span_id == b""), f"the parent of {span.name} was sent too"
        assert parent is None or (parent.trace_id, True) == (span.trace_id, parent.start_time_unix_nano <= span.start_time_unix_nano)

    def of(name):
        found = [span for span in spans if span.name == name]
        assert found, f"no span {name}: {sorted({s.name for s in spans})}"
        return found

    def parents(name):
        return {by_id[s.parent_span_id].name if s.parent_span_id else None for s in of(name)}

    window, proof = "GET /v1/streams/{did}/window", "GET /v1/streams/{did}/proof"
    assert parents("wal.sync") == parents("seal") == parents("ledger.batch") == parents(window) == parents(proof) == {None}
    assert parents("seal.build") == parents("seal.store") == {"seal"}
    assert parents("plan") == {window, proof} and parents("read") == {window} and parents("prove") == {proof}
    assert {window, proof} <= parents("trail") and parents("verify") <= {"read", "prove"}

    answered = next(s for s in of(window) if attributes(s)["http.response.status_code"] == 200)
    assert answered.kind == Span.SPAN_KIND_SERVER and attributes(answered)["http.route"] == "/v1/streams/{did}/window"
    parts = {s.name: s for s in spans if s.parent_span_id == answered.span_id}
    assert set(parts) == {"plan", "read", "trail"}
    assert attributes(parts["read"])["rows"] == 1000 and attributes(parts["plan"])["chunks"] == 1
    assert sum(attributes(s)["records"] for s in of("wal.sync")) >= 60
    assert sum(attributes(s)["chunks"] for s in of("seal.store")) == len(of("seal.build")) >= 6
    assert sum(attributes(s)["events"] for s in of("ledger.batch")) >= 6
    refused = {(s.name, attributes(s)["http.response.status_code"]) for s in spans if s.kind == Span.SPAN_KIND_SERVER}
    assert {("_OTHER /v1/streams/{did}/window", 405), ("GET none", 404), (window, 401)} <= refused
    assert all(s.status.code == Status.STATUS_CODE_UNSET for s in spans), "nothing failed"


def test_no_span_names_whom_it_is_about(ward):
    collector, names, trail = ward
    for span in collector.spans():
        assert set(attributes(span)) <= ATTRIBUTES and not span.events and not span.links, span
    resource = {frozenset((a.key, a.value.string_value) for a in r.resource.attributes) for r in collector.resources()}
    assert [{key for key, _ in said} for said in resource] == [{"service.name", "service.version"}]
    # The machine's name may be of two letters, which any random id contains: looked for in texts.
    texts = {text for said in resource for _, text in said} | {span.name for span in collector.spans()}
    texts |= {str(value) for span in collector.spans() for value in attributes(span).values()}
    assert "chordae" in texts and socket.gethostname() not in texts
    everything = b"\n".join(collector.bodies)
    assert named(names, everything) == []
    # The control: the same look finds them where they are, and in what was sent finds what is in it.
    assert len(named(names, trail.encode())) >= 3
    assert named(["wal.sync", collector.spans()[0].trace_id.hex(), *names], everything + names[4].encode()) == sorted(
        ["wal.sync", collector.spans()[0].trace_id.hex(), names[4]])


def test_it_is_off_unless_asked_for(tmp_path, monkeypatch):
    with Collector() as collector:
        # Variables that libraries for traces listen to do not switch it on.
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            monkeypatch.setenv(name, collector.url)
        with house(tmp_path / "data", None) as server:
            server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
            sim(server, "--device", "bed-1", "--leads", "1", "--rate", "100", "--for", "3s")
            assert raw_request(server, "GET", "/openapi.json") == 200
            assert metric(server, "sent") is None
        assert collector.bodies == []
        # The control: the same house, asked, is heard.
        monkeypatch.setenv("CHORDAE_TRACE_OTLP", collector.url)
        with server:
            assert raw_request(server, "GET", "/openapi.json") == 200
        assert "GET /openapi.json" in {span.name for span in collector.spans()}, "also what waited at the stop"


def test_one_in_many(tmp_path):
    with Collector() as collector:
        server = house(tmp_path / "data", collector.url)
        settings = server.folder / "chordae.toml"
        settings.write_text(settings.read_text() + "one-in = 1000000\n")
        with server:
            assert all(raw_request(server, "GET", "/openapi.json") == 200 for _ in range(20))
        assert len(collector.spans()) < 5


def beat(server, tmp_path, seconds=3):
    """Frames are acknowledged, and the house is ready."""
    if not (tmp_path / "certs").exists():
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
    acked = tmp_path / f"acked-{time.monotonic_ns()}"
    sim(server, "--device", "bed-1", "--leads", "1", "--rate", "100", "--for", f"{seconds}s", "--acked", acked)
    assert len(acked.read_text().splitlines()) == seconds
    assert get(server, "/readyz") == (200, "ready\n")


def test_a_collector_that_is_gone_costs_spans_and_nothing_else(tmp_path):
    port = free_port()
    with house(tmp_path / "data", f"http://127.0.0.1:{port}") as server:
        beat(server, tmp_path)
        wait_until(lambda: metric(server, "failed"))
        assert metric(server, "sent") == 0
        with Collector(port) as collector:
            wait_until(lambda: raw_request(server, "GET", "/openapi.json") and collector.spans())
            wait_until(lambda: "takes spans again" in log(server))
            collector.status = 503
            failed = metric(server, "failed")
            wait_until(lambda: raw_request(server, "GET", "/openapi.json") and metric(server, "failed") > failed)
        beat(server, tmp_path)
    assert log(server).count(SAID) == 2, "once each time that it went, not once for each span"


def test_a_collector_that_never_answers_is_not_waited_for(tmp_path):
    # It takes connections and says nothing.
    with socket.create_server(("127.0.0.1", 0), backlog=64) as deaf:
        with house(tmp_path / "data", f"http://127.0.0.1:{deaf.getsockname()[1]}") as server:
            host, port = server.doors["http-plain"].split(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            asked = 0
            # More spans than may wait: those that do not fit are dropped, and each request is answered.
            while not metric(server, "dropped"):
                for _ in range(500):
                    connection.request("GET", "/nothing")
                    answer = connection.getresponse()
                    assert (answer.status, len(answer.read()) > 0) == (404, True)
                asked += 500
                assert asked < 100_000
            connection.close()
            beat(server, tmp_path)
            assert metric(server, "sent") == 0
            server.stop()
        assert "the last spans" in log(server)
    assert json.loads(run("verify", server.folder, "--json", ok=(0, 4)).stdout)["findings"] == []


@pytest.mark.parametrize("lines, why", [
    ('otlp = "http://collector.example:4318"', "on this machine"),
    ('otlp = "https://collector.example:4318"', "trace.ca"),
    ('otlp = "grpc://127.0.0.1:4317"', "trace.otlp"),
    ('otlp = "off"\none-in = 0', "trace.one-in"),
])
def test_settings_that_cannot_be_meant_are_refused(tmp_path, lines, why):
    server = house(tmp_path / "data", None)
    settings = server.folder / "chordae.toml"
    settings.write_text(f"{settings.read_text()}[trace]\n{lines}\n")
    done = run("serve", "--config", settings, ok=(1,))
    assert why in done.stderr, done.stderr
