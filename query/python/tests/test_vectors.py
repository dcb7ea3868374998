"""The package against vectors that others computed: ../shared/vectors, and the golden ones of anchor/chain."""

from recorded import HERE  # noqa: F401

import json
import pathlib
import struct

import numpy as np
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from chordae import BadInput, Identity, Keys, cbor, digests, event, keys, meta, policy, sessions, trust

ROOT = pathlib.Path(__file__).resolve().parents[3]
CHAIN = ROOT / "anchor/chain/tests/golden"


def ours(*parts):
    return json.loads(CHAIN.joinpath(*parts).read_text())


@pytest.fixture(scope="module")
def vectors():
    """The second implementation's; a copy of what is used lies here, so that nothing is skipped without ../shared."""
    folder = ROOT.parent / "shared/vectors"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in ("digests", "ledger")}


def test_pages_links_and_tags_are_those_of_the_second_implementation(vectors):
    v = vectors["digests"]
    k = np.arange(v["rows"], dtype=np.int64)
    times = v["t0_ns"] + k * 10**9 * v["rate"][1] // v["rate"][0]
    a = ((k * 37) % 2048 - 1024).astype(np.int32)
    b = ((k * k) % 4096 - 2048).astype(np.int32)
    b[100:120] = digests.NO_VALUE
    leaves = []
    for p in range(v["slot_len_ns"] // v["page_ns"]):
        start = v["slot_start_ns"] + p * v["page_ns"]
        at, end = np.searchsorted(times, [start, start + v["page_ns"]])
        salts = [blake3(struct.pack("<II", p, c), key=bytes.fromhex(v["salt"])).digest()[:16] for c in range(3)]
        columns = [digests.col_lead(salt, codes[at:end]) for salt, codes in zip(salts[1:], (a, b), strict=True)]
        leaves.append(digests.leaf([digests.col_times(salts[0], times[at:end]), *columns]))
    assert [leaf.hex() for leaf in leaves] == v["leaves"]
    assert digests.pages_root(v["meta_ascii"], leaves).hex() == v["pages_root"]
    links = [digests.Link.decode(bytes.fromhex(link["hex"])) for link in v["links"]]
    assert [link.digest.hex() for link in links] == [link["digest"] for link in v["links"]]
    assert digests.genesis(links[0].did).hex() == v["genesis"] == links[0].prev.hex()
    assert digests.tag(links[0].did, 1).hex() == v["tag_index_1"]
    assert [digests.object_name(links[0].did, n) for n in (0, 1234567)] == v["object_names"]


def root_and_paths(leaves):
    """RFC 6962 2.1, word for word: root, and per leaf its path."""
    if len(leaves) == 1:
        return leaves[0], [[]]
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    (left, lefts), (right, rights) = root_and_paths(leaves[:k]), root_and_paths(leaves[k:])
    node = trust.hashlib.sha256(b"\x01" + left + right).digest()
    return node, [[*path, right] for path in lefts] + [[*path, left] for path in rights]


def test_every_inclusion_path_of_every_small_log_and_no_other(vectors):
    log = vectors["digests"]["log"]
    assert [trust.leaf_hash(bytes.fromhex(e)).hex() for e in log["entries"]] == log["leaf_hashes"]
    for size in range(1, 40):
        leaves = [trust.leaf_hash(struct.pack(">I", n)) for n in range(size)]
        root, paths = root_and_paths(leaves)
        for n, path in enumerate(paths):
            assert trust.included(size, root, n, leaves[n], path)
            assert not trust.included(size, root, n, leaves[n], [*path, root])
            assert not trust.included(size, root, (n + 1) % (size + 1), leaves[n], path)
            if path:
                assert not trust.included(size, root, n, leaves[n], path[:-1])
                assert not trust.included(size, root, n, leaves[n], [root, *path[1:]])
                # (Another size may have the same shape above a leaf; the signed checkpoint says which it is.)
                assert not trust.included(size, leaves[0], n, leaves[n], path)


def test_entries_checkpoint_and_token_of_the_second_implementation(vectors):
    v = vectors["ledger"]
    for one in v["entries"]:
        raw = bytes.fromhex(one["hex"])
        entry = event.decode(raw)
        assert entry.kind == one["type"]
        signer = next(bytes.fromhex(k) for k in v["public_keys"].values() if keys.key_id(bytes.fromhex(k)) == entry.kid)
        assert entry.signed_by(signer) and not entry.signed_by(bytes.fromhex(v["public_keys"]["log"]))
    only = policy.Policy((policy.Log.of(v["log_vkey"]),))
    mark = only.open(v["checkpoint"]).checkpoint
    assert (mark.origin, mark.size) == (v["origin"], 3)
    for at in range(len(v["checkpoint"])):
        bent = v["checkpoint"][:at] + chr(ord(v["checkpoint"][at]) ^ 1) + v["checkpoint"][at + 1 :]
        with pytest.raises(policy.NotTheLogs):
            only.open(bent)


def test_golden_cosignatures_are_read_and_count_only_whole():
    v = ours("cosignatures.json")
    witnesses = [policy.Witness.of(f"W{n}", one["vkey"]) for n, one in enumerate(v["cosignatures"])]
    lines = [one["line"] for one in v["cosignatures"]]
    times = [policy.Cosigned(f"W{n}", one["time_s"]) for n, one in enumerate(v["cosignatures"])]
    demands = policy.Policy((policy.Log.of(v["log_vkey"]),), tuple(witnesses), (("G", 2, ("W0", "W1", "W2")),), "G")
    opened = demands.open(v["checkpoint"] + "".join(lines))
    assert opened.cosigned == tuple(times) and opened.lacks is None
    assert demands.open(v["checkpoint"]).lacks == "2 of G (W0, W1, W2)"
    assert demands.open(v["checkpoint"] + lines[1]).lacks == "1 of G (W0, W2)"
    swapped = lines[0].replace(lines[0].split(" ")[2], lines[1].split(" ")[2])
    for bent in (swapped, lines[0].replace("/w1", "/w3"), lines[0][:-9] + "A" + lines[0][-8:]):
        assert demands.open(v["checkpoint"] + bent + lines[1]).cosigned == (times[1],)


def test_policies_are_read_in_every_spelling_and_malformed_ones_are_refused():
    v = ours("cosignatures.json")
    a, b, _ = (one["vkey"] for one in v["cosignatures"])
    log = f"log {v['log_vkey']}\n"
    two = f"witness A {a} https://a.example\nwitness B {b}\n"
    read = policy.Policy.parse(f"# ours\n\n \t{log}{two}\tgroup G any A B\nquorum G")
    assert (read.groups, read.quorum) == ((("G", 1, ("A", "B")),), "G")
    assert policy.Policy.parse(log + "quorum none\n").quorum is None
    one = f"{log}witness A {a}\n"
    for bad in (
        log,
        "quorum none\n",
        log + "quorum none\nquorum none\n",
        log + log + "quorum none\n",
        log + "quorum A\n",
        log + f"quorum A\nwitness A {a}\n",
        log + f"witness A {v['log_vkey']}\nquorum A\n",
        f"log {a}\nquorum none\n",
        one + "group G 0 A\nquorum G\n",
        one + "group G 2 A\nquorum G\n",
        one + "group G 01 A\nquorum G\n",
        one + "group G any\nquorum none\n",
        one + "group G 1 A A\nquorum G\n",
        one + "group G 1 A G\nquorum G\n",
        one + "group G 1 A\ngroup H 1 A\nquorum G\n",
        one + f"witness A {b}\nquorum A\n",
        one + f"witness B {a}\nquorum B\n",
        log + f"witness none {a}\nquorum none\n",
        log + "\x7f\nquorum none\n",
        log.replace("\n", "\r\n") + "quorum none\n",
    ):
        with pytest.raises(BadInput):
            policy.Policy.parse(bad)


def test_golden_entries_are_read_and_every_bad_twin_is_refused():
    for good in ours("ledger", "entries.json"):
        entry = event.decode(bytes.fromhex(good["entry"]))
        assert entry.kind == good["name"] and entry.signed_by(bytes.fromhex(good["key"]))
        assert trust.leaf_hash(bytes.fromhex(good["entry"])).hex() == good["leaf_hash"]
    patient = Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32).public_key().public_bytes_raw()
    other = Ed25519PrivateKey.from_private_bytes(bytes([4]) * 32).public_key().public_bytes_raw()
    bad = ours("ledger", "entries-bad.json")
    assert len(bad) >= 44
    for twin in bad:
        try:
            entry = event.decode(bytes.fromhex(twin["entry"]))
        except BadInput:
            assert twin["refused_by"] == "decode", twin["name"]
            continue
        assert twin["refused_by"] == "verify", twin["name"]
        # "other-key" is well signed by the key that it names, and that is not the one it is held against.
        own = [] if twin["name"] == "other-key" else [patient]
        for point in (*own, other, bytes(32), bytes([1]) + bytes(31), b"\xed" + b"\xff" * 30 + b"\x7f"):
            assert not entry.signed_by(point), twin["name"]


