// Rules that only matter against those who hold the keys: all is well signed, and one rule is broken.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BadInput } from "../dist/bytes.js";
import { decode, signedBy } from "../dist/event.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { open } from "../dist/policy.js";
import { verify } from "../dist/verify.js";
import { S, T, TRUST, entry, make, note } from "./case.mjs";

const judge = ({ bundle, rows }) => {
  const { verdict, findings, unprovenRows } = verify(bundle, rows, {}, TRUST);
  return [verdict, [...new Set(findings.map((one) => one.code))], unprovenRows];
};

test("the untouched bundle is anchored; rows of cut pages are counted", () => {
  assert.deepEqual(judge(make()), ["anchored", [], 0]);
  assert.deepEqual(judge(make({ fromNs: T + 65n * S })), ["anchored", [], 50]);
  // The window lies in one page: nothing proves its rows.
  assert.deepEqual(judge(make({ fromNs: T + 2n * S, untilNs: T + 4n * S })), ["anchored", [], 20]);
});

const CHUNKS = {
  "an index is passed over": [1, ({ meta, said }) => (meta.index = Number((said.index = 2n))), "index-gap"],
  "the first link does not begin its stream": [
    0,
    ({ meta, said }) => ((said.prev = new Uint8Array(32)), (meta.prev = "00".repeat(32))),
    "link-prev",
  ],
  "metadata and link differ in rows": [1, ({ meta }) => (meta.rows = 599), "metadata"],
  "metadata and link differ in prev": [1, ({ meta }) => (meta.prev = "00".repeat(32)), "metadata"],
  "a leaf too many": [1, ({ leaves }) => leaves.push(new Uint8Array(32)), "pages-digest"],
};

test("a false chunk is found, well hashed and signed as it is", () => {
  for (const [what, [index, bend, code]] of Object.entries(CHUNKS)) {
    const bends = [];
    bends[index] = bend;
    const [verdict, codes] = judge(make({ bends }));
    assert.deepEqual([verdict, codes], ["damaged", [code]], what);
  }
  // Rows before the first of the chunk, in a page that the window cuts.
  const first = ({ meta, said }) => (meta.first_ns = `${(said.first = T + 3n * S)}`);
  assert.deepEqual(judge(make({ fromNs: T + 2n * S, untilNs: T + 8n * S, bends: [first] }))[1], ["pages-digest"]);
});

test("rows that no page can prove must be in the window, in order, and of a listed chunk", () => {
  const small = () => make({ fromNs: T + 2n * S, untilNs: T + 4n * S });
  const bad = {
    "before the window": ({ rows }) => (rows.times[0] = T),
    "at the end of the window": ({ rows }) => (rows.times[19] = T + 4n * S),
    "one twice": ({ rows }) => (rows.times[1] = rows.times[0]),
    "out of order": ({ rows }) => rows.times.subarray(0, 2).reverse(),
    "of a chunk that is not listed": ({ bundle }) => (bundle.rows[0][0] = 7n),
    "of no run": ({ bundle }) => bundle.rows.pop(),
    "fewer than the run": ({ bundle }) => (bundle.rows[0][1] = 21n),
    "a page is shown that the window cuts": ({ bundle }) =>
      bundle.chunks[0].pages.push({ p: 0, salts: new Map(), hidden: new Map() }),
    "a run of none": ({ bundle }) => bundle.rows.push([0n, 0n]),
  };
  for (const [what, bend] of Object.entries(bad)) {
    const one = small();
    bend(one);
    assert.deepEqual(judge(one).slice(0, 2), ["damaged", ["pages-digest"]], what);
  }
});

test("the anchored entry must name the last link, and be an add-data event of a provider", () => {
  const zero = new Uint8Array(32);
  assert.deepEqual(judge(make({ say: (f) => ({ ...f, digest: zero }) }))[1], ["link-prev"]);
  assert.deepEqual(judge(make({ say: (f) => ({ ...f, tag: zero }) }))[1], ["link-prev"]);
  assert.deepEqual(judge(make({ by: 2 }))[1], ["entry-signature"]);
  const head = ({ digest }) => ({ type: "audit-head", digest, count: 1, time_ms: 1 });
  assert.deepEqual(judge(make({ say: head }))[1], ["entry-signature"]);
});

test("a signature counts for the key that the entry names, and for no other", () => {
  const [own, other] = [1, 2].map((seed) => ed25519.getPublicKey(new Uint8Array(32).fill(seed)));
  const fields = { type: "revoke-session", sid: new Uint8Array(32), nonce: new Uint8Array(16) };
  assert.ok(signedBy(decode(entry(fields)), own));
  const lent = decode(entry(fields, 2, 1));
  assert.ok(!signedBy(lent, own) && !signedBy(lent, other));
});

test("a log's key speaks for the trusted origin alone", () => {
  const body = (origin) => `${origin}\n1\n${"A".repeat(43)}=\n`;
  open(TRUST.policy, note(body("chordae.local/test")));
  assert.throws(() => open(TRUST.policy, note(body("chordae.local/other"))), BadInput);
  assert.throws(() => open(TRUST.policy, note(body("chordae.local/test"), "chordae.local/other")), BadInput);
});
