// Grants, made here as the command line makes them: to the byte, from the same random numbers; and what is refused.

import assert from "node:assert/strict";
import { createPrivateKey, createPublicKey } from "node:crypto";
import { test } from "node:test";
import { decodeEvent, hex, parseIdentity, parseTrust, signedBy } from "chordae-chain";
import { blake3 } from "../../chain/node_modules/@noble/hashes/blake3.js";
import { inwards, makeRevocation, makeSession, providerSeal } from "../build/net/grant.js";
import { readKeys } from "../build/net/keys.js";
import { text, trust } from "./common.mjs";

/** PKCS#8 of an Ed25519 or X25519 secret, and the key file of the party whose secrets are one byte 32 times. */
const der = (of, seed) => Buffer.from(`302e020100300506032b65${of === "ed25519" ? "70" : "6e"}04220420${hex(new Uint8Array(32).fill(seed))}`, "hex");
const pem = (raw) => `-----BEGIN PRIVATE KEY-----\n${raw.toString("base64")}\n-----END PRIVATE KEY-----\n`;
const file = (seed) => pem(der("ed25519", seed)) + pem(der("x25519", seed));
const publicOf = (of, seed) => new Uint8Array(createPublicKey(createPrivateKey({ key: der(of, seed), format: "der", type: "pkcs8" })).export({ type: "spki", format: "der" }).subarray(-32));
const party = (seed, role = "requester") => ({ name: "n", role, sign: publicOf("ed25519", seed), seal: publicOf("x25519", seed) });

/** The entropy of the golden vectors: BLAKE3 of a seed and a counter. */
function counting(seed) {
  let n = 0n;
  return (size) => {
    const from = new Uint8Array(new BigUint64Array([BigInt(seed), n++]).buffer);
    return blake3(from, { dkLen: size });
  };
}

const granted = {
  did: "42424242-4242-4242-4242-424242424242",
  metadata: { device: "bed-7", a: "b" },
  url: "https://node.example:8443",
  fromNs: -10n,
  untilNs: 1_700_000_000_000_000_000n,
  leads: ["I", "II"],
};
const open = { ...granted, metadata: {}, fromNs: null, untilNs: null, leads: null };
const terms = { requester: party(4), expiresNs: null, purpose: "second opinion", grants: [granted, open] };
const provider = publicOf("x25519", 1);

test("a session is the golden one of the other implementation, to the byte", async () => {
  const golden = JSON.parse(text("anchor/chain/tests/golden/ledger/session.json"));
  const keys = await readKeys(file(3));
  const made = await makeSession(keys, provider, terms, counting(3));
  assert.equal(made.sid, golden.sid);
  assert.equal(hex(made.body), golden.post);
  // The control: one nanosecond more is another session.
  const more = { ...terms, grants: [{ ...granted, untilNs: granted.untilNs + 1n }, open] };
  const other = await makeSession(keys, provider, more, counting(3));
  assert.notEqual(hex(other.body), golden.post);
  assert.equal(other.body.length, made.body.length);
});

test("no two sessions share a key, a nonce or an id", async () => {
  const keys = await readKeys(file(3));
  const [a, b] = [await makeSession(keys, provider, terms), await makeSession(keys, provider, terms)];
  assert.notEqual(a.sid, b.sid);
  assert.notEqual(hex(a.body.slice(-300, -200)), hex(b.body.slice(-300, -200)));
});

test("a revocation is an event of the patient about this session", async () => {
  const sid = "ab".repeat(32);
  const event = decodeEvent(await makeRevocation(await readKeys(file(3)), sid));
  assert.equal(event.kind, "revoke-session");
  assert.equal(hex(event.fields.get("sid")), sid);
  assert.ok(signedBy(event, publicOf("ed25519", 3)));
  assert.ok(!signedBy(event, publicOf("ed25519", 4)));
  await assert.rejects(makeRevocation(await readKeys(file(3)), "ab"), /session id/);
});

test("what the other side would refuse is not made", async () => {
  const keys = await readKeys(file(3));
  const alone = await readKeys(pem(der("ed25519", 3)));
  const cases = [
    [alone, terms, /no X25519 key/],
    [keys, { ...terms, requester: party(4, "operator") }, /requester/],
    [keys, { ...terms, requester: { ...party(4), seal: null } }, /requester/],
    [keys, { ...terms, requester: { ...party(4), seal: new Uint8Array(32) } }, /not usable/],
    [keys, { ...terms, grants: [] }, /choose a stream/],
    [keys, { ...terms, grants: [{ ...granted, leads: [] }] }, /at least one lead/],
    [keys, { ...terms, grants: [{ ...granted, untilNs: -10n }] }, /ends before/],
    [keys, { ...terms, grants: [{ ...granted, did: "42" }] }, /did/],
    [keys, { ...terms, purpose: "é".repeat(513) }, /1024 bytes/],
    [keys, { ...terms, grants: Array(1024).fill({ ...granted, url: "x".repeat(100) }) }, /longer than 65,535/],
  ];
  for (const [who, what, why] of cases) await assert.rejects(makeSession(who, provider, what), why);
});

test("spans are rounded inwards to what can be proven", () => {
  const s = 1_000_000_000n;
  assert.deepEqual(inwards(10n * s, 20n * s), [10n * s, 20n * s]);
  assert.deepEqual(inwards(10n * s + 1n, 40n * s - 1n), [20n * s, 30n * s]);
  assert.deepEqual(inwards(-25n * s, -5n * s), [-20n * s, -10n * s]);
  assert.deepEqual(inwards(null, 19n * s), [null, 10n * s]);
  assert.throws(() => inwards(11n * s, 29n * s), /longer span/);
});

test("the provider in force is the one sealed to", () => {
  const file = parseTrust(trust);
  assert.deepEqual(providerSeal(file), file.providers[0].seal);
  const retired = new Map([["ab".repeat(32), 7n]]);
  assert.throws(() => providerSeal({ ...file, providers: [], retired }), /ask the operator/);
});

test("a public identity is read as it was exported, and a key pasted for it is not one", () => {
  const key = (raw) => Buffer.from(raw).toString("base64url");
  const text = { name: "Roe", role: "requester", sign: key(party(4).sign), seal: key(party(4).seal) };
  assert.equal(parseIdentity(new Map(Object.entries(text))).name, "Roe");
  assert.throws(() => parseIdentity("-----BEGIN PRIVATE KEY-----"), /public identity/);
  assert.throws(() => parseIdentity(new Map(Object.entries({ ...text, sign: key(new Uint8Array(32)) }))), /canonical or is weak/);
});
