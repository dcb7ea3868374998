"""R07 a full disk, R08 everything else that a machine may refuse: read-only, descriptors, memory, interrupted calls."""

import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

from conftest import BIN, CONTROL_BIN, run
from rig import HISTORY, LIVE, Gone, Ward, Watch, seeds
from score import Score

FLEET = (("dev-mqtt", "mqtt", HISTORY), ("dev-zmq", "zmq", LIVE))


class Volume:
    """A small file system of its own."""

    def __init__(self, kind, mib):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
        self.folder, image = self.base / "mnt", self.base / "image"
        self.folder.mkdir()
        if kind == "tmpfs":
            self.how = ["-t", "tmpfs", "-o", f"size={mib}m", "tmpfs"]
        else:
            with open(image, "wb") as f:
                f.truncate(mib << 20)
            subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
            self.how = ["-o", "loop", str(image)]
        self.mount()

    def mount(self):
        subprocess.run(["mount", *self.how, str(self.folder)], check=True)

    def free(self):
        stat = os.statvfs(self.folder)
        return stat.f_bavail * stat.f_frsize

    def fill(self, leave):
        """Somebody else's file takes all but so many bytes."""
        with open(self.folder / "ballast", "ab") as f:
            while (room := self.free() - leave) > 4096:
                try:
                    f.write(bytes(min(room, 8 << 20)))
                    f.flush()
                except OSError:
                    break

    def clear(self):
        (self.folder / "ballast").unlink(missing_ok=True)

    def writable(self, yes):
        subprocess.run(["mount", "-o", f"remount,{'rw' if yes else 'ro'}", str(self.folder)],
                       check=yes, stderr=subprocess.DEVNULL)

    def again(self):
        """Away, and mounted again from its image."""
        watch = Watch()
        # Who was killed may hold it a moment longer.
        while subprocess.run(["umount", str(self.folder)], stderr=subprocess.DEVNULL).returncode:
            if watch() > 10:
                raise Gone(f"{self.folder} stays mounted")
            time.sleep(0.05)
        self.mount()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", str(self.folder)], stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(self.base)])


def answers(ward):
    """Whether the server still answers an operator."""
    try:
        ward.house.cli("status", "--json", timeout=20)
        return True
    except (AssertionError, subprocess.TimeoutExpired):
        return False


def calm(ward, seconds=10, every=False):
    """Up and acknowledging, whatever it takes; seconds until then."""
    watch = Watch()
    while watch() < 90:
        try:
            before = ward.counts()
            if not ward.house.alive():
                ward.house.end()
                ward.house.start()
            ward.first_ack(before, seconds, every)
            return watch()
        except Gone:
            continue
    raise Gone("it did not come back")


def full(score, kind, rng):
    with Volume(kind, 420) as volume, Ward(on=volume.folder, fleet=FLEET, slot=10, wal=256 << 20) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        for leave in (100 << 20, 0):
            time.sleep(rng.uniform(0.2, 1))
            volume.fill(leave)
            time.sleep(3)
            score.demand(ward.house.alive(), f"{kind}, {leave >> 20} MiB left: the server goes on")
            score.demand(ward.house.alive() and answers(ward), f"{kind}, {leave >> 20} MiB left: it answers")
            before = ward.counts()
            time.sleep(1)
            score.demand(ward.counts() == before, f"{kind}, {leave >> 20} MiB left: nothing is acknowledged")
            volume.clear()
            took = calm(ward)
            score.figures[f"{kind} {leave >> 20} MiB left, again after"] = f"{took:.1f} s"
            score.cycles += 1
        ward.judge(score)


def tiny(score):
    """32 MiB: too small for any log; refused from the beginning, and nothing breaks."""
    with Volume("ext4", 32) as volume, Ward(on=volume.folder, fleet=FLEET[:1], slot=10, wal=256 << 20) as ward:
        ward.go()
        time.sleep(3)
        score.demand(ward.house.alive() and answers(ward), "32 MiB: the server goes on and answers")
        score.demand(sum(ward.counts()) == 0, "32 MiB: nothing is acknowledged")
        for device in ward.devices:
            device.end()
        ward.house.stop()
        score.cycles += 1


