"""Keys that change: what the old one signed holds, what it signs afterwards does not, for every reader."""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import time

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import checker
from conftest import ROOT, Server, party, run, sim, trust, wait_until
from signing import b64, public

SIM = ("--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20", "--for", "30s")
ORIGIN = "chordae.local/test"

sys.path.insert(0, str(ROOT / "query/python/src"))
import chordae  # noqa: E402


# ---- a ledger by hand, from docs/FORMATS.md 5

def key(seed):
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def kid(secret):
    return hashlib.sha256(public(secret)).digest()


A, B, SEQUENCER, LOG, NEXT_LOG = (key(seed) for seed in (1, 21, 2, 5, 25))


def entry(fields, by):
    header = {1: -8, 3: "application/chordae-event+cbor", 4: kid(by)}
    protected, payload = cbor2.dumps(header, canonical=True), cbor2.dumps(fields, canonical=True)
    signature = by.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def audit(count, by):
    """Heads of an empty trail: nothing else is needed to sign something."""
    return entry({"type": "audit-head", "digest": bytes(32), "count": 0, "time_ms": count}, by)


def rotate(role, old, new, by=A):
    return entry({"type": "rotate-key", "role": role, "old": kid(old), "new": public(new), "time_ms": 7}, by)


def ledger(folder, batches, log=LOG):
    entries, previous = [], bytes(32)
    for height, batch in enumerate(batches):
        block = {"type": "block", "height": height, "prev": previous, "first": len(entries), "count": len(batch),
                 "events_root": checker.tree_root([checker.leaf_hash(e) for e in batch]), "time_ms": height}
        entries += [*batch, entry(block, SEQUENCER)]
        previous = checker.leaf_hash(entries[-1])
    hashes, size = [checker.leaf_hash(e) for e in entries], len(entries)
    shutil.rmtree(folder / "ledger", ignore_errors=True)
    for level, data in (("0", b"".join(hashes)),
                        ("entries", b"".join(len(e).to_bytes(2, "big") + e for e in entries))):
        path = folder / f"ledger/tile/{level}/000.p/{size}"
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    body = f"{ORIGIN}\n{size}\n{base64.b64encode(checker.tree_root(hashes)).decode()}\n"
    typed = b"\x01" + public(log)
    key_hash = hashlib.sha256(ORIGIN.encode() + b"\n" + typed).digest()[:4]
    line = base64.b64encode(key_hash + log.sign(body.encode())).decode()
    (folder / "ledger/checkpoint").write_text(f"{body}\n— {ORIGIN} {line}\n")
    return size


def vkey(secret):
    typed = b"\x01" + public(secret)
    key_hash = hashlib.sha256(ORIGIN.encode() + b"\n" + typed).digest()[:4]
    return f"{ORIGIN}+{key_hash.hex()}+{base64.b64encode(typed).decode()}"


def trusting(providers=(A,), logs=(LOG,), retired=()):
    identity = lambda role, secret: {"name": role, "role": role, "sign": b64(public(secret))}  # noqa: E731
    file = {"origin": ORIGIN, "policy": "".join(f"log {vkey(log)}\n" for log in logs) + "quorum none\n",
            "providers": [identity("provider", one) for one in providers], "sequencers": [identity("sequencer", SEQUENCER)]}
    return file | ({"retired": [{"key": kid(one).hex(), "size": size} for one, size in retired]} if retired else {})


@pytest.fixture
def judge(tmp_path):
    """What both checkers say of a ledger: the codes and objects of their findings, which are the same."""
    folder = tmp_path / "data"
    for part in ("links", "chunks", "trail", "registry/keys"):
        (folder / part).mkdir(parents=True)

    def judged(batches, file, log=LOG):
        ledger(folder, batches, log)
        (tmp_path / "trust.json").write_text(json.dumps(file))
        done = run("verify", folder, "--trust", tmp_path / "trust.json", "--json", ok=(0, 3))
        ours = {(f["object"], f["code"]) for f in json.loads(done.stdout)["findings"]}
        theirs = {(f["object"], f["code"]) for f in checker.check(folder, file)["findings"]}
        assert ours == theirs
        return ours

    return judged


def test_a_retired_provider_signs_no_more(judge):
    change = rotate("provider", A, B)
    old, new = trusting(), trusting((A, B), retired=((A, 4),))
    good = [[audit(0, A)], [change], [audit(1, B)]]
    assert judge(good, old) == judge(good, new) == set()
    late = [[audit(0, A)], [change], [audit(1, A)]]
    for file in (old, new):
        assert judge(late, file) == {("ledger entry 4", "entry-signature")}
    # The control: without the change, and by a trust file that knows of none.
    assert judge([[audit(0, A)], [audit(2, A)], [audit(1, A)]], old) == set()
    # The trust file alone says it too, to whoever has not read the change.
    assert judge([[audit(0, A)], [audit(2, A)], [audit(1, A)]], new) == {("ledger entry 4", "entry-signature")}
    # Called a log it is still a provider.
    assert judge([[audit(0, A)], [rotate("log", A, B)], [audit(1, A)]], old) == set()
    # A stranger, and the key that comes, change nothing.
    assert judge([[audit(0, A)], [rotate("provider", A, B, by=B)], [audit(1, A)]], old) == {
        ("ledger entry 2", "entry-signature")}


