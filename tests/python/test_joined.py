"""Proofs of several streams in one file: verified together, each against its own answer, and smaller than apart."""

import json
import time

import pytest

from conftest import Server, party, run, sim, trust, wait_until

S = 10**9
BEDS = ("bed-1", "bed-2", "bed-3")


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """Three streams of one patient, pulled and proven one by one; the folder, the trust file."""
    base = tmp_path_factory.mktemp("joined")
    server = Server(base / "data", slot=10)
    t0 = (int(time.time()) - 3600) // 60 * 60 * S
    with server:
        ann = party(server, base, "ann", "patient")
        for bed in BEDS:
            server.cli("device", "add", bed, "--out", base / "certs")
            server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{ann}.pub")
            sim(server, "--device", bed, "--leads", "2", "--rate", "100", "--start", t0, "--for", "60s", "--max-rate")
        known = trust(server, base)
        for bed in BEDS:
            words = ["pull", "--key", ann, "--url", server.http, "--stream", server.did(f"{bed}/ecg"), "--trust", known,
                     "--from", t0, "--until", t0 + 60 * S, "--format", "csv", "--out", base / f"{bed}.csv",
                     "--proof", base / f"{bed}.json"]
            wait_until(lambda: "verified" in run(*words, ok=(0, 1, 4)).stdout)
    run("join", *(base / f"{bed}.json" for bed in BEDS), "--out", base / "all.json")
    return base, known


def verify(base, known, answers, ok):
    named = [word for answer in answers for word in ("--answer", base / answer)]
    return run("verify", base / "all.json", *named, "--trust", known, ok=(ok,))


def test_joined_proofs_are_verified_together_and_share_what_they_can(pulled):
    base, known = pulled
    done = verify(base, known, [f"{bed}.csv" for bed in BEDS], 0)
    assert done.stdout.count("anchored to") == 3 and "ok: intact" in done.stdout
    joined = json.loads((base / "all.json").read_text())
    apart = [json.loads((base / f"{bed}.json").read_text())["anchor"]["proof"] for bed in BEDS]
    steps = sum(len(proof.partition("\n\n")[0].splitlines()) - 2 for proof in apart)
    assert len(joined["nodes"]) < steps, "ways to one root are not all different"
    assert len(joined["checkpoints"]) == len({proof.partition("\n\n")[2] for proof in apart})


def test_an_answer_that_was_changed_or_stands_in_anothers_place_is_named(pulled):
    base, known = pulled
    rows = (base / "bed-2.csv").read_text().splitlines(keepends=True)
    time_ns, code, rest = rows[100].split(",", 2)
    rows[100] = f"{time_ns},{int(code) + 1},{rest}"
    (base / "bent.csv").write_text("".join(rows))
    bent = verify(base, known, ["bed-1.csv", "bent.csv", "bed-3.csv"], 3).stdout
    assert "bent.csv: " in bent and "bed-1.csv: " not in bent and "bed-3.csv: " not in bent
    swapped = verify(base, known, ["bed-2.csv", "bed-1.csv", "bed-3.csv"], 3).stdout
    assert "bed-1.csv: " in swapped and "bed-2.csv: " in swapped and "bed-3.csv: " not in swapped
    assert "3 proofs, and 2 answers" in verify(base, known, ["bed-1.csv", "bed-2.csv"], 1).stderr
