// Policies, cosignatures, receipts: what counts, and what is wrong with what does not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { BadInput } from "../dist/bytes.js";
import { leafHash, nodeHash } from "../dist/merkle.js";
import { open, parse } from "../dist/policy.js";
import { verify } from "../dist/receipt.js";

const ORIGIN = "chordae.local/test";
const bytes = (text) => new TextEncoder().encode(text);
const base64 = (...parts) => Buffer.concat(parts).toString("base64");
const secret = (seed) => new Uint8Array(32).fill(seed);

/** A key that signs notes: its verifier key, and its line under a body. */
function signer(name, seed, type) {
  const typed = Uint8Array.of(type, ...ed25519.getPublicKey(secret(seed)));
  const id = sha256(Uint8Array.of(...bytes(`${name}\n`), ...typed)).slice(0, 4);
  const line = (raw) => `— ${name} ${base64(id, raw)}\n`;
  return {
    vkey: `${name}+${Buffer.from(id).toString("hex")}+${base64(typed)}`,
    sign: (body) => line(ed25519.sign(bytes(body), secret(seed))),
    cosign: (body, time, said = time) => {
      const message = bytes(`cosignature/v1\ntime ${said}\n${body}`);
      const head = new Uint8Array(8);
      new DataView(head.buffer).setBigUint64(0, time);
      return line(Uint8Array.of(...head, ...ed25519.sign(message, secret(seed))));
    },
  };
}

const LOG = signer(ORIGIN, 5, 1);
const [A, B, C] = [11, 12, 13].map((seed, i) => signer(`${"abc"[i]}.example/w`, seed, 4));
const WITNESSES = `witness A ${A.vkey}\nwitness B ${B.vkey} https://b.example\nwitness C ${C.vkey}\n`;
const policy = (text) => parse(text.replaceAll("LOG", LOG.vkey));
const entries = [0, 1, 2].map((n) => Uint8Array.of(n));
const [l0, l1, l2] = entries.map(leafHash);
const ROOT = nodeHash(nodeHash(l0, l1), l2);
const BODY = `${ORIGIN}\n3\n${base64(ROOT)}\n`;
const NOTE = `${BODY}\n${LOG.sign(BODY)}`;

test("two of three witnesses make a quorum, one does not, a bad one does not count", () => {
  const two = policy(`log LOG\n${WITNESSES}group G 2 A B C\nquorum G\n`);
  const opened = (...lines) => open(two, NOTE + lines.join(""));
  assert.deepEqual([opened().lacks, opened().cosigned], ["2 of G (A, B, C)", []]);
  const [a, b] = [A.cosign(BODY, 1_700_000_000n), B.cosign(BODY, 1_700_000_001n)];
  assert.equal(opened(a).lacks, "1 of G (B, C)");
  const both = opened(b, a);
  const times = [{ witness: "A", timeS: 1_700_000_000n }, { witness: "B", timeS: 1_700_000_001n }];
  assert.deepEqual([both.lacks, both.cosigned], [null, times]);
  const bad = {
    "of another body": B.cosign(BODY.replace("3", "4"), 1n),
    "with another time than signed": B.cosign(BODY, 2n, 1n),
    "at a time beyond 63 bits": B.cosign(BODY, 2n ** 63n),
    "as a plain signature": B.sign(BODY),
    "of A, again": A.cosign(BODY, 5n),
    "of a stranger": signer("d.example/w", 14, 4).cosign(BODY, 1n),
    "of a stranger under B's name": signer("b.example/w", 14, 4).cosign(BODY, 1n),
  };
  for (const [what, line] of Object.entries(bad)) {
    const told = opened(a, line);
    assert.deepEqual([told.lacks, told.cosigned], ["1 of G (B, C)", times.slice(0, 1)], what);
  }
  // Cosignatures do not stand in for the log.
  assert.throws(() => open(two, `${BODY}\n${a}${b}`), BadInput);
});

test("a retired key cosigns no more, and one of another log's keys signs no more", () => {
  const next = signer(ORIGIN, 6, 1);
  const kid = (seed) => Buffer.from(sha256(ed25519.getPublicKey(secret(seed)))).toString("hex");
  const one = policy(`log LOG\nlog ${next.vkey}\n${WITNESSES}quorum A\n`);
  const note = NOTE + A.cosign(BODY, 1n);
  const lacks = (retired, text = note) => open({ ...one, retired: new Map(retired) }, text).lacks;
  assert.equal(lacks([]), null);
  assert.equal(lacks([[kid(11), 3n]]), null);
  assert.equal(lacks([[kid(11), 2n]]), "A");
  assert.equal(lacks([[kid(5), 3n]]), null);
  assert.throws(() => lacks([[kid(5), 2n]]), /retired at size 2/);
  assert.equal(lacks([[kid(5), 2n]], note + next.sign(BODY)), null, "its successor has signed as well");
});

