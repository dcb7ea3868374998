"""Recorded answers verify; broken in any way they are refused, and nothing of them is handed out."""

from recorded import golden  # noqa: F401

import base64
import hashlib
import json
import random

import numpy as np
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import chordae
from chordae import Damaged, Integrity, answer, policy, proof, verify


def table_of(raw):
    return pa.ipc.open_stream(raw).read_all()


def arrow(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


def codes_of(error):
    return {finding.code for finding in error.value.findings}


def test_whole_pages_are_proven_and_cut_ones_are_counted(golden):
    whole = verify(*golden.pair("all"), golden.trust)
    assert whole.proven and whole.integrity is Integrity.ANCHORED and len(whole) == 750 and not whole.gaps
    assert [lead.name for lead in whole.leads] == ["I", "II"] and whole.rate == (25, 1)
    assert whole.coverage.share > 0.99 and whole.coverage.missing_frames == 0 and whole.receipt is not None
    assert whole.require_proof() is whole
    cut = verify(*golden.pair("cut"), golden.trust)
    assert cut.integrity is Integrity.ANCHORED and 0 < cut.unproven_rows < len(cut) and not cut.proven
    # The window begins 1 s into a page and ends 5 s into another: those rows, and no others.
    page = cut.times // 10**10
    assert np.array_equal(cut.held, (page > page[0]) & (page < page[-1])) and cut.unproven_rows == (~cut.held).sum()
    with pytest.raises(chordae.Unproven, match="pages that the window cuts") as unproven:
        cut.require_proof()
    assert unproven.value.window is cut


def test_one_lead_is_proven_alone_with_the_other_hidden(golden):
    one = verify(*golden.pair("one"), golden.trust, leads=["II"])
    whole = verify(*golden.pair("all"), golden.trust)
    assert one.proven and [lead.name for lead in one.leads] == ["II"]
    assert np.array_equal(one.codes[0], whole.codes[1][: len(one)])
    with pytest.raises(Damaged, match="left out"):
        verify(*golden.pair("one"), golden.trust)


def test_without_a_trust_file_nothing_is_better_than_linked(golden):
    window = verify(*golden.pair("all"))
    assert window.integrity is Integrity.LINKED and window.receipt is None and not window.proven
    with pytest.raises(chordae.Unproven, match="trusted ledger"):
        window.require_proof()


def test_the_answer_to_another_question_is_refused(golden):
    raw, bundle = golden.pair("all")
    said = json.loads(bundle)
    verify(raw, bundle, golden.trust, did=said["did"], window=(said["from_ns"], said["until_ns"]))
    with pytest.raises(Damaged, match="another stream"):
        verify(raw, bundle, golden.trust, did="00000000-0000-4000-8000-000000000000")
    with pytest.raises(Damaged, match="another window"):
        verify(raw, bundle, golden.trust, window=(said["from_ns"], said["until_ns"] + 1))
    with pytest.raises(Damaged, match="exactly the leads"):
        verify(raw, bundle, golden.trust, leads=["I"])


def change(table, name, at, by):
    place = table.column_names.index(name)
    column = table.column(place).combine_chunks()
    values = column.cast(pa.int64()).to_numpy().copy()
    values[at] += by
    return table.set_column(place, table.schema.field(place), pa.array(values).cast(column.type))


def rescaled(table, key, value):
    field = table.schema.field(1)
    return table.cast(table.schema.set(1, field.with_metadata({**field.metadata, key: value})))


ANSWERS = {
    "a code changed": lambda t: change(t, "II", 100, 1),
    "the first code changed": lambda t: change(t, "I", 0, 1),
    "a time moved by 1 ns": lambda t: change(t, "time", 100, 1),
    "a row dropped": lambda t: pa.concat_tables([t.slice(0, 100), t.slice(101)]),
    "the last row dropped": lambda t: t.slice(0, t.num_rows - 1),
    "a row twice": lambda t: pa.concat_tables([t.slice(0, 100), t.slice(99)]),
    "two rows swapped": lambda t: pa.concat_tables([t.slice(0, 99), t.slice(100, 1), t.slice(99, 1), t.slice(101)]),
    "no rows": lambda t: t.slice(0, 0),
    "a lead left out": lambda t: t.drop_columns(["I"]),
    "leads renamed": lambda t: t.rename_columns(["time", "II", "I"]),
    "a lead added": lambda t: t.append_column("III", t.column("II")),
    "a value made null": lambda t: t.set_column(
        2, t.schema.field(2), pa.array([None, *t.column("II").to_pylist()[1:]], pa.int32())
    ),
    "a column of another type": lambda t: t.set_column(2, "II", t.column("II").cast(pa.int64())),
    "times of another zone": lambda t: t.set_column(0, "time", t.column("time").cast(pa.timestamp("ns", "+01:00"))),
    "the gain changed, so that units change and codes do not": lambda t: rescaled(t, b"chordae.gain", b"100"),
    "the baseline changed": lambda t: rescaled(t, b"chordae.baseline", b"7"),
    "the unit changed": lambda t: rescaled(t, b"chordae.unit", b"uV"),
    "the scale gone": lambda t: t.replace_schema_metadata(None).cast(
        pa.schema([f.remove_metadata() for f in t.schema])
    ),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_changed_answer_is_refused(golden, what):
    raw, bundle = golden.pair("all")
    table = table_of(raw)
    verify(arrow(table), bundle, golden.trust)  # the control: written anew and not changed
    with pytest.raises(Damaged) as refused:
        verify(arrow(ANSWERS[what](table)), bundle, golden.trust)
    assert codes_of(refused) <= {"pages-digest", "metadata"}


def test_an_answer_that_was_cut_off_is_refused(golden):
    raw, bundle = golden.pair("all")
    for end in (0, 8, 100, len(raw) // 2, len(raw) - 8, len(raw) - 1):
        with pytest.raises(Damaged):
            verify(raw[:end], bundle, golden.trust)
    with pytest.raises(Damaged):
        verify(b"\xff" * 64 + raw[-8:], bundle, golden.trust)


def flipped(text, at):
    """One hex digit changed."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


def flip64(text, at):
    raw = bytearray(base64.b64decode(text))
    raw[at] ^= 1
    return base64.b64encode(bytes(raw)).decode()


def put(bundle, path, value):
    at = bundle
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value(at[path[-1]]) if callable(value) else value


def resign(bundle, kind="add-data", **fields):
    """An entry signed by a stranger: same content, another key."""
    entry = chordae.event.decode(base64.b64decode(bundle["anchor"]["entry"]))
    stranger = chordae.Keys(chordae.keys.Ed25519PrivateKey.generate())
    forged = chordae.event.sign(entry.kind, {**entry.fields, **fields}, stranger)
    bundle["anchor"]["entry"] = base64.b64encode(forged).decode()


def proof_line(bundle, n, value):
    lines = bundle["anchor"]["proof"].split("\n")
    lines[n] = value(lines[n])
    bundle["anchor"]["proof"] = "\n".join(lines)


BUNDLES = {
    "a link's pages_root": (lambda b: put(b, ["links", 0], lambda x: flipped(x, 240)), {"link-prev", "pages-digest"}),
    "a link's file_root": (lambda b: put(b, ["links", 0], lambda x: flipped(x, 150)), {"link-prev"}),
    "the last link's prev": (lambda b: put(b, ["links", -1], lambda x: flipped(x, 330)), {"link-prev", "metadata"}),
    "a link left out": (lambda b: b["links"].pop(0), {"index-gap", "pages-digest"}),
    "links swapped": (lambda b: b["links"].reverse(), {"index-gap", "link-prev"}),
    "the did": (lambda b: put(b, ["did"], "00000000-0000-4000-8000-000000000000"), {"metadata", "link-prev"}),
    "a chunk left out": (lambda b: b["chunks"].pop(0), {"index-gap", "pages-digest"}),
    "a chunk twice": (lambda b: put(b, ["chunks", 1], b["chunks"][0]), {"duplicate-index"}),
    "the metadata's gain": (
        lambda b: put(b, ["chunks", 0, "meta"], lambda m: m.replace('"gain":', '"gain":1', 1)), {"pages-digest"}),
    "the metadata's order": (
        lambda b: put(b, ["chunks", 0, "meta"], lambda m: m.replace(",", ", ", 1)), {"metadata"}),
    "a leaf": (lambda b: put(b, ["chunks", 0, "leaves", 0], lambda x: flipped(x, 5)), {"pages-digest"}),
    "a leaf left out": (lambda b: b["chunks"][0]["leaves"].pop(), {"pages-digest"}),
    "a page left out": (lambda b: b["chunks"][0]["pages"].pop(), {"pages-digest"}),
    "a salt": (lambda b: put(b, ["chunks", 0, "pages", 0, "salts", "1"], lambda x: flipped(x, 0)), {"pages-digest"}),
    "the salt of the times gone": (lambda b: b["chunks"][0]["pages"][0]["salts"].pop("0"), {"pages-digest"}),
    "a shown column called hidden": (
        lambda b: b["chunks"][0]["pages"][0]["hidden"].update({"1": "00" * 32}), {"pages-digest"}),
    "a column that is none": (
        lambda b: b["chunks"][0]["pages"][0]["salts"].update({"9": "00" * 16}), {"pages-digest"}),
    "the runs": (lambda b: put(b, ["rows", 0, 1], lambda n: n + 1), {"pages-digest"}),
    "a run of another chunk": (lambda b: put(b, ["rows", 0, 0], lambda n: n + 1), {"pages-digest"}),
    "no runs": (lambda b: put(b, ["rows"], []), {"pages-digest"}),
    "a wider window": (lambda b: put(b, ["until_ns"], lambda n: n + 10**10), {"pages-digest", "index-gap"}),
    "a narrower window": (lambda b: put(b, ["until_ns"], lambda n: n - 10**10), {"pages-digest"}),
    "another version": (lambda b: put(b, ["v"], 2), {"metadata"}),
    "a key that is unknown": (lambda b: b.update(more=1), {"metadata"}),
    "the entry's signature": (lambda b: put(b, ["anchor", "entry"], lambda x: flip64(x, -1)), {"entry-signature"}),
    "the entry signed by a stranger": (resign, {"entry-signature", "log-root"}),
    "an entry for another link": (lambda b: resign(b, digest=bytes(32)), {"link-prev", "entry-signature"}),
    "an entry that is none": (lambda b: put(b, ["anchor", "entry"], "AAAA"), {"entry-signature"}),
    "the leaf's index": (lambda b: proof_line(b, 1, lambda x: f"index {int(x[6:]) + 1}"), {"log-root"}),
    "a node of the path": (lambda b: proof_line(b, 2, lambda x: flip64(x, 3)), {"log-root"}),
    "the checkpoint's root": (lambda b: proof_line(b, -4, lambda x: flip64(x, 3)), {"checkpoint-signature"}),
    "the checkpoint's size": (lambda b: proof_line(b, -5, lambda x: str(int(x) + 1)), {"checkpoint-signature"}),
    "the checkpoint's origin": (lambda b: proof_line(b, -6, lambda x: x + "x"), {"checkpoint-signature"}),
    "the checkpoint's signature": (
        lambda b: proof_line(b, -2, lambda x: x.rpartition(" ")[0] + " " + flip64(x.rpartition(" ")[2], 20)),
        {"checkpoint-signature"}),
    "no receipt": (lambda b: put(b, ["anchor", "proof"], "nothing"), {"log-root"}),
}  # fmt: skip


@pytest.mark.parametrize("what", BUNDLES)
def test_a_changed_proof_is_refused(golden, what):
    raw, text = golden.pair("all")
    bundle = json.loads(text)
    verify(raw, json.dumps(bundle), golden.trust)  # the control
    bend, expected = BUNDLES[what]
    bend(bundle)
    with pytest.raises(Damaged) as refused:
        verify(raw, json.dumps(bundle), golden.trust)
    assert codes_of(refused) & expected, (what, refused.value.findings)


def test_no_byte_of_a_proof_may_change_unseen(golden):
    """Every 7th byte of the text, changed: refused, or it says exactly the same."""
    raw, text = golden.pair("one")
    good = proof.Bundle.parse(text)
    for at in range(0, len(text), 7):
        bent = text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :]
        try:
            verify(raw, bent, golden.trust, leads=["II"], window=(good.from_ns, good.until_ns))
        except Damaged:
            continue
        same = proof.Bundle.parse(bent)
        assert same == good, f"byte {at}: {text[at - 20 : at + 20]!r}"


def test_no_anchor_is_intact_and_not_proven(golden):
    raw, text = golden.pair("all")
    bundle = json.loads(text)
    bundle["anchor"] = None
    window = verify(raw, json.dumps(bundle), golden.trust)
    assert window.integrity is Integrity.LINKED and not window.proven


def test_a_chunk_linked_meanwhile_is_told(golden):
    """The answer of the first chunk alone, with links up to one that meets the window: intact, not complete."""
    raw, text = golden.pair("all")
    bundle = json.loads(text)
    count = sum(n for index, n in bundle["rows"] if index == bundle["chunks"][0]["index"])
    bundle["chunks"], bundle["rows"] = bundle["chunks"][:1], [[bundle["chunks"][0]["index"], count]]
    window = verify(arrow(table_of(raw).slice(0, count)), json.dumps(bundle), golden.trust)
    assert window.newer and not window.proven and window.gaps


def test_a_key_twice_in_the_json_is_refused(golden):
    raw, text = golden.pair("all")
    with pytest.raises(Damaged, match="twice"):
        verify(raw, text.replace(b'{"v":1,', b'{"v":1,"v":1,'), golden.trust)


def test_two_histories_are_a_fork(golden):
    memory = chordae.client.Memory()
    window = verify(*golden.pair("all"), golden.trust)
    assert memory.compare(window) == () and memory.compare(window) == ()
    key = next(iter(memory._links))
    memory._links[key] = bytes(32)
    assert {f.code for f in memory.compare(window)} == {"fork"}


def test_another_logs_trust_file_does_not_vouch(golden):
    other = chordae.trust.dataclasses.replace(golden.trust, providers=())
    with pytest.raises(Damaged, match="trusted provider"):
        verify(*golden.pair("all"), other)
    (log,) = golden.trust.policy.logs
    stranger = chordae.trust.dataclasses.replace(log, key=golden.trust.providers[0].sign)
    other = chordae.trust.dataclasses.replace(golden.trust, policy=policy.Policy((stranger,)))
    with pytest.raises(Damaged, match="trusted log"):
        verify(*golden.pair("all"), other)


def test_a_retired_key_counts_for_what_it_signed_before(golden):
    raw, text = golden.pair("all")
    where = verify(raw, text, golden.trust).receipt
    leaf, size = where.leaf_index, where.checkpoint.size
    provider, log = golden.trust.providers[0].sign, golden.trust.policy.logs[0].key
    file = json.loads(golden.trust_text)

    def retiring(key, until):
        retired = [{"key": hashlib.sha256(key).hexdigest(), "size": until}]
        return verify(raw, text, chordae.TrustFile.parse(json.dumps(file | {"retired": retired})))

    for key, until, code in ((provider, leaf, "entry-signature"), (log, size - 1, "checkpoint-signature")):
        with pytest.raises(Damaged, match="retired at size") as error:
            retiring(key, until)
        assert codes_of(error) == {code}
    # Controls: one later each, and nobody's key.
    for key, until in ((provider, leaf + 1), (log, size), (bytes(32), 0)):
        assert retiring(key, until).integrity is Integrity.ANCHORED
    one = {"key": "ab" * 32, "size": 1}
    for bad in ([one, one], [one | {"more": 1}], [one | {"size": -1}], [one | {"key": "AB" * 32}], None):
        with pytest.raises(chordae.BadInput):
            chordae.TrustFile.parse(json.dumps(file | {"retired": bad}))


def test_an_answer_is_proven_once_its_quorum_has_cosigned(golden):
    raw, text = golden.pair("all")
    bundle = json.loads(text)
    proof_text = bundle["anchor"]["proof"]
    body = proof_text.split("\n\n")[1] + "\n"
    key, stranger = (Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (7, 8))
    typed = b"\x04" + key.public_key().public_bytes_raw()
    key_hash = hashlib.sha256(b"w.example\n" + typed).digest()[:4]
    witness = policy.Witness.of("W", f"w.example+{key_hash.hex()}+{base64.b64encode(typed).decode()}")
    demands = policy.Policy(golden.trust.policy.logs, (witness,), (), "W")
    trusted = chordae.trust.dataclasses.replace(golden.trust, policy=demands)

    def judged(signer):
        signature = signer.sign(f"cosignature/v1\ntime 77\n{body}".encode()) if signer else b""
        line = base64.b64encode(key_hash + (77).to_bytes(8, "big") + signature).decode()
        bundle["anchor"]["proof"] = f"{proof_text}— w.example {line}\n" if signer else proof_text
        return verify(raw, json.dumps(bundle), trusted)

    for signer in (None, stranger):
        window = judged(signer)
        assert window.integrity is Integrity.LINKED and window.receipt is None and window.lacks == "W"
        with pytest.raises(chordae.Unproven, match="it lacks W"):
            window.require_proof()
    window = judged(key)
    assert window.integrity is Integrity.ANCHORED and window.lacks is None
    assert window.receipt.cosigned == (policy.Cosigned("W", 77),)


def test_the_answers_are_read_only(golden):
    window = verify(*golden.pair("all"), golden.trust)
    with pytest.raises(ValueError):
        window.codes[0][0] = 1
    assert answer.read_arrow(golden.pair("all")[0])[0].leads == ("I", "II")


SPICE = [
    None,
    True,
    -1,
    0,
    2**63,
    2**64,
    -(2**63) - 1,
    1.5,
    "",
    "x",
    "\ud800",
    [],
    {},
    [[]],
    "0" * 64,
    "9" * 5000,
    10**400,
]


def places(value, path=()):
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def bend(rng, raw, text):
    """Some bytes or a value changed, at random."""
    kind = rng.randrange(4)
    if kind == 0:
        bent = bytearray(raw)
        for _ in range(rng.randint(1, 8)):
            bent[rng.randrange(min(len(bent), rng.choice([64, 1500, len(bent)])))] = rng.randrange(256)
        return bytes(bent), text
    if kind == 1:
        at = rng.randrange(len(raw))
        return raw[:at] + raw[at + rng.choice([1, 8, 64]) :], text
    if kind == 2:
        bent = bytearray(text)
        bent[rng.randrange(len(bent))] = rng.randrange(256)
        return raw, bytes(bent)
    bundle = json.loads(text)
    put(bundle, rng.choice(list(places(bundle))[1:]), rng.choice(SPICE))
    return raw, json.dumps(bundle).encode()


@pytest.mark.parametrize("name", ["all", "one", "cut"])
def test_nothing_proven_changes_unseen_and_nothing_but_damaged_is_raised(golden, name):
    """(30,000 such changes were run once; these are the first of them.)"""
    leads = ["II"] if name == "one" else None
    good, rng, taken = verify(*golden.pair(name), golden.trust, leads=leads), random.Random(name), 0
    for _ in range(600):
        try:
            window = verify(*bend(rng, *golden.pair(name)), golden.trust, leads=leads)
        except Damaged:
            continue
        taken += 1
        held = window.held
        assert len(window) == len(good) and np.array_equal(held, good.held) and window.leads == good.leads
        assert np.array_equal(window.times[held], good.times[held])
        assert all(np.array_equal(a[held], b[held]) for a, b in zip(window.codes, good.codes, strict=True))
    assert taken < 60
