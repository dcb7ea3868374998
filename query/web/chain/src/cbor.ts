/**
 * Deterministic CBOR (RFC 8949 4.2.1), as much of it as ledger entries use. What is not the one encoding of its
 * value is refused: longer integers than needed, indefinite lengths, keys out of order or twice, bytes that follow.
 */

import { BadInput, bigEndian, concat, text, utf8 } from "./bytes.js";

const DEPTH_MAX = 16;

/** A tagged value. */
export class Tag {
  constructor(
    readonly number: bigint,
    readonly value: Cbor,
  ) {}
}

export type Cbor = null | boolean | bigint | string | Uint8Array | Cbor[] | Map<bigint | string, Cbor> | Tag;

/** The value whose one encoding these bytes are. Throws {@link BadInput}. */
export function decode(raw: Uint8Array): Cbor {
  let at = 0;
  const bad = (why: string) => new BadInput(`CBOR: ${why}`);
  const bytes = (n: bigint): Uint8Array => {
    if (n > BigInt(raw.length - at)) throw bad("cut off");
    at += Number(n);
    return raw.subarray(at - Number(n), at);
  };
  const argument = (low: number): bigint => {
    if (low < 24) return BigInt(low);
    if (low > 27) throw bad("an indefinite length");
    const size = 1 << (low - 24);
    const n = bytes(BigInt(size)).reduce((n, byte) => (n << 8n) | BigInt(byte), 0n);
    if (n < (size === 1 ? 24n : 1n << BigInt(4 * size))) throw bad("an integer or length is longer than it need be");
    return n;
  };
  const map = (pairs: bigint, depth: number): Map<bigint | string, Cbor> => {
    const found = new Map<bigint | string, Cbor>();
    let before: Uint8Array = new Uint8Array();
    for (let i = 0n; i < pairs; i += 1n) {
      const start = at;
      const key = item(depth + 1);
      if (typeof key !== "bigint" && typeof key !== "string") throw bad("a map key must be text or a number");
      const encoded = raw.subarray(start, at);
      if (!less(before, encoded)) throw bad("map keys out of order, or one twice");
      before = encoded;
      found.set(key, item(depth + 1));
    }
    return found;
  };
  const item = (depth: number): Cbor => {
    if (depth > DEPTH_MAX) throw bad("nested too deep");
    const head = bytes(1n)[0] as number;
    const major = head >> 5;
    if (major === 7) {
      const simple = new Map<number, Cbor>([[20, false], [21, true], [22, null]]).get(head & 31); // prettier-ignore
      if (simple === undefined) throw bad("a float or simple value that nothing here has");
      return simple;
    }
    const n = argument(head & 31);
    if (major === 0) return n;
    if (major === 1) return -1n - n;
    if (major === 2) return bytes(n).slice();
    if (major === 3) return text(bytes(n));
    if (major === 5) return map(n, depth);
    if (major === 6) return new Tag(n, item(depth + 1));
    const items: Cbor[] = [];
    while (BigInt(items.length) < n) items.push(item(depth + 1));
    return items;
  };
  const found = item(0);
  if (at !== raw.length) throw bad("bytes follow the value");
  return found;
}

function less(a: Uint8Array, b: Uint8Array): boolean {
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return at < 0 ? a.length < b.length : at < b.length && (a[at] as number) < (b[at] as number);
}

/** The one encoding of an array of texts and byte strings. */
export function encode(items: (string | Uint8Array)[]): Uint8Array {
  const one = (item: string | Uint8Array) => {
    const raw = typeof item === "string" ? utf8(item) : item;
    return concat(head(typeof item === "string" ? 3 : 2, raw.length), raw);
  };
  return concat(head(4, items.length), ...items.map(one));
}

function head(major: number, n: number): Uint8Array {
  if (n < 24) return Uint8Array.of((major << 5) | n);
  const code = n < 1 << 8 ? 0 : n < 1 << 16 ? 1 : 2;
  return concat(Uint8Array.of((major << 5) | (24 + code)), bigEndian(BigInt(n), 1 << code));
}
