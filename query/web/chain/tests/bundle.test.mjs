// Recorded answers verify; broken in any way they do not, and the finding names the rule.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import { parse } from "../dist/bundle.js";
import { BadInput, hex } from "../dist/bytes.js";
import { keyId } from "../dist/keys.js";
import { parse as parseTrust } from "../dist/trust.js";
import { verify, verifyMetadata } from "../dist/verify.js";
import { answer, golden } from "./common.mjs";

const FOLDER = "query/python/tests/golden/";
const TRUST = parseTrust(golden(`${FOLDER}trust.json`));
const pair = (name) => [golden(`${FOLDER}${name}.json`), answer(golden(`${FOLDER}${name}.csv`))];

/** Of a bundle's text; what is no bundle at all counts as damaged, as it does for every reader. */
function judge(text, rows, asked = {}, trust = TRUST) {
  let bundle;
  try {
    bundle = parse(text);
  } catch (e) {
    if (!(e instanceof BadInput)) throw e;
    return { verdict: "damaged", findings: [{ code: "metadata" }] };
  }
  return verify(bundle, rows, asked, trust);
}

test("whole pages are proven, and the rows of cut ones are counted", () => {
  const [text, rows] = pair("all");
  const whole = judge(text, rows);
  assert.deepEqual([whole.verdict, whole.unprovenRows, whole.newer, whole.findings], ["anchored", 0, [], []]);
  assert.equal(whole.anchoredTo, parse(text).links.at(-1).index);
  assert.equal(whole.receipt.checkpoint.size, 6n);
  const [cutText, cutRows] = pair("cut");
  const cut = judge(cutText, cutRows);
  // The window begins 1 s into a page and ends 5 s into another: those rows, and no others.
  const page = [...cutRows.times].map((t) => t / 10n ** 10n);
  const outer = page.filter((p) => p === page[0] || p === page.at(-1)).length;
  assert.deepEqual([cut.verdict, cut.unprovenRows], ["anchored", outer]);
  assert.ok(outer > 0 && outer < page.length);
});

test("one lead is proven alone, with the other hidden", () => {
  const [text, rows] = pair("one");
  assert.equal(judge(text, rows, { leads: ["II"] }).verdict, "anchored");
  assert.equal(judge(text, rows).verdict, "damaged");
});

test("without anchor, or without trust, nothing is better than unanchored", () => {
  const [text, rows] = pair("all");
  const without = { verdict: "unanchored", anchoredTo: null, receipt: null };
  const { verdict, anchoredTo, receipt } = judge(text, rows, {}, null);
  assert.deepEqual({ verdict, anchoredTo, receipt }, without);
  const bundle = JSON.parse(text, (key, value) => (key === "anchor" ? null : value));
  assert.ok(bundle.anchor === null);
  assert.equal(judge(text.replace(/"anchor":\{.*\}\}$/s, '"anchor":null}'), rows).verdict, "unanchored");
});

test("a quorum that is not met is unanchored, not damaged", () => {
  const [text, rows] = pair("all");
  const key = ed25519.getPublicKey(new Uint8Array(32).fill(9));
  const witness = { name: "w.example", key, id: new Uint8Array(4) };
  const policy = { ...TRUST.policy, witnesses: new Map([["W", witness]]), quorum: "W" };
  const told = judge(text, rows, {}, { ...TRUST, policy });
  assert.deepEqual([told.verdict, told.findings, told.lacks, told.receipt], ["unanchored", [], "W", null]);
  assert.equal(judge(text, rows, {}, { ...TRUST, policy: { ...policy, quorum: null } }).verdict, "anchored");
});

test("the answer must be to the question", () => {
  const [text, rows] = pair("all");
  const { did, fromNs, untilNs } = parse(text);
  assert.equal(judge(text, rows, { did, window: { fromNs, untilNs }, leads: ["II", "I"] }).verdict, "anchored");
  for (const asked of [{ did: new Uint8Array(16) }, { window: { fromNs, untilNs: untilNs + 1n } }, { leads: ["I"] }]) {
    const { verdict, findings } = judge(text, rows, asked);
    assert.deepEqual([verdict, findings[0].code], ["damaged", "metadata"]);
  }
});

