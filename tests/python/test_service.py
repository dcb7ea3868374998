"""As a service: what the service manager hears, and how far the units shut everything else away."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest
from conftest import ROOT, SETTINGS, Server, run, wait_until
from test_gateway import Gateway

UNITS = sorted((ROOT / "packaging").glob("*.service"))


class Manager:
    """The end of NOTIFY_SOCKET that systemd holds."""

    def __init__(self, path, monkeypatch):
        self.socket, self.heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), []
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))

    def hears(self, line):
        """How often it was said."""
        while True:
            try:
                self.heard += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard.count(line)


@pytest.fixture
def manager(tmp_path, monkeypatch):
    return Manager(tmp_path / "notify", monkeypatch)


def test_ready_alive_and_stopping_are_told(manager, folder, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    server = Server(folder)
    assert manager.hears("READY=1") == 0
    with server:
        wait_until(lambda: manager.hears("READY=1") == 1 and manager.hears("STATUS=serving") == 1, 5)
        wait_until(lambda: manager.hears("WATCHDOG=1") >= 4, 5)
        # A process that stands gives no sign.
        server.process.send_signal(signal.SIGSTOP)
        stat = pathlib.Path(f"/proc/{server.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 5)
        before = manager.hears("WATCHDOG=1")
        time.sleep(1)
        assert manager.hears("WATCHDOG=1") == before
        server.process.send_signal(signal.SIGCONT)
        wait_until(lambda: manager.hears("WATCHDOG=1") > before, 5)
        assert manager.hears("STOPPING=1") == 0
    assert manager.hears("STOPPING=1") == 1


def test_nothing_is_told_before_the_doors_are_open(manager, folder):
    server = Server(folder)
    with server:
        pass
    assert manager.hears("READY=1") == 1
    (folder / "chordae.toml").write_text(SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off") + "nonsense = 1\n")
    with pytest.raises(AssertionError, match="nonsense"):
        server.start()
    assert manager.hears("READY=1") == 1, "only the first"


def test_a_gateway_tells_it_too(manager, tmp_path):
    with Server(tmp_path / "data") as server:
        gateway = Gateway(tmp_path / "gateway", server.zmq)
        server.cli("device", "add", "ward-1", "--kind", "gateway", "--host", "127.0.0.1", "--out", gateway.folder / "keys")
        wait_until(lambda: manager.hears("READY=1") == 1, 5)
        with gateway:
            wait_until(lambda: manager.hears("READY=1") == 2, 5)
    assert manager.hears("STOPPING=1") == 2


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_a_unit_shuts_everything_else_away(unit, tmp_path):
    def exposure(path):
        done = subprocess.run(["systemd-analyze", "security", "--offline=yes", path], capture_output=True, text=True,
                              env={**os.environ, "SYSTEMD_COLORS": "0"}, timeout=60)
        return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)[1])

    assert exposure(unit) < 3
    # The control: without its hardening the same service is wide open.
    bare = tmp_path / "bare.service"
    bare.write_text("\n".join(re.findall(r"^\[.*|^ExecStart.*|^Type.*|^User.*", unit.read_text(), re.M)) + "\n")
    assert exposure(bare) > 7
    # What it starts is a command of ours as it is written.
    [command] = re.findall(r"^ExecStart=/usr/bin/chordae (.*)$", unit.read_text(), re.M)
    name, *options = command.split()
    text = run(name, "--help").stdout
    assert all(option in text for option in options if option.startswith("--"))
