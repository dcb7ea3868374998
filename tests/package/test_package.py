"""The life of an installation, in the order in which it is lived: installed, made, started, cut off, upgraded, set back, removed,
purged, a gateway beside it. The tests go on from each other and are run in this order; what a person does are the `root` blocks of docs/OPERATORS.md,
as they stand there, and systemd starts and stops the node by the unit of the package."""

import os
import re
import shutil

import checker
import pytest
from conftest import ROOT, TARGET
from machine import Machine, call

DATA = "/var/lib/chordae"
UNITS = ("chordae", "chordae-gateway")
PAGE = (ROOT / "docs/OPERATORS.md").read_text()
INSTALL, BEGIN, WITNESS, CERTIFICATES, GATEWAY, UPGRADE, BACK, REMOVE, PURGE, PURGE_ALL = re.findall(r"^```root\n(.*?)^```$", PAGE, re.M | re.S)
# Well into a stream; the device sends as fast as it is acknowledged.
ACKNOWLEDGED = 2_000


@pytest.fixture(scope="module")
def machine(tmp_path_factory, packages):
    """A minimal Debian; packages and simulator lie in the home of root, who says yes to apt."""
    machine = Machine(tmp_path_factory.mktemp("machine") / "chordae-test", ROOT / ".tools/package/debian")
    for path in [*packages, TARGET / "release/device-sim"]:
        shutil.copy2(path, machine.root / "root")
    (machine.root / "etc/hosts").write_text("127.0.0.1 localhost ecg.example.org ward-3.example.org\n")
    (machine.root / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";\n')
    yield machine
    machine.power_off()
    shutil.rmtree(machine.root, ignore_errors=True)


@pytest.fixture(scope="module")
def acked(machine):
    """What devices were told is kept, as the outside sees the file."""
    return machine.root / "var/tmp/acked"


def lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def ready(machine):
    return machine.unit("chordae", "ActiveState") == "active" and machine.probe("/readyz") == "200"


def streaming(machine, acked, door="ecg.example.org:8883", device="bed-12", keys="/var/tmp/bed-12"):
    """A device in the middle of its stream, of which enough was acknowledged."""
    before = lines(acked)
    process = machine.starts(
        "/root/device-sim", "--url", f"mqtts://{door}", "--device", device, "--stream", "ecg",
        "--cert", f"{keys}/{device}.crt", "--key", f"{keys}/{device}.key", "--ca", f"{keys}/ca.crt",
        "--leads", "2", "--rate", "250", "--frame", "100ms", "--max-rate", "--burst", "64", "--for", "30000s",
        "--acked", f"/var/tmp/{acked.name}")
    goes_on(machine, acked, process, before)
    return process


def goes_on(machine, acked, device, before):
    """Waits until a device was acknowledged enough more than `before`."""
    machine.until(lambda: lines(acked) > before + ACKNOWLEDGED or device.poll() is not None)
    assert device.poll() is None, machine.told()


def stored(machine, acked):
    """Every acknowledged frame against the rows of the folder, by a reader that is not ours."""
    found = checker.frames(machine.root / DATA[1:], acked)
    return {what: found[what] for what in ("lost", "duplicate", "different") if found[what]}, found["acknowledged"]


def named(machine):
    """Every path of the machine that is called after us, and every file of /etc that speaks of us; not what is in our folder,
    nor what others wrote down about us (logs, and apt's)."""
    found = machine.does("find", "/", "-xdev", "-name", "*chordae*").stdout.split()
    spoken = machine.does("grep", "-rl", "chordae", "/etc", ok=False).stdout.split()
    apart = (DATA + "/", "/root/", "/var/log/", "/var/cache/")
    return {path for path in {*found, *spoken} if not path.startswith(apart)}


def test_apt_brings_what_it_needs_and_nothing_is_started(machine):
    assert not (machine.root / "usr/lib/systemd/systemd").exists(), "a root without systemd"
    machine.before_boot("apt-get -qq update")
    assert "chordae: nothing is started yet" in machine.before_boot(INSTALL)
    assert machine.before_boot("chordae --version").startswith("chordae ")
    # A machine has an init; the package does not ask for one.
    machine.before_boot("apt-get install systemd-sysv")
    machine.boot()
    assert machine.does("dpkg", "--verify", "chordae").stdout == ""
    for unit in UNITS:
        assert machine.does("systemctl", "is-enabled", unit, ok=False).stdout.strip() == "disabled"
        assert machine.unit(unit, "ActiveState") == "inactive"
    for folder, settings in ((DATA, "chordae.toml"), (DATA + "-gateway", "gateway.toml")):
        assert machine.does("stat", "--format", "%U %G %a", folder).stdout.split() == ["chordae", "chordae", "700"]
        assert machine.does("readlink", f"{folder}/{settings}").stdout.strip() == f"/etc/chordae/{settings}"


def test_the_installed_units_shut_everything_else_away(machine):
    def exposure(unit):
        said = machine.does("systemd-analyze", "security", "--offline=true", unit).stdout
        return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])

    for unit in UNITS:
        assert exposure(f"/usr/lib/systemd/system/{unit}.service") < 3
    # The control: the same service without its hardening.
    unit = (machine.root / "usr/lib/systemd/system/chordae.service").read_text()
    (machine.root / "var/tmp/bare.service").write_text("\n".join(re.findall(r"^\[.*|^ExecStart.*|^Type.*|^User.*", unit, re.M)) + "\n")
    assert exposure("/var/tmp/bare.service") > 7


