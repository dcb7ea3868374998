"""The steps of the pages that people follow, as they stand there, each page in one shell; only the ports are other ones."""

import math
import os
import re
import subprocess
import sys
import sysconfig

import checker
from conftest import BIN, ROOT, SIM
from ports import free_port

DOCS = ROOT / "docs"


def steps(page):
    return re.findall(r"^```sh\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S)


def walk(page, tmp_path, failures, ports):
    """Runs a page in an empty folder; what it said. So many of its commands must fail, and use so many ports."""
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *steps(page)])
    # What must fail fails; `!` alone would let it succeed.
    script = re.sub(r"^! (.*?)(\s+#.*)?$", r"if \1; then echo it did not fail; exit 90; fi", script, flags=re.M)
    assert script.count("exit 90") == failures
    ports = {port: free_port() for port in ports}
    other = {"8443": free_port(), "8883": free_port(), "9464": free_port(), **ports}
    for port, other_port in ports.items():
        assert f"localhost:{port}" in script
        script = script.replace(f"localhost:{port}", f"localhost:{other_port}").replace(f'"localhost", {port}', f'"localhost", {other_port}')
    for name in ("chordae", "device-sim"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(BIN if name == "chordae" else SIM)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP", "CHORDAE", "VIRTUAL"))} | {
        "PATH": f"{tmp_path / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "CLONE": str(ROOT),
        "CHORDAE_HTTP_TLS": f"127.0.0.1:{other['8443']}", "CHORDAE_MQTT_TLS": f"127.0.0.1:{other['8883']}",
        "CHORDAE_ZMQ_TLS": "off", "CHORDAE_METRICS_LISTEN": f"127.0.0.1:{other['9464']}",
        # No registry is asked: what the package depends on is taken from the environment of the tests.
        "PYTHONPATH": sysconfig.get_paths()["purelib"], "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(["bash", "-c", script], cwd=work, env=env, capture_output=True, text=True, timeout=300)
    told = done.stdout + done.stderr
    log = work / "serve.log"
    assert done.returncode == 0, told[-6000:] + (log.read_text()[-2000:] if log.exists() else "")
    return work, told


def test_the_steps_of_the_researchers_page(tmp_path):
    work, told = walk("RESEARCHERS.md", tmp_path, failures=3, ports=["8443", "8883"])
    assert (work / "reader/env/lib").exists() and not (work / "reader/hospital").exists()
    window = re.findall(r"<Window .* 15000 rows of I,II,.*: anchored, 0 gaps>", told)
    assert len(window) == 2 and f"again {window[1]}" in told, "pulled, and verified again: " + told
    assert "may see" in told and re.search(r"anchored: link \d+ is entry \d+ of \d+", told)
    assert "DAMAGED chunks/" in told, "the bent answer is named: " + told
    assert told.count("ok: intact, and proven against the trust file") == 1, told
    assert len(re.findall("pages-digest", told)) >= 2, "both name what is bent: " + told
    assert "chordae.errors.Refused: 403" in told, "after the revocation: " + told


def test_the_steps_of_the_operators_page(tmp_path):
    work, told = walk("OPERATORS.md", tmp_path, failures=1, ports=["8883", "9464"])
    assert "set back" in told and "ready" in told
    # Twice: the copy, and what came of it in the end.
    assert told.count("ok: intact, and proven against the trust file") == 2, told
    assert list((work / "elsewhere").glob("witness.until-*")), "what was seen before is kept"


def test_the_steps_of_the_device_makers_page(tmp_path):
    work, told = walk("DEVICES.md", tmp_path, failures=0, ports=["8883"])
    assert "11 of 11 acknowledged" in told
    links = checker.links(work / "node")
    chunks = [checker.Chunk(work / "node" / checker.object_name(did, link.index)) for did in links for link in links[did]]
    rows = {}
    for chunk in chunks:
        assert chunk.meta["leads"][0]["name"] == "II" and chunk.meta["clock"]["quality"] == "synced"
        rows.setdefault(chunk.meta["did"], []).extend(chunk.codes[0])
    sine = [round(200 * math.sin(k / 40)) for k in range(2500)]
    assert sorted(list(map(list, rows.values()))) == sorted([sine, [k % 200 for k in range(2500)]])


def test_every_block_of_the_pages_is_run():
    readme = (ROOT / "README.md").read_text()
    # What is for root, tests/package runs; the last block of the operators' page is for an engine of containers.
    for page, others in (("RESEARCHERS.md", 0), ("OPERATORS.md", 1), ("DEVICES.md", 0)):
        text = (DOCS / page).read_text()
        assert len(steps(page)) == text.count("```") // 2 - text.count("```root\n") - others >= 4
        assert f"docs/{page}" in readme
