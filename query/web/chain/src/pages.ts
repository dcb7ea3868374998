/**
 * Page digests: what lets an answer be verified in any format, lead by lead (docs/FORMATS.md 4).
 *
 *     times -- salt -> col_0 -.
 *     lead 1 - salt -> col_1 -+-> leaf_p -.
 *     lead 2 - salt -> col_2 -'           +-> pages_root
 *                      metadata JSON -----'
 */

import { blake3 } from "@noble/hashes/blake3.js";
import { concat, utf8 } from "./bytes.js";

/** The code that means: no value. */
export const NO_VALUE = -2147483648;

/** BLAKE3 in derive_key mode, 32 bytes. */
export function dk(context: string, message: Uint8Array): Uint8Array {
  return blake3(message, { context: utf8(context) });
}

/** `salt_{p,c}`: first 16 bytes of BLAKE3 keyed with the chunk's salt over page and column. */
export function pageSalt(salt: Uint8Array, p: number, c: number): Uint8Array {
  return blake3(concat(uint32(p), uint32(c)), { key: salt }).slice(0, 16);
}

/** Digest of a page's times, nanoseconds. */
export function colTimes(salt: Uint8Array, times: BigInt64Array): Uint8Array {
  return dk("chordae v1 times", concat(salt, uint32(times.length), littleEndian(times)));
}

/** Digest of a lead's codes in a page. */
export function colLead(salt: Uint8Array, codes: Int32Array): Uint8Array {
  return dk("chordae v1 lead", concat(salt, uint32(codes.length), littleEndian(codes)));
}

/** Digest of a page. */
export function leaf(cols: Uint8Array[]): Uint8Array {
  return dk("chordae v1 page", concat(...cols));
}

/** Digest of a chunk's metadata, as stored, and of its pages, as its link has it. */
export function pagesRoot(meta: string, leaves: Uint8Array[]): Uint8Array {
  return dk("chordae v1 pages", concat(dk("chordae v1 meta", utf8(meta)), ...leaves));
}

function uint32(n: number): Uint8Array {
  return littleEndian(Uint32Array.of(n));
}

/** Its bytes. (Every machine that runs a browser is little-endian; the tests would tell of another.) */
function littleEndian(values: Uint32Array | Int32Array | BigInt64Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
