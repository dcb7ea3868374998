"""The Python package against a real server with TLS: installed into another folder, with only the trust file."""

import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
import wfdb

from conftest import BIN, ROOT, SIM, Server, grant, need_shared, party, run, sim, trust, wait_until

PACKAGE = ROOT / "query/python"
SETTINGS = """
[mqtt]
tls = "off"
plain = "127.0.0.1:0"
[zmq]
tls = "off"
plain = "off"
[http]
tls = "127.0.0.1:0"
plain = "off"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = 1073741824
min-free-bytes = 67108864
[chunks]
slot-seconds = 60
[ledger]
anchor-seconds = 1
"""
PAGE = 10**10


def install(target):
    """The package, built from its sources, into a folder of its own; what it depends on is installed already."""
    copy = target.parent / "sources"
    # A build leaves nothing in the clone.
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", ".*", "tests"))
    command = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, copy]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *command], check=True, timeout=300)


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Record 100 and a minute of twelve leads at 500 Hz, sealed and anchored; a reader elsewhere with two files."""
    base = tmp_path_factory.mktemp("ward")
    record = need_shared("ecg", "100.hea")
    server = Server(base / "data", settings=SETTINGS)
    w = types.SimpleNamespace(base=base, server=server, reader=base / "reader")
    with server:
        w.ann, w.roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        for device, slot in (("bed-1", "60s"), ("bed-2", "300s"), ("bed-3", "10s")):
            server.cli("device", "add", device, "--out", base / "certs")
            server.cli("stream", "assign", f"{device}/ecg", "--patient", f"{w.ann}.pub")
            server.cli("stream", "profile", f"{device}/ecg", "--slot", slot)
        sim(server, "--device", "bed-2", "--stream", "ecg", "--leads", "12", "--rate", "500", "--speed", "20",
            "--for", "60s")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--record", record, "--speed", "120")
    w.reader.mkdir()
    install(w.reader / "lib")
    w.trust = w.reader / "trust.json"
    shutil.copy(trust(server, base), w.trust)
    w.key = w.reader / "roe.pem"
    shutil.copy(w.roe, w.key)
    sys.path.insert(0, str(w.reader / "lib"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "chordae"]:
        del sys.modules[name]
    try:
        with server:
            w.url = "https://" + server.doors["http-tls"]
            w.did, w.twelve = server.did("bed-1/ecg"), server.did("bed-2/ecg")
            w.sid = grant(server, w.ann, w.roe, w.did)
            w.sid12 = grant(server, w.ann, w.roe, w.twelve)
            w.truth = wfdb.rdrecord(str(record.with_suffix("")), physical=False)
            w.far = ["--key", w.key, "--session", w.sid, "--stream", w.did, "--url", w.url]
            with client(w) as node:
                rows = node.pull(w.did, 0, "2100-01-01T00:00:00Z", snap=False)
            w.first, w.last = int(rows.times[0]), int(rows.times[-1])
            yield w
    finally:
        sys.path.remove(str(w.reader / "lib"))


def client(w, session=None, url=None, key=None, trusted=True):
    import chordae

    origin = json.loads(w.trust.read_text())["origin"]
    more = {} if trusted else {"origin": origin, "ca": w.server.folder / "keys/ca.crt"}
    return chordae.Client(url or w.url, key or w.key, w.trust if trusted else None, session or w.sid, **more)


def python(w, *args, ok=0):
    """Another process in another folder, that has the package, its dependencies and two files."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(w.reader / "lib")}
    done = subprocess.run([sys.executable, *map(str, args)], cwd=w.reader, env=env, capture_output=True, text=True,
                          timeout=300)
    assert done.returncode == ok, f"{args} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


ELSEWHERE = """
import json, sys, chordae
url, sid, did, until = sys.argv[1:]
with chordae.Client(url, "roe.pem", "trust.json", sid) as node:
    allowed = [stream.did for stream in node.streams()]
    parts = list(node.parts(did, 0, until, part_s=10**9))
    window = node.pull(did, 0, until).require_proof() if len(parts) != 1 else parts[0].require_proof()
print(json.dumps({"file": chordae.__file__, "allowed": allowed, "integrity": window.integrity.value,
                  "codes": window.to_numpy("codes").T.tolist(), "names": [lead.name for lead in window.leads],
                  "gaps": len(window.gaps), "chunks": window.coverage.chunks}))
"""