def test_what_was_not_made_does_not_start(machine):
    for unit in UNITS:
        done = machine.does("systemctl", "start", unit, ok=False)
        assert done.returncode != 0 and "ssert" in done.stderr, done.stderr
        assert machine.unit(unit, "ActiveState") == "inactive"
    assert os.listdir(machine.root / DATA[1:]) == ["chordae.toml"]


def test_made_by_its_user_and_enabled_it_serves(machine):
    assert re.search(r"^ready +true$", machine.steps(BEGIN), re.M)
    assert machine.unit("chordae", "StatusText") == "serving"
    assert machine.does("stat", "--format", "%U", f"/proc/{machine.unit('chordae', 'MainPID')}").stdout.strip() == "chordae"
    machine.steps(WITNESS)
    machine.until(lambda: ready(machine))
    machine.steps(f"runuser -u chordae -- chordae device add bed-12 --data {DATA} --out /var/tmp/bed-12")


def test_after_a_cut_off_it_comes_back_with_all_that_was_acknowledged(machine, acked):
    for _ in range(2):
        device = streaming(machine, acked)
        machine.power_off()
        device.wait(timeout=30)
        machine.boot()
        # Nobody starts it: it is enabled.
        machine.until(lambda: ready(machine))
    machine.does("systemctl", "stop", "chordae")
    assert machine.unit("chordae", "Result") == "success"
    wrong, count = stored(machine, acked)
    assert wrong == {} and count >= 2 * ACKNOWLEDGED
    # The control: a frame that was never sent is missed.
    forged = acked.with_name("forged")
    line = acked.read_text().splitlines()[-1].split()
    forged.write_text(" ".join([*line[:4], str(int(line[4]) + 10**12), *line[5:]]) + "\n")
    assert stored(machine, forged)[0] != {}


