"""Witnesses: receipts that count only when enough of them have seen the checkpoint, and a log that shows two histories
or goes back is refused by each of them. Real witnesses, over HTTP, with kill -9."""

import base64
import json
import shutil
import signal
import subprocess
import threading
import time
import types
import urllib.error
import urllib.request

import pytest

import checker
from conftest import BIN, Server, party, run, sim, trust, wait_until
from ports import free_port

S = 10**9
SIM = ("--device", "bed-1", "--leads", "2", "--rate", "100", "--speed", "20")


class Witness:
    """`chordae witness --listen`, on a port that stays."""

    def __init__(self, base, name, trust):
        self.base, self.name, self.trust, self.port = base, name, trust, free_port()
        self.key, self.memory = base / f"{name}.pem", base / f"{name}.memory"
        run("key", "new", "--role", "witness", "--name", name, "--out", self.key)
        self.process, self.vkey = None, None

    def command(self, *more):
        return ["witness", "--key", self.key, "--name", f"{self.name}.example.org", "--trust", self.trust, "--memory",
                self.memory, *more]

    def start(self, *more):
        self.process = subprocess.Popen([str(BIN), *map(str, self.command("--listen", f"127.0.0.1:{self.port}", *more))],
                                        stdout=subprocess.PIPE, stderr=open(self.base / f"{self.name}.log", "ab"), text=True)
        for line in self.process.stdout:
            words = line.split()
            if words[:1] == ["witness"]:
                self.vkey = words[2]
            if words[:1] == ["ready"]:
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return self
        raise AssertionError((self.base / f"{self.name}.log").read_text()[-2000:])

    def end(self, how=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)

    def ask(self, body):
        """POST add-checkpoint: status, content type, text."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/add-checkpoint", body, method="POST")
        try:
            answer = urllib.request.urlopen(request, timeout=10)
        except urllib.error.HTTPError as refused:
            answer = refused
        return answer.status, answer.headers.get("Content-Type"), answer.read().decode()


def policy(w, witnesses, quorum):
    """Says who must have seen a checkpoint; a trust file that says so."""
    log = run("trust", "policy", "--data", w.server.folder).stdout.splitlines()[0]
    lines = [log, *(f"witness {one.name} {one.vkey} http://127.0.0.1:{one.port}" for one in witnesses),
             f"group enough {quorum} {' '.join(one.name for one in witnesses)}", "quorum enough"]
    text = w.base / "policy.txt"
    text.write_text("\n".join(lines) + "\n")
    run("trust", "policy", "--data", w.server.folder, text)
    out = w.base / "trust-witnessed.json"
    out.unlink(missing_ok=True)
    run("trust", "export", "--data", w.server.folder, "--out", out)
    return out


@pytest.fixture
def ward(tmp_path):
    """A server with one stream, and two witnesses that know its log."""
    server = Server(tmp_path / "data", slot=10)
    w = types.SimpleNamespace(base=tmp_path, server=server, t0=(int(time.time()) - 3600) // 60 * 60 * S, seq=0)
    with server:
        w.ann = party(server, tmp_path, "ann", "patient")
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{w.ann}.pub")
        send(w)
        w.did = server.did("bed-1/ecg")
    w.plain = trust(server, tmp_path)
    w.witnesses = [Witness(tmp_path, name, w.plain).start("--init") for name in ("w1", "w2")]
    yield w
    for one in w.witnesses:
        one.end()
    if server.process.poll() is None:
        server.kill9()


def send(w):
    """Ten seconds more, sealed and anchored by the next orderly stop."""
    sim(w.server, *SIM, "--boot", "1", "--first-seq", w.seq, "--start", w.t0 + w.seq * S, "--for", "10s")
    w.seq += 10


def pull(w, at, trust, ok=(0,)):
    a, b = w.t0 + at * S, w.t0 + (at + 10) * S
    return run("pull", "--key", w.ann, "--url", w.server.http, "--stream", w.did, "--trust", trust, "--from", a,
               "--until", b, "--format", "csv", "--out", w.base / "ecg.csv", "--proof", w.base / "proof.json", ok=ok)


def size(text):
    return int(text.splitlines()[1])


def checkpoint(server):
    return urllib.request.urlopen(f"{server.http}/ledger/checkpoint", timeout=10).read().decode()


def cosigned(text):
    """Names of those who signed, and not by the log's own name."""
    origin = text.splitlines()[0]
    names = [line.split()[1] for line in text.partition("\n\n")[2].splitlines()]
    return sorted(name for name in names if name != origin)


