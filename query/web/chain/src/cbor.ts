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

/** The one encoding of a value: shortest integers and lengths, map keys in the order of their bytes. */
export function encode(value: Cbor): Uint8Array {
  if (value === null) return Uint8Array.of(0xf6);
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xf5 : 0xf4);
  if (typeof value === "bigint") return value < 0n ? head(1, -1n - value) : head(0, value);
  if (typeof value === "string") {
    const raw = utf8(value);
    return concat(head(3, raw.length), raw);
  }
  if (value instanceof Uint8Array) return concat(head(2, value.length), value);
  if (value instanceof Tag) return concat(head(6, value.number), encode(value.value));
  if (Array.isArray(value)) return concat(head(4, value.length), ...value.map(encode));
  const pairs = [...value].map(([key, item]): [Uint8Array, Uint8Array] => [encode(key), encode(item)]);
  pairs.sort(([a], [b]) => (less(a, b) ? -1 : 1));
  return concat(head(5, value.size), ...pairs.flat());
}

function head(major: number, of: number | bigint): Uint8Array {
  const n = BigInt(of);
  if (n < 24n) return Uint8Array.of((major << 5) | Number(n));
  const code = [8n, 16n, 32n, 64n].findIndex((bits) => n < 1n << bits);
  if (code < 0) throw new BadInput("CBOR: a number of more than 64 bits");
  return concat(Uint8Array.of((major << 5) | (24 + code)), bigEndian(n, 1 << code));
}
