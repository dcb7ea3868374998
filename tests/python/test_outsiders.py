"""The ledger, checked by programs that nobody here wrote: Go's sumdb libraries, sigstore, a COSE library.

Each finds what is wrong (the controls), so its word for what is right means something. The programs lie in
tests/outside/; sigstore and the COSE library have a venv of their own, `.tools/outside`.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import time
import urllib.request

import pytest

import checker
from conftest import ROOT, SETTINGS, Server, need, party, sim, trust, wait_until
from signing import public, signing_key

sys.path.insert(0, str(ROOT / "query/python/src"))
import chordae

OUTSIDE = ROOT / "tests/outside"
TOOLS = ROOT / ".tools/outside"
PYTHON = TOOLS / "venv/bin/python"
GOCODE = pathlib.Path("/usr/share/gocode")


@pytest.fixture(scope="module")
def go():
    """check.go, built from Debian's packages alone: no module proxy, no network."""
    need(shutil.which("go") and (GOCODE / "src/golang.org/x/mod").is_dir(), "golang-go or golang-golang-x-mod-dev")
    TOOLS.mkdir(parents=True, exist_ok=True)
    where = {"GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(TOOLS / "go-cache"), "CGO_ENABLED": "0"}
    sources = [f"tests/outside/{name}.go" for name in ("check", "files", "trust")]
    subprocess.run(["go", "build", "-o", TOOLS / "check", *sources], check=True, cwd=ROOT, env=os.environ | where)
    return TOOLS / "check"


@pytest.fixture(scope="module")
def python():
    need(PYTHON.exists(), f"{PYTHON} (./test makes it from tests/outside/requirements.txt)")
    return PYTHON


class Ledger:
    """A log of every type of event, longer than a tile, and a checkpoint of it from when it was shorter."""

    def __init__(self, base, server):
        self.folder, self.trust = server.folder / "ledger", trust(server, base)
        self.secret = signing_key(server.folder / "keys/log.pem")
        self.parties = base
        self.older = base / "older-checkpoint"

    def copy(self, to):
        return pathlib.Path(shutil.copytree(self.folder, to))

    @property
    def size(self):
        return int((self.folder / "checkpoint").read_text().split("\n")[1])


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    base = tmp_path_factory.mktemp("outsiders")
    text = SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off")
    server = Server(base / "data", settings=text.replace('[http]\ntls = "off"', '[http]\ntls = "127.0.0.1:0"'))
    with server:
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        patient, doctor = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{patient}.pub")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20",
            "--for", "60s")
        made = Ledger(base, server)
        with chordae.Client(server.http, patient, made.trust) as ann:
            did = server.did("bed-1/ecg")
            sids = [ann.grant(f"{doctor}.pub", did) for _ in range(10)]

            def checkpoint():
                """Not from the folder, which may be a second older."""
                return urllib.request.urlopen(f"{server.http}/ledger/checkpoint", timeout=10).read()

            made.older.write_bytes(checkpoint())
            ann.revoke(sids[0])
            while int(checkpoint().split(b"\n")[1]) < 300:
                ann.grant(f"{doctor}.pub", did)
            # An answer, whatever is in it: the trail gets a record, and so a head.
            ann.pull(did, time.time_ns() - 60 * 10**9, time.time_ns())
    # The orderly stop anchored the head of the trail, the next start does it again; then the log rests.
    stopped = made.size
    with server:
        made.urls = [f"{server.http}/ledger", f"https://{server.doors['http-tls']}/ledger"]
        wait_until(lambda: made.size > stopped)
        entries = checker.read_entries(made.folder, made.size)
        kinds = {checker.cbor2.loads(checker.cbor2.loads(entry).value[2])["type"] for entry in entries}
        assert kinds == {"add-data", "create-session", "revoke-session", "audit-head", "block"}
        yield made


