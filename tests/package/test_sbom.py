"""The lists of what the binary and the pages in it are built from, held against what Cargo says and against the format's own schema.
That of the pages is held against the bundler in query/web/viewer/tests/licences.test.mjs."""

import json
import pathlib
import re
import subprocess

import pytest
from conftest import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


@pytest.fixture(scope="module")
def text(unpacked):
    return (unpacked / "usr/share/doc/chordae/sbom.cdx.json").read_text()


@pytest.fixture(scope="module")
def viewer(unpacked):
    return (unpacked / "usr/share/doc/chordae/sbom-viewer.cdx.json").read_text()


def crates():
    """{(name, version): licence} of all that is linked into the binary; cargo tree writes `/` of old manifests as it is."""
    words = "cargo tree --locked --edges normal --package chordae --prefix none --format {p}\t{l}".split(" ")
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    lines = {line.removesuffix(" (*)") for line in done.stdout.splitlines() if line}
    return {tuple(what.split()[:2]): licence.replace("/", " OR ") for what, licence in (line.split("\t") for line in lines)}


def named(text):
    bom = json.loads(text)
    parts = [bom["metadata"]["component"], *bom["components"]]
    return {(part["name"], "v" + part["version"]): part["licenses"][0]["expression"] for part in parts}


def test_it_names_every_crate_with_version_and_licence(text):
    wanted, have = crates(), named(text)
    assert len(wanted) > 300
    # Spaces apart: some manifests have none around their slash.
    same = {what: (re.sub(r"\s+", " ", licence), re.sub(r"\s+", " ", have.get(what, "not named"))) for what, licence in wanted.items()}
    assert {what: pair for what, pair in same.items() if pair[0] != pair[1]} == {}
    assert all(part["hashes"] for part in json.loads(text)["components"] if part["purl"].find("download_url") < 0)
    # The control: a crate that is taken out is missed.
    less = json.loads(text)
    less["components"] = [part for part in less["components"] if part["name"] != "ring"]
    assert {name for name, _ in set(wanted) - set(named(json.dumps(less)))} == {"ring"}


def test_what_it_calls_required_is_what_is_linked(text):
    """Beside it are build scripts' crates, called excluded. Cargo resolves a workspace as one, so a feature that only a
    test asks for may add a crate; it may not add many."""
    required = {(part["name"], "v" + part["version"]) for part in json.loads(text)["components"] if part["scope"] == "required"}
    assert len(required - set(crates())) <= 3


def test_the_viewers_is_that_of_its_bundle(viewer):
    assert viewer == (ROOT / "query/web/dist/sbom.cdx.json").read_text()
    parts = json.loads(viewer)["components"]
    assert {"apache-arrow", "curves", "hashes"} <= {part["name"] for part in parts if part.get("hashes") and part["licenses"]}


@pytest.mark.parametrize("which", ["text", "viewer"])
def test_it_validates(which, request):
    text = request.getfixturevalue(which)
    validator = JsonStrictValidator(SchemaVersion.V1_5)
    assert validator.validate_str(text) is None
    assert validator.validate_str(text.replace('"required"', '"wanted"', 1)), "the control"


@pytest.mark.parametrize("which", ["text", "viewer"])
def test_it_names_no_folder_of_the_machine_that_built_it(which, request):
    text = request.getfixturevalue(which)
    assert str(ROOT) not in text and str(pathlib.Path.home()) not in text
