"""An acknowledgement means on disk: twenty kills at random moments, and a control that must fail."""

import random
import re
import subprocess
import time

import checker
from conftest import BIN, CONTROL_BIN, SIM, Server, wait_until

CYCLES = 20
ACKNOWLEDGED = 100_000
IN_FLIGHT = 64


def lines(path):
    return path.read_text().count("\n") if path.exists() else 0


def campaign(folder, binary, cycles, wanted, seed):
    """Streams while the server is killed again and again; returns the acknowledged list's path."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    acked = folder.parent / f"{folder.name}.acked"
    server = Server(folder, slot=60, binary=binary)
    server.start()
    server.cli("device", "add", "sim-0001", "--out", folder.parent / "certs")
    port = server.doors["mqtt-plain"]
    # The door must be found again after each kill: the same port from now on.
    toml = folder / "chordae.toml"
    toml.write_text(toml.read_text().replace('plain = "127.0.0.1:0"', f'plain = "{port}"', 1))
    server.stop()
    server.start()
    device = subprocess.Popen(
        [str(SIM), "--url", f"mqtt://{port}", "--device", "sim-0001", "--stream", "ecg", "--leads", "2",
         "--rate", "250", "--frame", "100ms", "--max-rate", "--burst", str(IN_FLIGHT), "--for", "30000s",
         "--acked", str(acked)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for cycle in range(cycles):
            before, end = lines(acked), time.monotonic() + 60
            # Well into the stream again before the next blow.
            while lines(acked) < before + wanted // cycles:
                assert time.monotonic() < end, f"no progress in cycle {cycle}: {lines(acked)} acknowledged"
                assert device.poll() is None, device.stdout.read()[-2000:]
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.3))
            server.kill9()
            server.start()
        device.send_signal(2)
        out, _ = device.communicate(timeout=120)
        print(out[-500:])
    finally:
        if device.poll() is None:
            device.kill()
    server.stop()
    return acked


def test_twenty_kills_lose_nothing(tmp_path):
    folder = tmp_path / "data"
    acked = campaign(folder, BIN, CYCLES, ACKNOWLEDGED, seed=20)
    assert lines(acked) >= ACKNOWLEDGED
    result = checker.frames(folder, acked)
    print(result)
    assert result["acknowledged"] >= ACKNOWLEDGED
    assert result["lost"] == [] and result["duplicate"] == [] and result["different"] == []
    report = checker.check(folder)
    assert report["findings"] == [], report["findings"][:5]


def test_a_build_that_acknowledges_before_the_append_fails(tmp_path):
    """The negative control: without it the test above counts for nothing."""
    folder = tmp_path / "data"
    acked = campaign(folder, CONTROL_BIN, 5, 5_000, seed=5)
    result = checker.frames(folder, acked)
    print(result)
    assert result["lost"], "the control lost nothing: the kill test has no teeth"


def acknowledgements_before_their_sync(tmp_path, binary):
    """Traces one device with one frame in flight; returns (acknowledgements, those that came too early).

    With one frame in flight the order is exact: the bytes of the PUBLISH that was read last must have been
    written to the log, and an fdatasync of the log must have returned 0, before its PUBACK goes out.
    """
    trace = tmp_path / "trace"
    server = Server(tmp_path / "data", slot=60, binary=binary, prefix=(
        # -D: strace stands aside, so that the signals of `stop` reach the server itself.
        "strace", "-D", "-f", "-y", "-s", "4096", "-x", "-o", str(trace),
        "-e", "trace=fdatasync,write,sendto,writev,sendmsg,pwrite64,recvfrom,read"))
    with server:
        server.cli("device", "add", "sim-0001", "--out", tmp_path / "certs")
        subprocess.run(
            [str(SIM), "--url", server.mqtt, "--device", "sim-0001", "--stream", "ecg", "--leads", "1",
             "--rate", "250", "--frame", "100ms", "--max-rate", "--burst", "1", "--for", "3s"],
            check=True, capture_output=True, timeout=120)
    wait_until(lambda: "+++ exited with 0" in trace.read_text(errors="replace")[-2000:])
    begun, frame, written, durable, acks, early = {}, None, "", "", 0, []
    for line in trace.read_text(errors="replace").splitlines():
        thread, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[thread] = rest.removesuffix("<unfinished ...>")
            # A PUBACK counts as sent when its call begins, a sync as done when it returns.
            if not is_puback(rest):
                continue
        elif rest.startswith("<..."):
            first = begun.pop(thread, "")
            if is_puback(first):
                continue
            rest = first + rest.partition("resumed>")[2]
        data = "".join(re.findall(r"\\x([0-9a-f]{2})", rest))
        if "/wal/" in rest and rest.startswith("pwrite64("):
            written += data
        elif "/wal/" in rest and rest.startswith("fdatasync(") and rest.endswith("= 0"):
            durable, written = durable[-100_000:] + written, ""
        elif rest.startswith(("recvfrom(", "read(")) and "socket" in rest and data.startswith("32"):
            frame = data[-40:]  # the last 20 bytes of the PUBLISH: codes that no other frame has
        elif is_puback(rest) and frame:
            acks += 1
            if frame not in durable:
                early.append(rest)
            frame = None
    return acks, early


def is_puback(call):
    """A write to a socket that begins with an MQTT PUBACK: 0x40, remaining length 2 to 4."""
    return "socket" in call and bool(re.search(r'"\\x40\\x0[2-4]', call)) and not call.startswith("recv")


def test_each_sync_returns_before_the_acknowledgement_it_covers(tmp_path):
    acks, early = acknowledgements_before_their_sync(tmp_path, BIN)
    assert acks >= 20, f"only {acks} acknowledgements traced"
    assert not early, early[:3]


def test_the_trace_shows_a_build_that_acknowledges_too_early(tmp_path):
    acks, early = acknowledgements_before_their_sync(tmp_path, CONTROL_BIN)
    assert acks >= 20, f"only {acks} acknowledgements traced"
    assert early, "the control's early acknowledgements were not seen: the trace proves nothing"