def rewrite(folder, entries, origin, secret):
    """Writes a whole log: what one who holds the log's key can do."""
    shutil.rmtree(folder / "tile")

    def put(level, n, width, data):
        partial = "" if width == 256 else f".p/{width}"
        path = folder / f"tile/{level}/{checker.tile_path(n)}{partial}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    for n in range(0, len(entries), 256):
        part = entries[n:n + 256]
        put("entries", n // 256, len(part), b"".join(struct.pack(">H", len(e)) + e for e in part))
    row, level = [checker.leaf_hash(entry) for entry in entries], 0
    root = checker.tree_root(row)
    while row:
        for n in range(0, len(row), 256):
            put(level, n // 256, len(row[n:n + 256]), b"".join(row[n:n + 256]))
        row = [checker.tree_root(row[n:n + 256]) for n in range(0, len(row) - 255, 256)]
        level += 1
    body = f"{origin}\n{len(entries)}\n{base64.b64encode(root).decode()}\n"
    key_hash = hashlib.sha256(f"{origin}\n\1".encode() + public(secret)).digest()[:4]
    line = base64.b64encode(key_hash + secret.sign(body.encode())).decode()
    (folder / "checkpoint").write_text(f"{body}\n— {origin} {line}\n")


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def origin(ledger):
    return json.loads(ledger.trust.read_text())["origin"]


def replaced(ledger, folder, **changed):
    """The log, written anew with some entries changed, under its own key."""
    entries = checker.read_entries(folder, ledger.size)
    rewrite(folder, changed["entries"](entries), origin(ledger), changed.get("secret", ledger.secret))


# What is done to a copy, and in which words Go's library or the proof made from its tiles finds it. x/mod 0.7.0 holds a
# full tile against its parent at some sizes of the log only (its loop starts after the tree's hashes, though several lie
# in one tile); at the others it is the proof that fails.
TAMPERED = {
    "a hash of a full tile": (lambda l, f: flip(f / "tile/0/000", 32 * 7), "do not lead to the root|inconsistent tile"),
    "a hash of a partial tile": (lambda l, f: flip(f / f"tile/0/001.p/{l.size % 256}", 5), "inconsistent"),
    "a hash of a higher tile": (lambda l, f: flip(next(f.glob("tile/1/000.p/*")), 0), "inconsistent"),
    "an entry": (lambda l, f: flip(f / "tile/entries/000", 100), "do not lead to the root"),
    "an entry's length": (lambda l, f: flip(f / "tile/entries/000", 1), "do not lead to the root"),
    "two entries swapped": (lambda l, f: swap(f), "do not lead to the root"),
    "a bundle cut off": (lambda l, f: cut(f / f"tile/entries/001.p/{l.size % 256}"), "cut off"),
    "the checkpoint's root": (lambda l, f: edit(f, 2), "invalid signature"),
    "the checkpoint's size": (lambda l, f: edit(f, 1), "invalid signature"),
    "the checkpoint's signature": (lambda l, f: edit(f, 4), "invalid signature"),
    "another key's signature": (
        lambda l, f: replaced(l, f, entries=list, secret=signing_key(l.parties / "ann.pem")), "no verifiable"),
}


def swap(folder):
    entries = checker.read_entries(folder, 256)
    entries[3], entries[4] = entries[4], entries[3]
    (folder / "tile/entries/000").write_bytes(b"".join(struct.pack(">H", len(e)) + e for e in entries))


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def edit(folder, line):
    """Another digit or letter in a line of the checkpoint."""
    lines = (folder / "checkpoint").read_text().split("\n")
    old = lines[line]
    at = -30 if len(old) > 30 else -1
    lines[line] = old[:at] + ("1" if old[at] != "1" else "2") + old[at:][1:]
    (folder / "checkpoint").write_text("\n".join(lines))


def outsider(*command):
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_go_checks_the_ledger_over_http_and_tls_and_in_its_folder(go, ledger):
    for place in (*ledger.urls, ledger.folder):
        code, said = outsider(go, "-trust", ledger.trust, "-older", ledger.older, place)
        print(said)
        assert code == 0 and f"inclusion: each of the {ledger.size} entries" in said, said
        assert f"signed by {origin(ledger)}" in said and "begins with the" in said


@pytest.mark.parametrize("what", TAMPERED)
def test_go_finds_what_was_tampered_with(go, ledger, tmp_path, what):
    folder = ledger.copy(tmp_path / "ledger")
    assert outsider(go, "-trust", ledger.trust, folder)[0] == 0
    tamper, words = TAMPERED[what]
    tamper(ledger, folder)
    code, said = outsider(go, "-trust", ledger.trust, folder)
    assert code == 3 and re.search(words, said), said


def test_go_finds_a_fork_and_a_roll_back_by_the_older_checkpoint(go, ledger, tmp_path):
    """Whoever holds the log's key can write a log that is right in itself; only what was kept tells."""
    command = (go, "-trust", ledger.trust)
    older = ("-older", ledger.older)
    same, fork, back = (ledger.copy(tmp_path / name) for name in ("same", "fork", "back"))
    replaced(ledger, same, entries=list)
    assert outsider(*command, *older, same)[0] == 0, "the control: written anew and not changed"
    replaced(ledger, fork, entries=lambda entries: [*entries[:2], entries[0], *entries[3:]])
    assert outsider(*command, fork)[0] == 0, "right in itself"
    code, said = outsider(*command, *older, fork)
    assert code == 3 and "forked" in said, said
    replaced(ledger, back, entries=lambda entries: entries[:2])
    assert outsider(*command, back)[0] == 0, "right in itself"
    code, said = outsider(*command, *older, back)
    assert code == 3 and "rolled back" in said, said


def test_go_says_what_it_cannot_read(go, ledger, tmp_path):
    assert outsider(go)[0] == 2
    code, said = outsider(go, "-trust", ledger.trust, tmp_path)
    assert code == 1 and "could not read" in said
    folder = ledger.copy(tmp_path / "ledger")
    (folder / "tile/0/000").unlink()
    assert outsider(go, "-trust", ledger.trust, folder)[0] == 1


def test_go_knows_cosignatures(go, ledger, tmp_path):
    """With a verifier of 15 lines, as C2SP tlog-cosignature says; a bad one is told and does not count."""
    secret, name = signing_key(ledger.parties / "roe.pem"), "w.example/w"
    typed = b"\4" + public(secret)
    key_hash = hashlib.sha256(f"{name}\n".encode() + typed).digest()[:4]
    said = json.loads(ledger.trust.read_text())
    said["policy"] = (f"{said['policy'].splitlines()[0]}\n"
                      f"witness W {name}+{key_hash.hex()}+{base64.b64encode(typed).decode()}\nquorum W\n")
    trusted = tmp_path / "trust.json"
    trusted.write_text(json.dumps(said))
    folder = ledger.copy(tmp_path / "ledger")
    note = (folder / "checkpoint").read_text()
    body = note[:note.index("\n\n") + 1]
    counts, does_not = f"\ncosigned by {name} at 2023-11-14T22:13:20Z", f"not cosigned by {name}"
    for stamp, words in ((1_700_000_000, counts), (1, does_not)):
        signature = secret.sign(f"cosignature/v1\ntime 1700000000\n{body}".encode())
        line = base64.b64encode(key_hash + struct.pack(">Q", stamp) + signature).decode()
        (folder / "checkpoint").write_text(f"{note}— {name} {line}\n")
        code, told = outsider(go, "-trust", trusted, folder)
        assert code == 0 and words in told, told
    code, told = outsider(go, "-trust", trusted, ledger.folder)
    assert code == 0 and f"not cosigned by {name}" in told


# What is done to a copy that sigstore must find; it reads no tiles of hashes.
FOUND_BY_SIGSTORE = [what for what in TAMPERED if "hash of" not in what]


def test_sigstore_checks_the_checkpoint_and_every_inclusion(python, ledger, tmp_path):
    program = (python, OUTSIDE / "checkpoint.py", ledger.trust)
    code, said = outsider(*program, ledger.folder)
    assert code == 0 and f"{ledger.size} entries, signed by {origin(ledger)}, each of them included" in said, said
    copies = [ledger.copy(tmp_path / str(n)) for n in range(len(FOUND_BY_SIGSTORE))]
    for what, folder in zip(FOUND_BY_SIGSTORE, copies, strict=True):
        TAMPERED[what][0](ledger, folder)
    code, said = outsider(*program, *copies)
    print(said)
    for what, folder in zip(FOUND_BY_SIGSTORE, copies, strict=True):
        assert code == 3 and f"{folder}: does not hold: " in said, what


def test_a_cose_library_verifies_every_entry(python, ledger, tmp_path):
    program, patient = (python, OUTSIDE / "entries.py", ledger.trust), ledger.parties / "ann.pem.pub"
    code, said = outsider(*program, patient, ledger.folder)
    assert code == 0 and f"{ledger.size} entries, each signed by one of 3 known keys" in said, said
    code, said = outsider(*program, ledger.folder)
    assert code == 3 and "does not hold" in said, "without the patient's key her entries are nobody's"
    # A byte of the content type, of the key id, of the payload and of the signature.
    end = len(checker.read_entries(ledger.folder, 256)[0])
    copies = {at: ledger.copy(tmp_path / str(at)) for at in (20, 60, 200, end - 1)}
    for at, folder in copies.items():
        flip(folder / "tile/entries/000", 2 + at)
    code, said = outsider(*program, patient, *copies.values())
    print(said)
    for at, folder in copies.items():
        assert code == 3 and f"{folder}: does not hold: entry 0" in said, at
