"""A machine of its own to install on: a Debian root by debootstrap, in which systemd runs (systemd-nspawn), without a network.

Its leader can be killed: then every process in it is gone at once and nothing was told to end, as when the power fails,
except that what was not synced may still have come to the disk (that is what tests/powerloss is for).
"""

import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import time

# Where no systemd runs outside, it can register no machine there.
OUTSIDE = [] if pathlib.Path("/run/systemd/system").exists() else ["--register=no", "--keep-unit"]
NSPAWN = ["systemd-nspawn", "--quiet", *OUTSIDE]

INTO = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/")
# Nothing of the outside's environment: its folders are not there.
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}


def call(*words, ok=True, timeout=600, **more):
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, **more)
    assert done.returncode == 0 or not ok, f"{words} -> {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def until(true, seconds=60, told=lambda: ""):
    """Waits for something; what is `told` goes with the failure."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s:\n{told()}"
        time.sleep(0.2)


def mirror():
    """(where this machine's apt has its packages from, the Debian release)"""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    told = call("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Created-By: Packages").stdout
    return next(place for *what, place in map(str.split, told.splitlines()) if what == [release, "main"]), release


def debootstrap(base):
    """A minimal root, made once and copied from then on; without systemd, which the package must bring."""
    if not base.exists():
        place, release = mirror()
        made = base.with_name(base.name + ".part")
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(parents=True, exist_ok=True)
        call("debootstrap", "--variant=minbase", release, made, place, timeout=1800)
        made.rename(base)
    return base


class Machine:
    def __init__(self, root, base):
        self.root, self.process = root, None
        self.nspawn = [*NSPAWN, "--directory", root]
        call("cp", "-a", debootstrap(base), root)

    def before_boot(self, script):
        """Runs steps as root at home where nothing else runs, with the network of the outside."""
        return call(*self.nspawn, "--as-pid2", "--setenv=DEBIAN_FRONTEND=noninteractive", "--", "sh", "-ec", f"cd\n{script}").stdout

    def boot(self):
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*self.nspawn, "--private-network", "--console=pipe", "--boot"], **quiet)
        self.until(lambda: self.does("systemctl", "is-system-running", ok=False).stdout.strip() in ("running", "degraded"))

    @property
    def leader(self):
        """The first process of the machine, as the outside sees it."""
        [leader] = call("pgrep", "--parent", self.process.pid).stdout.split()
        return int(leader)

    def enter(self, *namespaces):
        return ["nsenter", "--target", str(self.leader), *namespaces]

    def does(self, *words, **more):
        """Runs a command in the machine."""
        return call(*self.enter(*INTO), *words, env=ENV, **more)

    def steps(self, script):
        """Runs steps as root at home; what they said."""
        return self.does("sh", "-ec", f"cd\n{script}").stdout

    def starts(self, *words):
        """Starts a command in the machine and does not wait for it; what it says is in the machine's /var/tmp/said."""
        with open(self.root / "var/tmp/said", "ab") as said:
            return subprocess.Popen([*self.enter(*INTO), *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=ENV)

    def unit(self, name, what):
        return self.does("systemctl", "show", "--property", what, "--value", name).stdout.strip()

    def probe(self, path):
        """The HTTP status of the node's probes, asked on the machine's loopback by the outside's curl."""
        return self.curl("--output", "/dev/null", "--write-out", "%{http_code}", f"http://127.0.0.1:9464{path}")

    def metric(self, port, name):
        """A gauge without labels, or None where nobody answers."""
        found = re.search(rf"^{name} (\S+)$", self.curl(f"http://127.0.0.1:{port}/metrics"), re.M)
        return found and float(found[1])

    def curl(self, *words):
        return call(*self.enter("--net"), "curl", "--silent", *words, ok=False).stdout

    def until(self, true):
        def is_so():
            try:
                return true()
            except (AssertionError, ValueError):
                return False  # not yet entered

        until(is_so, 90, self.told)

    def told(self):
        """What its journal and the commands that were started say last."""
        journal, said = self.does("journalctl", "--no-pager", "--lines", "40", ok=False).stdout, self.root / "var/tmp/said"
        return journal + (said.read_text()[-2000:] if said.exists() else "")

    def power_off(self):
        """kill -9 of everything in it."""
        if self.process and self.process.poll() is None:
            os.kill(self.leader, signal.SIGKILL)
            self.process.wait(timeout=60)
        # systemd-nspawn leaves it where /run is no file system of its own.
        shutil.rmtree(f"/run/systemd/nspawn/propagate/{self.root.name}", ignore_errors=True)
