/**
 * Chunk metadata: the JSON of a chunk, read strictly (docs/FORMATS.md 3).
 *
 * One chunk has one text, but for the spelling of `gain`: what would be written otherwise is refused.
 */

import { BadInput, I64_MAX, I64_MIN, U32_MAX, U64_MAX, equal, utf8 } from "./bytes.js";
import { type Json, Num, bytes, fields, integer, items, pair, read, string, write } from "./json.js";
import { type Frame, type Link, PAGE_NS, checkFrame, parseDid } from "./link.js";

const TEXT_MAX = 1024 * 1024;
const LEADS_MAX = 32;
const NAME_BYTES_MAX = 16;
const UNIT_BYTES_MAX = 128;
const RATE_HZ_MAX = 10_000n;
const RANGES_MAX = 1 << 20;
// prettier-ignore
const KEYS = [
  "boot", "clock", "did", "end_ns", "first_ns", "index", "jitter_ns", "lane", "leads", "missing", "page_ns", "prev",
  "profile", "rate", "received", "rows", "seq", "slot_len_ns", "slot_start_ns", "v",
];

/** A lead and what its codes mean: a code is `(code - baseline) / gain` in `unit`. */
export interface Lead {
  readonly name: string;
  /** ADC codes per unit. */
  readonly gain: number;
  /** ADC code of 0 units. */
  readonly baseline: number;
  readonly unit: string;
  readonly bits: number;
  /** ISO/IEEE 11073-10101 code, 0 if none. */
  readonly mdc: number;
}

/** What a chunk says about itself. Times in nanoseconds since 1970. */
export interface ChunkMeta extends Frame {
  readonly did: Uint8Array;
  readonly index: bigint;
  readonly prev: Uint8Array;
  readonly boot: bigint;
  readonly clock: { readonly offsetNs: bigint; readonly quality: string };
  readonly jitterNs: [bigint, bigint];
  /** `live` or `late`. */
  readonly lane: string;
  readonly leads: Lead[];
  /** Inclusive ranges inside `seq` with no row in this chunk. */
  readonly missing: [bigint, bigint][];
  /** Samples, seconds. */
  readonly rate: [bigint, bigint];
  readonly received: [bigint, bigint];
  readonly seq: [bigint, bigint];
}

/** Reads a chunk's metadata. Throws {@link BadInput}. */
export function parse(text: string): ChunkMeta {
  if (utf8(text).length > TEXT_MAX) throw new BadInput("chunk metadata: too long");
  const value = read(text, "chunk metadata");
  const at = fields(value, "chunk metadata", KEYS);
  // Gains keep their token, every other number has one spelling: so this is the one text of these values.
  if (write(value) !== text) throw new BadInput("chunk metadata: keys not sorted, or spaces, or escapes without need");
  const i64 = (key: string) => integer(at(key), key, I64_MIN, I64_MAX);
  const u64s = (key: string) => pair(at(key), key, 0n, U64_MAX);
  const i64s = (key: string) => pair(at(key), key, I64_MIN, I64_MAX);
  const clock = fields(at("clock"), "clock", ["offset_ns", "quality"]);
  const meta: ChunkMeta = {
    did: parseDid(string(at("did"), "did")),
    index: integer(at("index"), "index", 0n, U64_MAX),
    slotStartNs: i64("slot_start_ns"),
    slotLenNs: i64("slot_len_ns"),
    firstNs: i64("first_ns"),
    endNs: i64("end_ns"),
    rows: Number(integer(at("rows"), "rows", 0n, U32_MAX)),
    prev: bytes(at("prev"), "prev", 32),
    boot: integer(at("boot"), "boot", 0n, U64_MAX),
    clock: {
      offsetNs: integer(clock("offset_ns"), "offset_ns", I64_MIN, I64_MAX),
      quality: string(clock("quality"), "quality"),
    },
    jitterNs: i64s("jitter_ns"),
    lane: string(at("lane"), "lane"),
    leads: items(at("leads"), "leads", LEADS_MAX).map(lead),
    missing: items(at("missing"), "missing", RANGES_MAX).map((one) => pair(one, "missing", 0n, U64_MAX)),
    rate: pair(at("rate"), "rate", 0n, U32_MAX),
    received: i64s("received"),
    seq: u64s("seq"),
  };
  checkFrame(meta);
  const [num, den] = meta.rate;
  const broken: [boolean, string][] = [
    [integer(at("v"), "v", 0n, U32_MAX) !== 1n, "version is not 1"],
    [i64("page_ns") !== PAGE_NS, "page_ns is not 10^10"],
    [!["synced", "free-running", "unknown"].includes(meta.clock.quality), "a clock of unknown quality"],
    [meta.clock.quality === "synced" && meta.clock.offsetNs !== 0n, "a synced clock has an offset"],
    [!["live", "late"].includes(meta.lane) || at("profile") !== "open", "unknown lane or profile"],
    [den === 0n || num < den || num > den * RATE_HZ_MAX, "the rate is not 1 to 10,000 Hz"],
    [meta.jitterNs[0] > meta.jitterNs[1] || meta.received[0] > meta.received[1], "jitter_ns or received"],
    [meta.seq[0] > meta.seq[1] || !missingFits(meta), "seq, or missing inside it"],
    [meta.leads.length === 0, "no lead"],
    [new Set(meta.leads.map((one) => one.name.toLowerCase())).size !== meta.leads.length, "a lead twice"],
  ];
  const why = broken.find(([is]) => is)?.[1];
  if (why !== undefined) throw new BadInput(`chunk metadata: ${why}`);
  return meta;
}

function lead(value: Json): Lead {
  const at = fields(value, "lead", ["baseline", "bits", "gain", "mdc", "name", "unit"]);
  const [name, unit, token] = [string(at("name"), "name"), string(at("unit"), "unit"), at("gain")];
  const number = (key: string, low: bigint, high: bigint) => Number(integer(at(key), key, low, high));
  const gain = token instanceof Num ? Number(token.token) : 0;
  const named = /^[!-}](?:[ -}]{0,14}[!-}])?$/.test(name) && name.toLowerCase() !== "time";
  const long = name.length > NAME_BYTES_MAX || utf8(unit).length > UNIT_BYTES_MAX;
  if (!named || long || !Number.isFinite(gain) || gain === 0) {
    throw new BadInput(`chunk metadata: lead ${name} has no usable name, unit or gain`);
  }
  const baseline = number("baseline", -(2n ** 31n), 2n ** 31n - 1n);
  return { name, gain, baseline, unit, bits: number("bits", 8n, 31n), mdc: number("mdc", 0n, U32_MAX) };
}

function missingFits({ seq, missing }: ChunkMeta): boolean {
  let last = seq[0];
  return missing.every(([a, b]) => {
    const fits = a > last && a <= b && b < seq[1];
    last = b + 1n;
    return fits;
  });
}

/** The field in which metadata and link differ, if they do. */
export function differs(meta: ChunkMeta, link: Link): string | undefined {
  const numbers = ["index", "slotStartNs", "slotLenNs", "firstNs", "endNs", "rows"] as const;
  if (!equal(meta.did, link.did)) return "did";
  if (!equal(meta.prev, link.prev)) return "prev";
  return numbers.find((field) => meta[field] !== link[field]);
}
