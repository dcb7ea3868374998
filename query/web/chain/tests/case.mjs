// A provider's bundle over two chunks, made here and not recorded, so that every claim in it can be false and well
// signed: what is then found, is found by the one rule that is broken.

import { ed25519 } from "@noble/curves/ed25519.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { bigEndian, concat, utf8 } from "../dist/bytes.js";
import * as cbor from "../dist/cbor.js";
import * as link from "../dist/link.js";
import { leafHash } from "../dist/merkle.js";
import * as pages from "../dist/pages.js";
import { parse as parseTrust } from "../dist/trust.js";
import { hex, unhex } from "./common.mjs";

export const S = 1_000_000_000n;
/** Start of the first slot. */
export const T = 1_700_000_040n * S;
export const DID = unhex("0b5f6c1e8a374a529d0e6f1c2b3a4d5e");
const ORIGIN = "chordae.local/test";
const secret = (seed) => new Uint8Array(32).fill(seed);
const base64 = (...parts) => Buffer.concat(parts).toString("base64");

/** An entry with these fields, in CBOR's order of keys, by the key `by` that says it is `as`. */
export function entry(fields, by = 1, as = by) {
  const text = (word) => concat(Uint8Array.of(0x60 + word.length), utf8(word));
  const value = (v) => (typeof v === "number" ? Uint8Array.of(v) : cbor.encode([v]).slice(1));
  const pairs = Object.entries(fields).map(([key, v]) => concat(text(key), value(v)));
  pairs.sort((a, b) => Buffer.compare(a, b));
  const payload = concat(Uint8Array.of(0xa0 + pairs.length), ...pairs);
  const kid = sha256(ed25519.getPublicKey(secret(as)));
  const type = utf8("application/chordae-event+cbor");
  const head = concat(unhex("a3012703781e"), type, unhex("045820"), kid);
  const signature = ed25519.sign(cbor.encode(["Signature1", head, new Uint8Array(), payload]), secret(by));
  const [first, second, last] = [head, payload, signature].map((part) => cbor.encode([part]).slice(1));
  return concat(unhex("d284"), first, unhex("a0"), second, last);
}

/** A note over these lines by the log's key. */
export function note(body, name = ORIGIN) {
  const id = sha256(concat(utf8(`${name}\n\u0001`), ed25519.getPublicKey(secret(5)))).slice(0, 4);
  return `${body}\n— ${name} ${base64(id, ed25519.sign(utf8(body), secret(5)))}\n`;
}

const logKey = concat(Uint8Array.of(1), ed25519.getPublicKey(secret(5)));
const logId = hex(sha256(concat(utf8(`${ORIGIN}\n`), logKey)).slice(0, 4));
const sign = Buffer.from(ed25519.getPublicKey(secret(1))).toString("base64url");
export const TRUST = parseTrust(
  JSON.stringify({
    origin: ORIGIN,
    policy: `log ${ORIGIN}+${logId}+${base64(logKey)}\nquorum none\n`,
    providers: [{ name: "provider", role: "provider", sign }],
    sequencers: [],
  }),
);

/** A chunk of one lead at 10 Hz that fills its slot; `bend` changes what its metadata, leaves and link say. */
function chunk(index, prev, bend) {
  const [start, salt] = [T + 60n * S * BigInt(index), new Uint8Array(32).fill(index + 1)];
  const times = BigInt64Array.from({ length: 600 }, (_, k) => start + (BigInt(k) * S) / 10n);
  const codes = Int32Array.from(times, (_, k) => ((k * 7) % 100) - 50);
  const meta = {
    boot: 1, clock: { offset_ns: 0, quality: "synced" }, did: link.didText(DID), end_ns: `${start + 60n * S}`,
    first_ns: `${start}`, index, jitter_ns: [0, 0], lane: "live",
    leads: [{ baseline: 0, bits: 12, gain: 200, mdc: 0, name: "a", unit: "mV" }], missing: [],
    page_ns: "10000000000", prev: hex(prev), profile: "open", rate: [10, 1], received: [0, 1], rows: 600, seq: [0, 59],
    slot_len_ns: "60000000000", slot_start_ns: `${start}`, v: 1,
  }; // prettier-ignore
  const said = { index: BigInt(index), start, first: start, end: start + 60n * S, rows: 600, prev };
  const leaves = Array.from({ length: 6 }, (_, p) =>
    pages.leaf([
      pages.colTimes(pages.pageSalt(salt, p, 0), times.subarray(100 * p, 100 * p + 100)),
      pages.colLead(pages.pageSalt(salt, p, 1), codes.subarray(100 * p, 100 * p + 100)),
    ]),
  );
  bend?.({ meta, said, leaves });
  const text = JSON.stringify(meta).replace(/"(\w+_ns)":"(\d+)"/g, '"$1":$2');
  const raw = concat(
    utf8("CHLINK01"), DID, ...[said.index, said.start, 60n * S, said.first, said.end].map((n) => bigEndian(n, 8)),
    bigEndian(BigInt(said.rows), 4), new Uint8Array(4), new Uint8Array(32), pages.pagesRoot(text, leaves), said.prev,
  ); // prettier-ignore
  const shown = (p) => ({
    p,
    salts: new Map([0, 1].map((c) => [c, pages.pageSalt(salt, p, c)])),
    hidden: new Map(),
  });
  return { raw, link: link.decode(raw), meta: text, leaves, times, codes, shown };
}

/**
 * The bundle and the answer for a window of the first chunk or of both. `bends` by index change a chunk before it is
 * hashed; `say` changes the fields of the entry before they are signed.
 */
export function make({ fromNs = T, untilNs = T + 120n * S, bends = [], say = (fields) => fields, by = 1 } = {}) {
  const chunks = [];
  for (const index of [0, 1]) {
    chunks.push(chunk(index, chunks.at(-1)?.link.digest ?? link.genesis(DID), bends[index]));
  }
  const touched = chunks.filter((one) => link.meets(one.link, fromNs, untilNs));
  const last = chunks[1].link;
  const tag = link.tag(DID, last.index);
  const anchored = entry(say({ type: "add-data", digest: last.digest, tag, content: new Uint8Array(5) }), by);
  const checkpoint = note(`${ORIGIN}\n1\n${base64(leafHash(anchored))}\n`);
  const holds = (t) => t >= fromNs && t < untilNs;
  const inside = touched.map((one) => [...one.times.keys()].filter((i) => holds(one.times[i])));
  const rows = touched.map((one, n) => [one.link.index, BigInt(inside[n].length)]).filter(([, count]) => count > 0n);
  const bundle = {
    did: DID, fromNs, untilNs, links: chunks.map((one) => one.link), rows,
    chunks: touched.map((one) => ({
      index: one.link.index, meta: one.meta, leaves: one.leaves,
      pages: link.provablePages(one.link, fromNs, untilNs).map(one.shown),
    })),
    anchor: { entry: anchored, proof: `c2sp.org/tlog-proof@v1\nindex 0\n\n${checkpoint}` },
  }; // prettier-ignore
  const times = BigInt64Array.from(touched.flatMap((one, n) => inside[n].map((i) => one.times[i])));
  const codes = [Int32Array.from(touched.flatMap((one, n) => inside[n].map((i) => one.codes[i])))];
  return { bundle, rows: { leads: ["a"], times, codes } };
}
