// Digests, entries, metadata and numbers against vectors that others computed, with a bad twin for every rule.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { BadInput } from "../dist/bytes.js";
import * as cbor from "../dist/cbor.js";
import * as event from "../dist/event.js";
import * as json from "../dist/json.js";
import { keyId, strongKey, verifyStrict } from "../dist/keys.js";
import * as link from "../dist/link.js";
import * as merkle from "../dist/merkle.js";
import * as meta from "../dist/meta.js";
import * as pages from "../dist/pages.js";
import { open, parse as parsePolicy } from "../dist/policy.js";
import { golden, hex, shared, unhex } from "./common.mjs";

const CHAIN = "anchor/chain/tests/golden/";

test("pages, links and tags are those of the second implementation", (t) => {
  const v = shared(t, "digests");
  if (!v) return;
  // (64-bit numbers of the file that a double would round stand here in full.)
  const [slot, page, t0] = [1700000040000000000n, BigInt(v.page_ns), 1700000045000000000n];
  const rows = Array.from({ length: v.rows }, (_, k) => k);
  const times = BigInt64Array.from(rows, (k) => t0 + (BigInt(k) * 10n ** 9n * BigInt(v.rate[1])) / BigInt(v.rate[0]));
  const a = Int32Array.from(rows, (k) => ((k * 37) % 2048) - 1024);
  const b = Int32Array.from(rows, (k) => (k >= 100 && k < 120 ? pages.NO_VALUE : ((k * k) % 4096) - 2048));
  const leaves = Array.from({ length: v.slot_len_ns / v.page_ns }, (_, p) => {
    const inside = rows.filter((k) => times[k] >= slot + BigInt(p) * page && times[k] < slot + BigInt(p + 1) * page);
    const [at, end] = [inside[0] ?? 0, inside.length ? inside.at(-1) + 1 : 0];
    const salts = [0, 1, 2].map((c) => pages.pageSalt(unhex(v.salt), p, c));
    if (p < 2) assert.deepEqual(salts.map(hex), v[`salts_p${p}`]);
    const cols = [pages.colTimes(salts[0], times.subarray(at, end))];
    cols.push(pages.colLead(salts[1], a.subarray(at, end)), pages.colLead(salts[2], b.subarray(at, end)));
    return pages.leaf(cols);
  });
  assert.deepEqual(leaves.map(hex), v.leaves);
  assert.equal(hex(pages.pagesRoot(v.meta_ascii, leaves)), v.pages_root);
  const links = v.links.map((one) => link.decode(unhex(one.hex)));
  assert.deepEqual(links.map((one) => hex(one.digest)), v.links.map((one) => one.digest));
  assert.equal(hex(link.genesis(links[0].did)), v.genesis);
  assert.equal(hex(links[0].prev), v.genesis);
  assert.equal(hex(link.tag(links[0].did, 1n)), v.tag_index_1);
  assert.deepEqual([0n, 1234567n].map((n) => link.objectName(links[0].did, n)), v.object_names);
  assert.equal(hex(keyId(unhex(v.key_id.sign_hex))), v.key_id.hex);
  const hashes = v.log.entries.map((entry) => merkle.leafHash(unhex(entry)));
  assert.deepEqual(hashes.map(hex), v.log.leaf_hashes);
  assert.deepEqual(v.log.roots.map((_, n) => hex(merkle.root(hashes.slice(0, n)))), v.log.roots);
});

test("every flipped bit of a link changes its digest or is refused", (t) => {
  const raw = unhex(shared(t, "digests")?.links[0].hex ?? "");
  if (raw.length === 0) return;
  const good = link.decode(raw);
  for (let bit = 0; bit < 8 * raw.length; bit++) {
    const bent = raw.slice();
    bent[bit >> 3] ^= 1 << (bit & 7);
    try {
      assert.notDeepEqual(link.decode(bent).digest, good.digest);
    } catch (e) {
      assert.ok(e instanceof BadInput, `bit ${bit}: ${e}`);
    }
  }
  assert.throws(() => link.decode(raw.subarray(1)), BadInput);
  assert.throws(() => link.decode(Uint8Array.from(raw, (byte, i) => (i === 71 ? 1 : byte))), BadInput);
});

