"""What an operator touches: probes, metrics, status, lists, profiles, a device that is switched off."""

import json
import subprocess
import time
import urllib.request

from conftest import BIN, Server, party, run, sim

METRICS = """
chordae_ingest_frames_total chordae_ingest_samples_total chordae_ingest_bytes_total chordae_ingest_ack_seconds_count
chordae_wal_sync_seconds_count chordae_wal_bytes chordae_duplicates_total chordae_gap_frames_total
chordae_clock_offset_seconds_count chordae_connections chordae_chunks_sealed_total chordae_chunk_bytes_count
chordae_seal_seconds_count chordae_oldest_open_bucket_seconds chordae_anchor_lag_seconds chordae_anchor_pending_heads
chordae_ledger_entries chordae_checkpoint_timestamp_seconds chordae_verify_failures_total chordae_sessions chordae_live_readers chordae_chunks_held_bytes
chordae_disk_free_bytes chordae_certificate_expiry_timestamp_seconds chordae_build_info
""".split()


def get(server, path):
    with urllib.request.urlopen(f"http://{server.doors['metrics']}{path}", timeout=10) as answer:
        return answer.status, answer.read().decode()


def test_probes_and_metrics(folder, tmp_path):
    with Server(folder) as server:
        assert get(server, "/livez") == (200, "alive\n")
        assert get(server, "/readyz") == (200, "ready\n")
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--leads", "1", "--rate", "100", "--speed", "20", "--for", "30s")
        text = get(server, "/metrics")[1]
        there = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
        # Sealing comes a while after the last frame; its counter has no label value before.
        assert set(METRICS) - there <= {"chordae_chunks_sealed_total"}, set(METRICS) - there
        for secret in ("bed-1", server.did("bed-1/ecg")):
            assert secret not in text, "a metric names a device or a stream"


def test_operators_are_told_what_comes_in(folder, tmp_path):
    """When it was seen, how far its clock is off, and which frames are missing between those that came."""
    with Server(folder) as server:
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        server.cli("device", "add", "bed-2", "--out", tmp_path / "certs")
        one = ("--device", "bed-1", "--stream", "ecg", "--leads", "1", "--rate", "100", "--frame", "1s", "--boot", "7",
               "--clock", "free-running", "--skew", "2h")
        begun = time.time_ns()
        sim(server, *one, "--for", "4s")
        live = server.streams()[0]["live"]
        assert begun < live["seen_ns"] <= time.time_ns() and live["missing_frames"] == 0, live
        assert abs(live["newest_ns"] - live["seen_ns"]) < 2e9, "mapped to our clock"
        # Free-running is an hour behind there, so two hours ahead of that is one.
        assert live["clock"] == "free-running" and abs(live["offset_ns"] + 3600e9) < 5e9, live
        sim(server, *one, "--first-seq", "9", "--for", "2s")
        line = server.streams()[0]
        assert line["live"]["missing_frames"] == 5, line
        devices = {d["id"]: d["seen_ns"] for d in json.loads(server.cli("device", "list", "--json").stdout)}
        assert devices == {"bed-1": line["live"]["seen_ns"], "bed-2": None}


def test_status_lists_and_profiles(folder, tmp_path):
    with Server(folder) as server:
        server.cli("device", "add", "bed-1", "--streams", "ecg", "--out", tmp_path / "certs")
        ann = party(server, tmp_path, "ann", "patient")
        server.cli("stream", "profile", "bed-1/ecg", "--slot", "60s")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{ann}.pub")
        line = server.streams()[0]
        assert line["slot_ns"] == 60_000_000_000 and line["stream"] == "bed-1/ecg" and line["patient"]
        status = json.loads(server.cli("status", "--json").stdout)
        assert status["ready"] and status["doors_open"] and status["streams"] == 1
        assert [d["id"] for d in json.loads(server.cli("device", "list", "--json").stdout)] == ["bed-1"]
        assert [p["role"] for p in json.loads(server.cli("party", "list", "--json").stdout)] == ["patient"]
        done = server.cli("device", "add", "bed-1", "--out", tmp_path / "again", ok=(1,))
        assert "registered already" in done.stderr
        done = server.cli("device", "add", "Bed 1", "--out", tmp_path / "again", ok=(1,))
        assert "must be 1-64" in done.stderr
        server.cli("device", "disable", "bed-1")
        done = sim(server, "--device", "bed-1", "--stream", "ecg", "--for", "2s", "--patience", "3s", ok=(1,), timeout=60)
        assert done.stderr.strip()
    # An assignment survives the stop; what was true before is true after.
    with server:
        assert server.streams() == [line]


def test_every_command_explains_itself_with_an_example():
    commands = ["demo", "init", "serve", "pull", "verify", "token", "tamper", "status", "device add", "party add",
                "key new", "trust export", "stream assign", "stream profile", "session grant", "session revoke",
                "completions", "man"]
    for command in commands:
        text = run(*command.split(), "--help").stdout
        assert "Example" in text, f"chordae {command} --help shows no example"
    top = run("--help").stdout
    assert all(command.split()[0] in top for command in commands)
    assert subprocess.run([str(BIN)], capture_output=True).returncode == 2


def test_completions_and_man_pages_are_of_the_command_line(tmp_path):
    script = tmp_path / "chordae.bash"
    script.write_text(run("completions", "bash").stdout)
    # Bash itself is asked what may follow.
    ask = f"source {script}; COMP_WORDS=(chordae pu); COMP_CWORD=1; _chordae chordae pu chordae; echo ${{COMPREPLY[*]}}"
    assert subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True).stdout.split() == ["pull"]
    for shell in ("zsh", "fish"):
        assert "rollback" in run("completions", shell).stdout
    run("man", "--out", tmp_path / "man1")
    pages = {path.name: path.read_text() for path in (tmp_path / "man1").iterdir()}
    assert {"chordae.1", "chordae-pull.1", "chordae-device-add.1"} <= set(pages)
    assert all(".TH" in text and ".SH NAME" in text for text in pages.values())
    assert "trust.json" in pages["chordae-pull.1"], "with its example"