test("a cosignature that another library made counts", () => {
  // Python's cryptography, key seed 11: signature over "cosignature/v1\ntime 1700000000\n" and the body below.
  const body = `${ORIGIN}\n1\n${base64(sha256(Uint8Array.of(0, 97)))}\n`;
  const letters = "kJJyTQAAAABlU/EAcdHNCar7It3aDicMlULf5Ogv4WTwSoprpQm8TOa431loGfb54Hk6uORfAHOlHuUV8JIIDlAzTJMHFEKBq2lbAQ==";
  const note = `${body}\n${LOG.sign(body)}— a.example/w ${letters}\n`;
  const { lacks, cosigned } = open(policy(`log LOG\n${WITNESSES}quorum A\n`), note);
  assert.deepEqual([lacks, cosigned], [null, [{ witness: "A", timeS: 1_700_000_000n }]]);
});

test("policies are read in every spelling, malformed ones are refused", () => {
  assert.equal(policy("# ours\n\n \tlog\tLOG  https://log.example \n quorum  none").quorum, null);
  const nested = policy(`log LOG\n${WITNESSES}group G any A B\ngroup H all G C\nquorum H\n`);
  const lacks = (...by) => open(nested, NOTE + by.map((one) => one.cosign(BODY, 1n)).join("")).lacks;
  assert.deepEqual([lacks(A, C), lacks(A, B), lacks(C)], [null, "1 of H (C)", "1 of H (1 of G (A, B))"]);
  const bad = {
    "no quorum": "log LOG\n",
    "no log": "quorum none\n",
    "two quorums": "log LOG\nquorum none\nquorum none\n",
    "a log twice": "log LOG\nlog LOG\nquorum none\n",
    "an unknown line": "log LOG\nquorum none\nallow all\n",
    "no key": "log x\nquorum none\n",
    "a key under another hash": `log ${LOG.vkey.replace(/\+[0-9a-f]{8}\+/, "+00000000+")}\nquorum none\n`,
    "a witness key as a log": `log ${A.vkey}\nquorum none\n`,
    "a log key as a witness": `log LOG\nwitness A ${LOG.vkey}\nquorum A\n`,
    "an undefined quorum": "log LOG\nquorum W\n",
    "an undefined member": "log LOG\ngroup G 1 W\nquorum none\n",
    "threshold 0": `log LOG\n${WITNESSES}group G 0 A\nquorum none\n`,
    "threshold 2 of 1": `log LOG\n${WITNESSES}group G 2 A\nquorum none\n`,
    "threshold 01": `log LOG\n${WITNESSES}group G 01 A\nquorum none\n`,
    "a member twice": `log LOG\n${WITNESSES}group G 1 A A\nquorum none\n`,
    "a member of two groups": `log LOG\n${WITNESSES}group G 1 A\ngroup H 1 A\nquorum none\n`,
    "a name twice": `log LOG\n${WITNESSES}group A 1 B\nquorum none\n`,
    "one key under two names": `log LOG\n${WITNESSES}witness D ${A.vkey}\nquorum none\n`,
    "a log's key as a witness": `log LOG\nwitness A ${signer("x", 5, 4).vkey}\nquorum none\n`,
    "a witness called none": `log LOG\nwitness none ${A.vkey}\nquorum none\n`,
    "a carriage return": "log LOG\r\nquorum none\r\n",
  };
  for (const [what, text] of Object.entries(bad)) assert.throws(() => policy(text), BadInput, what);
});

test("a receipt holds for its entry only, and breaks with every character", () => {
  const alone = policy("log LOG\nquorum none\n");
  const text = `c2sp.org/tlog-proof@v1\nindex 2\n${base64(nodeHash(l0, l1))}\n\n${NOTE}`;
  const { leafIndex, lacks, checkpoint } = verify(entries[2], text, alone);
  assert.deepEqual([leafIndex, lacks, checkpoint.size], [2n, null, 3n]);
  assert.equal(verify(entries[2], text, policy(`log LOG\n${WITNESSES}quorum A\n`)).lacks, "A");
  for (const other of [entries[0], entries[1], new Uint8Array(65_536)]) {
    assert.throws(() => verify(other, text, alone), BadInput);
  }
  for (let at = 0; at < text.length; at++) {
    const bent = text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1);
    assert.throws(() => verify(entries[2], bent, alone), BadInput, `character ${at}`);
  }
  verify(entries[2], text.replace("\nindex", "\nextra AAAA\nindex"), alone);
  const bad = {
    "extra that is no base64": text.replace("\nindex", "\nextra ?\nindex"),
    "extra after the index": text.replace("index 2\n", "index 2\nextra AAAA\n"),
    "a leading zero": text.replace("index 2", "index 02"),
    "a plus": text.replace("index 2", "index +2"),
    "another version": text.replace("proof@v1", "proof@v2"),
    "carriage returns": text.replaceAll("\n", "\r\n"),
    "no checkpoint": text.split("\n\n")[0],
    nothing: "",
    "an extension line": text.replace(NOTE, `${BODY}more\n\n${LOG.sign(`${BODY}more\n`)}`),
  };
  for (const [what, bent] of Object.entries(bad)) assert.throws(() => verify(entries[2], bent, alone), BadInput, what);
});