test("pages to show are whole in the window and have rows", () => {
  const S = 1_000_000_000n;
  const one = { slotStartNs: 60n * S, firstNs: 60n * S, endNs: 120n * S };
  const shown = (from, until, of = one) => link.provablePages(of, from, until);
  assert.deepEqual(shown(0n, 200n * S), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(shown(70n * S, 90n * S), [1, 2]);
  assert.deepEqual(shown(70n * S + 1n, 90n * S), [2]);
  assert.deepEqual(shown(70n * S, 90n * S - 1n), [1]);
  assert.deepEqual(shown(71n * S, 79n * S), []);
  assert.deepEqual(shown(-(2n ** 63n), 2n ** 63n - 1n), [0, 1, 2, 3, 4, 5]);
  const late = { ...one, firstNs: 79n * S, endNs: 80n * S };
  assert.deepEqual(shown(0n, 200n * S, late), [1]);
  assert.deepEqual(shown(0n, 200n * S, { ...late, endNs: 80n * S + 1n }), [1, 2]);
  assert.deepEqual(shown(0n, 10n * S, late), []);
  assert.deepEqual(shown(500n * S, 600n * S, late), []);
});

test("entries and the checkpoint of the second implementation; no character of the checkpoint may change", (t) => {
  const v = shared(t, "ledger");
  if (!v) return;
  const keys = Object.values(v.public_keys).map(unhex);
  for (const one of v.entries) {
    const raw = unhex(one.hex);
    const entry = event.decode(raw);
    assert.equal(entry.kind, one.type);
    assert.equal(keys.filter((key) => event.signedBy(entry, key)).length, 1);
    assert.equal(hex(merkle.leafHash(raw)), one.leaf_hash);
    for (let at = 0; at < raw.length; at++) {
      const bent = raw.slice();
      bent[at] ^= 1;
      let seen = false;
      try {
        seen = !keys.some((key) => event.signedBy(event.decode(bent), key));
      } catch (e) {
        seen = e instanceof BadInput;
      }
      assert.ok(seen, `byte ${at}`);
    }
  }
  const policy = parsePolicy(`log ${v.log_vkey}\nquorum none\n`);
  const { checkpoint, lacks } = open(policy, v.checkpoint);
  assert.deepEqual([checkpoint.origin, checkpoint.size, lacks], [v.origin, 3n, null]);
  for (let at = 0; at < v.checkpoint.length; at++) {
    const other = String.fromCharCode(v.checkpoint.charCodeAt(at) ^ 1);
    const bent = v.checkpoint.slice(0, at) + other + v.checkpoint.slice(at + 1);
    assert.throws(() => open(policy, bent), BadInput, `character ${at}`);
  }
});

test("golden entries are read, and every bad twin is refused", () => {
  for (const good of JSON.parse(golden(`${CHAIN}ledger/entries.json`))) {
    const entry = event.decode(unhex(good.entry));
    assert.equal(entry.kind, good.name);
    assert.ok(event.signedBy(entry, unhex(good.key)));
    assert.equal(hex(merkle.leafHash(unhex(good.entry))), good.leaf_hash);
  }
  const [patient, other] = [3, 4].map((seed) => ed25519.getPublicKey(new Uint8Array(32).fill(seed)));
  const weak = [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31)), unhex(`ed${"ff".repeat(30)}7f`)];
  const bad = JSON.parse(golden(`${CHAIN}ledger/entries-bad.json`));
  assert.ok(bad.length >= 44);
  for (const twin of bad) {
    if (twin.refused_by === "decode") {
      assert.throws(() => event.decode(unhex(twin.entry)), BadInput, twin.name);
      continue;
    }
    const entry = event.decode(unhex(twin.entry));
    // "other-key" is well signed by the key that it names, and that is not the one it is held against.
    for (const key of [...(twin.name === "other-key" ? [] : [patient]), other, ...weak]) {
      assert.ok(!event.signedBy(entry, key), twin.name);
    }
  }
});

test("golden metadata, and a bad twin for every rule", () => {
  const good = golden(`${CHAIN}meta/good.json`);
  const read = meta.parse(good);
  assert.deepEqual(read.leads.map((lead) => lead.gain), [200, -0.1]);
  assert.deepEqual(read.rate, [1000n, 3n]);
  for (const gain of ["200", "2e2", "2E+2", "200.0000", "20000e-2"]) {
    assert.equal(meta.parse(good.replace("200.0", gain)).leads[0].gain, 200);
  }
  const twins = golden(`${CHAIN}meta/bad.tsv`).trimEnd().split("\n");
  assert.ok(twins.length > 40);
  for (const line of twins) {
    const [what, old, bent] = line.split("\t");
    assert.equal(good.split(old).length, 2, what);
    assert.throws(() => meta.parse(good.replace(old, () => bent)), BadInput, what);
  }
});

