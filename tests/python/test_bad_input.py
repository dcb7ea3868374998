"""Bad input gets a clear error, one line, and loses nothing."""

import os
import socket
import subprocess
import time

import pytest

import checker
from conftest import BIN, SIM, Server, party, run, sim, wait_until


def refused(server, *words):
    """Starting fails with exit 1 and one line that has the words."""
    done = run("serve", "--config", server.folder / "chordae.toml", ok=(1,), timeout=30)
    line = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in line, line


def test_a_wrong_key_names_its_line(folder):
    server = Server(folder, settings="[wal]\nmax-bites = 1\n")
    refused(server, "line 2", "max-bites")


def test_a_plain_door_off_loopback_is_refused(folder):
    refused(Server(folder, settings='[mqtt]\nplain = "0.0.0.0:1883"\n'), "mqtt.plain", "loopback")


def test_a_key_file_that_others_can_read_is_refused(folder):
    server = Server(folder)
    os.chmod(folder / "keys" / "log.pem", 0o644)
    refused(server, "log.pem", "chmod 600")


def test_a_taken_port_is_named(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(Server(folder, settings=f'[mqtt]\ntls = "off"\nplain = "127.0.0.1:{port}"\n[zmq]\ntls = "off"\n[http]\ntls = "off"\n'
                                        '[metrics]\nlisten = "127.0.0.1:0"\n'), str(port))


def test_two_servers_on_one_folder(folder):
    with Server(folder) as first:
        refused(Server(folder), "in use")
        assert first.process.poll() is None and first.streams() == []


def test_wrong_usage_is_exit_2():
    for args in (["pull"], ["serve", "--nope"], ["frobnicate"], ["stream", "profile", "a/b", "--slot", "soon"]):
        assert subprocess.run([str(BIN), *args], capture_output=True).returncode == 2


def test_an_unknown_device_is_refused_and_told(folder):
    with Server(folder) as server:
        done = sim(server, "--device", "stranger", "--stream", "ecg", "--for", "2s", "--patience", "5s",
                   ok=(1,), timeout=60)
        assert "refused" in (done.stdout + done.stderr).lower()
        assert server.streams() == []


def test_a_full_disk_refuses_and_heals(tmp_path):
    """A small file system of its own: full, then not full; what was acknowledged is all there."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500m", "tmpfs", str(disk)], check=True)
    try:
        settings = ('[mqtt]\ntls = "off"\nplain = "127.0.0.1:0"\n[zmq]\ntls = "off"\n[http]\ntls = "off"\n[metrics]\nlisten = "127.0.0.1:0"\n'
                    '[wal]\nmax-bytes = 268435456\nmin-free-bytes = 67108864\n[chunks]\nslot-seconds = 10\n')
        server = Server(disk / "data", settings=settings)
        with server:
            server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
            acked = tmp_path / "acked"
            device = subprocess.Popen(
                [str(SIM), "--url", server.mqtt, "--device", "bed-1", "--stream", "ecg", "--leads", "1", "--rate", "250",
                 "--frame", "100ms", "--for", "20s", "--acked", str(acked)],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            count = lambda: acked.read_text().count("\n") if acked.exists() else 0
            wait_until(lambda: count() > 10)
            with open(disk / "ballast", "wb") as f:
                f.write(b"\0" * (400 << 20))
            time.sleep(2)
            full = count()
            time.sleep(2)
            assert count() <= full + 5, "frames were acknowledged on a full disk"
            os.remove(disk / "ballast")
            wait_until(lambda: count() > full + 20)
            out, _ = device.communicate(timeout=120)
            print(out[-500:])
        result = checker.frames(server.folder, acked)
        assert result["acknowledged"] >= 200 and not result["lost"] and not result["duplicate"]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_keys_and_parties(folder, tmp_path):
    with Server(folder) as server:
        key = party(server, tmp_path, "ann", "patient")
        assert oct(key.stat().st_mode & 0o777) == "0o600"
        os.chmod(key, 0o640)
        done = run("session", "grant", "--key", key, "--to", f"{key}.pub", "--stream",
                   "0b5f6c1e-8a37-4a52-9d0e-6f1c2b3a4d5e", "--data", folder, ok=(1,))
        assert "chmod 600" in done.stderr
        done = server.cli("party", "add", tmp_path / "nobody.pub", "--role", "patient", ok=(1,))
        assert "nobody.pub" in done.stderr
