"""Devices that misbehave: nothing acknowledged is missing, nothing is twice, conflicts are told, gaps are seen.

A real server, the simulator with each misbehaviour over each door, and then every acknowledged frame held against
the stored rows (stored.py). Rows T01, T03, Z12, Z15 and Z18 of the list of bad inputs are named where they are.
"""

import random
import re
import subprocess
import time
import urllib.request

import checker
import pytest
import stored
from conftest import BIN, CONTROL_BIN, SIM, Server, run, wait_until

SHAPE = ("--stream", "ecg", "--rate", "100")
DOORS = {
    "mqtt": ("mqtt",),
    "mqtt-3.1.1": ("mqtt", "--mqtt", "3"),
    "qos-0": ("mqtt", "--qos", "0"),
    "qos-2": ("mqtt", "--qos", "2"),
    "zmq": ("zmq",),
}
TOLD = {"mqtt": "0x99", "zmq": "conflict"}


class Ward:
    """A server with devices, and the lists of what they were told."""

    def __init__(self, tmp_path, devices=("bed-1",), slot=60, binary=BIN):
        self.path, self.acked = tmp_path, tmp_path / "acked"
        self.server = Server(tmp_path / "data", slot=slot, binary=binary)
        self.server.start()
        for device in devices:
            self.server.cli("device", "add", device, "--out", tmp_path / "certs")

    def address(self, door):
        kind, *options = DOORS[door]
        return ["--url", getattr(self.server, kind), *options]

    def sim(self, door, *args, leads=2, acked=None, ok=(0,)):
        done = run(*self.address(door), *SHAPE, "--leads", leads, "--acked", acked or self.acked, *args, binary=SIM, ok=ok, timeout=300)
        print(done.stdout, done.stderr)
        return done.stdout

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.server.doors['metrics']}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        values = [float(v) for v in re.findall(rf"^{re.escape(name)} ([0-9.e+]+)$", text, re.M)]
        return sum(values)

    def restart(self):
        """An orderly stop, which seals everything, and a start: the log is trimmed, the chunks remember."""
        self.server.stop()
        self.server.start()

    def check(self, acked=None):
        """Stops the server and compares; nothing may be wrong."""
        streams = {s["did"]: s["stream"] for s in self.server.streams()}
        self.server.stop()
        result = stored.compare(self.server.folder, streams, stored.acknowledged(acked or self.acked))
        report = checker.check(self.server.folder)
        print({**result, "chunks": report["chunks"]})
        assert report["findings"] == []
        assert result["wrong"] == {}, {what: keys[:3] for what, keys in result["wrong"].items()}
        return result

    def end(self):
        if self.server.process.poll() is None:
            self.server.kill9()


@pytest.fixture
def ward(tmp_path):
    ward = Ward(tmp_path)
    yield ward
    ward.end()


@pytest.mark.parametrize("door", DOORS)
def test_everything_at_once(ward, door):
    """Jitter, drift, steps, repeats, cuts, forms that change, extreme codes (Z15), and gaps that are seen (Z12)."""
    said = ward.sim(
        door, "--device", "bed-1", "--frame", "500ms", "--max-rate", "--for", "150s", "--seed", "6", "--faults",
        "drop,dup,reorder,reconnect,encodings,jitter=40ms,drift=-1%,clock-jump=1s,extremes,gap", ok=(1,))
    assert ward.metric("chordae_duplicates_total") > 0
    result = ward.check()
    lost = int(re.search(r"(\d+) lost", said)[1])
    assert lost > 0 and result["acknowledged"] == 300 - lost
    assert "0 refused" in said and "0 owed" in said, said
    # A true gap is what no chunk holds: neither more nor less than the device lost.
    folder = ward.server.folder
    (_, group), = stored.chunks(folder, {did: "bed-1/ecg" for did in checker.links(folder)}).items()
    held = {seq for chunk in group for seq in stored.seqs(chunk.meta)}
    assert len(held) == 300 - lost and len(set(range(300)) - held) == lost
    codes = {int(c) for chunk in group for lead in chunk.codes for c in lead}
    assert {-2**31, -2**31 + 1, 2**31 - 1, 32767, -32768} <= codes, "Z15: extreme codes, bit for bit"


@pytest.mark.parametrize("door", ["mqtt", "mqtt-3.1.1", "zmq"])
def test_a_reused_boot_number(ward, door):
    """Z12: the same frames are absorbed, other ones under their numbers are told and set aside, the first stay."""
    # Four seconds, so that the `ack` topic, written once a second, has its say.
    said = ward.sim(door, "--device", "bed-1", "--frame", "1s", "--speed", "25", "--for", "100s", "--boot", "77",
                    "--faults", "reuse-boot", ok=(0, 1))
    assert ward.metric("chordae_duplicates_total") >= 32
    assert ward.metric('chordae_quarantined_total{reason="conflict"}') == 32
    if door == "mqtt-3.1.1":
        # PUBACK is all that 3.1.1 has; the `ack` topic says it, and quarantine keeps it.
        assert "told on the ack topic: 32 with reason conflict" in said
    else:
        assert f"refused: 32 with reason {TOLD[door]}" in said
    assert ward.check()["acknowledged"] == 100 - 32
    conflicts = [q for q in stored.quarantined(ward.server.folder) if q[0] == "conflict"]
    assert sorted(seq for _, _, boot, seq in conflicts if boot == 77) == list(range(32))