def r07(seed, short):
    score, rng = Score("R07", "a full disk: 32 MiB, ext4, tmpfs", seed), seeds(seed)
    tiny(score)
    for kind in ("ext4",) if short else ("ext4", "tmpfs"):
        full(score, kind, rng)
    score.control = "as R05"
    return score


def forgotten(fill, trials, rng):
    """How often fdatasync said yes to what was gone after a failed journal and the next mount, with no product in it.

    `fill` makes the room that is written over (decision 44): zeros, or what is only reserved.
    """
    size, block, lost = 16 << 20, 19_000, 0
    with Volume("ext4", 200) as volume:
        for _ in range(trials):
            path, synced = volume.folder / "log", []
            path.unlink(missing_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT)
            fill(file, size)
            os.fsync(file)

            def write():
                try:
                    for n in range(size // block):
                        os.pwrite(file, bytes([1 + n % 255]) * block, n * block)
                        os.fdatasync(file)
                        synced.append(n)
                except OSError:
                    pass

            writer = threading.Thread(target=write)
            writer.start()
            time.sleep(rng.uniform(0.01, 0.06))
            shutdown(volume)
            writer.join()
            os.close(file)
            volume.again()
            data = path.read_bytes()
            lost += any(data[n * block:(n + 1) * block] != bytes([1 + n % 255]) * block for n in synced)
    return lost


def zeros(file, size):
    os.pwrite(file, bytes(size), 0)


def reserved(file, size):
    os.posix_fallocate(file, 0, size)


def remounted(score, rng, n):
    with Volume("ext4", 600) as volume, Ward(on=volume.folder, fleet=FLEET, slot=10, wal=256 << 20) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        for _ in range(n):
            time.sleep(rng.uniform(0.2, 1))
            # A disk that fails is remounted read-only under open files: only an aborted journal does that to writers.
            shutdown(volume)
            time.sleep(1)
            before = ward.counts()
            time.sleep(0.5)
            score.demand(ward.counts() == before, "read-only: nothing is acknowledged")
            ward.house.end()
            volume.again()
            calm(ward)
            score.cycles += 1
        ward.judge(score)


def shutdown(volume):
    """ext4 as after a failed journal: the last resort of a kernel whose disk has gone (EXT4_IOC_SHUTDOWN)."""
    import fcntl
    import struct
    folder = os.open(volume.folder, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, 0x8004587D, struct.pack("I", 1))  # flags: log flushed
    finally:
        os.close(folder)


def limited(score, name, prefix, rng, load=None, env=None):
    """Under a limit for a while, then without."""
    with Ward(fleet=FLEET, slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        ward.house.end()
        ward.house.prefix = prefix
        try:
            ward.house.start()
            if load:
                load(ward)
            time.sleep(3)
        except Gone:
            pass
        score.figures[name] = "lived" if ward.house.alive() else "ended"
        # Without memory the process ends; a library may say so by a panic (zstd, without room for its context).
        panics = ward.house.said("panicked") and not ward.house.said("memory allocation of")
        score.demand(not panics, f"{name}: no panic in the log")
        ward.house.end()
        ward.house.prefix = []
        calm(ward)
        ward.judge(score)
        score.cycles += 1


def crowd(ward):
    """More connections than there are descriptors; they leave, and a new one is taken."""
    import socket
    held = []
    for _ in range(150):
        try:
            held.append(socket.create_connection(("127.0.0.1", ward.house.mqtt_port), timeout=1))
        except OSError:
            break
    time.sleep(1)
    for s in held:
        s.close()
    time.sleep(0.5)
    ward.first_ack(ward.counts(), 20)


def interrupted(score):
    """EINTR from every few calls: no call gives up, nothing is twice."""
    calls = "pwrite64,fdatasync,fsync,read,sendto,recvfrom,epoll_wait,openat,rename"
    inject = [f"-e inject={call}:error=EINTR:when={n}+{n}" for call, n in
              (("pwrite64", 7), ("fdatasync", 5), ("fsync", 3), ("recvfrom", 11), ("epoll_wait", 9), ("openat", 23))]
    prefix = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *" ".join(inject).split()]
    with Ward(fleet=FLEET, slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        ward.house.end()
        ward.house.prefix = prefix
        ward.again()
        time.sleep(4)
        score.demand(ward.house.alive(), "EINTR: the server goes on")
        before = ward.counts()
        time.sleep(1)
        score.demand(ward.counts() != before or not ward.house.alive(), "EINTR: it still acknowledges")
        ward.house.end()
        ward.house.prefix = []
        calm(ward)
        ward.judge(score)
        score.cycles += 1


def short_writes(score):
    with Ward(on="power", fleet=FLEET, slot=10) as ward:
        ward.disk.say("short on")
        ward.go().first_ack(ward.counts(), every=True)
        time.sleep(2)
        ward.house.end()
        ward.disk.say("lose drop 1")
        ward.again()
        time.sleep(1)
        ward.judge(score)
        score.cycles += 1


def terminated(score, rng, n=5):
    with Ward(fleet=FLEET, slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        took = []
        for _ in range(n):
            time.sleep(rng.uniform(0.2, 1))
            watch = Watch()
            ward.house.process.send_signal(signal.SIGTERM)
            try:
                code = ward.house.process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                code = "nothing"
            took.append(watch())
            score.demand(code == 0, f"SIGTERM under load ends with 0, not {code}")
            ward.house.end()
            ward.again()
            score.cycles += 1
        score.figures["slowest SIGTERM"] = f"{max(took):.1f} s"
        ward.judge(score)


def twice(score):
    with Ward(fleet=FLEET, slot=10) as ward:
        ward.go().first_ack(ward.counts(), every=True)
        other = pathlib.Path(ward.base / "other.toml")
        text = (ward.house.folder / "chordae.toml").read_text()
        for port in (ward.house.mqtt_port, ward.house.zmq_port):
            text = text.replace(f":{port}", ":0")
        for _ in range(3):
            mine = ward.house.folder / "chordae.toml"
            kept = mine.read_text()
            mine.write_text(text)
            done = run("serve", "--config", mine, ok=(1,), timeout=60, binary=ward.house.binary)
            mine.write_text(kept)
            score.demand("in use" in done.stderr, f"a second server on the folder is refused: {done.stderr[-200:]}")
            ward.first_ack(ward.counts())
            score.cycles += 1
        other.unlink(missing_ok=True)
        ward.judge(score)


def r08(seed, short):
    score, rng = Score("R08", "read-only, limits, EINTR, SIGTERM, two", seed), seeds(seed)
    terminated(score, rng, 2 if short else 5)
    twice(score)
    short_writes(score)
    interrupted(score)
    limited(score, "64 descriptors", ["prlimit", "--nofile=64", "--"], rng, crowd)
    if not short:
        limited(score, "files of 1 MiB", ["prlimit", "--fsize=1048576", "--"], rng)
        limited(score, "address space 700 MiB", ["prlimit", f"--as={700 << 20}", "--"], rng)
        limited(score, "address space 100 MiB", ["prlimit", f"--as={100 << 20}", "--"], rng)
    remounted(score, rng, 3 if short else 12)
    trials = 8 if short else 60
    gone = forgotten(zeros, trials, rng)
    score.demand(gone == 0, f"a log of zeros lost what was synced in {gone} of {trials} failures of its file system")
    # What the log did before, and what finds it: on some kernels it loses, on others it may not.
    score.figures["lost in room only reserved"] = f"{forgotten(reserved, trials, rng)} of {trials}"
    score.control = "as R05"
    return score


ROWS = {"R07": r07, "R08": r08}
