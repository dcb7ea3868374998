// Keys, tokens, tiles that are asked for: against a door that notes what goes through it.

import assert from "node:assert/strict";
import { createHash, createPublicKey, generateKeyPairSync, verify } from "node:crypto";
import { test } from "node:test";
import { Door, Refusal } from "../build/net/door.js";
import { devicesOf, streamLinesOf } from "../build/net/admin.js";
import { grantsOf } from "../build/net/grants.js";
import { judgeMetadata, judgeRows, readSummary } from "../build/net/judge.js";
import { readKeys, token } from "../build/net/keys.js";
import { Reading } from "../build/net/live.js";
import { newestRow } from "../build/net/newest.js";
import { Loader, listedGaps, proofTarget } from "../build/net/loader.js";
import { trailOf } from "../build/net/trail.js";
import { golden, trust } from "./common.mjs";

const pem = (type, options = {}) => generateKeyPairSync(type, options).privateKey.export({ type: "pkcs8", format: "pem" });

test("a key file of one block or two is read, and its secret cannot be read back", async () => {
  const [sign, seal] = [pem("ed25519"), pem("x25519")];
  for (const file of [sign, sign + seal]) {
    const keys = await readKeys(file);
    const raw = createPublicKey(sign).export({ type: "spki", format: "der" }).subarray(-32);
    assert.equal(keys.kid, createHash("sha256").update(raw).digest("hex"));
    assert.deepEqual(Buffer.from(keys.signPublic), raw);
    const sealed = file === sign ? null : createPublicKey(seal).export({ type: "spki", format: "der" }).subarray(-32);
    assert.deepEqual(keys.sealPublic && Buffer.from(keys.sealPublic), sealed);
    await assert.rejects(crypto.subtle.exportKey("pkcs8", keys.sign), /extractable/);
  }
  for (const file of ["", seal, sign + sign, sign + seal + sign, sign + "x", pem("rsa", { modulusLength: 2048 }), createPublicKey(sign).export({ type: "spki", format: "pem" })]) {
    await assert.rejects(readKeys(file), /key file/);
  }
});

test("a token is signed over the request that it is for, and each is another", async () => {
  const file = pem("ed25519");
  const keys = await readKeys(file);
  const request = { origin: "chordae.local/x", session: "ab".repeat(32), method: "GET", target: "/v1/streams?a=%2C" };
  const text = await token(keys, request, 1_700_000_000_999);
  const [head, claims, signature] = text.split(".");
  const read = (part) => JSON.parse(Buffer.from(part, "base64url"));
  assert.deepEqual(read(head), { alg: "EdDSA", typ: "chordae-request+jwt", kid: keys.kid });
  const { jti, ...said } = read(claims);
  const iat = 1_700_000_000;
  assert.deepEqual(said, { aud: request.origin, sid: request.session, htm: "GET", target: request.target, iat, exp: iat + 120 });
  const holds = (signed) => verify(null, Buffer.from(signed), createPublicKey(file), Buffer.from(signature, "base64url"));
  assert.ok(holds(`${head}.${claims}`));
  assert.ok(!holds(`${head}.${claims.replace(/.$/, (c) => (c === "A" ? "B" : "A"))}`));
  const again = read((await token(keys, { ...request, session: null }, 0)).split(".")[1]);
  assert.ok(again.jti !== jti && !("sid" in again));
});

test("what is signed is what goes out", async () => {
  const sent = [];
  const real = globalThis.fetch;
  globalThis.fetch = async (url, { headers }) => {
    sent.push([url.pathname + url.search, JSON.parse(Buffer.from(headers.authorization.split(".")[1], "base64url")).target]);
    return new Response("x".repeat(10));
  };
  try {
    const door = new Door(await readKeys(pem("ed25519")), "o", null, "http://127.0.0.1:1");
    await door.get("/v1/streams/d/window?leads=a'b \"c", 10);
    assert.equal(sent[0][0], sent[0][1]);
    await assert.rejects(door.get("/x", 9), /longer than 9 bytes/);
    globalThis.fetch = async () => Response.json({ type: "urn:chordae:problem:window", detail: "no" }, { status: 403 });
    await assert.rejects(door.get("/x", 9), (e) => e instanceof Refusal && e.ends && e.code === "window");
  } finally {
    globalThis.fetch = real;
  }
});