@pytest.mark.parametrize("door", ["mqtt", "zmq"])
def test_a_reused_boot_number_with_another_birth(ward, door):
    """The birth is refused, and what that connection says under it is kept apart."""
    same = ("--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "20s", "--boot", "77")
    ward.sim(door, *same)
    other = ward.path / "acked-other"
    said = ward.sim(door, *same, leads=1, acked=other, ok=(0, 1))
    assert "refused" in said, said
    assert ward.metric('chordae_quarantined_total{reason="boot-reused"}') >= 20
    assert ward.check()["acknowledged"] == 20
    aside = {seq for reason, _, boot, seq in stored.quarantined(ward.server.folder)
             if (reason, boot) == ("boot-reused", 77)}
    assert {line.seq for line in stored.acknowledged(other)} <= aside


@pytest.mark.parametrize("door", ["mqtt", "zmq"])
def test_yesterday_replayed(ward, door):
    """Z18: a whole session again, byte for byte, from the log and then from the chunks: no new row. Another session
    under its numbers: all of it refused, and the first one stays."""
    session = ("--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "60s", "--boot", "4242",
               "--start", str(time.time_ns() - 86_400 * 10**9), "--faults", "jitter=40ms,extremes")
    ward.sim(door, *session, "--seed", "1")
    for acked in ("again-1", "again-2"):
        before = ward.metric("chordae_duplicates_total")
        ward.sim(door, *session, "--seed", "1", "--encoding", "mixed", acked=ward.path / acked)
        assert ward.metric("chordae_duplicates_total") >= before + 60
        ward.restart()
    said = ward.sim(door, *session, "--seed", "2", acked=ward.path / "other", ok=(1,))
    assert f"refused: 60 with reason {TOLD[door]}" in said
    assert ward.metric('chordae_quarantined_total{reason="conflict"}') == 60
    result = ward.check()
    assert (result["acknowledged"], result["rows"]) == (60, 6000)
    assert sorted(stored.acknowledged(ward.path / "again-2")) == sorted(stored.acknowledged(ward.acked))
    assert stored.acknowledged(ward.path / "other") == []


@pytest.mark.parametrize("scheme, door", [("mqtts", "mqtt-tls"), ("zmq+tls", "zmq-tls")])
def test_over_tls(tmp_path, scheme, door):
    """The same devices with certificates: cuts, repeats, another form each time."""
    server = Server(tmp_path / "data", slot=60, tls=True)
    with server:
        certs, acked = tmp_path / "certs", tmp_path / "acked"
        server.cli("device", "add", "bed-1", "--out", certs)
        port = server.doors[door].rsplit(":", 1)[1]
        done = run("--url", f"{scheme}://127.0.0.1:{port}", "--ca", certs / "ca.crt", "--cert", certs, *SHAPE,
                   "--leads", "2", "--device", "bed-1", "--max-rate", "--for", "100s", "--acked", acked,
                   "--faults", "drop,dup,reorder,reconnect,encodings", binary=SIM)
        print(done.stdout)
        streams = {s["did"]: s["stream"] for s in server.streams()}
    result = stored.compare(server.folder, streams, stored.acknowledged(acked))
    assert result["acknowledged"] == 100 and result["wrong"] == {}


def test_numbers_at_their_end(ward):
    """Z12: 2^64-1, the wrap to 0 and a new boot; ZeroMQ has a use of its own for 2^64-1 and says so."""
    first = str(2**64 - 5)
    ward.sim("mqtt", "--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "10s", "--first-seq", first)
    ward.sim("mqtt", "--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "10s")
    said = ward.sim("zmq", "--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "10s", "--first-seq", first,
                    ok=(1,))
    assert "9 acknowledged" in said and "1 refused" in said, said
    assert ward.check()["acknowledged"] == 29


@pytest.mark.parametrize("skew, reason", [
    ("87600h", "future"), ("-490000h", "past"), ("2100000h", "time-overflow"), ("10m", "future")])
def test_clocks_far_off_are_set_aside(ward, skew, reason):
    """T01: ten years ahead, 1970, 2^63 ns, and T03's ten minutes ahead: acknowledged, kept, never among the rows."""
    ward.sim("mqtt", "--device", "bed-1", "--frame", "100ms", "--for", "1s", "--skew", skew)
    lines = stored.acknowledged(ward.acked)
    assert len(lines) == 10
    assert ward.metric(f'chordae_quarantined_total{{reason="{reason}"}}') == 10
    ward.server.stop()
    kept = {(boot, seq) for why, _, boot, seq in stored.quarantined(ward.server.folder) if why == reason}
    assert kept == {(line.boot, line.seq) for line in lines}
    assert not checker.links(ward.server.folder)


def test_t03_skewed_clocks_do_not_mix(tmp_path):
    """T03: each device's rows are its own and lie where it says; ten minutes behind goes to the late lane. And T01's
    step of a second, both ways, on live frames."""
    ward = Ward(tmp_path, devices=("bed-1", "bed-2", "bed-3"), slot=10)
    try:
        for n, skew in enumerate(["-10m", "4m", "0s"], 1):
            ward.sim("mqtt", "--device", f"bed-{n}", "--frame", "50ms", "--for", "5s", "--skew", skew,
                     "--faults", "clock-jump=1s")
        result = ward.check()
        assert result["acknowledged"] == 300
        assert result["lanes"]["late"] >= 500 and result["lanes"]["live"] >= 900
    finally:
        ward.end()


@pytest.mark.parametrize("door", ["mqtt", "zmq"])
def test_back_after_ten_minutes(ward, door):
    """What was recorded meanwhile arrives in one go, too old for the live lane, and the stream goes on."""
    ward.sim(door, "--device", "bed-1", "--frame", "1s", "--away", "10m", "--for", "605s", "--burst", "64")
    result = ward.check()
    assert result["acknowledged"] == 605
    assert result["lanes"]["late"] >= 29_000 and result["lanes"]["live"] > 0


def test_away_in_the_middle_of_a_stream(ward):
    """The same in the stream's own time, sixty times as fast."""
    said = ward.sim("mqtt", "--device", "bed-1", "--frame", "10s", "--speed", "600", "--for", "8000s",
                    "--faults", "pause=10m")
    assert int(re.search(r"([0-9]+) connections", said)[1]) > 2, said
    assert ward.check()["acknowledged"] == 800


def resend_across_crashes(tmp_path, binary, door, seed):
    """The simulator and the server are killed in turn; each new simulator is owed what the last one was."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    ward = Ward(tmp_path, binary=binary)
    toml = ward.server.folder / "chordae.toml"
    for name in ("mqtt-plain", "zmq-plain"):
        toml.write_text(toml.read_text().replace('plain = "127.0.0.1:0"', f'plain = "{ward.server.doors[name]}"', 1))
    ward.server.stop()
    ward.server.start()
    count = lambda: ward.acked.read_text().count("\n") if ward.acked.exists() else 0

    def start(*more):
        return subprocess.Popen(
            [str(SIM), *ward.address(door), *SHAPE, "--leads", "2", "--device", "bed-1", "--frame", "100ms", "--acked",
             str(ward.acked), "--state", str(tmp_path / "state"), "--burst", "64", "--max-rate",
             "--faults", "dup,reorder,encodings", *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    try:
        for life in range(6):
            device, before = start("--for", "3000s"), count()
            try:
                wait_until(lambda: count() > before + 100, seconds=60)
                time.sleep(rng.uniform(0, 0.2))
                if life % 2:
                    ward.server.kill9()
            finally:
                device.kill()
                device.wait()
            if life % 2:
                ward.server.start()
        last = start("--for", "1s")
        out, _ = last.communicate(timeout=120)
        print(out)
        assert last.returncode == 0
        streams = {s["did"]: s["stream"] for s in ward.server.streams()}
        ward.server.stop()
        lines = stored.acknowledged(ward.acked)
        return stored.compare(ward.server.folder, streams, lines)
    finally:
        ward.end()


@pytest.mark.parametrize("door", ["mqtt", "zmq"])
def test_resent_across_crashes(tmp_path, door):
    """Nothing lost, nothing twice, and nothing stored that no life of the device was told of."""
    result = resend_across_crashes(tmp_path, BIN, door, seed=11)
    print(result)
    assert result["acknowledged"] > 600 and result["wrong"] == {}


def test_a_build_that_acknowledges_before_the_append_is_caught(tmp_path):
    """The negative control of the tests above: the same comparison, and frames are missing."""
    result = resend_across_crashes(tmp_path, CONTROL_BIN, "mqtt", seed=12)
    assert result["wrong"].get("lost"), "the control lost nothing: the comparison has no teeth"


def test_the_comparison_sees_each_kind_of_wrong(ward):
    """Its own negative control: an honest run, and lists that claim something else."""
    ward.sim("mqtt", "--device", "bed-1", "--frame", "1s", "--max-rate", "--for", "30s")
    ward.check()
    folder, lines = ward.server.folder, stored.acknowledged(ward.acked)
    streams = {did: "bed-1/ecg" for did in checker.links(folder)}
    wrong = lambda lines: set(stored.compare(folder, streams, lines)["wrong"])
    assert wrong(lines) == set()
    one = lines[7]
    assert wrong([*lines, one._replace(seq=99)]) == {"lost"}
    assert wrong([line for line in lines if line != one]) >= {"unasked"}
    assert wrong([line._replace(digest="00" * 32) if line == one else line for line in lines]) == {"different"}
    assert wrong([line._replace(t0=line.t0 + 10**9) if line == one else line for line in lines]) == {"elsewhen"}
    assert "twice" in wrong([line._replace(samples=50) if line == lines[29] else line for line in lines])
    assert wrong([line._replace(stream="bed-2/ecg") if line == one else line for line in lines]) >= {"lost"}