def test_a_receipt_counts_when_two_of_two_witnesses_have_seen_it(ward):
    w = ward
    both = policy(w, w.witnesses, 2)
    # A reader who demands them, of a server that had none yet, is told what is missing.
    w.server.start()
    wait_until(lambda: len(cosigned(checkpoint(w.server))) == 2)
    assert "verified" in pull(w, 0, both).stdout
    # The receipt carries both cosignatures, with times; a reader without demands takes it as well.
    proof = json.loads((w.base / "proof.json").read_text())["anchor"]["proof"]
    assert cosigned(proof.partition("\n\n")[2]) == ["w1.example.org", "w2.example.org"]
    assert "verified" in pull(w, 0, w.plain).stdout
    # The control: one cosignature forged, and the reader who demands two does not count it.
    forged = json.loads((w.base / "proof.json").read_text())
    line = next(line for line in proof.splitlines() if "w2.example.org" in line)
    raw = bytearray(base64.b64decode(line.split()[2]))
    raw[-1] ^= 1
    forged["anchor"]["proof"] = proof.replace(line, " ".join([*line.split()[:2], base64.b64encode(raw).decode()]))
    (w.base / "forged.json").write_text(json.dumps(forged))
    good, bad = (run("verify", w.base / name, "--answer", w.base / "ecg.csv", "--trust", both, ok=(0, 3, 4)).returncode
                 for name in ("proof.json", "forged.json"))
    assert (good, bad) == (0, 4)

    # One witness is away: what it has seen counts on, what is new does not, and nothing else waits.
    w.witnesses[1].end()
    seen = size(checkpoint(w.server))
    w.server.stop()
    # The independent checker counts the same, and sees a note of the witnesses that the log does not begin with.
    theirs = json.loads(both.read_text())
    kept = w.server.folder / "ledger.cosigned"
    report = checker.check(w.server.folder, theirs)
    assert not report["findings"] and report["anchored"] == 1
    assert report["entries"] > report["counted"] == size(kept.read_text()) > 0
    other = json.loads(json.dumps(theirs).replace(" 2 w1 w2", " all w1 w2 w3"))
    assert "w3" in other["policy"] and checker.check(w.server.folder, other)["counted"] == 0
    note = kept.read_text()
    kept.write_text(note.replace(f"\n{size(note)}\n", f"\n{size(note) - 1}\n", 1))
    assert {f["code"] for f in checker.check(w.server.folder, theirs)["findings"]} == {"checkpoint-signature", "fork"}
    kept.write_text(note)
    w.server.start()
    send(w)
    w.server.stop()
    w.server.start()
    assert size(checkpoint(w.server)) > seen and "verified" in pull(w, 0, both).stdout
    assert "not anchored" in pull(w, 10, both, ok=(4,)).stdout
    wait_until(lambda: "w2" in urllib.request.urlopen(f"http://{w.server.doors['metrics']}/readyz").read().decode())
    # It comes back, from its memory.
    w.witnesses[1].start()
    wait_until(lambda: "verified" in pull(w, 10, both, ok=(0, 4)).stdout)


def test_who_demands_witnesses_takes_no_receipt_without(ward):
    w = ward
    both = policy(w, w.witnesses, 2)
    run("trust", "policy", "--data", w.server.folder, write(w.base / "none.txt",
        run("trust", "policy", "--data", w.server.folder).stdout.splitlines()[0] + "\nquorum none\n"))
    with w.server:
        assert "verified" in pull(w, 0, w.plain).stdout
        assert "not anchored" in pull(w, 0, both, ok=(4,)).stdout


def write(path, text):
    path.write_text(text)
    return path


