"""The package as `packaging/make` makes it, and the folders that the tests share."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
# The independent reader of what is stored.
sys.path.insert(0, str(ROOT / "tests/python"))


def make(revision):
    """A package around the release binary that is there; its path."""
    done = subprocess.run([ROOT / "packaging/make", "--no-build", "--fast", "--deb-revision", revision], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.split()[-1])


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Two packages that differ in nothing but their revision, side by side."""
    folder = tmp_path_factory.mktemp("packages")
    return [(made := make(revision)).rename(folder / made.name) for revision in ("1", "2")]


@pytest.fixture(scope="session")
def unpacked(packages, tmp_path_factory):
    """What the package puts where."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--extract", packages[0], folder], check=True)
    return folder
