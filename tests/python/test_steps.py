"""The steps of docs/RESEARCHERS.md, as they stand there, in one shell; only the ports are other ones."""

import os
import re
import subprocess
import sys
import sysconfig

from conftest import BIN, ROOT, SIM
from ports import free_port

PAGE = ROOT / "docs/RESEARCHERS.md"


def steps():
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


def test_the_steps_of_the_researchers_page(tmp_path):
    script = "\n".join(["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *steps()])
    # What must fail fails; `!` alone would let it succeed.
    script = re.sub(r"^! (.*?)(\s+#.*)?$", r"if \1; then echo it did not fail; exit 90; fi", script, flags=re.M)
    assert script.count("exit 90") == 3
    ports = {"8443": free_port(), "8883": free_port()}
    for port, other in ports.items():
        assert f"localhost:{port}" in script
        script = script.replace(f"localhost:{port}", f"localhost:{other}")
    for name in ("chordae", "device-sim"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).symlink_to(BIN if name == "chordae" else SIM)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP", "CHORDAE", "VIRTUAL"))} | {
        "PATH": f"{tmp_path / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
        "CLONE": str(ROOT),
        "CHORDAE_HTTP_TLS": f"127.0.0.1:{ports['8443']}", "CHORDAE_MQTT_TLS": f"127.0.0.1:{ports['8883']}",
        "CHORDAE_ZMQ_TLS": "off", "CHORDAE_METRICS_LISTEN": "127.0.0.1:0",
        # No registry is asked: what the package depends on is taken from the environment of the tests.
        "PYTHONPATH": sysconfig.get_paths()["purelib"], "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(["bash", "-c", script], cwd=work, env=env, capture_output=True, text=True, timeout=300)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    assert (work / "reader/env/lib").exists() and not (work / "reader/hospital").exists()
    window = re.findall(r"<Window .* 15000 rows of I,II,.*: anchored, 0 gaps>", told)
    assert len(window) == 2 and f"again {window[1]}" in told, "pulled, and verified again: " + told
    assert "may see" in told and re.search(r"anchored: link \d+ is entry \d+ of \d+", told)
    assert "DAMAGED chunks/" in told, "the bent answer is named: " + told
    assert told.count("ok: intact, and proven against the trust file") == 1, told
    assert len(re.findall("pages-digest", told)) >= 2, "both name what is bent: " + told
    assert "chordae.errors.Refused: 403" in told, "after the revocation: " + told


def test_every_block_of_the_page_is_run():
    text = PAGE.read_text()
    assert len(steps()) == text.count("```") // 2 >= 8
    assert "docs/RESEARCHERS.md" in (ROOT / "README.md").read_text()