def test_no_witness_cosigns_two_histories_or_a_log_that_went_back(ward):
    """A copy of the folder, keys included, goes another way: the one that came first is cosigned, the other is not."""
    w = ward
    shutil.copytree(w.server.folder, w.base / "twin", ignore=shutil.ignore_patterns("*.sock"))
    policy(w, w.witnesses, 2)
    w.server.start()
    send(w)
    w.server.stop()
    w.server.start()
    wait_until(lambda: len(cosigned(checkpoint(w.server))) == 2)
    grown = checkpoint(w.server)
    w.server.stop()

    first, other = w.server, Server(w.base / "twin", slot=10)
    w.server = other
    other.start()
    w.seq = 30
    send(w)
    other.stop()
    other.start()
    send(w)
    other.stop()
    other.start()
    twin = checkpoint(other)
    assert size(twin) > size(grown) and twin.splitlines()[0] == grown.splitlines()[0]
    # The witness looks by itself: it goes on from what it saw, or not at all.
    looked = run(*w.witnesses[0].command("--follow", other.http, "--once"), ok=(1, 3))
    assert looked.returncode == 1 and "in use" in looked.stderr, "one process per memory"
    w.witnesses[0].end()
    looked = run(*w.witnesses[0].command("--follow", other.http, "--once"), ok=(3,))
    assert "shows two histories" in looked.stdout
    kept = [p.read_text() for p in (w.witnesses[0].memory / "evidence").iterdir()]
    assert any(line in text for text in kept for line in twin.splitlines()[2:3]), "both notes are kept"
    other.stop()

    # Asked the other way: the twin demands cosignatures too, and gets none.
    w.witnesses[0].start()
    w.server = other
    policy(w, w.witnesses, 2)
    other.start()
    metrics = f"http://{other.doors['metrics']}/readyz"
    wait_until(lambda: "witness" in urllib.request.urlopen(metrics).read().decode())
    assert cosigned(checkpoint(other)) == []
    other.stop()

    # The control: the first history goes on being cosigned.
    w.server = first
    first.start()
    w.seq = 20
    send(w)
    first.stop()
    first.start()
    wait_until(lambda: len(cosigned(checkpoint(first))) == 2)
    assert size(checkpoint(first)) > size(grown)


def test_what_is_no_request_is_refused_by_its_code(ward):
    w = ward
    one = w.witnesses[0]
    w.server.start()
    note = checkpoint(w.server)
    origin, _, rest = note.partition("\n")
    bad_signature = note[:-6] + ("AAAA=\n" if not note.endswith("AAAA=\n") else "BBBB=\n")
    assert one.ask(b"")[0] == 400
    assert one.ask(b"old x\n\n" + note.encode())[0] == 400
    assert one.ask(f"old 0\n\nother.example.org\n{rest}".encode())[0] == 404
    assert one.ask(f"old 0\n\n{bad_signature}".encode())[0] == 403
    assert one.ask(b"old 0\n\n" + b"x" * 100_000)[0] in (400, 413)
    # Whoever says the wrong size hears the right one: nothing was seen yet.
    assert one.ask(f"old 1\n\n{note}".encode())[:2] == (409, "text/x.tlog.size")
    status, _, line = one.ask(f"old 0\n\n{note}".encode())
    assert status == 200 and line.startswith("\u2014 w1.example.org ") and line.count("\n") == 1
    assert one.ask(f"old 0\n\n{note}".encode()) == (409, "text/x.tlog.size", f"{size(note)}\n")
    # After a kill -9 it remembers.
    one.end()
    one.start()
    assert one.ask(f"old 0\n\n{note}".encode()) == (409, "text/x.tlog.size", f"{size(note)}\n")
    # Growth without a proof is none.
    send(w)
    w.server.stop()
    w.server.start()
    grown = checkpoint(w.server)
    assert size(grown) > size(note)
    assert one.ask(f"old {size(note)}\n\n{grown}".encode())[0] == 422
    assert one.ask(f"old {size(note)}\n{base64.b64encode(bytes(32)).decode()}\n\n{grown}".encode())[0] == 422
    with urllib.request.urlopen(f"http://{w.server.doors['metrics']}/metrics") as answer:
        assert b"chordae_ledger_uncosigned_entries 0\n" in answer.read()


def test_a_memory_is_made_on_purpose_only(ward, tmp_path):
    lost = Witness(tmp_path, "w3", ward.plain)
    refused = run(*lost.command("--follow", "http://127.0.0.1:1", "--once"), ok=(1,))
    assert "--init" in refused.stderr
    again = ward.witnesses[0]
    again.end()
    assert run(*again.command("--init", "--listen", "127.0.0.1:0"), ok=(1,)).stderr