const ANSWERS = {
  "a code changed": (r) => (r.codes[1][100] += 1),
  "the first code changed": (r) => (r.codes[0][0] ^= 1),
  "a code made none": (r) => (r.codes[0][7] = -2147483648),
  "a time moved by 1 ns": (r) => (r.times[100] += 1n),
  "a time moved over the next": (r) => (r.times[100] = r.times[101] + 1n),
  "a row dropped": (r) => keep(r, (i) => i !== 100),
  "the last row dropped": (r) => keep(r, (i) => i !== r.times.length - 1),
  "leads swapped": (r) => r.leads.reverse(),
  "a lead renamed": (r) => (r.leads[0] = "III"),
  "a lead twice": (r) => (r.leads[0] = "II"),
  "a lead added": (r) => r.leads.push("III") && r.codes.push(r.codes[0]),
  "a lead of another length": (r) => (r.codes[1] = r.codes[1].slice(1)),
};

function keep(rows, which) {
  rows.times = rows.times.filter((_, i) => which(i));
  rows.codes = rows.codes.map((lead) => lead.filter((_, i) => which(i)));
}

test("a changed answer is found", () => {
  for (const [what, change] of Object.entries(ANSWERS)) {
    const [text, rows] = pair("all");
    assert.equal(judge(text, rows).verdict, "anchored", "the control");
    change(rows);
    const { verdict, findings } = judge(text, rows);
    assert.equal(verdict, "damaged", what);
    assert.ok(findings.every((one) => ["pages-digest", "metadata"].includes(one.code)), what);
  }
});

/** One hex digit changed. */
const flip = (digits, at) => digits.slice(0, at) + (digits[at] === "0" ? "1" : "0") + digits.slice(at + 1);
/** One byte of base64 changed. */
const flip64 = (letters, at) => {
  const raw = Buffer.from(letters, "base64");
  raw[at < 0 ? raw.length + at : at] ^= 1;
  return raw.toString("base64");
};
const line = (b, n, change) => {
  const lines = b.anchor.proof.split("\n");
  lines[(n + lines.length) % lines.length] = change(lines.at(n));
  b.anchor.proof = lines.join("\n");
};
const page = (b) => b.chunks[0].pages[0];

