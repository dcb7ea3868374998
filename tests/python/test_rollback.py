"""A data folder that was set back is noticed at the start, read from, and accepted by an operator's word."""

import shutil
import urllib.error
import urllib.request

import pytest

from conftest import SETTINGS, SIM as SIM_BIN, Server, party, run, sim, trust, wait_until
from test_gateway import SERVER, Gateway, drained, free_port

SIM = ("--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20")


def day(server):
    """Thirty seconds of samples, sealed and anchored by the orderly stop."""
    with server:
        sim(server, *SIM, "--for", "30s")


def code(url, method="GET"):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.fixture
def server(tmp_path):
    text = SETTINGS.format(slot=10, anchor=1, mqtt_tls="off", zmq_tls="off")
    server = Server(tmp_path / "data", settings=text + f'witness = "{tmp_path}/witness"\n')
    with server:
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        patient = party(server, tmp_path, "ann", "patient")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{patient}.pub")
        sim(server, *SIM, "--for", "30s")
        server.patient = patient
    return server


def test_a_restored_folder_is_read_only_until_accepted(server, tmp_path):
    shutil.copytree(server.folder, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    day(server)
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)

    server.start()
    assert "set back" in server.reading and "rollback accept" in server.reading
    assert "mqtt-plain" not in server.doors and "zmq-plain" not in server.doors
    ready, why = code("http://" + server.doors["metrics"] + "/readyz")
    assert ready == 503 and "set back" in why
    status = server.cli("status").stdout
    assert "doors_open" in status and "set back" in status

    # Readers are served, and what they read is in the trail.
    did = next(p.name for p in (server.folder / "chunks").iterdir())
    out = tmp_path / "ecg.csv"
    run("pull", "--key", server.patient, "--url", server.http, "--stream", did, "--trust", trust(server, tmp_path),
        "--from", "2020-01-01T00:00:00Z", "--until", "2040-01-01T00:00:00Z", "--format", "csv", "--out", out,
        ok=(0, 1, 4))
    refused, why = code(server.http + "/v1/sessions", "POST")
    assert refused == 503 and "set back" in why

    # Another start does not forget it.
    server.stop()
    server.start()
    assert server.reading
    server.cli("rollback", "accept", "--reason", "restored from the backup of this test")
    assert server.process.wait(timeout=30) == 0

    server.start()
    assert not server.reading and "mqtt-plain" in server.doors
    sim(server, *SIM, "--for", "10s")
    refused = server.cli("rollback", "accept", "--reason", "again", ok=(1,))
    assert "not set back" in refused.stderr
    server.stop()
    assert list(tmp_path.glob("witness.until-*")), "what was seen before is kept"
    assert b"restored from the backup of this test" in b"".join(
        p.read_bytes() for p in (server.folder / "trail").iterdir())


def test_the_control_goes_on_without_a_memory(server, tmp_path):
    shutil.copytree(server.folder, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    day(server)
    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)
    (tmp_path / "witness").unlink()
    with server:
        assert not server.reading


class House:
    """A server and a gateway before one device, with no witness but the gateway."""

    def __init__(self, path):
        self.path = path
        zmq, probes = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        # The probes stay where they are when the server starts anew.
        text = SERVER.format(zmq_tls="off", zmq_plain=zmq).replace('listen = "127.0.0.1:0"', f'listen = "{probes}"')
        self.probes, self.server = probes, Server(path / "data", settings=text)
        self.gateway = Gateway(path / "gateway", f"zmq://{zmq}")
        self.memory = self.gateway.folder / "checkpoint"
        with self.server:
            self.server.cli("device", "add", "ward-1", "--kind", "gateway", "--out", path / "keys")
            self.server.cli("device", "add", "bed-1", "--gateway", "ward-1", "--out", path / "certs")

    def day(self):
        """Samples over the gateway, until it has been given a checkpoint that covers more than the one before."""
        before = self.memory.read_text() if self.memory.exists() else ""
        self.gateway.start()
        wait_until(lambda: self.gateway.get("/readyz")[0] == 200)
        run("--url", self.gateway.mqtt, *SIM, "--for", "90s", binary=SIM_BIN)
        drained(self.gateway)
        wait_until(lambda: self.memory.exists() and self.memory.read_text() != before, 60)
        self.gateway.stop()

    def ready(self):
        return code(f"http://{self.probes}/readyz")

    def connects(self):
        """The gateway has said what it remembers, and was given what is there now."""
        self.gateway.start()
        now = self.server.folder / "ledger" / "checkpoint"
        wait_until(lambda: self.memory.read_text() == now.read_text(), 60)


def test_what_a_gateway_remembers_shuts_the_doors_of_a_restored_folder(tmp_path):
    house = House(tmp_path)
    server, gateway = house.server, house.gateway
    with server:
        house.day()
    shutil.copytree(server.folder, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    with server:
        house.day()
    newer = house.memory.read_text()

    # The control: an untouched folder stays whole.
    server.start()
    house.connects()
    assert house.ready()[0] == 200 and not (server.folder / "rollback.json").exists()
    gateway.stop()
    server.stop()

    shutil.rmtree(server.folder)
    shutil.copytree(tmp_path / "backup", server.folder)
    newer = house.memory.read_text()
    server.start()
    assert not server.reading, "nobody knows yet"
    gateway.start()
    wait_until(lambda: house.ready()[0] == 503 and "set back" in house.ready()[1], 60)
    assert "gateway ward-1" in house.ready()[1]
    assert house.memory.read_text() == newer, "it was not made to forget"
    status = server.cli("status").stdout
    assert "set back" in status and "ward-1" in status

    # The next start knows by itself.
    gateway.stop()
    server.stop()
    server.start()
    assert "gateway ward-1" in server.reading
    assert "zmq-plain" not in server.doors and "mqtt-plain" not in server.doors
    server.cli("rollback", "accept", "--reason", "the newer folder is lost")
    assert server.process.wait(timeout=30) == 0

    # Accepted is accepted, also when the gateway says it again; then it remembers the new history.
    server.start()
    assert not server.reading
    house.connects()
    assert house.memory.read_text() != newer
    gateway.stop()
    house.day()
    assert house.ready()[0] == 200
    server.stop()
