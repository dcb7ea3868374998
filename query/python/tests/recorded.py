"""The recorded answers, and the package from beside these tests, installed or not."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "src"))

import chordae


class Golden:
    """Answers with their proofs, as a server once gave them (docs/FORMATS.md 6)."""

    trust = chordae.TrustFile.read(HERE / "golden" / "trust.json")
    trust_text = (HERE / "golden" / "trust.json").read_text()

    @staticmethod
    def pair(name):
        folder = HERE / "golden"
        return (folder / f"{name}.arrow").read_bytes(), (folder / f"{name}.json").read_bytes()


@pytest.fixture(scope="session")
def golden():
    return Golden
