"""Links and references that were lost: made anew from chunk files and ledger, or named as lost for good."""

import json
import shutil
import time

import pytest

import checker
from conftest import Server, grant, party, run, sim, trust, wait_until

LOST = ["links", "directory", "registry/keys"]


class World:
    """Two streams of a patient, all anchored; a session, an inventory, and what her requester sees."""

    def __init__(self, base):
        self.base = base
        self.server = Server(base / "data", slot=10)
        self.folder = self.server.folder
        with self.server as server:
            self.ann, self.roe = party(server, base, "ann", "patient"), party(server, base, "roe", "requester")
            for bed in ("bed-1", "bed-2"):
                server.cli("device", "add", bed, "--out", base / bed)
                server.cli("stream", "assign", f"{bed}/ecg", "--patient", f"{self.ann}.pub")
                sim(server, "--device", bed, "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20",
                    "--for", "60s")
            self.dids = [s["did"] for s in server.streams()]
            self.sid = grant(server, self.ann, self.roe, self.dids[0])
            self.key("inventory", "put", "--stream", self.dids[0], key=self.ann)
        self.trust = trust(self.server, base)

    def key(self, *args, key, **kw):
        return self.server.cli(*args, "--key", key, **kw)

    def windows(self, name):
        """The whole of each stream as the patient reads it, verified."""
        out = []
        for did in self.dids:
            chain = checker.links(self.folder)[did]
            path = self.base / f"{name}-{did}.csv"
            until = max(c.slot_start + c.slot_len for c in chain)
            # A window ends now at the latest, and cuts no page only once its last slot is over.
            wait_until(lambda: time.time_ns() > until, 30)
            self.key("pull", "--stream", did, "--from", min(c.slot_start for c in chain), "--until", until,
                     "--trust", self.trust, "--format", "csv", "--out", path, key=self.ann)
            out.append(path.read_bytes())
        assert all(text.count(b"\n") > 5000 for text in out)
        return out

    def lose(self, *parts):
        for part in parts:
            shutil.rmtree(self.folder / part)

    def rebuild(self, ok=(0,)):
        done = self.server.cli("rebuild", "--json", ok=ok)
        return json.loads(done.stdout)

    def verify(self, ok=(0,)):
        return json.loads(run("verify", self.folder, "--trust", self.trust, "--json", ok=ok).stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("rebuild"))
    with world.server:
        world.before = world.windows("before")
    shutil.copytree(world.folder, world.base / "copy", ignore=shutil.ignore_patterns("*.sock"))
    return world


@pytest.fixture
def world(made):
    shutil.rmtree(made.folder)
    shutil.copytree(made.base / "copy", made.folder)
    return made


def chains(folder):
    return {did: [link.digest for link in chain] for did, chain in checker.links(folder).items()}


def test_links_and_references_are_rebuilt_and_what_is_lost_is_named(world):
    links = chains(world.folder)
    world.lose(*LOST)
    with pytest.raises(AssertionError, match="chordae rebuild"):
        world.server.start()
    # It had opened the registry before it refused.
    world.lose("registry/keys")

    told = world.rebuild()
    assert told["links"] == "made" and told["findings"] == [] and told["unproven"] == []
    assert told["streams"] == 2 and told["chunks"] == sum(map(len, links.values()))
    assert told["identities"] >= 2
    assert chains(world.folder) == links
    # Only their patient can bring these back.
    lost = {(one["what"], one["id"]) for one in told["lost"]}
    assert ("session", world.sid) in lost and {what for what, _ in lost} == {"session", "inventories"}

    assert world.verify()["verdict"] == "ok"
    assert checker.check(world.folder, json.loads(world.trust.read_text()))["findings"] == []
    with world.server as server:
        assert world.windows("after") == world.before
        shown = world.key("session", "show", "--session", world.sid, key=world.ann).stdout
        assert "the directory has no record of it" in shown
        # What was lost is granted anew, and more data come.
        assert grant(server, world.ann, world.roe, world.dids[0]) != world.sid
        sim(server, "--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20", "--for",
            "20s")
    assert world.verify()["verdict"] == "ok"
    assert sum(map(len, chains(world.folder).values())) > told["chunks"]


