"""Dashboards, rules, runbook: every query returns something from a running house, every alert has a test and a page."""

import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import yaml
from conftest import ROOT, Server, grant, party, sim, trust, wait_until
from ecg import Ecg
from ports import free_port
from test_bridge import Mosquitto, Publisher, connected, settings
from test_gateway import DEVICE, NAME, Gateway

BOARDS = ROOT / "dashboards"
RULES = yaml.safe_load((BOARDS / "rules.yml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]


def promtool(*args, text=None):
    return subprocess.run(["promtool", *map(str, args)], input=text, capture_output=True, text=True, timeout=120)


def queries():
    """(dashboard: panel, query) of every panel, as Grafana asks for all nodes."""
    for path in sorted((BOARDS / "grafana").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"].replace("$instance", ".*")


def test_dashboards_are_those_of_their_panels():
    assert subprocess.run([sys.executable, BOARDS / "make.py", "--check"]).returncode == 0
    assert len(list(queries())) > 60


def test_each_alert_has_a_test_and_a_page():
    names = [rule["alert"] for rule in ALERTS]
    cases = yaml.safe_load((BOARDS / "rules.test.yml").read_text())["tests"]
    assert [case["name"] for case in cases] == names, "in the same order"
    pages = re.findall(r"^### (\w+)$", (ROOT / "docs/RUNBOOK.md").read_text(), re.M)
    assert sorted(pages) == sorted(names), "docs/RUNBOOK.md has a section for each alert, and no other"
    for rule in ALERTS:
        assert rule["annotations"]["runbook"] == f"docs/RUNBOOK.md#{rule['alert'].lower()}"


def test_alerts_fire_where_they_should_and_nowhere_else(tmp_path):
    done = promtool("test", "rules", BOARDS / "rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    # The control: an alert that never fires, or always, fails its test.
    cases = yaml.safe_load((BOARDS / "rules.test.yml").read_text())
    recorded = [rule for group in RULES["groups"] for rule in group["rules"] if "record" in rule]
    for rule, case in zip(ALERTS, cases["tests"], strict=True):
        (tmp_path / "test.yml").write_text(yaml.safe_dump({**cases, "tests": [case]}))
        for broken in (f"({rule['expr']}) > 1e300", "vector(1)"):
            group = {"name": "broken", "rules": [*recorded, {**rule, "expr": broken}]}
            (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
            done = promtool("test", "rules", tmp_path / "test.yml")
            assert done.returncode != 0 and rule["alert"] in done.stdout + done.stderr, rule["alert"]


class Prometheus:
    """Debian's, over targets by their port, once a second."""

    def __init__(self, folder, targets):
        self.port, self.log = free_port(), open(folder / "prometheus.log", "ab")
        config = yaml.safe_load((BOARDS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(BOARDS / "rules.yml")]
        config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            ["prometheus", "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "tsdb",
             "--web.listen-address", f"127.0.0.1:{self.port}"], stdout=self.log, stderr=self.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(timeout=30)

    def ask(self, query):
        """Samples of an instant query, without those that are no number."""
        url = f"http://127.0.0.1:{self.port}/api/v1/query?query={urllib.parse.quote(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{query}: {refused.read().decode()}") from None
        except urllib.error.URLError:
            return []
        return [sample for sample in found if sample["value"][1] != "NaN"]


def test_no_panel_and_no_rule_is_dead(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Server(tmp_path / "data", settings=settings(broker).replace("= 60", "= 10")) as server:
        gateway = Gateway(tmp_path / "gateway", server.zmq)
        server.cli("device", "add", NAME, "--kind", "gateway", "--host", "127.0.0.1", "--out", gateway.folder / "keys")
        server.cli("device", "add", DEVICE, "--gateway", NAME, "--out", tmp_path / "certs")
        ann, roe = party(server, tmp_path, "ann", "patient"), party(server, tmp_path, "roe", "requester")
        server.cli("device", "add", "bed-1", "--streams", "ecg", "--out", tmp_path / "certs")
        server.cli("stream", "assign", "bed-1/ecg", "--patient", f"{ann}.pub")
        server.cli("device", "add", "bed-2", "--out", tmp_path / "certs")
        with gateway, Prometheus(tmp_path, [server.doors["metrics"], gateway.doors["metrics"]]) as prometheus:
            flow = ["--leads", "1", "--rate", "100", "--clock", "free-running"]
            sim(server, "--device", "bed-1", "--stream", "ecg", *flow, "--for", "15s")
            sim(gateway, "--device", DEVICE, "--stream", "ecg", *flow, "--for", "5s")
            wait_until(lambda: connected(server))
            ecg, publisher = Ecg("bed-2"), Publisher(broker.port)
            publisher.send("birth", ecg.topic("birth"), ecg.birth())
            publisher.wait("birth")
            publisher.close()
            did = server.did("bed-1/ecg")
            wait_until(lambda: prometheus.ask("chordae_chunks_sealed_total > 0"), 60)
            key = ["--key", roe, "--session", grant(server, ann, roe, did), "--stream", did, "--trust", trust(server, tmp_path)]
            span = ["--from", time.time_ns() - 60 * 10**9, "--until", time.time_ns()]
            for pulls in (1, 2):
                # The newest rows are not anchored yet: intact, not proven.
                server.cli("pull", *key, *span, "--format", "csv", "--out", tmp_path / f"{pulls}.csv", ok=(0, 4))
                # The second is what a rate is made of.
                wait_until(lambda: prometheus.ask('chordae_query_seconds_count{format="csv"}'))
            # Rules are evaluated every 15 s.
            dead, end = list(queries()), time.monotonic() + 60
            dead += [(rule["record"], rule["record"]) for group in RULES["groups"] for rule in group["rules"] if "record" in rule]
            while dead and time.monotonic() < end:
                dead = [(where, query) for where, query in dead if not prometheus.ask(query)]
                time.sleep(1)
            assert not dead, dead
            assert not prometheus.ask("chordae_no_such_metric"), "the control"
            rules = json.load(urllib.request.urlopen(f"http://127.0.0.1:{prometheus.port}/api/v1/rules", timeout=10))
            health = {rule["name"]: (rule["health"], rule.get("lastError")) for group in rules["data"]["groups"] for rule in group["rules"]}
            assert set(health.values()) == {("ok", None)} and len(health) == sum(len(group["rules"]) for group in RULES["groups"]), health
            for probe in (server, gateway):
                text = urllib.request.urlopen(f"http://{probe.doors['metrics']}/metrics", timeout=10).read().decode()
                done = promtool("check", "metrics", text=text)
                assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr
            # What an alert asks for is a metric that there is: those with a label appear with their first count.
            known = set(re.findall(r"chordae_[a-z_]+[a-z]", "".join(path.read_text() for path in ROOT.glob("*/src/**/metrics.rs"))
                                   + (ROOT / "node/src/observe.rs").read_text()))
            for rule in ALERTS:
                for name in re.findall(r"\bchordae_[a-z_]+", rule["expr"]):
                    assert re.sub(r"_(bucket|count|sum)$", "", name) in known, name
