"""An independent checker, written from docs/FORMATS.md alone. It shares no code with chordae.

    python checker.py FOLDER [TRUST.json] [ACKED]

It reads the journals, recomputes every chunk's digests, every chain, every tile and the root of the log, and
every signature whose key it is given. Section numbers are those of docs/FORMATS.md.
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys
import uuid
from collections import defaultdict, namedtuple

import cbor2
import numpy as np
import pyarrow.parquet as pq
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAGE_NS = 10**10
NO_VALUE = -(2**31)
Link = namedtuple("Link", "did index slot_start slot_len first end rows file_root pages_root prev digest")


def dk(context, data):
    return blake3(data, derive_key_context=context).digest()


# ---- 10. journals

CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    CRC_TABLE.append(byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc = CRC_TABLE[(crc ^ b) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def journal(folder):
    """Payloads of a journal in order; raises ValueError at bytes that do not verify.

    Zeros at the end of the newest segment are room for what comes next (formats.md 10).
    """
    segments = sorted(pathlib.Path(folder).glob("*.log"))
    end = None
    for path in segments:
        data = path.read_bytes()
        start = int(path.stem)
        if len(data) < 20 or data[:8] != b"CHJRNL01" or struct.unpack(">Q", data[8:16])[0] != start \
                or struct.unpack(">I", data[16:20])[0] != crc32c(data[:16]):
            raise ValueError(f"{path.name}: bad segment header")
        if end is not None and start != end:
            raise ValueError(f"{path.name}: segments are not contiguous")
        at, written = 20, len(data.rstrip(b"\0") if path == segments[-1] else data)
        while at < written:
            size, mark, crc = struct.unpack(">IQI", data[at:at + 16]) if at + 16 <= len(data) else (1 << 40, 0, 0)
            payload = data[at + 16:at + 16 + size]
            if len(payload) != size or crc32c(struct.pack(">QIQ", start + at, size, mark) + payload) != crc:
                raise ValueError(f"{path.name}: bad record at {start + at}")
            if size:
                yield payload
            at += 16 + size
        end = start + len(data)


# ---- 4. links and pages

def parse_link(raw):
    if len(raw) != 168 or raw[:8] != b"CHLINK01" or raw[68:72] != bytes(4):
        raise ValueError("not a link")
    index, slot_start, slot_len, first, end, rows = struct.unpack(">Qqqqq I", raw[24:68])
    return Link(str(uuid.UUID(bytes=raw[8:24])), index, slot_start, slot_len, first, end, rows,
                raw[72:104], raw[104:136], raw[136:168], dk("chordae v1 link", raw))


def links(folder):
    """did -> its links in order."""
    chains = defaultdict(list)
    for raw in journal(pathlib.Path(folder) / "links"):
        link = parse_link(raw)
        chains[link.did].append(link)
    return chains


def object_name(did, index):
    return f"chunks/{did}/{index // 1000:07d}/{index:010d}.parquet"


def tag(did, index):
    return dk("chordae v1 tag", uuid.UUID(did).bytes + struct.pack(">Q", index))


class Chunk:
    """One chunk file: metadata, salt, times and codes."""

    def __init__(self, path):
        self.raw = path.read_bytes()
        table = pq.ParquetFile(path)
        pairs = table.metadata.metadata
        self.meta_json = pairs[b"chordae"]
        self.meta = json.loads(self.meta_json)
        self.salt = bytes.fromhex(pairs[b"chordae-salt"].decode())
        assert table.metadata.created_by == "chordae format 1" and table.metadata.num_row_groups == 1
        assert b"ARROW:schema" not in pairs
        rows = table.read()
        self.times = rows["time"].cast("int64").to_numpy()
        names = [lead["name"] for lead in self.meta["leads"]]
        assert rows.column_names == ["time", *names]
        self.codes = [rows[name].fill_null(NO_VALUE).to_numpy().astype("<i4") for name in names]

    def pages_root(self):
        start, length = self.meta["slot_start_ns"], self.meta["slot_len_ns"]
        leaves = b""
        for p in range(length // PAGE_NS):
            a, b = np.searchsorted(self.times, [start + p * PAGE_NS, start + (p + 1) * PAGE_NS])
            cols = b""
            for c, values in enumerate([self.times.astype("<i8"), *self.codes]):
                salt = blake3(struct.pack("<II", p, c), key=self.salt).digest()[:16]
                context = "chordae v1 times" if c == 0 else "chordae v1 lead"
                cols += dk(context, salt + struct.pack("<I", b - a) + values[a:b].tobytes())
            leaves += dk("chordae v1 page", cols)
        return dk("chordae v1 pages", dk("chordae v1 meta", self.meta_json) + leaves)

    def seqs(self):
        """Which seqs have rows here."""
        first, last = self.meta["seq"]
        missing = {n for a, b in self.meta["missing"] for n in range(a, b + 1)}
        return [n for n in range(first, last + 1) if n not in missing]


def check_chain(folder, did, chain, found):
    prev = dk("chordae v1 genesis", uuid.UUID(did).bytes)
    for n, link in enumerate(chain):
        name = object_name(did, link.index)
        if link.index != n:
            found(name, "index-gap" if link.index > n else "duplicate-index", f"expected index {n}")
        if link.prev != prev:
            found(name, "link-prev", "prev is not the digest of the link before")
        prev = link.digest
        path = folder / name
        if not path.exists():
            found(name, "missing-file", "")
            continue
        if blake3(path.read_bytes()).digest() != link.file_root:
            found(name, "file-digest", "")
            continue
        chunk = Chunk(path)
        m = chunk.meta
        same = (m["did"], m["index"], m["slot_start_ns"], m["slot_len_ns"], m["first_ns"], m["end_ns"], m["rows"],
                bytes.fromhex(m["prev"]))
        if same != (did, link.index, link.slot_start, link.slot_len, link.first, link.end, link.rows, link.prev):
            found(name, "metadata", "metadata and link disagree")
        num, den = m["rate"]
        end = min(int(chunk.times[-1]) + 10**9 * den // num, m["slot_start_ns"] + m["slot_len_ns"])
        if (len(chunk.times), int(chunk.times[0]), end) != (link.rows, link.first, link.end) \
                or not (np.diff(chunk.times) > 0).all() or chunk.times[0] < link.slot_start:
            found(name, "metadata", "rows and metadata disagree")
        if chunk.pages_root() != link.pages_root:
            found(name, "pages-digest", "")


# ---- 5. ledger

def leaf_hash(entry):
    return hashlib.sha256(b"\0" + entry).digest()


def tree_root(hashes):
    """RFC 6962 2.1."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\1" + tree_root(hashes[:split]) + tree_root(hashes[split:])).digest()


