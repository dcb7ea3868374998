"""What the public ledger tells somebody without a key (F28 of the published scheme's properties): no name, no did, no
patient, and not which of its entries belong together."""

import itertools
import json
import time
import types
import urllib.request
import uuid

import cbor2
import pytest

import checker
from conftest import Server, grant, party, sim, trust

S = 10**9
BEDS = {"bed-1": "ann", "bed-2": "ann", "bed-3": "ben"}
# Bytes that two entries must share before they are said to be alike, a quarter of a digest; and of a word of all.
ALIKE, WORD = 8, 4


def public(server):
    """Everything that is served to anybody: the checkpoint, its tiles, the entries."""
    def get(path):
        return urllib.request.urlopen(f"{server.http}/ledger/{path}", timeout=10).read()

    note = get("checkpoint")
    size = int(note.split(b"\n")[1])
    assert size < 256
    files = [note, get(f"tile/0/000.p/{size}"), bundle := get(f"tile/entries/000.p/{size}")]
    entries, at = [], 0
    while at < len(bundle):
        length = int.from_bytes(bundle[at:at + 2], "big")
        entries.append(bundle[at + 2:at + 2 + length])
        at += 2 + length
    assert len(entries) == size
    return b"".join(files), entries


@pytest.fixture(scope="module")
def ward(tmp_path_factory):
    """Three streams of two patients, four chunks each, and a session."""
    base = tmp_path_factory.mktemp("unlinkable")
    server = Server(base / "data", slot=10)
    w = types.SimpleNamespace(server=server)
    t0 = (int(time.time()) - 3600) // 60 * 60 * S
    with server:
        w.keys = {name: party(server, base, name, "patient") for name in ("ann", "ben")}
        roe = party(server, base, "roe", "requester")
        for bed, patient in BEDS.items():
            server.cli("device", "add", bed, "--out", base / "certs")
            server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{w.keys[patient]}.pub")
        # Rounds, so that each stream has several entries.
        for n in range(4):
            for bed in BEDS:
                sim(server, "--device", bed, "--leads", "2", "--rate", "100", "--boot", "1", "--first-seq", n * 10,
                    "--start", t0 + n * 10 * S, "--for", "10s", "--speed", "20")
            server.stop()
            server.start()
        w.dids = {bed: server.did(f"{bed}/ecg") for bed in BEDS}
        grant(server, w.keys["ann"], roe, w.dids["bed-1"])
        w.bytes, w.entries = public(server)
        w.names = [*BEDS, "ann", "ben", "roe"]
    w.trust = json.loads(trust(server, base).read_text())
    w.known = checker.trusted_keys(server.folder, w.trust)
    w.patients = [checker.trusted_keys(server.folder, {"providers": [json.loads((base / f"{name}.pem.pub").read_text())]})
                  for name in ("ann", "ben")]
    return w


def heads(w):
    """The `add-data` entries of each stream: who knows a did finds them, by the tag."""
    found = {bed: [] for bed in BEDS}
    for entry in w.entries:
        payload, _, state = checker.check_entry(entry, w.known)
        assert state == "good"
        if payload["type"] == "add-data":
            bed = next(bed for bed in BEDS for n in range(40)
                       if checker.tag(w.dids[bed], n) == payload["tag"])
            found[bed].append((payload, entry))
    return found


def own(groups):
    """The entries without the words that all of them have: a byte of chance beside a word tells nobody apart."""
    entries = [entry for group in groups for entry in group]
    words = set.intersection(*({e[i:i + WORD] for i in range(len(e) - WORD + 1)} for e in entries))

    def rest(entry):
        of_word = bytearray(len(entry))
        for i in range(len(entry) - WORD + 1):
            if entry[i:i + WORD] in words:
                of_word[i:i + WORD] = bytes([1] * WORD)
        return [bytes(entry[i] for i in run) for word, run in
                itertools.groupby(range(len(entry)), of_word.__getitem__) if not word]

    return [[rest(entry) for entry in group] for group in groups]


def shared(a, b):
    """The stretches of bytes that two entries have in common, each given by its runs."""
    def stretches(runs):
        return {run[i:i + ALIKE] for run in runs for i in range(len(run) - ALIKE + 1)}
    return stretches(a) & stretches(b)


def told_apart(groups):
    """Stretches that entries of one stream share and entries of different streams do not: what would group them."""
    groups = own(groups)
    within = set().union(*(shared(a, b) for g in groups for a, b in itertools.combinations(g, 2)))
    across = set().union(*(shared(a, b) for g, h in itertools.combinations(groups, 2) for a in g for b in h))
    return within - across


def test_nothing_public_names_a_stream_a_device_or_a_patient(ward):
    for did in ward.dids.values():
        assert did.encode() not in ward.bytes and uuid.UUID(did).bytes not in ward.bytes
    for name in ward.names:
        assert name.encode() not in ward.bytes, name
    for payload, _ in itertools.chain(*heads(ward).values()):
        assert set(payload) == {"type", "digest", "tag", "content"}
    # The control: the same search finds what is there.
    origin = ward.trust["origin"].encode()
    assert origin in ward.bytes


def test_entries_of_one_stream_are_not_told_from_those_of_others(ward):
    groups = heads(ward)
    assert all(len(group) >= 3 for group in groups.values()), {bed: len(g) for bed, g in groups.items()}
    entries = [[entry for _, entry in group] for group in groups.values()]
    assert told_apart(entries) == set()
    # A patient's key is in no entry about her data.
    keys = [raw for known in ward.patients for raw in (*known, *known.values())]
    assert not [key for key in keys for group in entries for entry in group if key in entry]
    # The lengths neither: an entry tells nothing by how long it is.
    lengths = [{len(entry) for entry in group} for group in entries]
    assert not [a for a, b in itertools.permutations(lengths, 2) if a.isdisjoint(b)], lengths


def test_the_control_is_told_apart(ward):
    """With the did in clear, or a did's own pseudonym, the same comparison groups every entry."""
    groups = heads(ward)
    clear = [[entry + uuid.UUID(ward.dids[bed]).bytes for _, entry in group] for bed, group in groups.items()]
    assert len(told_apart(clear)) >= len(BEDS)
    assert cbor2.loads(groups["bed-1"][0][1]).tag == 18
