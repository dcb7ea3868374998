/** What is drawn of a stretch of a stream, and what is known of it. */

import { type Standing } from "../core/badge.js";
import { type Quality } from "../core/gaps.js";
import { type Span } from "../core/time.js";

/** The question that an answer answers. */
export interface Question {
  readonly did: string;
  readonly fromNs: bigint;
  readonly untilNs: bigint;
  /** When it was asked: nothing later is ever answered. */
  readonly askedNs: bigint;
  /** Null: all. */
  readonly leads: string[] | null;
}

/** What an answer says of a column's codes. */
export interface Claim {
  readonly gain: number;
  readonly baseline: number;
  readonly unit: string;
}

/** One thing that is wrong; `code` is one of `chordae verify`, or the server's own. */
export interface Wrong {
  readonly object: string;
  readonly code: string;
  readonly detail: string;
}

/** What was found out about a part. */
export interface Proof {
  readonly standing: Standing;
  readonly findings: readonly Wrong[];
  readonly unprovenRows: number;
  /** Chunks that were linked while the question was answered: it is asked again. */
  readonly newer: number;
  /** Index of the anchored link, and entries of the log under the checkpoint. */
  readonly anchoredTo: string | null;
  readonly logSize: string | null;
  readonly lacks: string | null;
  readonly chunks: number;
}

/** A lead; `low` and `high` are one array for rows as recorded. */
export interface LeadPart extends Claim {
  readonly name: string;
  readonly low: Int32Array;
  readonly high: Int32Array;
}

export interface Part {
  readonly times: Float64Array;
  readonly leads: LeadPart[];
  /** Rows that are further apart are not joined, ms. */
  readonly apart: number;
  /** What the answer is about: never later than the server's now. */
  readonly window: Span;
  readonly gaps: Span[];
  readonly qualities: Quality[];
  readonly proof: Proof;
}

/** Rows that can be drawn: of a tile, of a live frame. */
export type Piece = Pick<Part, "times" | "leads" | "apart">;

/** The rows of a piece inside a span; none where there is none. */
export function cut(piece: Piece, { from, until }: Span): Piece[] {
  const { times } = piece;
  if (times.length === 0 || (times[0] as number) >= until || (times.at(-1) as number) < from) return [];
  const [a, b] = [from, until].map((t) => firstAt(times, t)) as [number, number];
  if (a === 0 && b === times.length) return [piece];
  const leads = piece.leads.map((lead) => ({ ...lead, low: lead.low.subarray(a, b), high: lead.high.subarray(a, b) }));
  return a < b ? [{ ...piece, times: times.subarray(a, b), leads }] : [];
}

/** Place of the first time that is not before `t`. */
function firstAt(times: Float64Array, t: number): number {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

export const UNKNOWN: Proof = {
  standing: "waiting", findings: [], unprovenRows: 0, newer: 0, anchoredTo: null, logSize: null, lacks: null, chunks: 0,
}; // prettier-ignore

/** A part without rows. */
export function bare(window: Span, proof: Proof): Part {
  return { times: new Float64Array(), leads: [], apart: 0, window, gaps: [], qualities: [], proof };
}

/** What is shown where something does not match: no row, and why. */
export function wrong(window: Span, ...findings: Wrong[]): Part {
  return bare(window, { ...UNKNOWN, standing: "mismatch", findings });
}
