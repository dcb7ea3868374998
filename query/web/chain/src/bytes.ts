/** Bytes and their texts, each in exactly one spelling. Whatever is spelled otherwise is {@link BadInput}. */

import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

export { bytesToHex as hex, concatBytes as concat, utf8ToBytes as utf8 };

/** What was handed in is not what it should be. */
export class BadInput extends Error {}

export const U32_MAX = 0xffff_ffffn;
export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const I64_MIN = -(2n ** 63n);
export const I64_MAX = 2n ** 63n - 1n;

export function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** UTF-8 without a byte order mark's magic and without replacement characters. */
export function text(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new BadInput("a text is not UTF-8");
  }
}

/** `size` bytes from lower-case hex. */
export function fromHex(digits: string, what: string, size: number): Uint8Array {
  if (digits.length !== 2 * size || !/^[0-9a-f]*$/.test(digits)) {
    throw new BadInput(`${what}: must be ${2 * size} lower-case hex digits`);
  }
  return hexToBytes(digits);
}

/** Standard base64 with padding. */
export function fromBase64(letters: string, what: string): Uint8Array {
  let raw: string | undefined;
  try {
    raw = atob(letters);
  } catch {
    // Told below.
  }
  if (raw === undefined || btoa(raw) !== letters) {
    throw new BadInput(`${what}: must be base64`);
  }
  // Letter by letter: a strip has twenty million of them, and iterators take their time.
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

/** A key of 32 bytes in base64url without padding. */
export function fromKeyText(letters: string, what: string): Uint8Array {
  const plain = /^[A-Za-z0-9_-]{43}$/.test(letters);
  const standard = letters.replaceAll("-", "+").replaceAll("_", "/") + "=";
  return fromBase64(plain ? standard : "?", what);
}

/** A number from its plain decimal spelling. */
export function fromDecimal(digits: string, what: string, low: bigint, high: bigint): bigint {
  const n = /^(0|-?[1-9][0-9]{0,19})$/.test(digits) ? BigInt(digits) : undefined;
  if (n === undefined || n < low || n > high) {
    throw new BadInput(`${what}: must be an integer in [${low}, ${high}]`);
  }
  return n;
}

/** `n` as `size` bytes, big-endian. */
export function bigEndian(n: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((n >> BigInt(8 * (size - 1 - i))) & 0xffn));
}
