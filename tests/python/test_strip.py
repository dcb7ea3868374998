"""A strip: one file that carries rows, proof and keys, verified here without a browser; the browser has its own tests."""

import base64
import hashlib
import json
import re
import sys
import time
import types

import pyarrow as pa
import pytest

from conftest import ROOT, Server, grant, party, run, sim, trust

CLIENT = ROOT / "query/python/src"
S = 10**9
MINUTE = 60 * S


@pytest.fixture(scope="module")
def chordae():
    sys.path.insert(0, str(CLIENT))
    import chordae

    return chordae


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """A minute of two leads, sealed and anchored; a strip of half of it, one of lead I, and the same rows as Arrow."""
    base = tmp_path_factory.mktemp("strip")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server, t0=(int(time.time()) - 3600) // 60 * 60 * S)
    with server:
        w.ann, w.roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{w.ann}.pub")
        sim(server, "--device", "bed-1", "--leads", "2", "--rate", "100", "--start", w.t0, "--for", "60s", "--speed", "20")
    w.trust = trust(server, base)
    with server:
        w.did = server.did("bed-1/ecg")
        w.sid = grant(server, w.ann, w.roe, w.did)

        def pull(name, *args, until=30 * S, trusted=True, ok=(0,)):
            out = base / name
            args = [*args, "--trust", w.trust] if trusted else args
            done = run("pull", "--key", w.roe, "--session", w.sid, "--stream", w.did, "--from", w.t0, "--until",
                       w.t0 + until, "--data", server.folder, "--out", out, *args, ok=ok)
            return out, done

        w.pull = pull
        w.strip, w.done = pull("strip.html", "--format", "html")
        w.arrow, _ = pull("window.arrows", "--format", "arrow")
        w.one, _ = pull("one.html", "--format", "html", "--leads", "I")
        w.page = w.strip.read_text()
        yield w


def blocks(page):
    """The four blocks, as anybody can take them out."""
    found = re.findall(r'<script type="([a-z/]+)" id="(\w+)">(.*?)</script>\n', page, re.S)
    assert [(name, kind) for kind, name, _ in found] == [
        ("about", "application/json"), ("trust", "application/json"), ("proof", "application/json"),
        ("answer", "text/plain")]
    return types.SimpleNamespace(**{name: text for _, name, text in found})


def answer(page):
    return base64.b64decode(blocks(page).answer, validate=True)


