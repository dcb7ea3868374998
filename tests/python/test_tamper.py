"""Everything that can be done to a folder is named, exit 3 or 4, never 0."""

import json
import shutil
import subprocess

import pytest

from conftest import Server, party, run, sim, trust

HOWS = ["flip-bit", "swap-chunks", "drop-chunk", "duplicate-chunk", "roll-back-ledger", "change-entry",
        "change-tile", "resign-folder", "truncate-links"]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    base = tmp_path_factory.mktemp("good")
    server = Server(base / "data", slot=10)
    with server:
        server.cli("device", "add", "bed-1", "--out", base / "certs")
        patient = party(server, base, "ann", "patient")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{patient}.pub")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20",
            "--for", "60s")
    return server.folder, trust(server, base)


def verify(path, *args):
    done = run("verify", path, "--json", *args, ok=(0, 1, 3, 4))
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def test_the_untouched_copy_verifies(good, tmp_path):
    """The control: without it the refusals below prove nothing."""
    folder, trusted = good
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sock"))
    code, report = verify(tmp_path / "copy", "--trust", trusted)
    assert code == 0 and report["verdict"] == "ok" and report["findings"] == []
    code, report = verify(tmp_path / "copy")
    assert code == 4 and report["verdict"] == "unanchored"


@pytest.mark.parametrize("how", HOWS)
def test_tampering_is_named(good, tmp_path, how):
    folder, trusted = good
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    said = run("tamper", copy, "--how", how).stdout
    code, report = verify(copy, "--trust", trusted)
    print(how, said.strip(), code, report.get("findings", [])[:2])
    assert code in (3, 4)
    assert report["findings"] and all(f["object"] and f["code"] for f in report["findings"])


def test_one_flipped_bit_at_bytes_all_over_a_chunk(good, tmp_path):
    folder, trusted = good
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.sock"))
    path = sorted((copy / "chunks").rglob("*.parquet"))[1]
    whole = path.read_bytes()
    for n in range(0, len(whole), max(1, len(whole) // 40)):
        data = bytearray(whole)
        data[n] ^= 1 << (n % 8)
        path.write_bytes(data)
        code, report = verify(copy, "--trust", trusted)
        assert code == 3 and any(path.name in f["object"] for f in report["findings"]), (n, report)
    path.write_bytes(whole)
    assert verify(copy, "--trust", trusted)[0] == 0


def test_strange_files_end_in_bounded_time(tmp_path):
    subprocess.run(["mkfifo", str(tmp_path / "fifo")], check=True)
    (tmp_path / "empty").touch()
    with open(tmp_path / "sparse", "wb") as f:
        f.truncate(1 << 40)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in ["fifo", "empty", "sparse", "loop"]:
        assert run("verify", tmp_path / path, ok=(1, 3, 4), timeout=30).stderr.strip()
    run("verify", "/dev/zero", ok=(1, 3, 4), timeout=30)
