"""How old a ledger is: an idle one proves it by its newest audit-head, and an old state is told from a young one."""

import base64
import json
import time
import urllib.error
import urllib.request

import pytest

from conftest import Server, run, trust, wait_until


def fresh(server):
    with urllib.request.urlopen(f"{server.http}/ledger/fresh", timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-cache"
        return answer.read().decode()


def there(server):
    try:
        return fresh(server)
    except urllib.error.HTTPError as none:
        assert none.code == 404
        return None


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A server that nobody sends anything to or asks for anything; its trust file."""
    base = tmp_path_factory.mktemp("fresh")
    with Server(base / "data") as server:
        wait_until(lambda: there(server))
        yield server, trust(server, base), base


def verify(base, text, known, ok, *more):
    path = base / "fresh.txt"
    path.write_text(text)
    return run("verify", path, "--trust", known, *more, ok=(ok,)).stdout


def test_an_idle_ledger_proves_how_old_it_is(idle):
    server, known, base = idle
    text = fresh(server)
    said = json.loads(verify(base, text, known, 0, "--max-age", "1h", "--json"))
    assert said["verdict"] == "ok" and 0 <= said["fresh_ms"] < 300_000
    assert "over 0 records of the trail" in verify(base, text, known, 0)
    # The control: the same text, some time later, is too old for who asks for a younger one.
    time.sleep(1.1)
    assert "stale" in verify(base, text, known, 4, "--max-age", "1s")


def test_the_answer_is_a_stock_tlog_proof_with_the_entry_as_its_extra_data(idle):
    server, _, _ = idle
    first, extra, index, *_ = fresh(server).splitlines()
    assert first == "c2sp.org/tlog-proof@v1" and index.startswith("index ")
    entry = base64.b64decode(extra.removeprefix("extra "), validate=True)
    assert b"audit-head" in entry


def test_what_was_changed_or_is_of_another_log_is_damage(idle, tmp_path):
    server, known, base = idle
    text = fresh(server)
    lines = text.splitlines(keepends=True)
    entry = bytearray(base64.b64decode(lines[1].removeprefix("extra ")))
    entry[-1] ^= 1
    bent = "".join([lines[0], f"extra {base64.b64encode(entry).decode()}\n", *lines[2:]])
    assert "entry-signature" in verify(base, bent, known, 3)
    place = int(lines[2].removeprefix("index "))
    moved = "".join([*lines[:2], f"index {place + 1}\n", *lines[3:]])
    assert "log-root" in verify(base, moved, known, 3)
    with Server(tmp_path / "other") as other:
        wait_until(lambda: there(other))
        assert verify(base, fresh(other), known, 3)
        # The control: by its own trust file it is right.
        assert verify(base, fresh(other), trust(other, tmp_path), 0)
    assert run("verify", base / "fresh.txt", ok=(4,)), "without a trust file nothing is proven"
