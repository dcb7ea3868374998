"""Heads anchored together: every reader proves a stream by the way to their root, and an altered file is named."""

import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import checker
from conftest import ROOT, SETTINGS, Server, grant, need, party, run, sim, trust, wait_until

CHAIN = ROOT / "query/web/chain"
BEDS = ("bed-1", "bed-2", "bed-3")


class Ward:
    """Three beds, two rounds of chunks; the heads of the second share an event."""

    def __init__(self, base):
        text = SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off")
        self.base = base
        self.server = Server(base / "data", settings=text.replace("[ledger]", "[ledger]\nheads-alone = 0"))
        self.folder = self.server.folder
        with self.server as server:
            self.ann, self.roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
            for bed in BEDS:
                server.cli("device", "add", bed, "--out", base / bed)
                server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{self.ann}.pub")
            self.send()
        with self.server as server:
            self.dids = {bed: server.did(f"{bed}/ecg") for bed in BEDS}
            self.sid = grant(server, self.ann, self.roe, self.dids["bed-2"])
            self.send()
        self.trust = trust(self.server, base)

    def send(self):
        for bed in BEDS:
            sim(self.server, "--device", bed, "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20",
                "--for", "20s")

    def events(self):
        size = int((self.folder / "ledger/checkpoint").read_text().split("\n")[1])
        entries = checker.read_entries(self.folder / "ledger", size)
        return [checker.check_entry(entry, {})[0] for entry in entries]

    def files(self):
        return sorted(path for path in (self.folder / "ledger.heads").rglob("*") if path.is_file())

    def verify(self, ok=(0,)):
        return json.loads(run("verify", self.folder, "--trust", self.trust, "--json", ok=ok).stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Ward(tmp_path_factory.mktemp("heads"))


@pytest.fixture
def ward(made, tmp_path):
    """What a test alters is as it was for the next one."""
    copy = tmp_path / "whole"
    shutil.copytree(made.folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    yield made
    shutil.rmtree(made.folder)
    shutil.copytree(copy, made.folder)


def test_a_round_is_one_event_and_both_checkers_hold_its_heads_against_the_root(ward):
    events = ward.events()
    heads = [event for event in events if event["type"] == "add-heads"]
    assert heads and max(event["count"] for event in heads) == len(BEDS)
    # The first of each stream by itself, sealed to the patient.
    assert sum(event["type"] == "add-data" for event in events) >= len(BEDS)
    assert [path.name for path in ward.files()] == sorted({event["root"].hex() for event in heads})
    assert ward.verify()["verdict"] == "ok"
    found = checker.check(ward.folder, json.loads(ward.trust.read_text()))["findings"]
    assert found == []


def test_three_readers_prove_a_window_by_the_way_to_the_root(ward):
    need((CHAIN / "node_modules/typescript").is_dir(), f"{CHAIN}/node_modules (./test makes it)")
    subprocess.run(["npx", "tsc"], cwd=CHAIN, check=True, timeout=120)
    did, proof, csv = ward.dids["bed-2"], ward.base / "proof.json", ward.base / "rows.csv"
    last = checker.links(ward.folder)[did][-1]
    span = ["--from", last.slot_start, "--until", last.slot_start + last.slot_len]
    # A window ends now at the latest, and cuts no page only once its last slot is over.
    wait_until(lambda: time.time_ns() > span[3])
    with ward.server as server:
        key = ["--key", ward.roe, "--session", ward.sid, "--stream", did, "--trust", ward.trust]
        server.cli("pull", *key, *span, "--format", "csv", "--out", csv, "--proof", proof)
        sys.path.insert(0, str(ROOT / "query/python/src"))
        import chordae

        with chordae.Client(server.http, ward.roe, ward.trust, ward.sid) as node:
            window = node.pull(did, span[1], span[3]).require_proof()
        assert len(window) == csv.read_text().count("\n") - 1 > 0
    bundle = json.loads(proof.read_text())
    head = bundle["anchor"]["head"]
    assert len(head["path"]) == (1 if head["at"] == 2 else 2), "three leaves, the last of them beside the root"
    assert run("verify", proof, "--answer", csv, "--trust", ward.trust).returncode == 0

    def browser():
        command = ["node", "tests/judge-files.mjs", proof, csv, ward.trust]
        done = subprocess.run(list(map(str, command)), cwd=CHAIN, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)

    assert browser() == ["anchored", []]
    # Its only sibling, if it is the last: a way that leads to another root.
    head["path"][0] = head["path"][0][::-1]
    proof.write_text(json.dumps(bundle))
    assert browser() == ["damaged", ["link-prev"]]
    assert "link-prev" in run("verify", proof, "--answer", csv, "--trust", ward.trust, ok=(3,)).stdout
    with pytest.raises(chordae.Damaged):
        ward.server.start()
        try:
            arrow = raw(ward, did, span)
        finally:
            ward.server.stop()
        chordae.verify(arrow, proof.read_text(), chordae.TrustFile.read(ward.trust))


def raw(ward, did, span):
    """An answer as it comes, signed by hand."""
    from signing import Signer

    target = f"/v1/streams/{did}/window?from={span[1]}&until={span[3]}&snap=page"
    signer = Signer(ward.roe, json.loads(ward.trust.read_text())["origin"])
    request = urllib.request.Request(ward.server.http + target, headers=signer.header(target, sid=ward.sid))
    return urllib.request.urlopen(request, timeout=30).read()


def test_outsiders_read_the_heads_over_http(ward):
    [path, *_] = ward.files()
    with ward.server as server:
        def get(name):
            try:
                return urllib.request.urlopen(f"{server.http}/ledger/heads/{name}", timeout=30).read()
            except urllib.error.HTTPError as e:
                return e.code

        assert get(f"{path.parent.name}/{path.name}") == path.read_bytes()
        for name in (f"00/{path.name}", f"ab/{'ab' * 32}", path.name, f"{path.parent.name}/../../keys/log.pem"):
            assert get(name) == 404, name


@pytest.mark.parametrize("what", ["bent", "cut", "gone"])
def test_a_file_of_heads_that_was_altered_is_named_and_nothing_is_proven_by_it(ward, what):
    path = ward.files()[-1]
    whole = path.read_bytes()
    if what == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[:64] if what == "cut" else whole[:40] + bytes([whole[40] ^ 4]) + whole[41:])
    name = f"ledger.heads/{path.parent.name}/{path.name}"
    code = "missing-file" if what == "gone" else "log-root"
    told = {(f["object"], f["code"]) for f in ward.verify(ok=(3,))["findings"]}
    assert (name, code) in told
    found = checker.check(ward.folder, json.loads(ward.trust.read_text()))["findings"]
    assert (name, code) in {(one["object"], one["code"]) for one in found}
    with pytest.raises(AssertionError, match=path.name):
        ward.server.start()
    path.write_bytes(whole)
    assert ward.verify()["verdict"] == "ok"
