// What a browser remembers of a ledger, against checkpoints that a log of the test's own signs.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import { Memory } from "../build/net/memory.js";
import { trust } from "./common.mjs";

const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const ORIGIN = "chordae.local/test";
const key = Buffer.concat([Buffer.of(1), publicKey.export({ type: "spki", format: "der" }).subarray(-32)]);
/** Key id as in signed-note: of name, type and key. */
const id = createHash("sha256").update(`${ORIGIN}\n`).update(key).digest().subarray(0, 4);
const TRUST = JSON.stringify({
  ...JSON.parse(trust),
  origin: ORIGIN,
  policy: `log ${ORIGIN}+${id.toString("hex")}+${key.toString("base64")}\nquorum none\n`,
});

function checkpoint(size, root) {
  const body = `${ORIGIN}\n${size}\n${Buffer.alloc(32, root).toString("base64")}\n`;
  return `${body}\n— ${ORIGIN} ${Buffer.concat([id, sign(null, Buffer.from(body), privateKey)]).toString("base64")}\n`;
}

/** A browser's storage, and pages that look at one server after the other. */
function browser() {
  const kept = new Map();
  const shelf = { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value) };
  const look = async (text, by = TRUST) => {
    const wrong = await new Memory(by, shelf, () => 1_700_000_000_000).look({ text: async () => text });
    return wrong && wrong.code;
  };
  return { kept, shelf, look };
}

test("a ledger that grows, or stands, is right; one that is shorter than it was stays wrong", async () => {
  const { look } = browser();
  for (const size of [5, 5, 9]) assert.equal(await look(checkpoint(size, size)), null);
  for (let n = 0; n < 2; n++) assert.equal(await look(checkpoint(5, 5)), "rolled-back");
  assert.equal(await look(checkpoint(9, 9)), null);
});

test("of two roots of one size the first is remembered", async () => {
  const { look } = browser();
  assert.equal(await look(checkpoint(9, 1)), null);
  for (let n = 0; n < 2; n++) assert.equal(await look(checkpoint(9, 2)), "log-root");
});

test("what no key of the log signed is wrong, and nothing of it is remembered", async () => {
  const { look, kept } = browser();
  const bent = checkpoint(9, 1).replace("\n9\n", "\n8\n");
  for (const text of [bent, checkpoint(9, 1).slice(0, -30), ""]) assert.equal(await look(text), "checkpoint-signature");
  assert.equal(kept.size, 0);
});

test("each trust file has a memory of its own, and one that cannot be read is none", async () => {
  const { look, kept } = browser();
  assert.equal(await look(checkpoint(9, 9)), null);
  assert.equal(await look(checkpoint(5, 5), `${TRUST}\n`), null);
  assert.equal(kept.size, 2);
  for (const name of kept.keys()) kept.set(name, "9 zz");
  assert.equal(await look(checkpoint(5, 5)), null);
});

test("a page whose answer took long does not put back what another page has seen meanwhile", async () => {
  const { look, shelf } = browser();
  assert.equal(await look(checkpoint(3, 3)), null);
  const slow = new Memory(TRUST, shelf);
  const text = async () => {
    assert.equal(await look(checkpoint(9, 9)), null);
    return checkpoint(5, 5);
  };
  // It asked before the other page did: five entries were right then.
  assert.equal(await slow.look({ text }), null);
  assert.equal(await look(checkpoint(5, 5)), "rolled-back");
});

test("a checkpoint that cannot be had is no verdict", async () => {
  const { shelf } = browser();
  const away = async () => Promise.reject(new Error("the server is gone"));
  await assert.rejects(new Memory(TRUST, shelf).look({ text: away }), /gone/);
});