def test_golden_metadata_and_a_bad_twin_for_every_rule():
    good = (CHAIN / "meta/good.json").read_text()
    read = meta.parse(good)
    assert [lead.gain for lead in read.leads] == [200.0, -0.1] and read.rate == (1000, 3)
    for gain in ("200", "2e2", "2E+2", "200.0000", "20000e-2"):
        assert meta.parse(good.replace("200.0", gain, 1)).leads[0].gain == 200.0
    twins = (CHAIN / "meta/bad.tsv").read_text().splitlines()
    assert len(twins) > 40
    for line in twins:
        what, old, new = line.split("\t")
        assert good.count(old) == 1, what
        with pytest.raises(BadInput):
            pytest.fail(f"{what} was taken: {meta.parse(good.replace(old, new))}")


def test_key_file_token_identity_and_sealing_are_the_golden_ones(tmp_path):
    own = Keys.from_pem(ours("ledger", "key-file.json")["pem"])
    assert own.public == Ed25519PrivateKey.from_private_bytes(bytes([3]) * 32).public_key().public_bytes_raw()
    sealed = ours("ledger", "sealed.json")
    secret = X25519PrivateKey.from_private_bytes(bytes.fromhex(sealed["secret"]))
    plain = bytes.fromhex(sealed["plaintext"])
    assert sessions.unseal(secret, sealed["purpose"], bytes.fromhex(sealed["sealed"])) == plain
    assert sessions.unseal(secret, "ksec", sessions.seal(bytes.fromhex(sealed["to"]), "ksec", plain)) == plain
    golden = ours("ledger", "token.json")["token"].split(".")
    mine = own.token("chordae.local/x", "GET", "/v1/streams").split(".")
    assert keys.base64.urlsafe_b64decode(golden[0] + "==")[:48] == keys.base64.urlsafe_b64decode(mine[0] + "==")[:48]
    claims = json.loads(keys.base64.urlsafe_b64decode(mine[1] + "=="))
    assert list(claims) == ["aud", "htm", "target", "iat", "exp", "jti"] and len(claims["jti"]) == 32
    Identity.of(ours("ledger", "identity.json"))
    path = tmp_path / "key.pem"
    path.write_text(ours("ledger", "key-file.json")["pem"])
    path.chmod(0o644)
    with pytest.raises(BadInput, match="others can read"):
        Keys.read(path)
    path.chmod(0o600)
    assert Keys.read(path).key_id == own.key_id
    for bad in ("", "x", path.read_text() * 2, path.read_text().replace("PRIVATE", "PUBLIC"), path.read_text()[:-30]):
        with pytest.raises(BadInput):
            Keys.from_pem(bad)