test("inclusion and consistency of every small log, and of no other", () => {
  const all = Array.from({ length: 40 }, (_, n) => merkle.leafHash(Uint8Array.of(n)));
  const split = (n) => 2 ** (Math.ceil(Math.log2(n)) - 1);
  // RFC 6962 2.1.1 and 2.1.2, word for word.
  const path = (m, d) => {
    if (d.length === 1) return [];
    const k = split(d.length);
    const [left, right] = [d.slice(0, k), d.slice(k)];
    return m < k ? [...path(m, left), merkle.root(right)] : [...path(m - k, right), merkle.root(left)];
  };
  const subproof = (m, d, whole) => {
    if (m === d.length) return whole ? [] : [merkle.root(d)];
    const k = split(d.length);
    return m <= k
      ? [...subproof(m, d.slice(0, k), whole), merkle.root(d.slice(k))]
      : [...subproof(m - k, d.slice(k), false), merkle.root(d.slice(0, k))];
  };
  const wrong = new Uint8Array(32);
  const bends = (proof) => [
    [...proof, wrong],
    ...proof.map((_, i) => proof.filter((_, j) => j !== i)),
    ...proof.map((_, i) => proof.map((hash, j) => (j === i ? wrong : hash))),
  ];
  for (let n = 1; n <= all.length; n++) {
    const d = all.slice(0, n);
    const now = { size: BigInt(n), root: merkle.root(d) };
    for (let m = 0; m < n; m++) {
      const proof = path(m, d);
      assert.ok(merkle.included(now.size, now.root, BigInt(m), d[m], proof));
      assert.ok(!merkle.included(now.size, now.root, BigInt((m + 1) % (n + 1)), d[m], proof));
      for (const bent of bends(proof)) assert.ok(!merkle.included(now.size, now.root, BigInt(m), d[m], bent));
      const [size, root] = [BigInt(m), merkle.root(d.slice(0, m))];
      const from = m === 0 ? [] : subproof(m, d, true);
      assert.ok(merkle.consistent({ size, root }, now, from), `${m} of ${n}`);
      assert.ok(!merkle.consistent({ size, root: wrong }, now, from));
      assert.ok(!merkle.consistent(now, { size, root }, from), "rolled back");
      if (m > 0) assert.ok(!merkle.consistent({ size, root }, { ...now, root: wrong }, from));
      for (const bent of bends(from)) assert.ok(!merkle.consistent({ size, root }, now, bent), `${m} of ${n}`);
    }
    assert.ok(merkle.consistent(now, now, []));
  }
  // A path that ends below the root of the size that is said.
  const two = merkle.root(all.slice(0, 2));
  assert.ok(!merkle.included(3n, two, 0n, all[0], [all[1]]));
  assert.ok(!merkle.consistent({ size: 1n, root: all[0] }, { size: 3n, root: two }, [all[1]]));
});

/** Whether it throws nothing but what it may. */
function verdict(attempt) {
  try {
    attempt();
    return true;
  } catch (e) {
    assert.ok(e instanceof BadInput);
    return false;
  }
}

