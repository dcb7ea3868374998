/**
 * Proof bundles: an answer's proof, without the data around it (docs/FORMATS.md 6).
 *
 *     rows of the answer --> columns of whole pages --> leaves --> pages_root - link
 *                            (hidden ones by digest)               metadata --'  | prev, prev, ...
 *                                                                                v
 *                                        trusted log <- checkpoint <- entry - anchored link
 *
 * This module reads a bundle; `verify.ts` judges it against the answer.
 */

import { BadInput, I64_MAX, I64_MIN, U32_MAX, U64_MAX } from "./bytes.js";
import { type Json, base64, bytes, fields, integer, items, pair, read, string } from "./json.js";
import { type Link, LINK_BYTES, PAGES_MAX, decode, parseDid } from "./link.js";
import { PATH_MAX } from "./merkle.js";

const LINKS_MAX = 100_000;
const RUNS_MAX = 1 << 24;

/** The proof of the rows in a window. Plain data: nothing in it is believed before it is verified. */
export interface ProofBundle {
  readonly did: Uint8Array;
  readonly fromNs: bigint;
  readonly untilNs: bigint;
  /** Every link from the first chunk touched by the window to the earliest anchored one at or after the last. */
  readonly links: Link[];
  /** The touched chunks, by ascending index. */
  readonly chunks: BundleChunk[];
  /** Index and count: which chunk each run of rows of the answer comes from, in answer order. */
  readonly rows: [bigint, bigint][];
  /** Null when not anchored yet. */
  readonly anchor: BundleAnchor | null;
}

/** What the bundle shows of a touched chunk. */
export interface BundleChunk {
  readonly index: bigint;
  /** Its metadata JSON as stored. */
  readonly meta: string;
  /** All leaves of its slot. */
  readonly leaves: Uint8Array[];
  /** The pages wholly inside the window, by ascending number. */
  readonly pages: BundlePage[];
}

/** A page: for each column either the salt (shown in the answer) or its digest (hidden). */
export interface BundlePage {
  readonly p: number;
  readonly salts: ReadonlyMap<number, Uint8Array>;
  readonly hidden: ReadonlyMap<number, Uint8Array>;
}

/** The ledger's word for the last link. */
export interface BundleAnchor {
  /** The `add-data` or `add-heads` entry. */
  readonly entry: Uint8Array;
  /** Its receipt, tlog-proof text. */
  readonly proof: string;
  /** The way from the link to the root of an `add-heads` entry; null for an `add-data`. */
  readonly head: HeadPath | null;
}

/** The way from a head to the root of those that were anchored with it. */
export interface HeadPath {
  /** Its place among them. */
  readonly at: bigint;
  /** Inclusion path, the head's sibling first. */
  readonly path: Uint8Array[];
}

/** Reads a bundle's JSON. Throws {@link BadInput} for what is none of version 1; unknown keys are refused. */
export function parse(text: string): ProofBundle {
  const keys = ["v", "did", "from_ns", "until_ns", "links", "chunks", "rows", "anchor"];
  const at = fields(read(text, "proof bundle"), "proof bundle", keys);
  if (integer(at("v"), "v", 0n, U32_MAX) !== 1n) throw new BadInput("proof bundle: of another version than 1");
  const links = items(at("links"), "links", LINKS_MAX).map((link) => decode(bytes(link, "link", LINK_BYTES)));
  return {
    did: parseDid(string(at("did"), "did")),
    fromNs: integer(at("from_ns"), "from_ns", I64_MIN, I64_MAX),
    untilNs: integer(at("until_ns"), "until_ns", I64_MIN, I64_MAX),
    links,
    chunks: items(at("chunks"), "chunks", links.length).map(chunk),
    rows: items(at("rows"), "rows", RUNS_MAX).map((run) => pair(run, "rows", 0n, U64_MAX)),
    anchor: anchor(at("anchor")),
  };
}

function chunk(value: Json): BundleChunk {
  const at = fields(value, "chunk", ["index", "meta", "leaves", "pages"]);
  return {
    index: integer(at("index"), "index", 0n, U64_MAX),
    meta: string(at("meta"), "meta"),
    leaves: items(at("leaves"), "leaves", PAGES_MAX).map((leaf) => bytes(leaf, "leaf", 32)),
    pages: items(at("pages"), "pages", PAGES_MAX).map(page),
  };
}

function page(value: Json): BundlePage {
  const at = fields(value, "page", ["p", "salts", "hidden"]);
  const p = Number(integer(at("p"), "p", 0n, U32_MAX));
  return { p, salts: columns(at("salts"), "salts", 16), hidden: columns(at("hidden"), "hidden", 32) };
}

function columns(value: Json, what: string, size: number): Map<number, Uint8Array> {
  const pairs = value instanceof Map ? [...value] : [];
  if (!(value instanceof Map) || pairs.some(([key]) => !/^(0|[1-9][0-9]{0,8})$/.test(key))) {
    throw new BadInput(`${what}: must be an object with column numbers as keys`);
  }
  return new Map(pairs.map(([key, digits]) => [Number(key), bytes(digits, what, size)]));
}

function anchor(value: Json): BundleAnchor | null {
  if (value === null) return null;
  const at = fields(value, "anchor", ["entry", "proof"], ["head"]);
  const head = at("head");
  return {
    entry: base64(at("entry"), "entry"),
    proof: string(at("proof"), "proof"),
    head: head === null ? null : headPath(head),
  };
}

function headPath(value: Json): HeadPath {
  const at = fields(value, "head", ["at", "path"]);
  const path = items(at("path"), "path", PATH_MAX).map((hash) => bytes(hash, "path", 32));
  return { at: integer(at("at"), "at", 0n, U64_MAX), path };
}
