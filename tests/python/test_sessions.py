"""Sessions and inventories by their commands: several streams and inventories in one grant, what each party sees of it,
changes that leave the ledger alone, and the end of both."""

import json
import time
import types

import pytest

from conftest import Server, party, run, sim, trust

S = 10**9


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Ann has three beds, Ben one; Roe may be granted something. Half a minute of rows each."""
    base = tmp_path_factory.mktemp("sessions")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(base=base, server=server, t0=(int(time.time()) - 3600) // 60 * 60 * S)
    with server:
        for name, role in (("ann", "patient"), ("ben", "patient"), ("roe", "requester"), ("poe", "requester")):
            setattr(w, name, party(server, base, name, role))
        for bed, patient in (("bed-1", w.ann), ("bed-2", w.ann), ("bed-3", w.ann), ("bed-4", w.ben)):
            server.cli("device", "add", bed, "--out", base / "certs")
            server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{patient}.pub")
            sim(server, "--device", bed, "--leads", "2", "--rate", "100", "--start", w.t0, "--for", "30s", "--speed", "20")
    w.trust = trust(server, base)
    with server:
        w.dids = [server.did(f"bed-{n}/ecg") for n in (1, 2, 3, 4)]
        yield w


def said(w, *args, key, ok=(0,)):
    """What a command prints for a party who has nothing but her key and the trust file."""
    return run(*args, "--key", key, "--url", w.server.http, "--trust", w.trust, ok=ok)


def pull(w, sid, did, a, b, ok=(0,), key=None):
    return run("pull", "--key", key or w.roe, "--session", sid, "--stream", did, "--from", w.t0 + a * S, "--until",
               w.t0 + b * S, "--url", w.server.http, "--trust", w.trust, "--format", "csv", "--out", w.base / "out.csv", ok=ok)


def entries(w):
    text = w.server.cli("status", "--json").stdout
    return json.loads(text)["ledger_entries"]


def test_one_session_over_two_inventories_and_a_stream_of_its_own(ward):
    w = ward
    one, two, three, bens = w.dids
    first = said(w, "inventory", "put", "--stream", f"{one},place=ward 3", key=w.ann).stdout.split()[-1]
    second = said(w, "inventory", "put", "--stream", two, key=w.ann).stdout.split()[-1]
    assert first != second
    sid = said(w, "session", "grant", "--to", f"{w.roe}.pub", "--inventory", first, "--inventory", second, "--stream",
               f"{three},from={w.t0 + 10 * S},until={w.t0 + 20 * S}", "--purpose", "consult", key=w.ann).stdout.split()[-1]
    for did in (one, two):
        assert "verified" in pull(w, sid, did, 0, 20).stdout
    assert "verified" in pull(w, sid, three, 10, 20).stdout
    beyond = pull(w, sid, three, 0, 20, ok=(1,)).stderr
    print(beyond)
    assert "grant" in beyond
    assert pull(w, sid, bens, 0, 10, ok=(1,)).returncode == 1

    # Each party sees it, and nobody else does.
    for key in (w.roe, w.ann):
        shown = said(w, "session", "show", "--session", sid, key=key).stdout
        assert all(did in shown for did in (one, two, three)) and "consult" in shown and bens not in shown
        assert sid in said(w, "session", "list", key=key).stdout
    for key in (w.ben, w.poe):
        assert sid not in said(w, "session", "list", key=key).stdout
        said(w, "session", "show", "--session", sid, key=key, ok=(1,))
    assert sid in w.server.cli("session", "list").stdout, "an operator sees that it is there"

    # It is hers to take back: nobody else can, and then it is over at once for all of its streams.
    said(w, "session", "revoke", "--session", sid, key=w.ben, ok=(1,))
    assert "verified" in pull(w, sid, one, 0, 20).stdout
    said(w, "session", "revoke", "--session", sid, key=w.ann)
    for did in (one, two, three):
        assert pull(w, sid, did, 10, 20, ok=(1,)).returncode == 1
    assert "revoked" in said(w, "session", "show", "--session", sid, key=w.ann).stdout


def test_an_inventory_changes_without_the_ledger_and_only_by_its_owner(ward):
    w = ward
    one, two, _, bens = w.dids
    listed = said(w, "inventory", "put", "--stream", f"{one},place=ward 3", key=w.ann).stdout.split()[-1]
    sid = said(w, "session", "grant", "--to", f"{w.roe}.pub", "--inventory", listed, key=w.ann).stdout.split()[-1]
    before = entries(w)
    moved = "https://new.example.org:8443"
    said(w, "inventory", "put", "--inventory", listed, "--stream", f"{one},url={moved}", "--stream", two, key=w.ann)
    shown = said(w, "inventory", "show", "--inventory", listed, key=w.ann).stdout
    assert moved in shown and one in shown and two in shown
    assert entries(w) == before, "a change of place is none of the ledger's"
    assert "verified" in pull(w, sid, one, 0, 10).stdout, "a session goes on"
    assert pull(w, sid, two, 0, 10, ok=(1,)).returncode == 1, "and grants what it granted, no more"
    said(w, "inventory", "put", "--inventory", listed, "--drop", two, key=w.ann)
    assert two not in said(w, "inventory", "show", "--inventory", listed, key=w.ann).stdout
    # Others neither see nor change it.
    assert listed not in said(w, "inventory", "list", key=w.ben).stdout
    said(w, "inventory", "show", "--inventory", listed, key=w.ben, ok=(1,))
    said(w, "inventory", "put", "--inventory", listed, "--stream", bens, key=w.ben, ok=(1,))
    assert listed in said(w, "inventory", "list", key=w.ann).stdout
    said(w, "inventory", "remove", "--inventory", listed, key=w.ann)
    said(w, "inventory", "show", "--inventory", listed, key=w.ann, ok=(1,))
    assert "verified" in pull(w, sid, one, 0, 10).stdout, "what was granted from it is hers to revoke"