test("Ed25519 is strict", () => {
  const secret = new Uint8Array(32).fill(7);
  const key = ed25519.getPublicKey(secret);
  const message = new TextEncoder().encode("m");
  const good = ed25519.sign(message, secret);
  assert.ok(verifyStrict(key, message, good));
  const little = (raw) => raw.reduceRight((n, byte) => (n << 8n) | BigInt(byte), 0n);
  const bytes = (n) => Uint8Array.from({ length: 32 }, (_, i) => Number((n >> BigInt(8 * i)) & 0xffn));
  const order = ed25519.Point.Fn.ORDER;
  const small = unhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa");
  const one = Uint8Array.of(1, ...new Uint8Array(31));
  const swap = (r, s) => Uint8Array.of(...r, ...s);
  const [r, s] = [good.slice(0, 32), good.slice(32)];
  const bad = {
    "another message": [key, new Uint8Array(1), good],
    "a second spelling of S": [key, message, swap(r, bytes(little(s) + order))],
    "one byte less": [key, message, good.slice(0, 63)],
    "a key of order 1": [one, message, swap(one, new Uint8Array(32))],
    "a key of order 8": [small, message, good],
    "an R of order 1": [key, message, swap(one, s)],
  };
  // R + T with T of order 8 and S made for it: holds with the cofactor, not without. The library alone takes it.
  const T = ed25519.Point.fromBytes(small, true);
  const { scalar } = ed25519.utils.getExtendedPublicKey(secret);
  const mixedR = ed25519.Point.BASE.multiply(11n).add(T).toBytes();
  const k = little(sha512(Uint8Array.of(...mixedR, ...key, ...message))) % order;
  const mixed = swap(mixedR, bytes((11n + k * scalar) % order));
  assert.ok(ed25519.verify(mixed, message, key), "the control: the vector is one");
  bad["an R of mixed order"] = [key, message, mixed];
  // S made for an R of order 1: the equation holds.
  const zero = little(sha512(Uint8Array.of(...one, ...key, ...message))) % order;
  bad["an R of order 1 with its S"] = [key, message, swap(one, bytes((zero * scalar) % order))];
  // Of the points whose y has a second spelling y + p in 255 bits, those that are keys.
  const isKey = (y) => verdict(() => strongKey(bytes(y)));
  const p = 2n ** 255n - 19n;
  const twice = Array.from({ length: 19 }, (_, y) => BigInt(y)).filter(isKey);
  assert.ok(twice.length > 3 && !twice.some((y) => isKey(y + p)));
  for (const [what, [pub, msg, signature]] of Object.entries(bad)) assert.ok(!verifyStrict(pub, msg, signature), what);
});

test("CBOR has one encoding", () => {
  const bad = "1800 190017 1a0000ffff 5f4100ff 9fff bf6161ff a2616200616100 a2616100616100 f93c00 0000 62c328 f7 a1f500";
  for (const one of [...bad.split(" "), "", "5a7fffffff00", "9a7fffffff00", "81".repeat(40) + "00"]) {
    assert.throws(() => cbor.decode(unhex(one)), BadInput, one);
  }
  assert.equal(cbor.decode(unhex("3bffffffffffffffff")), -(2n ** 64n));
  assert.equal(hex(cbor.encode(["a", new Uint8Array(300)])).slice(0, 12), "8261615901" + "2c");
  assert.equal(hex(sha256(new Uint8Array())), hex(merkle.EMPTY_ROOT));
});

test("what is written is what was read, and maps are put in order", () => {
  const one = "a401f52082181839ffff6161c14142617af6";
  const read = cbor.decode(unhex(one));
  assert.equal(hex(cbor.encode(read)), one);
  assert.equal(hex(cbor.encode(new Map([...read].reverse()))), one);
  const numbers = [0n, 23n, 24n, 255n, 256n, 65_535n, 65_536n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 64n - 1n];
  for (const n of [...numbers, ...numbers.map((n) => -1n - n)]) assert.equal(cbor.decode(cbor.encode(n)), n);
  assert.throws(() => cbor.encode(2n ** 64n), BadInput);
});

test("an entry signed here is one that is read here, and no other is made", async () => {
  const secret = new Uint8Array(32).fill(3);
  const key = ed25519.getPublicKey(secret);
  const sign = async (covered) => ed25519.sign(covered, secret);
  const fields = { sid: new Uint8Array(32).fill(1), nonce: new Uint8Array(16) };
  const entry = event.decode(await event.sign("revoke-session", fields, keyId(key), sign));
  assert.deepEqual([entry.kind, entry.fields.get("sid")], ["revoke-session", fields.sid]);
  assert.ok(event.signedBy(entry, key));
  for (const wrong of [{ ...fields, nonce: new Uint8Array(15) }, { sid: fields.sid }, { ...fields, more: 1n }]) {
    await assert.rejects(event.sign("revoke-session", wrong, keyId(key), sign), BadInput);
  }
  await assert.rejects(event.sign("bless-session", fields, keyId(key), sign), BadInput);
});

test("JSON is read strictly", () => {
  const good = '{"a":[1,-2.5e3,"\\u00e9\\n",null,true],"b":{}}';
  assert.equal(json.write(json.read(good, "x")), '{"a":[1,-2.5e3,"é\\n",null,true],"b":{}}');
  const bad = ["", "{", "[1,]", '{"a":1,}', '{"a":1,"a":1}', "{1:2}", "01", "+1"];
  bad.push(".5", "NaN", "1 2", '"', '"\\"', '"\\x"', '"\t"', '"\\ud800"');
  for (const one of [...bad, "[".repeat(100) + "]".repeat(100)]) assert.throws(() => json.read(one, "x"), BadInput, one);
});