def tile_path(n):
    parts = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        parts.insert(0, f"x{n % 1000:03d}")
    return "/".join(parts)


def tile(ledger, level, n, width):
    base = f"tile/{level}/{tile_path(n)}"
    full = ledger / base
    return (full if full.exists() or width == 256 else ledger / f"{base}.p/{width}").read_bytes()


def read_entries(ledger, size):
    entries = []
    for n in range((size + 255) // 256):
        width = min(256, size - n * 256)
        data, at = tile(ledger, "entries", n, width), 0
        for _ in range(width):
            length = struct.unpack(">H", data[at:at + 2])[0]
            entries.append(data[at + 2:at + 2 + length])
            at += 2 + length
    return entries


def check_tiles(ledger, hashes, found):
    level, row = 0, hashes
    while row:
        for n in range((len(row) + 255) // 256):
            want = row[n * 256:(n + 1) * 256]
            have = tile(ledger, level, n, len(want))
            if have[:32 * len(want)] != b"".join(want):
                found(f"ledger/tile/{level}/{tile_path(n)}", "log-root", "tile does not hold its entries' hashes")
        row = [tree_root(row[n * 256:(n + 1) * 256]) for n in range(len(row) // 256)]
        level += 1


def verified(public, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def check_entry(entry, keys):
    """Strict COSE_Sign1 of section 5; returns (payload, key id, signature state)."""
    message = cbor2.loads(entry)
    assert message.tag == 18 and entry[0] == 0xD2 and len(message.value) == 4
    protected, unprotected, payload, signature = message.value
    header = cbor2.loads(protected)
    assert set(header) == {1, 3, 4} and header[1] == -8 and unprotected == {}
    assert header[3] == "application/chordae-event+cbor"
    assert cbor2.dumps(cbor2.loads(payload), canonical=True) == payload
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    key = keys.get(header[4])
    state = "unknown-key" if key is None else "good" if verified(key, signed, signature) else "bad"
    return cbor2.loads(payload), header[4], state


SIGNERS = {"block": "sequencer", "create-session": "patient", "revoke-session": "patient"}


class Retired:
    """Keys and the sizes up to which they count: in any role by the trust file, in the role that it names by the log."""

    def __init__(self, trust):
        self.sizes = {(None, bytes.fromhex(one["key"])): one["size"] for one in (trust or {}).get("retired", [])}

    def add(self, role, key, size):
        self.sizes.setdefault((role, key), size)

    def until(self, role, key):
        return min(self.sizes.get(of, 2**64) for of in ((None, key), (role, key)))


def trusted_keys(folder, trust):
    """Key id -> public key; log key and origin come from the trust file alone."""
    identities = [json.loads(p.read_text()) for p in (folder / "registry/keys").glob("*.json")]
    for role in ("providers", "sequencers"):
        identities += (trust or {}).get(role, [])
    keys = {}
    for identity in identities:
        public = base64.urlsafe_b64decode(identity["sign"] + "=" * (-len(identity["sign"]) % 4))
        keys[hashlib.sha256(public).digest()] = public
    return keys


def policy_lines(trust, kind):
    """The words behind `log`, `witness`, `group` or `quorum` in the trust file's policy (C2SP tlog-policy)."""
    lines = (line.split() for line in (trust or {"policy": ""})["policy"].splitlines())
    return [words[1:] for words in lines if words[:1] == [kind]]


def signed_by(note, vkey, kind):
    """What a signed note holds of a verifier key (C2SP signed-note): the public key, and the bytes behind each key hash."""
    name, key_hash, key = vkey.split("+", 2)
    raw = base64.b64decode(key)
    assert raw[0] == kind
    lines = (line.removeprefix("— ").rsplit(" ", 1) for line in note.partition("\n\n")[2].splitlines())
    blobs = (base64.b64decode(text) for who, text in lines if who == name)
    return raw[1:], [blob[4:] for blob in blobs if blob[:4].hex() == key_hash]


def signed_body(note):
    return (note.partition("\n\n")[0] + "\n").encode()


def check_checkpoint(name, note, trust, found):
    """Size, root, and the key ids of the trusted log that signed."""
    origin, size, root = signed_body(note).decode().split("\n")[:3]
    signers = set()
    for vkey, *_ in policy_lines(trust, "log"):
        assert origin == vkey.split("+")[0] == trust["origin"]
        public, signatures = signed_by(note, vkey, 1)
        if any(verified(public, signed_body(note), signature) for signature in signatures):
            signers.add(hashlib.sha256(public).digest())
    if trust and not signers:
        found(name, "checkpoint-signature", "no signature of the trusted log key")
    return int(size), base64.b64decode(root), signers


def cosigned(note, trust, until):
    """The policy's witnesses that have cosigned a note (C2SP tlog-cosignature 0x04), of several lines by the first;
    `until` gives the largest size that a key may sign."""
    names, size = set(), int(signed_body(note).split(b"\n")[1])
    for name, vkey, *_ in policy_lines(trust, "witness"):
        public, signatures = signed_by(note, vkey, 4)
        for blob in signatures[:1]:
            time_s = int.from_bytes(blob[:8], "big")
            head = f"cosignature/v1\ntime {time_s}\n".encode()
            good = len(blob) == 72 and time_s < 2**63 and verified(public, head + signed_body(note), blob[8:])
            if good and size <= until(hashlib.sha256(public).digest()):
                names.add(name)
    return names


def quorum_met(trust, names):
    """Whether these witnesses are enough for the policy."""
    there = {"none", *names}
    for group, least, *members in policy_lines(trust, "group"):
        least = {"any": 1, "all": len(members)}.get(least) or int(least)
        if sum(member in there for member in members) >= least:
            there.add(group)
    return all(who in there for who, in policy_lines(trust, "quorum"))


def check_cosigned(folder, newest, hashes, trust, retired, found):
    """Entries that count for readers: those under the newest checkpoint that the quorum has cosigned, which is the log's own
    checkpoint or the note beside the log (formats.md, which checkpoint counts)."""
    name, counted, notes = "ledger.cosigned", 0, [newest]
    path = folder / name
    if path.is_file():
        note = path.read_text()
        size, root, _ = check_checkpoint(name, note, trust, found)
        if size > len(hashes) or tree_root(hashes[:size]) != root:
            found(name, "fork", "the log does not begin with what the witnesses have seen")
        else:
            notes.append(note)
    for note in notes:
        if quorum_met(trust, cosigned(note, trust, lambda key: retired.until("witness", key))):
            counted = max(counted, int(signed_body(note).split(b"\n")[1]))
    return counted


def anchored_by(folder, n, event, found):
    """Tag and digest of each head that an entry anchors."""
    if event["type"] == "add-data":
        return [(event["tag"], event["digest"])]
    if event["type"] != "add-heads":
        return []
    root = event["root"].hex()
    path = folder / "ledger.heads" / root[:2] / root
    if not path.is_file():
        found(f"ledger.heads/{root[:2]}/{root}", "missing-file", f"named by entry {n}")
        return []
    raw = path.read_bytes()
    heads = [(raw[at : at + 32], raw[at + 32 : at + 64]) for at in range(0, len(raw), 64)]
    tags = [tag_ for tag_, _ in heads]
    whole = len(raw) == 64 * event["count"] and tags == sorted(set(tags))
    if not whole or tree_root([leaf_hash(tag_ + digest) for tag_, digest in heads]) != event["root"]:
        found(f"ledger.heads/{root[:2]}/{root}", "log-root", f"not the heads that entry {n} anchors")
        return []
    return heads


def check_ledger(folder, chains, trust, found):
    ledger = folder / "ledger"
    newest = (ledger / "checkpoint").read_text()
    size, root, signers = check_checkpoint("ledger/checkpoint", newest, trust, found)
    entries = read_entries(ledger, size)
    hashes = [leaf_hash(e) for e in entries]
    check_tiles(ledger, hashes, found)
    if tree_root(hashes) != root:
        found("ledger/checkpoint", "log-root", "the entries do not give this root")
    keys, heads, places, heights, batch = trusted_keys(folder, trust), {}, {}, [], []
    previous, retired, changes = bytes(32), Retired(trust), []
    for n, entry in enumerate(entries):
        event, kid, state = check_entry(entry, keys)
        if n >= retired.until(SIGNERS.get(event["type"], "provider"), kid):
            state = "retired"
        if state == "bad" or (trust and state != "good"):
            found(f"ledger entry {n}", "entry-signature", state)
        if event["type"] == "rotate-key" and state == "good":
            if event["role"] == "provider" and event["old"] != kid:
                found(f"ledger entry {n}", "entry-signature", "a provider's key is retired by itself only")
            else:
                changes.append(event)
        if event["type"] == "block":
            # A change of keys is in force from the end of its batch on; those of logs are never followed.
            for change in changes:
                retired.add(change["role"], change["old"], n + 1)
                if change["role"] in ("provider", "sequencer"):
                    keys.setdefault(hashlib.sha256(change["new"]).digest(), change["new"])
            changes = []
            want = {"height": len(heights), "prev": previous, "first": n - len(batch), "count": len(batch)}
            if any(event[k] != v for k, v in want.items()) or event["events_root"] != tree_root(batch) \
                    or not 1 <= len(batch) <= 400 or (heights and event["time_ms"] < heights[-1]):
                found(f"ledger entry {n}", "log-root", "block header does not fit its events")
            heights.append(event["time_ms"])
            previous, batch = hashes[n], []
        else:
            batch.append(hashes[n])
        for tag_, digest in anchored_by(folder, n, event, found):
            places.setdefault(tag_, n)
            if heads.setdefault(tag_, digest) != digest:
                found(f"ledger entry {n}", "fork", "two digests under one tag")
    if batch:
        found("ledger/checkpoint", "log-root", "a batch without its block")
    if signers and all(size > retired.until("log", key) for key in signers):
        found("ledger/checkpoint", "checkpoint-signature", "the log key that signed it was retired before")
    counted = check_cosigned(folder, newest, hashes, trust, retired, found)
    anchored, known = 0, set()
    for did, chain in chains.items():
        last = -1
        for link in chain:
            t = tag(did, link.index)
            if t in heads:
                known.add(t)
                if places[t] < counted:
                    last = link.index
                if heads[t] != link.digest:
                    found(object_name(did, link.index), "fork", "the ledger anchors another digest")
        anchored += last == len(chain) - 1
    for _ in set(heads) - known:
        found("links", "rollback", "the ledger anchors a head that the links do not have")
    return len(entries), anchored, counted


def check_trail(folder, found):
    previous = bytes(32)
    for n, raw in enumerate(journal(folder / "trail")):
        record = cbor2.loads(raw)
        if record["prev"] != previous or record["n"] != n:
            found(f"trail record {n}", "trail", "not chained to the record before")
        previous = hashlib.sha256(raw).digest()


def check(folder, trust=None):
    """The whole folder; findings are empty when everything agrees."""
    folder, findings = pathlib.Path(folder), []

    def found(name, code, detail):
        findings.append({"object": name, "code": code, "detail": detail})

    chains = links(folder)
    for did, chain in chains.items():
        check_chain(folder, did, chain, found)
    named = {object_name(did, link.index) for did, chain in chains.items() for link in chain}
    for path in (folder / "chunks").rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in named:
            found(str(path.relative_to(folder)), "extra-file", "")
    entries, anchored, counted = check_ledger(folder, chains, trust, found)
    check_trail(folder, found)
    return {"findings": findings, "chunks": len(named), "entries": entries, "counted": counted, "anchored": anchored,
            "streams": len(chains)}


# ---- what a device was told is durable

def frames(folder, acked):
    """Holds every acknowledged frame (`device-sim --acked`) against the stored rows; synced clocks only."""
    folder = pathlib.Path(folder)
    times, codes, rates = defaultdict(list), defaultdict(list), {}
    for did, chain in links(folder).items():
        for link in chain:
            chunk = Chunk(folder / object_name(did, link.index))
            boot = chunk.meta["boot"]
            times[boot].append(chunk.times)
            codes[boot].append(np.stack(chunk.codes))
            rates[boot] = chunk.meta["rate"]
    for boot in times:
        order = np.argsort(t := np.concatenate(times[boot]), kind="stable")
        times[boot], codes[boot] = t[order], np.concatenate(codes[boot], axis=1)[:, order]
    lost, duplicate, different, count = [], [], [], 0
    # A line that a crash cut short counts for nothing: it was not synced.
    for line in pathlib.Path(acked).read_text().split("\n")[:-1]:
        _, _, boot, seq, t0, samples, digest = line.split()
        boot, seq, t0, samples, count = int(boot), int(seq), int(t0), int(samples), count + 1
        if boot not in rates:
            lost.append(seq)
            continue
        num, den = rates[boot]
        claimed = t0 + np.arange(samples, dtype=object) * 10**9 * den // num
        claimed = claimed.astype(np.int64)
        a, b = np.searchsorted(times[boot], claimed, "left"), np.searchsorted(times[boot], claimed, "right")
        if (b - a < 1).any():
            lost.append(seq)
        elif (b - a > 1).any():
            duplicate.append(seq)
        elif blake3(codes[boot][:, a].astype("<i4").tobytes()).hexdigest() != digest:
            different.append(seq)
    return {"acknowledged": count, "lost": lost, "duplicate": duplicate, "different": different,
            "rows": sum(len(t) for t in times.values())}


if __name__ == "__main__":
    trust_file = json.load(open(sys.argv[2])) if len(sys.argv) > 2 else None
    outcome = check(sys.argv[1], trust_file)
    print(json.dumps(outcome, indent=1))
    if len(sys.argv) > 3:
        print(json.dumps(frames(sys.argv[1], sys.argv[3])))
    sys.exit(3 if outcome["findings"] else 0)
