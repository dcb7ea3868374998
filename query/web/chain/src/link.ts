/**
 * Links: the chain of a did (docs/FORMATS.md 4).
 *
 *     genesis(did) <-prev- link 0 <-prev- link 1 <-prev- link 2 = head
 *
 * A link is 168 bytes with one encoding and one digest. Decoding refuses what no honest writer makes; whether the
 * bytes are true is for the one who holds the chunk or the ledger.
 */

import { BadInput, I64_MAX, bigEndian, concat, equal, fromHex, hex, utf8 } from "./bytes.js";
import { dk } from "./pages.js";

/** Bytes of an encoded link. */
export const LINK_BYTES = 168;
/** A page: 10 s in nanoseconds. */
export const PAGE_NS = 10_000_000_000n;
/** A slot has at most an hour. */
export const SLOT_NS_MAX = 3_600_000_000_000n;
/** Pages of the longest slot. */
export const PAGES_MAX = Number(SLOT_NS_MAX / PAGE_NS);
const ROWS_MAX = 1_048_576 + 65_536;
const MAGIC = utf8("CHLINK01");

/** The record of a chunk in the chain of its stream. Times in nanoseconds since 1970. */
export interface Link {
  readonly did: Uint8Array;
  readonly index: bigint;
  readonly slotStartNs: bigint;
  readonly slotLenNs: bigint;
  readonly firstNs: bigint;
  readonly endNs: bigint;
  readonly rows: number;
  /** BLAKE3 of the chunk file. */
  readonly fileRoot: Uint8Array;
  /** Root over metadata and pages. */
  readonly pagesRoot: Uint8Array;
  /** Digest of the link before, or {@link genesis}. */
  readonly prev: Uint8Array;
  /** What the next link and the ledger name. */
  readonly digest: Uint8Array;
}

/** Reads a link's 168 bytes. Throws {@link BadInput}. */
export function decode(raw: Uint8Array): Link {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  if (raw.length !== LINK_BYTES || !equal(raw.subarray(0, 8), MAGIC) || view.getUint32(68) !== 0) {
    throw new BadInput("not a link");
  }
  const link = {
    did: raw.slice(8, 24),
    index: view.getBigUint64(24),
    slotStartNs: view.getBigInt64(32),
    slotLenNs: view.getBigInt64(40),
    firstNs: view.getBigInt64(48),
    endNs: view.getBigInt64(56),
    rows: view.getUint32(64),
    fileRoot: raw.slice(72, 104),
    pagesRoot: raw.slice(104, 136),
    prev: raw.slice(136, 168),
    digest: dk("chordae v1 link", raw),
  };
  checkFrame(link);
  return link;
}

/** What link and metadata both say of a chunk's place. */
export type Frame = Pick<Link, "slotStartNs" | "slotLenNs" | "firstNs" | "endNs" | "rows">;

/** Slot on the grid, rows inside it. Throws {@link BadInput}. */
export function checkFrame({ slotStartNs: start, slotLenNs: length, firstNs: first, endNs: end, rows }: Frame): void {
  const grid = length >= PAGE_NS && length <= SLOT_NS_MAX && length % PAGE_NS === 0n && start % length === 0n;
  const inside = start <= first && first < end && end <= start + length && start + length <= I64_MAX;
  if (!grid || !inside || rows < 1 || rows > ROWS_MAX) {
    throw new BadInput("slot, span and rows of a chunk do not fit each other");
  }
}

/** Whether the span of its rows meets `[fromNs, untilNs)`. */
export function meets(link: Link, fromNs: bigint, untilNs: bigint): boolean {
  return link.firstNs < untilNs && fromNs < link.endNs;
}

/** The pages that a proof for this window must show: those wholly inside it that meet the chunk's rows. */
export function provablePages(link: Link, fromNs: bigint, untilNs: bigint): number[] {
  const down = (t: bigint) => (t - link.slotStartNs - mod(t - link.slotStartNs)) / PAGE_NS;
  const up = (t: bigint) => -down(2n * link.slotStartNs - t);
  const max = (a: bigint, b: bigint) => (a > b ? a : b);
  const first = max(max(up(fromNs), down(link.firstNs)), 0n);
  const end = -max(-down(untilNs), -up(link.endNs));
  return Array.from({ length: Number(max(end - first, 0n)) }, (_, i) => Number(first) + i);
}

function mod(t: bigint): bigint {
  return ((t % PAGE_NS) + PAGE_NS) % PAGE_NS;
}

/** `prev` of index 0. */
export function genesis(did: Uint8Array): Uint8Array {
  return dk("chordae v1 genesis", did);
}

/** Whoever knows the did finds its event by this; nobody else can link two. */
export function tag(did: Uint8Array, index: bigint): Uint8Array {
  return dk("chordae v1 tag", concat(did, bigEndian(index, 8)));
}

/** `chunks/{did}/{index / 1000, 7 digits}/{index, 10 digits}.parquet`. */
export function objectName(did: Uint8Array, index: bigint): string {
  const digits = (n: bigint, width: number) => n.toString().padStart(width, "0");
  return `chunks/${didText(did)}/${digits(index / 1000n, 7)}/${digits(index, 10)}.parquet`;
}

/** A did as text: a UUID in lower case. */
export function didText(did: Uint8Array): string {
  return hex(did).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A did from its text. Throws {@link BadInput}. */
export function parseDid(text: string): Uint8Array {
  const did = fromHex(text.replaceAll("-", ""), "did", 16);
  if (didText(did) !== text) throw new BadInput("did: must be a UUID");
  return did;
}