def test_an_upgrade_starts_anew_what_runs_and_keeps_the_settings(machine, acked):
    settings = machine.root / "etc/chordae/chordae.toml"
    settings.write_text(settings.read_text().replace("slot-seconds = 300", "slot-seconds = 60"))
    machine.does("systemctl", "start", "chordae")
    # There and back again, once from a stop and once under way: the older one reads what the newer one left.
    for way in (UPGRADE, BACK):
        pid = machine.unit("chordae", "MainPID")
        said = machine.steps(way)
        machine.until(lambda: ready(machine))
        assert machine.unit("chordae", "MainPID") != pid
        assert way == BACK or "ok: intact, and proven against the trust file" in said, said
    assert "slot-seconds = 60" in settings.read_text() and "/srv/chordae/witness" in settings.read_text()
    assert (machine.root / "srv/chordae/witness").stat().st_size > 0
    assert machine.unit("chordae-gateway", "ActiveState") == "inactive", "what does not run stays as it is"
    assert stored(machine, acked)[0] == {}


def test_a_removal_stops_it_in_order_and_keeps_data_and_settings(machine, acked):
    device = streaming(machine, acked)
    machine.does("chordae", "trust", "export", "--data", DATA, "--out", "/var/tmp/trust.json")
    assert "data, keys and settings are kept" in machine.steps(REMOVE)
    device.kill()
    device.wait()
    assert not (machine.root / "usr/bin/chordae").exists()
    assert machine.does("pgrep", "--exact", "chordae", ok=False).stdout == ""
    assert (machine.root / "etc/chordae/chordae.toml").exists()
    # Sealed, linked and anchored on the way out.
    binary = TARGET / "release/chordae"
    call(binary, "verify", machine.root / DATA[1:], "--trust", machine.root / "var/tmp/trust.json")
    wrong, count = stored(machine, acked)
    assert wrong == {} and count >= 3 * ACKNOWLEDGED


def test_a_purge_takes_the_settings_and_leaves_the_data(machine, acked):
    assert f"{DATA} is kept" in machine.steps(PURGE)
    # What the page names: the data, the user to whom they belong, what was made by hand.
    accounts = {f"/etc/{name}{copy}" for name in ("passwd", "group", "shadow", "gshadow") for copy in ("", "-")}
    own = {"/srv/chordae", *(f"/etc/systemd/system/chordae.service.d{path}" for path in ("", "/witness.conf"))}
    assert named(machine) - accounts - own == {DATA}
    assert stored(machine, acked)[0] == {}


def test_a_gateway_keeps_what_its_devices_send_until_the_node_has_it(machine):
    machine.steps(INSTALL)
    machine.does("systemctl", "enable", "--now", "chordae")
    # The page has it on a machine of its own.
    settings = machine.root / "etc/chordae/gateway.toml"
    settings.write_text(settings.read_text().replace("0.0.0.0:8883", "0.0.0.0:8884").replace("127.0.0.1:9464", "127.0.0.1:9465"))
    machine.steps(CERTIFICATES)
    machine.steps(GATEWAY)
    assert machine.unit("chordae-gateway", "StatusText") == "serving"
    acked = machine.root / "var/tmp/acked-30"
    device = streaming(machine, acked, "ward-3.example.org:8884", "bed-30", "/srv/keys/bed-30")
    # The node is away, and the device hears nothing of it; then all is cut off.
    machine.does("systemctl", "stop", "chordae")
    before = lines(acked)
    goes_on(machine, acked, device, before)
    assert machine.metric(9465, "chordae_spool_frames") >= ACKNOWLEDGED
    machine.power_off()
    device.wait(timeout=30)
    machine.boot()
    machine.until(lambda: ready(machine) and machine.metric(9465, "chordae_spool_frames") == 0)
    machine.does("systemctl", "stop", "chordae")
    wrong, count = stored(machine, acked)
    assert wrong == {} and count >= 2 * ACKNOWLEDGED


def test_a_purge_that_is_told_so_takes_the_data(machine):
    assert machine.does("stat", "--format", "%U", DATA).stdout.strip() == "chordae", "it went on from there"
    assert f"{DATA}-gateway is kept" in (said := machine.steps(PURGE_ALL)) and f"{DATA} is kept" not in said
    assert not (machine.root / DATA[1:]).exists()
