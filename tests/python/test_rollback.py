"""A data folder that was set back is noticed at the start, read from, and accepted by an operator's word."""

import shutil
import urllib.error
import urllib.request

import pytest

from conftest import SETTINGS, Server, party, run, sim, trust

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
