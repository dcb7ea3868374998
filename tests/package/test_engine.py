"""The container in an engine: built by the Dockerfile as it stands, run as the compose file says, with a device."""

import json
import pathlib
import re
import subprocess

import checker
import pytest
import yaml
from conftest import ROOT, TARGET
from engine import Engine
from machine import call, until

HERE = ROOT / "packaging/container"
DATA = "/var/lib/chordae"
COMPOSE = yaml.safe_load((HERE / "compose.yml").read_text())
SERVICE = COMPOSE["services"]["chordae"]
# As compose hands them to an engine; a network namespace of its own stands for that of the `pod`.
RUN = ["--read-only"] * SERVICE["read_only"] + [f"--cap-drop={name}" for name in SERVICE["cap_drop"]]
RUN += [f"--security-opt={name.removesuffix(':true')}" for name in SERVICE["security_opt"]]
RUN += ["--network=none", f"--volume=data:{DATA}"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Engine(tmp_path_factory.mktemp("engine"))
    [base] = re.findall(r"^FROM (rust:\S+) AS build$", (HERE / "Dockerfile").read_text(), re.M)
    engine.compiler(ROOT / ".tools/package/debian", f"docker.io/library/{base}")
    (work := TARGET / "container").mkdir(parents=True, exist_ok=True)
    engine.build(HERE / "Dockerfile", ROOT, "chordae", work)
    yield engine
    engine.close()


def test_the_image_holds_the_binary_its_libraries_and_nothing_to_run_beside_it(engine):
    root = pathlib.Path(engine.does("image", "mount", "chordae").stdout.strip())
    files = {"/" + str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}
    engine.does("image", "unmount", "chordae")
    libraries = {path for path in files if re.search(r"\.so(\.\d+)*$", path)}
    assert files - libraries == {"/usr/bin/chordae"} and 2 <= len(libraries) <= 6, files
    [about] = json.loads(engine.does("image", "inspect", "chordae").stdout)
    assert about["Config"]["User"] == "65532:65532" and list(about["Config"]["Volumes"]) == [DATA]


def test_it_serves_as_nobody_and_may_write_nowhere_else(engine):
    engine.does("run", "--rm", *RUN, "chordae", "init", "--data", DATA, "--host", "localhost")
    engine.does("run", "--detach", "--name=node", *RUN, "chordae")
    until(lambda: engine.does("healthcheck", "run", "node", ok=False).returncode == 0)
    status = pathlib.Path(f"/proc/{engine.into('node')[2]}/status").read_text()
    assert re.search(r"^Uid:\s+65532\s+65532", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M), status
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    refused = engine.does("exec", "node", "chordae", "init", "--data", "/elsewhere", ok=False)
    assert refused.returncode != 0 and re.search("[Rr]ead-only", refused.stderr), refused.stderr
    assert engine.does("exec", "node", "sh", "-c", "true", ok=False).returncode != 0, "a shell"


def test_what_it_acknowledged_is_there_after_a_stop_and_after_a_kill(engine, tmp_path):
    engine.does("exec", "node", "chordae", "device", "add", "bed-12", "--data", DATA, "--out", f"{DATA}/bed")
    data, acked = engine.mounted("data"), tmp_path / "acked"
    bed = data / "bed"

    def lines():
        return acked.read_text().count("\n") if acked.exists() else 0

    for end in (("kill",), ("stop", "--time=300")):
        before = lines()
        device = subprocess.Popen([
            *engine.into("node", "--net"), TARGET / "release/device-sim", "--url", "mqtts://localhost:8883", "--device", "bed-12",
            "--stream", "ecg", "--cert", bed / "bed-12.crt", "--key", bed / "bed-12.key", "--ca", bed / "ca.crt", "--leads", "2",
            "--rate", "250", "--frame", "100ms", "--max-rate", "--burst", "64", "--for", "30000s", "--acked", acked])
        try:
            until(lambda: lines() > before + 2000 or device.poll() is not None)
            assert device.poll() is None
            engine.does(*end, "node")
        finally:
            device.kill()
            device.wait()
        if end == ("kill",):
            engine.does("start", "node")
            until(lambda: engine.does("healthcheck", "run", "node", ok=False).returncode == 0)
    assert engine.does("inspect", "--format", "{{.State.ExitCode}}", "node").stdout.strip() == "0", "an orderly stop"
    found = checker.frames(data, acked)
    assert found["acknowledged"] > 4000 and not (found["lost"] or found["duplicate"] or found["different"]), found
    # The control: a frame that was never sent is missed.
    last = acked.read_text().splitlines()[-1].split()
    (forged := tmp_path / "forged").write_text(" ".join([*last[:4], str(int(last[4]) + 10**12), *last[5:]]) + "\n")
    assert checker.frames(data, forged)["lost"]
    chordae, trust = TARGET / "release/chordae", tmp_path / "trust.json"
    call(chordae, "trust", "export", "--data", data, "--out", trust)
    assert "proven" in call(chordae, "verify", data, "--trust", trust).stdout


def test_the_compose_file_brings_up_a_node_and_who_watches_it(engine, tmp_path):
    """All but Grafana, which nothing here can stand for. No port is published: the namespace has no way out."""
    services = COMPOSE["services"]
    engine.program("/bin/busybox", "/bin/sleep", "docker.io/library/" + services["pod"]["image"])
    engine.program("/usr/bin/prometheus", "/bin/prometheus", "docker.io/" + services["prometheus"]["image"], 'ENTRYPOINT ["/bin/prometheus"]')
    del services["pod"]["ports"], services["chordae"]["build"], services["grafana"]
    services["pod"]["network_mode"] = "none"
    # Root may not raise limits everywhere.
    del services["chordae"]["ulimits"]
    (file := tmp_path / "compose.yml").write_text(yaml.safe_dump(COMPOSE).replace("../../", f"{ROOT}/"))
    try:
        engine.composes(file, "up", "--detach", "pod")
        engine.composes(file, "run", "--rm", "-T", "chordae", "init", "--data", DATA, "--host", "localhost")
        engine.composes(file, "up", "--detach")
        curl = [*engine.into("chordae_pod_1", "--net"), "curl", "--silent"]

        def asked(query):
            answer = call(*curl, "http://127.0.0.1:9090/api/v1/" + query, ok=False).stdout
            return json.loads(answer)["data"] if answer else {}

        until(lambda: [one["value"][1] for one in asked("query?query=up").get("result", [])] == ["1"])
        until(lambda: asked("query?query=chordae_ledger_entries").get("result"))
        assert any(group["rules"] for group in asked("rules")["groups"]), "alert rules"
        for port in (8883, 5556, 8443):
            call(*engine.into("chordae_pod_1", "--net"), "timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        engine.composes(file, "exec", "-T", "chordae", "chordae", "device", "list", "--data", DATA)
    finally:
        engine.composes(file, "down", "--volumes", ok=False)
