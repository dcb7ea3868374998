"""Runs real servers, real clients and real files; everything is loopback and ends by itself."""

import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
BIN = pathlib.Path(os.environ.get("CHORDAE_BIN", ROOT / "target/debug/chordae"))
SIM = pathlib.Path(os.environ.get("DEVICE_SIM_BIN", ROOT / "target/debug/device-sim"))
CONTROL_BIN = pathlib.Path(os.environ.get("CONTROL_DIR", ROOT / "target/control")) / "chordae"

SETTINGS = """
[mqtt]
tls = "{mqtt_tls}"
plain = "127.0.0.1:0"
[zmq]
tls = "{zmq_tls}"
plain = "127.0.0.1:0"
[http]
tls = "off"
plain = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = 1073741824
min-free-bytes = 67108864
[chunks]
slot-seconds = {slot}
[ledger]
anchor-seconds = {anchor}
"""


def need(there, what):
    """What a test needs beside the clone; its absence is a loud skip, and a failure in CI."""
    if not there:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{what} is missing")
        pytest.skip(f"{what} is missing")


def need_shared(*parts):
    """A file of ../shared."""
    path = SHARED.joinpath(*parts)
    need(path.exists(), path)
    return path


def run(*args, ok=(0,), timeout=300, binary=BIN, **kw):
    """Runs a command; checks its exit code and returns it with what it printed."""
    done = subprocess.run([str(binary), *map(str, args)], capture_output=True, text=True, timeout=timeout, **kw)
    assert done.returncode in ok, f"{args} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def pump(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put("")


class Server:
    """One `chordae serve` over a folder."""

    def __init__(self, folder, slot=10, anchor=1, tls=False, binary=BIN, settings=None, prefix=()):
        self.folder, self.binary, self.prefix = pathlib.Path(folder), binary, list(prefix)
        if not (self.folder / "keys").exists():
            run("init", "--data", self.folder)
            text = settings or SETTINGS.format(
                slot=slot, anchor=anchor, mqtt_tls="127.0.0.1:0" if tls else "off",
                zmq_tls="127.0.0.1:0" if tls else "off")
            (self.folder / "chordae.toml").write_text(text)
        self.process, self.doors, self.reading = None, {}, ""

    def start(self, timeout=60):
        self.err = open(self.folder / "stderr.log", "ab")
        self.process = subprocess.Popen(
            [*self.prefix, *self.command()],
            stdout=subprocess.PIPE, stderr=self.err, text=True)
        self.doors, lines, end = {}, queue.Queue(), time.monotonic() + timeout
        self.reading = ""
        # A thread, because a pipe that is read line by line cannot be asked whether there is more.
        out = self.process.stdout
        threading.Thread(target=lambda: pump(out, lines), daemon=True).start()
        while time.monotonic() < end:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if not line:
                tail = (self.folder / "stderr.log").read_text()[-3000:]
                raise AssertionError(f"the server ended with {self.process.wait()}: {tail}")
            words = line.split()
            if words[:1] == ["listening"]:
                self.doors[words[1]] = words[2]
            if words[:1] == ["ready"]:
                return self
            if words[:2] == ["reading", "only:"]:
                self.reading = line
                return self
        raise AssertionError("the server was not ready in time")

    def command(self):
        return [str(self.binary), "serve", "--config", str(self.folder / "chordae.toml")]

    @property
    def mqtt(self):
        return "mqtt://" + self.doors["mqtt-plain"]

    @property
    def zmq(self):
        return "zmq://" + self.doors["zmq-plain"]

    @property
    def http(self):
        return "http://" + self.doors["http-plain"]

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """An orderly stop: seals, links, anchors."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(timeout=120) == 0, (self.folder / "stderr.log").read_text()[-3000:]

    def cli(self, *args, **kw):
        return run(*args, "--data", self.folder, **kw)

    def streams(self):
        return json.loads(self.cli("stream", "list", "--json").stdout)

    def did(self, stream):
        return next(s["did"] for s in self.streams() if s["stream"] == stream)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            try:
                self.stop()
            finally:
                if self.process.poll() is None:
                    self.kill9()


class OpenServer(Server):
    """A server in the open profile: any client, any topic, as the public MQTT suites need it."""

    def __init__(self, folder):
        # The public suites know these two as filters that nobody may have.
        text = SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off").replace(
            "[mqtt]", '[mqtt]\nopen = true\nrefuse = ["nosubscribe", "test/nosubscribe"]')
        super().__init__(folder, settings=text)

    @property
    def port(self):
        return int(self.doors["mqtt-plain"].rpartition(":")[2])

    def crash(self):
        """kill -9, and up again; the port is another one."""
        self.kill9()
        self.start()


@pytest.fixture(scope="session")
def open_server(tmp_path_factory):
    with OpenServer(tmp_path_factory.mktemp("open") / "data") as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data"


def party(server, folder, name, role):
    """A key file, registered."""
    key = pathlib.Path(folder) / f"{name}.pem"
    run("key", "new", "--role", role, "--name", name, "--out", key)
    server.cli("party", "add", f"{key}.pub", "--role", role)
    return key


def sim(server, *args, timeout=300, ok=(0,)):
    return run("--url", server.mqtt, *args, binary=SIM, timeout=timeout, ok=ok)


def grant(server, patient, to, did, *args):
    out = server.cli("session", "grant", "--key", patient, "--to", f"{to}.pub", "--stream", did, *args)
    return out.stdout.split()[-1]


def trust(server, folder):
    path = pathlib.Path(folder) / "trust.json"
    if not path.exists():
        run("trust", "export", "--data", server.folder, "--out", path)
    return path


def wait_until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