def test_installed_in_another_folder_it_verifies_a_real_record_with_the_trust_file_alone(ward):
    assert sorted(p.name for p in ward.reader.iterdir() if p.is_file()) == ["roe.pem", "trust.json"]
    assert (ward.reader / "lib/chordae/py.typed").exists(), "others can type-check against it"
    until = -(-ward.last // PAGE) * PAGE
    said = json.loads(python(ward, "-c", ELSEWHERE, ward.url, ward.sid, ward.did, until))
    assert said["file"].startswith(str(ward.reader)) and said["allowed"] == [ward.did]
    assert said["integrity"] == "anchored" and said["names"] == ward.truth.sig_name
    assert np.array_equal(np.array(said["codes"]).T, ward.truth.d_signal)
    assert said["chunks"] >= 30 and said["gaps"] == 2, "before the record and after it"


def test_physical_units_are_those_of_the_record(ward):
    with client(ward) as node:
        window = node.pull(ward.did, ward.first, ward.first + 60 * 10**9).require_proof()
    n = len(window)
    mv = (ward.truth.d_signal[:n] - np.array(ward.truth.baseline)) / np.array(ward.truth.adc_gain)
    skip = int(np.searchsorted(window.times, ward.first))
    assert [lead.unit for lead in window.leads] == ward.truth.units and window.rate == (360, 1)
    assert skip == 0 and np.array_equal(window.to_numpy(), mv) and np.array_equal(window.to_pandas().to_numpy(), mv)
    assert np.array_equal(window.to_polars().drop("time").to_numpy(), mv)
    raw = window.to_mne()
    assert np.allclose(raw.get_data().T * 1e3, mv) and raw.info["sfreq"] == 360 and not len(raw.annotations)


def test_long_windows_come_in_verified_parts(ward):
    with client(ward) as node:
        parts = list(node.parts(ward.did, ward.first, ward.last + 1, part_s=300))
    assert len(parts) >= 7 and all(part.proven for part in parts)
    assert all(a.until_ns == b.from_ns for a, b in zip(parts, parts[1:]))
    assert all((part.until_ns - part.from_ns) <= 300 * 10**9 for part in parts)
    assert np.array_equal(np.concatenate([part.to_numpy("codes") for part in parts]), ward.truth.d_signal)


def test_the_verdict_is_that_of_chordae_pull(ward, tmp_path):
    """Exit 0 where `proven`, 4 where not, over whole and cut windows, some leads, with and without a trust file."""
    a = ward.first // PAGE * PAGE
    seen = set()
    for start, end, snap, leads, trusted in [
        (a, a + 3 * PAGE, True, None, True), (a + 1, a + 3 * PAGE - 1, True, ["V5"], True),
        (a + 1, a + 3 * PAGE, False, None, True), (a + PAGE, a + 2 * PAGE, False, ["MLII"], True),
        (a + 1, a + 2, False, None, True), (a, a + 3 * PAGE, True, None, False),
    ]:
        args = ["--from", start, "--until", end, "--out", tmp_path / "w.arrow", "--format", "arrow", *ward.far]
        args += [] if snap else ["--no-snap"]
        args += ["--leads", ",".join(leads)] if leads else []
        # Without --trust the command line has no authority to trust for TLS; the same folder's socket does.
        args = args + ["--trust", ward.trust] if trusted else args[:-2] + ["--data", ward.server.folder]
        told = run("pull", *args, ok=(0, 4))
        with client(ward, trusted=trusted) as node:
            window = node.pull(ward.did, start, end, leads=leads, snap=snap)
        assert (told.returncode == 0) == window.proven, (start, told.stderr, window)
        count = f"unproven: {window.unproven_rows} rows"
        assert (count in told.stdout + told.stderr) == bool(window.unproven_rows)
        seen.add((told.returncode, bool(window.unproven_rows), window.integrity.value))
    assert seen == {(0, False, "anchored"), (4, True, "anchored"), (4, False, "linked")}


# ---- what stands between: every change is refused

class Between:
    """Hands requests on to the server, and its answers back, changed."""

    def __init__(self, ward):
        between, ca = self, json.loads(ward.trust.read_text())["ca"]
        self.change = lambda target, body, head: body

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                import ssl
                host, _, port = ward.server.doors["http-tls"].rpartition(":")
                door = http.client.HTTPSConnection(host, int(port), timeout=60,
                                                   context=ssl.create_default_context(cadata=ca))
                door.request("GET", self.path, headers={"Authorization": self.headers["Authorization"]})
                answer = door.getresponse()
                body, head = answer.read(), dict(answer.getheaders())
                door.close()
                if answer.status == 200:
                    body = between.change(self.path, body, head)
                self.send_response(answer.status)
                for name in ("link", "content-type", "chordae-window"):
                    if name in head:
                        self.send_header(name, head[name])
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def between(ward):
    proxy = Between(ward)
    yield proxy
    proxy.http.shutdown()
    proxy.http.server_close()


def proofs(edit):
    """A change of the proof alone."""
    def change(target, body, head):
        if "/proof" not in target:
            return body
        bundle = json.loads(body)
        edit(bundle)
        return json.dumps(bundle).encode()
    return change


def windows(edit):
    """A change of the answer's bytes alone."""
    return lambda target, body, head: edit(bytearray(body)) if "/window" in target else body


def middle(body):
    body[len(body) // 2] ^= 1
    return bytes(body)


def checkpoint(bundle):
    bundle["anchor"]["proof"] = bundle["anchor"]["proof"].replace("\n\n", "\n\nx", 1)


def forged(bundle):
    link = bundle["links"][-1]
    bundle["links"][-1] = link[:-1] + ("0" if link[-1] != "0" else "1")


TAMPERINGS = {
    "a code": windows(middle),
    "half an answer": windows(lambda body: bytes(body[:len(body) // 2])),
    "no rows": windows(lambda body: b""),
    "a link": proofs(forged),
    "no links": proofs(lambda b: b.update(links=[])),
    "a leaf": proofs(lambda b: b["chunks"][0]["leaves"].reverse()),
    "the salts": proofs(lambda b: b["chunks"][0]["pages"][0].update(salts={})),
    "the metadata": proofs(lambda b: b["chunks"][0].update(meta=b["chunks"][0]["meta"].replace('"gain":', '"gain":1'))),
    "the checkpoint": proofs(checkpoint),
    "another window": proofs(lambda b: b.update(from_ns=b["from_ns"] + PAGE)),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_whoever_changes_an_answer_or_a_proof_is_caught(ward, between, tmp_path, what):
    from chordae import Damaged

    start = ward.first // PAGE * PAGE + PAGE
    args = ["--key", ward.key, "--session", ward.sid, "--stream", ward.did, "--url", between.url, "--trust", ward.trust,
            "--from", start, "--until", start + 2 * PAGE, "--format", "arrow", "--out", tmp_path / "w.arrow"]
    with client(ward, url=between.url) as node:
        between.change = lambda target, body, head: body
        assert node.pull(ward.did, start, start + 2 * PAGE).proven, "the control: handed on unchanged"
        between.change = TAMPERINGS[what]
        with pytest.raises(Damaged) as refused:
            node.pull(ward.did, start, start + 2 * PAGE)
    assert refused.value.findings
    told = run("pull", *args, ok=(1, 2, 3))
    # A bundle that breaks its own bounds is no bundle to the command line: refused, as bad input.
    assert told.returncode == (1 if what == "no links" else 3), told.stderr
    assert not (tmp_path / "w.arrow").exists()


def test_an_old_answer_for_a_new_question_is_caught(ward, between):
    from chordae import Damaged

    start = ward.first // PAGE * PAGE + PAGE
    kept = {}

    def keep(target, body, head):
        kind = "proof" if "/proof" in target else "window"
        kept.setdefault(kind, (body, dict(head)))
        head.update(kept[kind][1])
        return kept[kind][0]

    between.change = keep
    with client(ward, url=between.url) as node:
        assert node.pull(ward.did, start, start + PAGE).proven
        with pytest.raises(Damaged, match="window that was asked for"):
            node.pull(ward.did, start + PAGE, start + 2 * PAGE)


# ---- grants

def test_a_refusal_names_the_allowed_part_and_clip_takes_it(ward):
    import chordae

    start = ward.first // PAGE * PAGE + PAGE
    terms = ["--from", start, "--until", start + 3 * PAGE, "--leads", "MLII"]
    sid = grant(ward.server, ward.ann, ward.roe, ward.did, *terms)
    part = chordae.Allowed(start, start + 3 * PAGE, ("MLII",))
    with client(ward, sid) as node:
        assert node.streams() == [chordae.Stream(ward.did, (part,), None, None)]
        with pytest.raises(chordae.Refused) as refused:
            node.pull(ward.did, start, start + 4 * PAGE, leads=["MLII"])
        assert refused.value.allowed == (part,)
        clipped = node.pull(ward.did, start - PAGE, start + 40 * PAGE, leads=["MLII"], clip=True)
        assert clipped.proven and (clipped.from_ns, clipped.until_ns) == (start, start + 3 * PAGE)
        with pytest.raises(chordae.Refused):
            node.pull(ward.did, start, start + PAGE)
        with pytest.raises(chordae.NotFound):
            node.pull(ward.twelve, start, start + PAGE)


def test_a_patient_grants_and_revokes_with_her_own_key(ward):
    import chordae

    start = ward.first // PAGE * PAGE + PAGE
    with chordae.Client(ward.url, ward.ann, ward.trust) as patient:
        sid = patient.grant(f"{ward.roe}.pub", ward.did, start, start + PAGE, leads=["V5"], purpose="second opinion")
        with client(ward, sid) as node:
            wait_until(lambda: node.streams())
            assert node.pull(ward.did, start, start + PAGE, leads=["V5"]).proven
            far = ["--url", ward.url, "--trust", ward.trust]
            assert "V5" in run("session", "show", "--session", sid, "--key", ward.roe, *far).stdout
            assert node.session(sid)["sid"] == sid
            assert sid in [session["sid"] for session in node.sessions()]
            seen = [(r["name"], r["format"], r["outcome"]) for r in patient.trail(ward.did) if r["sid"] == sid]
            assert ("roe", "arrow", "complete") in seen, "the patient sees who looked"
            patient.revoke(sid)
            with pytest.raises(chordae.Refused):
                node.pull(ward.did, start, start + PAGE, leads=["V5"])


def test_live_rows_come_while_they_are_open_and_end_with_the_grant(ward):
    """What was seen live is what the sealed window proves later; a revocation ends the answer."""
    import chordae

    command = [SIM, "--url", ward.server.mqtt, "--device", "bed-3", "--stream", "ecg", "--leads", "12", "--rate", "500"]
    seen, beds = [], subprocess.Popen([*map(str, command), "--for", "60s"], stdout=subprocess.DEVNULL)
    wait_until(lambda: any(s["stream"] == "bed-3/ecg" for s in ward.server.streams()))
    did = ward.server.did("bed-3/ecg")
    sid, later = grant(ward.server, ward.ann, ward.roe, did), grant(ward.server, ward.ann, ward.roe, did)
    try:
        with client(ward, sid) as node:
            for event in node.live(did, leads=["II", "V5"]):
                if isinstance(event, chordae.LiveRows) and not event.late:
                    seen.append(event)
                if len(seen) == 3:
                    break
            assert [lead.name for lead in seen[0].leads] == ["II", "V5"] and seen[0].rate == (500, 1)
            assert seen[1].seq == seen[0].seq + 1 and abs(time.time_ns() - int(seen[-1].times[-1])) < 30 * 10**9
            again = node.live(did, leads=["II", "V5"], after=seen[0].id)
            first = next(event for event in again if isinstance(event, chordae.LiveRows))
            assert (first.boot, first.seq) == (seen[1].boot, seen[1].seq), "goes on behind the frame that was named"
            assert np.array_equal(first.codes, seen[1].codes)
            ward.server.cli("session", "revoke", "--key", ward.ann, "--session", sid)
            with pytest.raises(chordae.LiveEnded, match="revoked"):
                for _ in again:
                    pass
            with pytest.raises(chordae.Refused):
                next(node.live(did, leads=["II", "V5"]))
    finally:
        beds.terminate()
        beds.wait(timeout=60)
    a, b = int(seen[0].times[0]), int(seen[-1].times[-1]) + 1
    with client(ward, later) as node:
        def sealed():
            window = node.pull(did, a, b, leads=["II", "V5"], snap=False)
            return window if len(window) >= sum(map(len, seen)) else None
        wait_until(sealed, 60)
        window = sealed()
    assert np.array_equal(window.codes[0], np.concatenate([rows.codes[0] for rows in seen]))
    assert np.array_equal(window.times, np.concatenate([rows.times for rows in seen]))


def test_a_server_of_another_authority_is_not_spoken_to(ward, tmp_path):
    import chordae

    other = Server(tmp_path / "other")
    said = json.loads(ward.trust.read_text())
    said["ca"] = json.loads(trust(other, tmp_path).read_text())["ca"]
    with pytest.raises(chordae.Unreachable, match="(?i)certificate"):
        chordae.Client(ward.url, ward.key, chordae.TrustFile.parse(json.dumps(said)), ward.sid).streams()


# ---- examples, style, cost

EXAMPLES = {
    "pandas_minutes.py": (["{a}", "{b}"], ["MLII in mV", "V5 in mV", "21600 rows"]),
    "duckdb_query.py": (["{a}", "{b}"], ["MLII", "21600 rows"]),
    "wfdb_record.py": (["{a}", "{b}", "hundred"], ["hundred.hea: 21600 samples of MLII, V5 at 360 Hz"]),
    "mne_filter.py": (["{a}", "{b}"], ["0 gaps; 21600 good samples"]),
    "heart_rate.py": (["{first}", "{end}", "MLII"], ["beats in 1805.6 s"]),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_runs(ward, name):
    assert set(EXAMPLES) == {path.name for path in (PACKAGE / "examples").glob("*.py")}
    a = ward.first // PAGE * PAGE + PAGE
    places = {"a": a, "b": a + 6 * PAGE, "first": ward.first // PAGE * PAGE, "end": -(-ward.last // PAGE) * PAGE}
    args = [arg.format(**places) for arg in EXAMPLES[name][0]]
    out = python(ward, PACKAGE / "examples" / name, ward.url, "roe.pem", "trust.json", ward.sid, ward.did, *args)
    assert all(text in out for text in EXAMPLES[name][1]), out
    if name == "heart_rate.py":
        # MIT-BIH's annotators: 2273 beats in record 100, 75.5 a minute.
        beats, rate = int(out.split()[1]), float(out.split()[6])
        assert abs(beats - 2273) <= 10 and abs(rate - 75.5) < 1
    if name == "wfdb_record.py":
        record = wfdb.rdrecord(str(ward.reader / "hundred"), physical=False)
        skip = round((a - ward.first) * 360 / 1e9)
        near = ward.truth.d_signal[skip - 2:skip + 21600 + 2]
        assert any(np.array_equal(record.d_signal, near[k:k + 21600]) for k in range(5))
        (ward.reader / "hundred.hea").unlink()
        (ward.reader / "hundred.dat").unlink()


def test_the_package_is_typed_and_clean():
    for command in ("mypy --cache-dir /dev/null", "ruff check --no-cache", "ruff format --check --no-cache"):
        words = [sys.executable, "-m", *command.split()]
        done = subprocess.run(words, cwd=PACKAGE, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def test_a_proof_of_ten_seconds_of_twelve_leads_is_small_beside_them(ward):
    """At most a tenth of the bytes. How long it takes is printed (-s), not asserted."""
    import chordae

    with client(ward, ward.sid12) as node:
        known = node.pull(ward.twelve, 0, "2100-01-01T00:00:00Z", snap=False)
        start = (int(known.times[0]) // PAGE + 2) * PAGE
        pulls, checks = [], []
        for _ in range(20):
            begun = time.perf_counter()
            window = node.pull(ward.twelve, start, start + PAGE)
            pulls.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            chordae.verify(window.evidence.answer, window.evidence.bundle, node.trust)
            checks.append(time.perf_counter() - begun)
    answer, proof = len(window.evidence.answer), len(window.evidence.bundle)
    assert window.proven and len(window) == 5000 and len(window.leads) == 12
    print(f"\n10 s of 12 leads at 500 Hz: answer {answer} bytes, proof {proof} ({proof / answer:.1%}); "
          f"pull {np.median(pulls) * 1e3:.1f} ms, of which verification {np.median(checks) * 1e3:.2f} ms "
          f"({np.median(checks) / np.median(pulls):.1%}); server {BIN.parent.name}")
    assert proof <= answer / 10
