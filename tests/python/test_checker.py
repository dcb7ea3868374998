"""The independent checker itself agrees with foreign vectors, so its verdicts mean something."""

import hashlib
import json
import uuid

import pytest

import checker
from conftest import ROOT, need_shared


def test_digests_agree_with_the_vectors():
    d = json.loads(need_shared("vectors", "digests.json").read_text())
    for link in d["links"]:
        assert checker.parse_link(bytes.fromhex(link["hex"])).digest.hex() == link["digest"]
    assert checker.dk("chordae v1 genesis", uuid.UUID(d["did"]).bytes).hex() == d["genesis"]
    assert checker.tag(d["did"], 1).hex() == d["tag_index_1"]
    hashes = [checker.leaf_hash(bytes.fromhex(e)) for e in d["log"]["entries"]]
    assert [h.hex() for h in hashes] == d["log"]["leaf_hashes"]
    assert [checker.tree_root(hashes[:n]).hex() for n in range(6)] == d["log"]["roots"]
    assert checker.crc32c(b"123456789") == 0xE3069283


def test_entries_agree_with_the_vectors_and_a_flipped_bit_does_not():
    ledger = json.loads(need_shared("vectors", "ledger.json").read_text())
    public = [bytes.fromhex(k) for k in ledger["public_keys"].values()]
    keys = {hashlib.sha256(k).digest(): k for k in public}
    for entry in ledger["entries"]:
        raw = bytes.fromhex(entry["hex"])
        assert checker.check_entry(raw, keys)[2] == "good"
        assert checker.leaf_hash(raw).hex() == entry["leaf_hash"]
        assert checker.check_entry(raw[:-1] + bytes([raw[-1] ^ 1]), keys)[2] == "bad"


def test_cosignatures_agree_with_the_vectors_and_quorums_are_counted():
    golden = json.loads((ROOT / "anchor/chain/tests/golden/cosignatures.json").read_text())
    lines = [f"witness w{n} {one['vkey']}" for n, one in enumerate(golden["cosignatures"])]
    note = golden["checkpoint"] + "".join(one["line"] for one in golden["cosignatures"])

    def who(note, until=lambda key: 2**64):
        return checker.cosigned(note, {"policy": "\n".join(lines)}, until)

    def met(names, *groups):
        return checker.quorum_met({"policy": "\n".join([*lines, *groups])}, names)

    assert who(note) == {"w0", "w1", "w2"} and who(golden["checkpoint"]) == set()
    # Another checkpoint, another time, a key that may sign less.
    assert who(note.replace("\n3\n", "\n4\n")) == set()
    line = golden["cosignatures"][0]["line"]
    assert who(note.replace(line, line.replace("AABkGFDL", "AABkGFDM"))) == {"w1", "w2"}
    gone = hashlib.sha256(checker.signed_by(note, golden["cosignatures"][1]["vkey"], 4)[0]).digest()
    assert who(note, lambda key: 2 if key == gone else 3) == {"w0", "w2"}
    for least, enough in (("any", 1), ("2", 2), ("all", 3)):
        group = (f"group g {least} w0 w1 w2", "quorum g")
        assert [met({f"w{n}" for n in range(k)}, *group) for k in range(4)] == [k >= enough for k in range(4)]
    nested = ("group a any w0 w1", "group b all a w2", "quorum b")
    assert met({"w1", "w2"}, *nested) and not met({"w0", "w1"}, *nested)
    assert met(set(), "quorum none") and not met(set(), "quorum w0") and met({"w0"}, "quorum w0")


def test_a_damaged_journal_is_refused(tmp_path):
    record = b"\0\0\0\3" + bytes(8)
    header = b"CHJRNL01" + bytes(8)
    header += checker.crc32c(header).to_bytes(4, "big")
    crc = checker.crc32c((20).to_bytes(8, "big") + record + b"abc").to_bytes(4, "big")
    path = tmp_path / f"{0:020}.log"
    path.write_bytes(header + record + crc + b"abc")
    assert list(checker.journal(tmp_path)) == [b"abc"]
    path.write_bytes(header + record + crc + b"abc" + bytes(100))
    assert list(checker.journal(tmp_path)) == [b"abc"], "zeros behind it are room"
    for wrong in (b"abd", b"abc" + bytes(100) + b"d"):
        path.write_bytes(header + record + crc + wrong)
        with pytest.raises(ValueError):
            list(checker.journal(tmp_path))
    # In a segment with a successor they are none.
    path.write_bytes(header + record + crc + b"abc" + bytes(100))
    (tmp_path / f"{139:020}.log").write_bytes(header)
    with pytest.raises(ValueError):
        list(checker.journal(tmp_path))
