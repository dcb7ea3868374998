"""What the documents name is there: a claim without its test would be worth nothing."""

import re

from conftest import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))


def named(text):
    """(file, test) of every `file.py::test_x`."""
    return re.findall(r"`([\w/]+\.py)::(test_\w+)", text)


def missing(text):
    for path, test in named(text):
        places = [ROOT / path, ROOT / "tests/python" / path]
        found = [place for place in places if place.is_file()]
        if not found or f"def {test}(" not in found[0].read_text():
            yield f"{path}::{test}"


def test_every_test_that_a_document_names_is_there():
    text = {path.name: path.read_text() for path in DOCS}
    assert {name: lost for name, of in text.items() if (lost := list(missing(of)))} == {}
    for name in ("COMPLIANCE.md", "THREATS.md", "MISBEHAVING.md"):
        assert named(text[name]), name
    assert list(missing("`test_docs.py::test_no_such`")) == ["test_docs.py::test_no_such"], "the control"


def test_every_link_between_documents_leads_somewhere():
    lost = []
    for path in [*DOCS, ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "dashboards/README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
            if not target.startswith(("http:", "https:", "mailto:")) and not (path.parent / target).exists():
                lost.append(f"{path.name}: {target}")
    assert not lost