// prettier-ignore
const BUNDLES = {
  "a link's pages_root": [(b) => (b.links[0] = flip(b.links[0], 240)), "link-prev", "pages-digest"],
  "a link's file_root": [(b) => (b.links[0] = flip(b.links[0], 150)), "link-prev"],
  "the last link's prev": [(b) => (b.links[b.links.length - 1] = flip(b.links.at(-1), 330)), "link-prev"],
  "a link left out": [(b) => b.links.shift(), "index-gap"],
  "links swapped": [(b) => b.links.reverse(), "index-gap", "link-prev"],
  "the did": [(b) => (b.did = "00000000-0000-4000-8000-000000000000"), "metadata"],
  "a chunk left out": [(b) => b.chunks.shift(), "index-gap", "pages-digest"],
  "a chunk twice": [(b) => (b.chunks[1] = b.chunks[0]), "duplicate-index"],
  "the metadata's gain": [(b) => (b.chunks[0].meta = b.chunks[0].meta.replace('"gain":', '"gain":1')), "pages-digest"],
  "the metadata's spaces": [(b) => (b.chunks[0].meta = b.chunks[0].meta.replace(",", ", ")), "metadata"],
  "a leaf": [(b) => (b.chunks[0].leaves[0] = flip(b.chunks[0].leaves[0], 5)), "pages-digest"],
  "a leaf left out": [(b) => b.chunks[0].leaves.pop(), "pages-digest"],
  "a page left out": [(b) => b.chunks[0].pages.pop(), "pages-digest"],
  "a salt": [(b) => (page(b).salts[1] = flip(page(b).salts[1], 0)), "pages-digest"],
  "the salt of the times gone": [(b) => delete page(b).salts[0], "pages-digest"],
  "a shown column called hidden": [(b) => (page(b).hidden[1] = "00".repeat(32)), "pages-digest"],
  "a column that is none": [(b) => (page(b).salts[9] = "00".repeat(16)), "pages-digest"],
  "the runs": [(b) => (b.rows[0][1] += 1), "pages-digest"],
  "a run of another chunk": [(b) => (b.rows[0][0] += 1), "pages-digest"],
  "no runs": [(b) => (b.rows = []), "pages-digest"],
  "another version": [(b) => (b.v = 2), "metadata"],
  "a key that is unknown": [(b) => (b.more = 1), "metadata"],
  "the entry's signature": [(b) => (b.anchor.entry = flip64(b.anchor.entry, -1)), "entry-signature"],
  "the entry's key id": [(b) => (b.anchor.entry = flip64(b.anchor.entry, 60)), "entry-signature"],
  "an entry that is none": [(b) => (b.anchor.entry = "AAAA"), "entry-signature"],
  "the leaf's index": [(b) => line(b, 1, (x) => `index ${Number(x.slice(6)) + 1}`), "log-root"],
  "a node of the path": [(b) => line(b, 2, (x) => flip64(x, 3)), "log-root"],
  "the checkpoint's root": [(b) => line(b, -4, (x) => flip64(x, 3)), "checkpoint-signature"],
  "the checkpoint's size": [(b) => line(b, -5, (x) => `${Number(x) + 1}`), "checkpoint-signature"],
  "the checkpoint's origin": [(b) => line(b, -6, (x) => `${x}x`), "checkpoint-signature"],
  "the checkpoint's signature": [
    (b) => line(b, -2, (x) => x.slice(0, -92) + flip64(x.slice(-92), 20)),
    "checkpoint-signature",
  ],
  "no receipt": [(b) => (b.anchor.proof = "nothing"), "log-root"],
};

/** A bundle as an object and back; times do not fit a `number`, so they travel as texts. */
const thaw = (text) => JSON.parse(text.replace(/"(from_ns|until_ns)":(\d+)/g, '"$1":"$2"'));
const freeze = (b) => JSON.stringify(b).replace(/"(from_ns|until_ns)":"(\d+)"/g, '"$1":$2');

test("a changed proof is found, under its code", () => {
  const [text, rows] = pair("all");
  assert.equal(judge(freeze(thaw(text)), rows).verdict, "anchored", "the control");
  for (const [what, [bend, ...codes]] of Object.entries(BUNDLES)) {
    const bundle = thaw(text);
    bend(bundle);
    const { verdict, findings } = judge(freeze(bundle), rows);
    assert.equal(verdict, "damaged", what);
    assert.ok(findings.some((one) => codes.includes(one.code)), `${what}: ${JSON.stringify(findings)}`);
  }
  for (const by of [10n ** 10n, -(10n ** 10n)]) {
    const bundle = thaw(text);
    bundle.until_ns = `${BigInt(bundle.until_ns) + by}`;
    assert.equal(judge(freeze(bundle), rows).verdict, "damaged", "another window");
  }
  assert.equal(judge(text.replace('{"v":1,', '{"v":1,"v":1,'), rows).verdict, "damaged", "a key twice");
});

test("no byte of a proof may change unseen", () => {
  const [text, rows] = pair("one");
  const good = parse(text);
  const asked = { leads: ["II"], window: { fromNs: good.fromNs, untilNs: good.untilNs } };
  assert.equal(judge(text, rows, asked).verdict, "anchored", "the control");
  for (let at = 0; at < text.length; at += 3) {
    const bent = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1);
    if (judge(bent, rows, asked).verdict === "damaged") continue;
    assert.deepEqual(parse(bent), good, `byte ${at} says something else and was not seen`);
  }
});