def test_a_chunk_that_was_altered_is_named_and_nothing_is_taken_in(world):
    """The control: with the chunk as it was, the same folder is rebuilt."""
    path = sorted((world.folder / "chunks" / world.dids[1]).rglob("*.parquet"))[2]
    name, whole = str(path.relative_to(world.folder)), path.read_bytes()
    other = path.with_name(path.name.replace("0002", "0001")).read_bytes()
    bent = bytearray(whole)
    bent[len(bent) // 2] ^= 1
    world.lose("links")
    for wrong in (bytes(bent), other, b""):
        path.write_bytes(wrong)
        told = world.rebuild(ok=(3,))
        assert told["links"] == "none" and name in [f["object"] for f in told["findings"]], told
        assert world.dids[0] not in json.dumps(told["findings"]), "the other stream is not blamed"
        assert not (world.folder / "links").exists() and path.read_bytes() == wrong, "nothing is repaired in silence"
    path.unlink()
    assert world.rebuild(ok=(3,))["findings"][0]["code"] == "missing-file"
    path.write_bytes(whole)
    assert world.rebuild()["links"] == "made"
    assert world.verify()["verdict"] == "ok"


def test_the_newest_chunk_or_a_stream_that_is_gone_is_missed(world):
    world.lose("links")
    last = sorted((world.folder / "chunks" / world.dids[0]).rglob("*.parquet"))[-1]
    last.rename(world.base / "away")
    told = world.rebuild(ok=(3,))
    assert [(f["code"], f["object"]) for f in told["findings"]] == [
        ("truncated-tail", str(last.relative_to(world.folder)))]
    (world.base / "away").rename(last)
    shutil.move(world.folder / "chunks" / world.dids[0], world.base / "stream")
    told = world.rebuild(ok=(3,))
    assert told["links"] == "none" and {f["code"] for f in told["findings"]} == {"rollback"}
    shutil.move(world.base / "stream", world.folder / "chunks" / world.dids[0])
    assert world.rebuild()["links"] == "made"


def test_links_that_are_there_are_left_as_they_are(world):
    before = {p.name: p.read_bytes() for p in (world.folder / "links").iterdir()}
    assert world.rebuild()["links"] == "left"
    assert {p.name: p.read_bytes() for p in (world.folder / "links").iterdir()} == before


def test_without_a_ledger_nothing_is_believed_and_a_served_folder_is_left_alone(world):
    with world.server as server:
        assert "in use" in server.cli("rebuild", ok=(1,)).stderr
    world.lose("links", "ledger")
    refused = world.server.cli("rebuild", ok=(1,))
    assert "no ledger" in refused.stderr and not (world.folder / "links").exists()


def test_chunks_that_were_not_anchored_yet_are_said(tmp_path):
    """Killed before the first anchor: the chunks stand on their files alone, and are not lost."""
    server = Server(tmp_path / "data", slot=10, anchor=3600)
    with server:
        server.cli("device", "add", "bed-1", "--out", tmp_path / "certs")
        sim(server, "--device", "bed-1", "--stream", "ecg", "--leads", "2", "--rate", "100", "--speed", "20", "--for",
            "60s")
        did = server.did("bed-1/ecg")
        chunks = server.folder / "chunks" / did
        wait_until(lambda: len(list(chunks.rglob("*.parquet"))) >= 3, 60)
        server.kill9()
    shutil.rmtree(server.folder / "links")
    told = json.loads(server.cli("rebuild", "--json", ok=(4,)).stdout)
    assert told["links"] == "made" and [one["did"] for one in told["unproven"]] == [did]
    with server:
        pass
    trusted = trust(server, tmp_path)
    assert json.loads(run("verify", server.folder, "--trust", trusted, "--json").stdout)["verdict"] == "ok"