test("a record goes without a token; an operator's change with one that covers its body", async () => {
  const sent = [];
  const real = globalThis.fetch;
  globalThis.fetch = async (url, request) => {
    sent.push({ target: url.pathname, ...request });
    return Response.json({});
  };
  try {
    const door = new Door(await readKeys(pem("ed25519")), "o", null, "http://127.0.0.1:1");
    await door.sendRecord("DELETE", "/v1/sessions/x", Uint8Array.of(1, 2));
    assert.deepEqual(sent[0].headers, { "content-type": "application/cbor" });
    await door.change("/v1/admin/commands", { device: "é" });
    const claims = JSON.parse(Buffer.from(sent[1].headers.authorization.split(".")[1], "base64url"));
    assert.equal(claims.body, createHash("sha256").update(sent[1].body).digest("hex"));
    assert.deepEqual([claims.htm, claims.target, JSON.parse(new TextDecoder().decode(sent[1].body)).device], ["POST", "/v1/admin/commands", "é"]);
    await door.get("/v1/streams", 10);
    assert.ok(!("body" in JSON.parse(Buffer.from(sent[2].headers.authorization.split(".")[1], "base64url"))), "nobody would check it");
  } finally {
    globalThis.fetch = real;
  }
});

test("who looked: a streamed answer is one line, by how it ended; newest first", async () => {
  const one = { jti: "a", kid: "k", sid: null, format: "csv", from_ns: 1, until_ns: 2, leads: null, rows: null, outcome: "answered", time_ms: 5 };
  const records = [
    { ...one, n: 0 },
    { ...one, n: 1, jti: "b", outcome: "window", name: "Roe", role: "requester" },
    { ...one, n: 2, outcome: "cut", rows: 7 },
  ];
  const door = { text: async (target) => (assert.equal(target, "/v1/trail?did=d&before=9"), JSON.stringify({ records, more: true })) };
  const { looked, more } = await trailOf(door, "d", 9n);
  assert.deepEqual(looked.map(({ n, outcome, rows, name }) => [n, outcome, rows, name]), [[1n, "window", null, "Roe"], [0n, "cut", 7n, null]]);
  assert.equal(more, true);
});

test("what operators are told is read with whole nanoseconds, and nothing is made up where nothing is said", async () => {
  const answers = {
    "/v1/admin/devices": '[{"id":"bed-1","kind":"device","enabled":true,"gateway":null,"status":null,"seen_ns":1700000000000000001,"certificate":{"not_after_ns":1800000000000000001,"revoked_ns":5}},{"id":"g","kind":"gateway","enabled":false,"certificate":null}]',
    "/v1/admin/streams": '[{"stream":"bed-1/ecg","did":"d","patient":null,"chunks":3,"end_ns":null,"live":{"seen_ns":9,"newest_ns":null,"offset_ns":-1700000000000000001,"clock":"free-running","missing_frames":4}},{"stream":"a/b","did":"e","chunks":0,"live":null}]',
  };
  const door = { text: async (target) => answers[target] };
  const [bed, gateway] = await devicesOf(door);
  assert.deepEqual([bed.seenNs, bed.endsNs, bed.revoked, bed.enabled], [1700000000000000001n, 1800000000000000001n, true, true]);
  assert.deepEqual([gateway.seenNs, gateway.endsNs, gateway.revoked, gateway.enabled], [null, null, false, false]);
  const [live, silent] = await streamLinesOf(door);
  assert.deepEqual(live.live, { seenNs: 9n, newestNs: null, offsetNs: -1700000000000000001n, clock: "free-running", missing: 4n });
  assert.equal(silent.live, null);
});

