"""A signed report on a stream with known gaps; what is changed in it afterwards is found."""

import base64
import hashlib
import json
import re
import time
import types

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from conftest import Server, grant, party, run, sim, trust

S = 10**9


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A bed: 20 s, 5 s whose frames never come, 15 s; then another boot 20 s later, for 20 s."""
    base = tmp_path_factory.mktemp("report")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server)
    w.t0 = (int(time.time()) - 3600) // 60 * 60 * S
    with server:
        w.ann, w.roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{w.ann}.pub")

        def send(boot, seq, after, seconds, seed=7, ok=(0,)):
            sim(server, "--device", "bed-1", "--leads", "2", "--rate", "100", "--boot", boot, "--first-seq", seq,
                "--start", w.t0 + after * S, "--for", f"{seconds}s", "--speed", "20", "--seed", seed, ok=ok)

        send(1, 0, 0, 20)
        send(1, 25, 25, 15)
        send(2, 0, 60, 20)
        # Three frames again with other samples.
        send(2, 0, 60, 3, seed=8, ok=(1,))
    w.trust = trust(server, base)
    with server:
        w.did = server.did("bed-1/ecg")
        w.sid = grant(server, w.ann, w.roe, w.did, "--from", w.t0, "--until", w.t0 + 80 * S)
        out, file = base / "report.html", base / "report.json"
        done = run("report", w.did, "--from", w.t0, "--to", w.t0 + 80 * S, "--url", server.http, "--key", w.roe,
                   "--session", w.sid, "--trust", w.trust, "--out", out, "--json", file)
        w.said, w.html, w.file = done.stdout, out.read_text(), file
        w.refused = run("report", w.did, "--from", w.t0 - S, "--to", w.t0 + 80 * S, "--url", server.http, "--key",
                        w.roe, "--session", w.sid, "--trust", w.trust, "--out", base / "no.html", ok=(1,))
        run("report", w.did, "--from", w.t0, "--to", w.t0 + 80 * S, "--data", server.folder, "--key", w.ann,
            "--out", base / "own.html", "--json", base / "own.json", ok=(4,))
    w.text = file.read_text()
    return w


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def holds(text):
    """Whether the signature does, without a line of ours."""
    file = json.loads(text)
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(file["report"]["signer"]))
    raw = base64.urlsafe_b64decode(file["signature"] + "==")
    try:
        key.verify(raw, b"chordae v1 report\n" + canonical(file["report"]))
    except InvalidSignature:
        return False
    return hashlib.sha256(canonical(file["evidence"])).hexdigest() == file["report"]["evidence"]


def test_the_figures_are_those_of_the_stream(ward):
    figures = json.loads(ward.text)["report"]["figures"]
    t0 = ward.t0
    gaps = [(g["cause"], g["boot"], g["seq"], g["from_ns"] - t0, g["until_ns"] - t0) for g in figures["gaps"]]
    assert gaps == [("not-delivered", 1, [20, 24], 20 * S, 25 * S), ("between-boots", None, None, 40 * S, 60 * S)]
    assert all(g["place"] == "exact" for g in figures["gaps"])
    assert figures["lost_ns"] == {"between-boots": 20 * S, "not-delivered": 5 * S}
    assert figures["known_ns"] == 80 * S and figures["present_ns"] == [55 * S, 55 * S]
    assert figures["present_ppm"] == [687500, 687500]
    counts = figures["counts"]
    assert (counts["boots"], counts["frames"], counts["missing_frames"], counts["rows"]) == (2, 55, 5, 5500)
    assert counts["late_chunks"] == counts["chunks"], "history comes in the late lane"
    assert figures["rates"] == [[100, 1]] and [lead["name"] for lead in figures["leads"]] == ["I", "II"]
    assert [(c["boot"], c["quality"], c["offset_ns"]) for c in figures["clocks"]] == [(1, "synced", 0), (2, "synced", 0)]
    assert json.loads(ward.text)["report"]["set_aside"] == {"conflict": 3}
    assert "68.750 % present" in ward.said and "verified" in ward.said


def test_the_page_stands_alone(ward):
    page = ward.html
    assert "<svg" in page and "68.750 %" in page and "frames not delivered" in page and "<td>conflict</td><td>3</td>" in page and ward.did in page
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", page), "nothing is fetched"
    embedded = json.loads(re.search(r'<script type="application/json" id="report">(.*?)</script>', page)[1])
    file = json.loads(ward.text)
    assert embedded["report"] == file["report"] and embedded["signature"] == file["signature"]


def test_anybody_can_verify_it_and_a_changed_figure_fails(ward, tmp_path):
    def verify(text, *args):
        path = tmp_path / "r.json"
        path.write_text(text)
        done = run("verify", path, "--json", *args, ok=(0, 1, 3, 4))
        findings = json.loads(done.stdout)["findings"] if done.stdout.strip() else []
        return done.returncode, [f["code"] for f in findings]

    assert holds(ward.text)
    assert verify(ward.text, "--trust", ward.trust) == (0, [])
    assert verify(ward.text) == (4, []), "without a trust file nothing is proven"
    for old, new in (('"present_ppm":[687500', '"present_ppm":[999500'), ('"missing_frames":5', '"missing_frames":0'),
                     ('"cause":"between-boots"', '"cause":"clock-step"')):
        changed = ward.text.replace(old, new)
        assert changed != ward.text and not holds(changed)
        code, codes = verify(changed, "--trust", ward.trust)
        assert code == 3 and "entry-signature" in codes, (old, codes)
    # The evidence is held against the ledger, not against the report.
    less = json.loads(ward.text)
    less["evidence"][0]["chunks"].pop(0)
    code, codes = verify(canonical(less).decode(), "--trust", ward.trust)
    assert code == 3 and "index-gap" in codes
    # Another spelling is another file.
    assert verify(json.dumps(json.loads(ward.text), indent=1), "--trust", ward.trust)[0] == 1


def test_no_report_beyond_the_grant_and_none_called_proven_without_trust(ward):
    assert "more than one grant" in ward.refused.stderr and not (ward.base / "no.html").exists()
    own = json.loads((ward.base / "own.json").read_text())
    assert own["report"]["session"] is None and not own["report"]["proof"]["anchored"]
    assert own["report"]["figures"] == json.loads(ward.text)["report"]["figures"]