test("a chunk linked meanwhile is told in newer, one left out is found", () => {
  const [text, rows] = pair("all");
  const bundle = thaw(text);
  const [[first, count], [second]] = bundle.rows;
  const half = { ...bundle, chunks: bundle.chunks.slice(0, 1), rows: [[first, count]] };
  keep(rows, (i) => i < count);
  const told = judge(freeze(half), rows);
  assert.deepEqual([told.verdict, told.newer.includes(BigInt(second))], ["anchored", true]);
});

test("a bundle of metadata shows its chunks and no page", () => {
  const bundle = parse(pair("all")[0]);
  const bare = { ...bundle, rows: [], chunks: bundle.chunks.map((chunk) => ({ ...chunk, pages: [] })) };
  const { verdict, known } = verifyMetadata(bare, {}, TRUST);
  assert.deepEqual([verdict.verdict, known.length], ["anchored", bundle.chunks.length]);
  assert.deepEqual(known[0].meta.leads.map((lead) => lead.name), ["I", "II"]);
  assert.equal(verifyMetadata(bundle, {}, TRUST).verdict.verdict, "damaged");
});

test("another log's trust file does not vouch", () => {
  const [text, rows] = pair("all");
  const codes = (trust) => judge(text, rows, {}, trust).findings.map((one) => one.code);
  assert.deepEqual(codes({ ...TRUST, providers: [] }), ["entry-signature"]);
  const log = { ...TRUST.policy.logs[0], key: TRUST.providers[0].sign };
  assert.deepEqual(codes({ ...TRUST, policy: { ...TRUST.policy, logs: [log] } }), ["checkpoint-signature"]);
});

test("a retired key counts for what it signed before, and no more", () => {
  const [text, rows] = pair("all");
  const { receipt } = judge(text, rows);
  const [leaf, size] = [receipt.leafIndex, receipt.checkpoint.size];
  const retiring = (key, until) => {
    const file = JSON.parse(golden(`${FOLDER}trust.json`));
    file.retired = [{ key: hex(keyId(key)), size: Number(until) }];
    const told = judge(text, rows, {}, parseTrust(JSON.stringify(file)));
    return [told.verdict, ...told.findings.map((one) => one.code)];
  };
  const [provider, log] = [TRUST.providers[0].sign, TRUST.policy.logs[0].key];
  assert.deepEqual(retiring(provider, leaf), ["damaged", "entry-signature"]);
  assert.deepEqual(retiring(log, size - 1n), ["damaged", "checkpoint-signature"]);
  // Controls: one later each, and nobody's key.
  assert.deepEqual(retiring(provider, leaf + 1n), ["anchored"]);
  assert.deepEqual(retiring(log, size), ["anchored"]);
  assert.deepEqual(retiring(new Uint8Array(32), 0n), ["anchored"]);
});

test("a trust file is read strictly", () => {
  const text = golden(`${FOLDER}trust.json`);
  const retired = (list) => text.replace('"origin"', `"retired": ${list}, "origin"`);
  const key = "ab".repeat(32);
  assert.equal(parseTrust(retired(`[{"key": "${key}", "size": 7}]`)).retired.get(key), 7n);
  const bad = {
    "an identity in the wrong role": text.replace('"role": "provider"', '"role": "auditor"'),
    "another origin": text.replace(/"origin": "[^"]*"/, '"origin": "other"'),
    "an unknown key": text.replace('"origin"', '"more": 1, "origin"'),
    "a weak key": text.replace(/"sign": "[^"]*"/, `"sign": "${"A".repeat(43)}"`),
    "a key retired twice": retired(`[{"key": "${key}", "size": 7}, {"key": "${key}", "size": 8}]`),
    "a retirement without a size": retired(`[{"key": "${key}"}]`),
    "no list of retired keys": retired("null"),
    "a short key": retired('[{"key": "ab", "size": 7}]'),
    "no providers": text.replace('"providers"', '"provider"'),
  };
  for (const [what, bent] of Object.entries(bad)) assert.throws(() => parseTrust(bent), BadInput, what);
});