/** A server of one recorded window, whatever is asked for. Its clock stands just after it. */
function served({ refuse, proof = (text) => text } = {}) {
  const { answer, bundle, asked } = golden("all");
  const now = Number(asked.untilNs / 1_000_000n) + 1000;
  const targets = [];
  const door = {
    kid: "me",
    get: async (target) => {
      targets.push(target);
      if (refuse?.(target)) throw refuse(target);
      const link = `</v1/streams/${asked.did}/proof?x>; rel="proof"`;
      return [answer.slice(), new Headers({ link, "chordae-gaps": 'count=0, spans="", more=0' })];
    },
    text: async (target) => {
      targets.push(target);
      return proof(bundle);
    },
  };
  const recorded = { fromNs: asked.fromNs, untilNs: asked.untilNs };
  const judge = {
    rows: async (rows, said, question) => judgeRows(rows, said, { ...question, ...recorded }, trust),
    summary: async (rows, level, question, gaps) => readSummary(rows, level, question, gaps),
    metadata: async (said, question) => judgeMetadata(said, { ...question, ...recorded }, trust),
  };
  const grant = { sid: "s", did: asked.did, fromNs: asked.fromNs, untilNs: asked.untilNs, leads: null, purpose: "" };
  let time = now;
  const changes = [];
  const waiting = [];
  const changed = (ended) => {
    changes.push(ended);
    waiting.splice(0).forEach((go) => go());
  };
  const loader = new Loader(door, grant, judge, changed, () => time);
  const change = () => new Promise((go) => waiting.push(go));
  return { loader, targets, changes, change, asked, later: (ms) => (time += ms) };
}

const PLACE = (asked) => ({ level: 0, n: Math.floor(Number(asked.fromNs / 1_000_000n) / 30_000) });

test("a tile that leads to the ledger is asked for once, inside the grant, and is kept", async () => {
  const { loader, targets, change, asked, later } = served();
  const place = PLACE(asked);
  const came = change();
  loader.want([place]);
  loader.want([place]);
  await came;
  assert.equal(loader.tile(place).proof.standing, "anchored");
  assert.equal(targets.length, 2);
  const above = { level: 1, n: Math.floor(Number(asked.fromNs / 1_000_000n) / 65_536) };
  assert.equal(loader.standIns(above)[0].leads[0].name, "I");
  assert.deepEqual(loader.standIns({ level: 1, n: above.n + 7 }), []);
  assert.match(targets[0], new RegExp(`from=${asked.fromNs}&until=\\d+&format=arrow$`));
  later(3_600_000);
  loader.want([place]);
  assert.equal(targets.length, 2);
});

test("a refusal ends the view: nothing is kept, and nothing more is asked", async () => {
  let revoked = false;
  const refuse = () => revoked && new Refusal(403, "session", "revoked", 1);
  const { loader, targets, changes, change, asked } = served({ refuse });
  const place = PLACE(asked);
  let came = change();
  loader.want([place]);
  await came;
  assert.ok(loader.tile(place));
  revoked = true;
  came = change();
  loader.want([{ level: 0, n: place.n + 1 }]);
  await came;
  assert.equal(changes.at(-1).status, 403);
  assert.equal(loader.tile(place), undefined);
  const before = targets.length;
  loader.want([place]);
  await new Promise((go) => setTimeout(go, 5));
  assert.equal(targets.length, before);
});

test("a busy server is asked again, later and later, and what was there stays", async () => {
  let busy = true;
  const { loader, targets, change, asked, later } = served({ refuse: () => busy && new Refusal(429, "busy", "wait", 1) });
  const place = PLACE(asked);
  let came = change();
  loader.want([place]);
  await came;
  assert.equal(loader.tile(place).trouble, "wait");
  await new Promise((go) => setTimeout(go, 0));
  loader.want([place]);
  assert.equal(targets.length, 1, "not at once");
  busy = false;
  later(2001);
  came = change();
  loader.want([place]);
  await came;
  assert.equal(loader.tile(place).trouble, null);
});

test("a summary whose metadata contradict each other is not shown", async () => {
  for (const [bend, standing] of [[(text) => text, "summary"], [(text) => text.replace('lane\\":\\"late', 'lane\\":\\"live'), "mismatch"]]) {
    const { loader, change, asked } = served({ proof: (text) => bend(text.replace(/"pages":\[.*?\}\]/g, '"pages":[]').replace(/"rows":\[\[1,500\],\[2,250\]\]/, '"rows":[]')) });
    const place = { level: 1, n: Math.floor(Number(asked.fromNs / 1_000_000n) / 65_536) };
    const came = change();
    loader.want([place]);
    await came;
    assert.equal(loader.tile(place).proof.standing, "summary", "at first");
    await change();
    const { proof, times } = loader.tile(place);
    assert.deepEqual([proof.standing, times.length > 0], [standing, standing === "summary"]);
  }
});

