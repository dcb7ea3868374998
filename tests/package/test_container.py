"""Container and compose file, as far as they can be looked at without an engine: linted, valid, and agreeing with what they are
about. `test_engine.py` runs them."""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT, TARGET

HERE = ROOT / "packaging/container"
DOCKERFILE = (HERE / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((HERE / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
BIN = ROOT.joinpath(sys.executable).parent
SETTINGS = tomllib.loads((ROOT / "node/src/chordae.toml").read_text())


def lint(path):
    return subprocess.run([BIN / "hadolint", path], capture_output=True, text=True)


def valid(path):
    return subprocess.run([BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path], capture_output=True, text=True)


def test_they_are_what_their_formats_say(tmp_path):
    assert (done := lint(HERE / "Dockerfile")).returncode == 0, done.stdout
    assert (done := valid(HERE / "compose.yml")).returncode == 0, done.stdout
    # The controls: a base image without a version, a misspelt key.
    (bad := tmp_path / "Dockerfile").write_text(DOCKERFILE.replace("rust:1", "rust:latest # 1"))
    assert "DL3007" in lint(bad).stdout
    (bad := tmp_path / "compose.yml").write_text((HERE / "compose.yml").read_text().replace("restart:", "restarts:"))
    assert valid(bad).returncode != 0


def test_what_is_copied_and_mounted_is_there():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (HERE / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (name, volume)
    build = SERVICES["chordae"]["build"]
    assert (HERE / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]) == HERE / "Dockerfile"


def test_the_ports_are_those_of_the_settings():
    doors = {int(SETTINGS[part]["tls"].rpartition(":")[2]) for part in ("mqtt", "zmq", "http")}
    exposed = {int(port) for port in re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.M)[1].split()}
    published = [port.rsplit(":", 1) for port in SERVICES["pod"]["ports"]]
    assert exposed == doors == {int(inside) for outside, inside in published if ":" not in outside}
    # Whatever has no TLS is published on loopback only.
    assert all(outside.startswith("127.0.0.1:") for outside, inside in published if int(inside) not in doors)


def test_metrics_are_read_where_they_listen():
    shared = {name for name, service in SERVICES.items() if service.get("network_mode") == "service:pod"}
    assert shared == set(SERVICES) - {"pod"}, "one loopback for all"
    [job] = yaml.safe_load((ROOT / "dashboards/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [SETTINGS["metrics"]["listen"]]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"])
    assert "--config.file=" + mounts["../../dashboards/prometheus.yml"] in SERVICES["prometheus"]["command"]


@pytest.mark.parametrize("kind", ["dashboards", "datasources"])
def test_grafana_finds_what_is_provisioned(kind):
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["../../dashboards/provisioning"] == "/etc/grafana/provisioning"
    told = yaml.safe_load((ROOT / f"dashboards/provisioning/{kind}/chordae.yml").read_text())
    if kind == "dashboards":
        assert told["providers"][0]["options"]["path"] == mounts["../../dashboards/grafana"]
    else:
        [address] = [word.partition("=")[2] for word in SERVICES["prometheus"]["command"] if word.startswith("--web.listen-address=")]
        assert told["datasources"][0]["url"] == "http://" + address


def test_what_it_runs_are_commands_of_ours_by_a_user_who_is_nobody():
    toolchain = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert f"FROM rust:{toolchain}-" in DOCKERFILE and f"RUSTUP_TOOLCHAIN={toolchain}" in DOCKERFILE
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)
    assert int(user[1]) > 0 and f"--chown={user[1]}:{user[2]} " in DOCKERFILE
    commands = [json.loads(words) for words in re.findall(r"(?:^CMD|  CMD| CMD) (\[.*\])$", DOCKERFILE, re.M)]
    assert len(commands) == 2
    for words in commands:
        name, *options = [word for word in words if word != "chordae"]
        text = subprocess.run([TARGET / "release/chordae", name, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(option in text for option in options if option.startswith("--"))
        # Everything lies in the one volume.
        assert all(option.startswith("/var/lib/chordae") for option in options if option.startswith("/"))
    assert re.search(r"^VOLUME /var/lib/chordae$", DOCKERFILE, re.M) and "data:/var/lib/chordae" in SERVICES["chordae"]["volumes"]