def test_a_retired_log_key_signs_no_more(judge):
    batches = [[audit(0, A)], [rotate("log", LOG, NEXT_LOG)], [audit(1, A)]]
    old, new = trusting(), trusting(logs=(LOG, NEXT_LOG), retired=((LOG, 4),))
    checkpoint = {("ledger/checkpoint", "checkpoint-signature")}
    assert judge(batches, old) == judge(batches, new) == checkpoint
    assert judge(batches, new, NEXT_LOG) == set()
    assert judge(batches, old, NEXT_LOG) == checkpoint, "it is never followed"
    assert judge(batches[:2], old) == set(), "the one over its own retirement is the last"
    assert judge([batches[0], [audit(3, A)], batches[2]], old) == set(), "the control"


def test_a_retired_sequencer_closes_no_more(judge):
    change = rotate("sequencer", SEQUENCER, B)
    assert judge([[audit(0, A)], [change]], trusting()) == set()
    assert judge([[audit(0, A)], [change], [audit(1, A)]], trusting()) == {("ledger entry 5", "entry-signature")}


# ---- the whole house

@pytest.fixture(scope="module")
def world(tmp_path_factory):
    base = tmp_path_factory.mktemp("rotation")
    server = Server(base / "data", slot=10)
    with server:
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        server.ann = party(server, base, "ann", "patient")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{server.ann}.pub")
        sim(server, *SIM)
        server.dids = [s["did"] for s in server.streams()]
    server.base, server.old = base, trust(server, base)
    return server


def chain(server):
    return checker.links(server.folder)[server.dids[0]]


def pull(server, file, slots, ok=(0,)):
    """A window with its proof, by the command and by the Python client; what the command said."""
    out, proof = server.base / "ecg.arrow", server.base / "proof.json"
    out.unlink(missing_ok=True)
    # A window ends now at the latest, and cuts no page only once its last slot is over.
    wait_until(lambda: time.time_ns() > max(slots) + 10**10)
    done = server.cli("pull", "--key", server.ann, "--stream", server.dids[0], "--from", min(slots),
                      "--until", max(slots) + 10**10, "--trust", file, "--format", "arrow", "--out", out,
                      "--proof", proof, ok=ok)
    return done, out, proof


def test_old_and_new_windows_hold_after_every_key_has_changed(world):
    server, old = world, json.loads(world.old.read_text())
    linked = chain(server)
    before = {link.slot_start for link in linked}
    pem = {name: (server.folder / f"keys/{name}.pem").read_bytes() for name in ("provider", "sequencer", "log")}
    for role in ("provider", "sequencer", "log"):
        said = server.cli("key", "rotate", "--role", role).stdout
        assert "follows" in said and "new trust file" in said
    new_path = server.base / "new.json"
    server.cli("trust", "export", "--out", new_path)
    new = json.loads(new_path.read_text())
    assert len(new["retired"]) == 3 and len(new["providers"]) == len(new["sequencers"]) == 2

    # A retired key file starts nothing.
    for name, secret in pem.items():
        path = server.folder / f"keys/{name}.pem"
        mine = path.read_bytes()
        path.write_bytes(secret)
        with pytest.raises(AssertionError, match=f"{name}.pem.*retired"):
            server.start()
        path.write_bytes(mine)

    with server:
        sim(server, *SIM)
    # An orderly stop has sealed and anchored all of it.
    with server:
        after = {link.slot_start for link in chain(server)[len(linked):]}
        assert after
        for slots in (before, after):
            _, out, proof = pull(server, new_path, slots)
            answer = out.read_bytes(), proof.read_bytes()
            window = chordae.verify(*answer, chordae.TrustFile.read(new_path))
            assert window.integrity is chordae.Integrity.ANCHORED
        # Who keeps the old file is told what to do.
        done, *_ = pull(server, world.old, after, ok=(3,))
        assert "trust" in done.stdout + done.stderr
        with pytest.raises(chordae.Damaged):
            chordae.verify(*answer, chordae.TrustFile.read(world.old))
    done = run("verify", server.folder, "--trust", new_path, "--json")
    assert json.loads(done.stdout)["findings"] == []
    assert checker.check(server.folder, new)["findings"] == []
    # The log's key is never followed: one finding, and a note that says why.
    done = run("verify", server.folder, "--trust", world.old, ok=(3,))
    assert "key of the log was changed" in done.stdout
    assert {f["code"] for f in checker.check(server.folder, old)["findings"]} == {"checkpoint-signature"}


def test_a_change_that_was_cut_off_is_finished_by_the_next_start(tmp_path):
    server = Server(tmp_path / "data")
    keys = server.folder / "keys"
    # As if the process had died right after it was decided.
    run("key", "new", "--role", "provider", "--out", tmp_path / "next.pem")
    shutil.copy(tmp_path / "next.pem", keys / "provider.next.pem")
    (keys / "provider.next.pem").chmod(0o600)
    old = (keys / "provider.pem").read_bytes()
    with server:
        assert (keys / "provider.pem").read_bytes() != old and not (keys / "provider.next.pem").exists()
    file = json.loads(trust(server, tmp_path).read_text())
    assert len(file["retired"]) == 1 and checker.check(server.folder, file)["findings"] == []


def test_the_command_says_what_it_needs(tmp_path):
    server = Server(tmp_path / "data")
    assert "which witness" in server.cli("key", "rotate", "--role", "witness", ok=(1,)).stderr
    assert "where it has it" in server.cli("key", "rotate", "--role", "patient", ok=(1,)).stderr
    assert "Example" in subprocess.run([str(server.binary), "key", "rotate", "--help"], capture_output=True,
                                       text=True, check=True).stdout
    with server:
        assert "in use" in server.cli("key", "rotate", "--role", "provider", ok=(1,)).stderr