test("a proof is taken from this stream and this server only", () => {
  const did = "81282454-5235-4f9e-9041-638cf6996e81";
  const good = `/v1/streams/${did}/proof?from=1`;
  assert.equal(proofTarget(`<${good}>; rel="proof"`, did), good);
  for (const bad of ["", `<https://elsewhere${good}>; rel="proof"`, `<//elsewhere${good}>; rel="proof"`, '</v1/streams/x/proof?>; rel="proof"']) {
    assert.throws(() => proofTarget(bad, did));
  }
  assert.deepEqual(listedGaps('count=2, spans="1000000/2000000 -5000000/0", more=0'), [{ from: 1, until: 2 }, { from: -5, until: 0 }]);
});

test("grants are those made out to this key, with their bounds to the nanosecond", async () => {
  const section = (requester) => ({ requester, purpose: "ward", grants: [{ did: "d", from_ns: 0, until_ns: null, leads: ["II"] }] });
  const sessions = [{ sid: "s", state: "live", sections: [section("me"), section("other")] }, { sid: "r", state: "revoked", sections: [section("me")] }];
  const text = JSON.stringify({ sessions, next: null }).replaceAll('"from_ns":0', '"from_ns":1795893520000000001');
  const door = {
    kid: "me",
    text: async (target) => {
      if (target === "/v1/sessions") return text;
      throw new Refusal(403, "role", "no", 1);
    },
  };
  const grant = { sid: "s", did: "d", fromNs: 1795893520000000001n, untilNs: null, leads: ["II"], purpose: "ward" };
  assert.deepEqual(await grantsOf(door), [grant]);
});

test("a silent device's newest rows are found in the last hour, or the last day, of the grant", async () => {
  const now = 1_795_900_000_000;
  const asked = [];
  const door = (ends) => ({
    text: async (target) => {
      const [, from, until] = /from=(\d+)&until=(\d+)/.exec(target).map(String);
      asked.push([BigInt(from), BigInt(until)]);
      return `{"links":[${ends.filter((end) => end > BigInt(from) && end <= BigInt(until)).map((end) => `{"end_ns":${end}}`)}]}`;
    },
  });
  const ns = (ms) => BigInt(ms) * 1_000_000n;
  const grant = { did: "d", fromNs: null, untilNs: null };
  const hours = (n) => ns(now - n * 3_600_000);
  assert.equal(await newestRow(door([hours(0.5), hours(0.2), hours(0.9)]), grant, now), now - 0.2 * 3_600_000);
  assert.equal(await newestRow(door([hours(5)]), grant, now), now - 5 * 3_600_000);
  assert.equal(await newestRow(door([hours(30)]), grant, now), null);
  asked.length = 0;
  assert.equal(await newestRow(door([]), { ...grant, fromNs: hours(2), untilNs: hours(1) }, now), null);
  assert.deepEqual(asked, [[hours(2), hours(1)], [hours(2), hours(1)]]);
});

test("live events become frames; the end and holes are told", () => {
  const told = [];
  const reading = new Reading({
    frame: (frame) => told.push(frame),
    hole: (why) => told.push(why),
    end: (why, ended) => told.push([why, ended]),
  });
  const event = (name, data, id = null) => reading.take({ name, data: JSON.stringify(data).replaceAll('"T"', "1795893520000000001"), id });
  event("birth", { boot: 1, rate: [250, 1], leads: [{ name: "II", gain: 200, baseline: 3, unit: "mV", bits: 12, mdc: 0 }] });
  event("rows", { boot: 1, seq: 0, first_ns: "T", after_ns: [0, 4_000_000], leads: { II: [7, null] } }, "1.0");
  assert.deepEqual([...told[0].times], [1795893520000, 1795893520004]);
  assert.deepEqual([...told[0].leads[0].low], [7, -2147483648]);
  assert.equal(told[0].apart, 6);
  assert.equal(reading.lastId, "1.0");
  assert.equal(event("hole", { code: "behind", detail: "left out" }), false);
  assert.equal(event("end", { code: "revoked", detail: "over" }), true);
  assert.deepEqual(told.slice(1), ["left out", ["over", true]]);
});
