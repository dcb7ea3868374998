/** The Merkle tree of the log: RFC 6962 over SHA-256 (docs/FORMATS.md 5). */

import { sha256 } from "@noble/hashes/sha2.js";
import { concat, equal } from "./bytes.js";

/** No tree of at most 2^64 leaves has a longer inclusion path; a consistency proof may have one hash more. */
export const PATH_MAX = 64;

/** Root of the tree without leaves. */
export const EMPTY_ROOT = sha256(new Uint8Array());

/** SHA-256(0x00 || entry). Of a create-session entry, the SID. */
export function leafHash(entry: Uint8Array): Uint8Array {
  return sha256(concat(Uint8Array.of(0), entry));
}

/** SHA-256(0x01 || left || right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return sha256(concat(Uint8Array.of(1), left, right));
}

/** Root over leaf hashes (RFC 6962 2.1). */
export function root(leaves: Uint8Array[]): Uint8Array {
  if (leaves.length < 2) return leaves[0] ?? EMPTY_ROOT;
  let split = 1;
  while (2 * split < leaves.length) split *= 2;
  return nodeHash(root(leaves.slice(0, split)), root(leaves.slice(split)));
}

/** Whether the path leads from leaf `index` to the root of the tree of `size` leaves (RFC 9162 2.1.3.2). */
export function included(size: bigint, root: Uint8Array, index: bigint, leaf: Uint8Array, path: Uint8Array[]): boolean {
  if (index < 0n || index >= size || path.length > PATH_MAX) return false;
  let [fn, sn, r] = [index, size - 1n, leaf];
  for (const p of path) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      r = nodeHash(p, r);
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      r = nodeHash(r, p);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && equal(r, root);
}

/** A size and a root. */
export interface Tree {
  readonly size: bigint;
  readonly root: Uint8Array;
}

function isEmpty(tree: Tree): boolean {
  return tree.size === 0n && equal(tree.root, EMPTY_ROOT);
}

/** Whether the tree `old` is a prefix of the tree `now` (RFC 9162 2.1.4.2). */
export function consistent(old: Tree, now: Tree, path: Uint8Array[]): boolean {
  if (old.size > now.size || path.length > PATH_MAX + 1) return false;
  if (old.size === now.size) return path.length === 0 && equal(old.root, now.root) && (old.size > 0n || isEmpty(old));
  if (old.size === 0n) return path.length === 0 && isEmpty(old);
  // A whole subtree at the left edge is the old root itself, and is not sent.
  const [first, ...rest] = (old.size & (old.size - 1n)) === 0n ? [old.root, ...path] : path;
  if (first === undefined) return false;
  let [fn, sn] = [old.size - 1n, now.size - 1n];
  while (fn & 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  let [fr, sr] = [first, first];
  for (const c of rest) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      [fr, sr] = [nodeHash(c, fr), nodeHash(c, sr)];
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      sr = nodeHash(sr, c);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && equal(fr, old.root) && equal(sr, now.root);
}