def flipped(page, bit=1):
    """One bit in the middle of the rows is another one."""
    data = bytearray(answer(page))
    data[len(data) // 2] ^= bit
    return page.replace(blocks(page).answer, base64.b64encode(data).decode())


def judged(chordae, page, by=None, leads=None):
    found = blocks(page)
    return chordae.verify(answer(page), found.proof, chordae.TrustFile.parse(by or found.trust), leads=leads)


def test_the_blocks_verify_with_the_python_package_and_one_changed_bit_does_not(ward, chordae):
    window = judged(chordae, ward.page)
    assert window.proven and len(window) == 3000 and [lead.name for lead in window.leads] == ["I", "II"]
    assert answer(ward.page) == ward.arrow.read_bytes(), "the rows are those of any other pull"
    about = json.loads(blocks(ward.page).about)
    assert (about["did"], about["from_ns"], about["until_ns"]) == (ward.did, ward.t0, ward.t0 + 30 * S)
    assert "verified: every row" in ward.done.stdout
    assert flipped(ward.page, bit=0) == ward.page
    with pytest.raises(chordae.Damaged):
        judged(chordae, flipped(ward.page))
    other = json.loads(blocks(ward.page).trust)
    other["providers"][0]["sign"] = other["sequencers"][0]["sign"]
    with pytest.raises(chordae.Damaged):
        judged(chordae, ward.page, by=json.dumps(other))


def test_the_file_stands_alone_and_lets_nothing_out(ward):
    assert not re.search(r"https?:|\b(src|action)\s*=\s*[\"']|@import|url\(", ward.page), "nothing is fetched"
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', ward.page)[1]
    script, style = (base64.b64encode(hashlib.sha256(re.search(pattern, ward.page, re.S)[1].encode()).digest()).decode()
                     for pattern in ("<script>(.*?)</script>", "<style>(.*?)</style>"))
    assert policy == (f"default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; "
                      "base-uri 'none'; form-action 'none'")
    assert len(ward.page) < 1_000_000, "small enough for a letter"


def test_no_key_session_or_authority_is_in_it(ward):
    secret = [line for line in ward.roe.read_text().splitlines() if line and not line.startswith("-")]
    own = json.loads(ward.trust.read_text())
    public = json.loads(ward.roe.with_suffix(".pem.pub").read_text())
    assert secret and own["ca"] and own["providers"][0]["sign"] in ward.page, "the control: the provider's key is in it"
    for text in [*secret, ward.sid, own["ca"].splitlines()[1], public["sign"], "PRIVATE KEY", "ann.pem"]:
        assert text not in ward.page, text
    assert {k: v for k, v in own.items() if k != "ca"} == json.loads(blocks(ward.page).trust)


def test_only_the_leads_that_were_pulled_are_in_it(ward, chordae):
    page = ward.one.read_text()
    table = pa.ipc.open_stream(answer(page)).read_all()
    both = pa.ipc.open_stream(answer(ward.page)).read_all()
    assert table.column_names == ["time", "I"] and both.column_names == ["time", "I", "II"]
    assert json.loads(blocks(page).about)["leads"] == ["I"]
    assert judged(chordae, page, leads=["I"]).proven
    # Of the other lead there are digests, and of its samples no run of four.
    shown = [page["salts"].keys() for chunk in json.loads(blocks(page).proof)["chunks"] for page in chunk["pages"]]
    assert shown and all(keys == {"0", "1"} for keys in shown)
    codes = both["II"].to_numpy().astype("<i4").tobytes()
    assert codes[160:176] in answer(ward.page) and codes[160:176] not in answer(page)


def test_the_command_line_checks_a_strip_by_the_readers_own_trust_file(ward, tmp_path):
    def verify(page, *args, ok):
        path = tmp_path / "s.html"
        path.write_text(page)
        done = run("verify", path, "--json", *args, ok=(ok,))
        return json.loads(done.stdout) if done.stdout.strip() else done.stderr

    by = ["--trust", ward.trust]
    assert verify(ward.page, *by, ok=0)["findings"] == []
    assert verify(ward.one.read_text(), *by, ok=0)["verdict"] == "ok"
    assert verify(ward.page, ok=4)["verdict"] == "unanchored", "its own trust file counts for nothing"
    assert verify(flipped(ward.page), *by, ok=3)["findings"]
    until = ward.t0 + 30 * S
    for old, new in ((f'"until_ns":{until}', f'"until_ns":{until + 1}'), ('"leads":null', '"leads":["I"]')):
        changed = ward.page.replace(old, new, 1)
        assert changed != ward.page
        assert verify(changed, *by, ok=3)["verdict"] == "damaged", old
    assert "not a strip" in verify(ward.page.replace('id="proof"', 'id="x"'), *by, ok=1)
    # A page that would say something else with the same data: the data hold, and the page is told.
    forged = ward.page.replace("Not for diagnosis", "Fit for diagnosis")
    path = tmp_path / "s.html"
    verify(forged, *by, ok=0)
    assert "the page around the data is not" in run("verify", path, *by).stdout
    path.write_text(ward.page)
    assert "page around" not in run("verify", path, *by).stdout, "the control"


def test_what_is_too_long_or_without_keys_is_refused_and_nothing_is_written(ward):
    out, done = ward.pull("long.html", "--format", "html", until=11 * MINUTE, ok=(1,))
    assert "at most 10 minutes" in done.stderr and "in parts" in done.stderr and not out.exists()
    out, done = ward.pull("bare.html", "--format", "html", trusted=False, ok=(2,))
    assert "--trust" in done.stderr and not out.exists()
    ward.pull("bare.arrows", "--format", "arrow", trusted=False, ok=(4,))


def test_trust_show_prints_key_ids_in_groups(ward):
    lines = run("trust", "show", ward.trust).stdout.splitlines()
    own = json.loads(ward.trust.read_text())
    known = {who["role"]: who["sign"] for who in own["providers"] + own["sequencers"]}
    for role, sign in known.items():
        kid = hashlib.sha256(base64.urlsafe_b64decode(sign + "=")).hexdigest()
        assert f"{role} {role}  {' '.join(re.findall('.{4}', kid))}" in lines
    assert [line.split()[0] for line in lines] == ["provider", "log", "sequencer"]


def test_help_has_an_example():
    assert "--format html" in run("pull", "--help").stdout and "trust show" in run("trust", "show", "--help").stdout