def test_a_session_is_made_as_the_golden_one_was():
    golden = ours("ledger", "session.json")
    entry, record = cbor.decode(bytes.fromhex(golden["post"]))
    assert trust.leaf_hash(entry).hex() == golden["sid"] == record[0].hex()
    assert cbor.encode([entry, record]).hex() == golden["post"]
    own = Keys.from_pem(ours("ledger", "key-file.json")["pem"])
    seal = own.seal.public_key().public_bytes_raw()
    to = Identity("roe", "requester", own.public, seal)
    terms = sessions.Terms(bytes(16), 0, 10**10, ("I",))
    sid, body = sessions.make(own, seal, to, [terms], None, "second opinion")
    entry, (said, [section]) = cbor.decode(body)
    assert said.hex() == sid and event.decode(entry).signed_by(own.public)
    assert event.decode(entry).fields["sections"] == sessions.hashlib.sha256(cbor.encode([section])).digest()
    ksec = sessions.unseal(own.seal, "ksec", section[2])
    plain = cbor.decode(sessions.ChaCha20Poly1305(ksec).decrypt(bytes(12), section[1], None))
    assert plain == [own.public, own.public, None, "second opinion", [[bytes(16), {}, "", 0, 10**10, ["I"]]]]


def test_ed25519_is_strict():
    secret = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    public, sig = secret.public_key().public_bytes_raw(), secret.sign(b"m")
    assert keys.verify_strict(public, b"m", sig)
    order = (1 << 252) + 27742317777372353535851937790883648493
    malleable = sig[:32] + (int.from_bytes(sig[32:], "little") + order).to_bytes(32, "little")
    identity = bytes([1]) + bytes(31)
    for key, message, signature in (
        (public, b"n", sig),
        (public, b"m", malleable),
        (public, b"m", sig[:63]),
        # With a key or an R of small order one signature holds for many messages.
        (identity, b"m", identity + bytes(32)),
        (bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"), b"m", sig),
        (public, b"m", identity + sig[32:]),
        # y + p for y = 2.
        ((2**255 - 19 + 2).to_bytes(32, "little"), b"m", sig),
    ):
        assert not keys.verify_strict(key, message, signature)


def test_ed25519_is_judged_as_the_table_says():
    """L11: the table of signatures that verifiers disagree about; Rust is held against the same one."""
    table = ours("ed25519.json")
    assert len(table["signatures"]) >= 60 and sum(c["lax"] and not c["valid"] for c in table["signatures"]) > 30
    for case in table["signatures"]:
        key, signature = bytes.fromhex(case["key"]), bytes.fromhex(case["signature"])
        assert keys.verify_strict(key, bytes.fromhex(case["message"]), signature) == case["valid"], case["name"]
        try:
            entry = event.decode(bytes.fromhex(case["entry"]))
        except BadInput:
            assert len(signature) != 64, case["name"]
            continue
        assert entry.signed_by(key) == case["valid"], case["name"]
    for one in table["keys"]:
        sign = keys.base64.urlsafe_b64encode(bytes.fromhex(one["key"])).rstrip(b"=").decode()
        try:
            Identity.of({"name": one["name"], "role": "provider", "sign": sign})
            assert one["valid"], one["name"]
        except BadInput:
            assert not one["valid"], one["name"]


@pytest.mark.parametrize(
    "bad",
    ["1800", "190017", "1a0000ffff", "5f4100ff", "9fff", "bf6161ff", "a2616200616100", "a2616100616100", "f93c00",
     "0000", "", "62c328", "81" * 40 + "00", "f7", "a1f500", "5a7fffffff00", "9a7fffffff00"],
)  # fmt: skip
def test_cbor_has_one_encoding(bad):
    with pytest.raises(BadInput):
        cbor.decode(bytes.fromhex(bad))


def test_cbor_comes_back():
    value = {
        "b": [1, -1, 2**64 - 1, -(2**64), None, True, b"x", "é"],
        "a": {1: cbor.Tag(18, [])},
        "": [255, 256, 65536],
    }
    assert cbor.decode(cbor.encode(value)) == value
