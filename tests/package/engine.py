"""A container engine (podman) with a store of its own, and what stands in it for images of others: where this is tested no registry
can be asked. `rust` is a minimal Debian with a C compiler; toolchain and crates are those of whoever runs the tests, mounted. Other
images are a program of this machine with its libraries. All else is done as Dockerfile and compose file say."""

import os
import pathlib
import shutil
import subprocess
import sys

from machine import Machine, call

# Also where no systemd runs outside, and where root may not raise its limits.
CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
RUST_IN = "/toolchain"
CRATES_IN = "/cargo"


class Engine:
    def __init__(self, base):
        self.base = base
        (conf := base / "containers.conf").write_text(CONF)
        self.env = os.environ | {"CONTAINERS_CONF": str(conf)}
        self.flags = ["--root", base / "store", "--runroot", base / "run"]

    def does(self, *words, **more):
        return call("podman", *self.flags, *words, env=self.env, **more)

    def close(self):
        self.does("rm", "--all", "--force", "--time", "0", ok=False)
        self.does("rmi", "--all", "--force", ok=False)
        # An engine leaves its store mounted onto itself.
        call("umount", "--lazy", self.base / "store/overlay", ok=False)
        shutil.rmtree(self.base, ignore_errors=True)

    def compiler(self, debian, name):
        """Makes what stands for `rust`."""
        machine = Machine(self.base / "compiler", debian)
        machine.before_boot("apt-get -qq update; apt-get -qq install -y --no-install-recommends gcc libc6-dev")
        env = {"PATH": f"{RUST_IN}/bin:/usr/bin:/bin", "CARGO_HOME": CRATES_IN, "CARGO_NET_OFFLINE": "true"}
        self.image(machine.root, name, *(f"ENV {key}={value}" for key, value in env.items()))

    def program(self, binary, at, name, *changes):
        """Makes an image of a program of this machine."""
        root = self.base / "program"
        libraries = subprocess.run(["ldd", binary], capture_output=True, text=True).stdout.split()
        for path, place in [(binary, at), *((word, word) for word in libraries if word.startswith("/"))]:
            (root / place[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, root / place[1:])
        self.image(root, name, *changes)

    def image(self, root, name, *changes):
        """Makes an image of a folder, which goes; `changes` are lines of a Dockerfile."""
        words = [word for change in changes for word in ("--change", change)]
        tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(["podman", *self.flags, "import", "--quiet", *words, "-", name], stdin=tar.stdout, env=self.env, check=True,
                       capture_output=True)
        assert tar.wait() == 0
        shutil.rmtree(root)

    def composes(self, file, *words, **more):
        """Runs podman-compose."""
        flags = f"--podman-args={' '.join(map(str, self.flags))}"
        tool = pathlib.Path(sys.executable).with_name("podman-compose")
        return call(tool, flags, "--file", file, *words, env=self.env | {"GRAFANA_PASSWORD": "unused"}, **more)

    def build(self, dockerfile, context, name, target):
        """As `docker build` does; `target` is where cargo's work is kept, so that it is done once."""
        home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
        rust = call("rustc", "--print", "sysroot", cwd=context).stdout.strip()
        mounts = (f"{rust}:{RUST_IN}:ro", f"{home}/registry:{CRATES_IN}/registry", f"{target}:/chordae/target")
        volumes = [word for mount in mounts for word in ("--volume", mount)]
        # Docker finds the list of what is left out by its name.
        self.does("build", "--pull=never", "--isolation=chroot", *volumes, "--format=docker", "--file", dockerfile,
                  "--ignorefile", f"{dockerfile}.dockerignore", "--tag", name, context, timeout=1800)

    def mounted(self, volume):
        """Where the outside finds a volume."""
        return pathlib.Path(self.does("volume", "inspect", "--format", "{{.Mountpoint}}", volume).stdout.strip())

    def into(self, name, *namespaces):
        """What a command of the outside begins with that is to run in namespaces of a container."""
        pid = self.does("inspect", "--format", "{{.State.Pid}}", name).stdout.strip()
        return ["nsenter", "--target", pid, *namespaces]
