/** Who asked for a patient's stream, when, and what became of it; for its patient. */

import { json } from "chordae-chain";
import { type Door } from "./door.js";
import { LISTING_MAX, at, leadsOf, list, text, textOr, time, timeOr } from "./wire.js";

export interface Looked {
  /** Number of the record; of an answer that was streamed, of its first one. */
  readonly n: bigint;
  readonly timeMs: number;
  readonly kid: string;
  /** As the server knows who asked. */
  readonly name: string | null;
  readonly role: string | null;
  readonly sid: string | null;
  /** What was asked for: `arrow`, `csv`, `proof`, `links`, or an operator's request. */
  readonly format: string;
  readonly fromNs: bigint | null;
  readonly untilNs: bigint | null;
  /** Null: all. */
  readonly leads: string[] | null;
  /** `complete`, `answered`, `cut`, or why it was refused. */
  readonly outcome: string;
  /** Rows that were sent, once known. */
  readonly rows: bigint | null;
}

/** Newest first; `before` pages back. */
export async function trailOf(door: Door, did: string, before?: bigint): Promise<{ looked: Looked[]; more: boolean }> {
  const page = before === undefined ? "" : `&before=${before}`;
  const said = json.read(await door.text(`/v1/trail?did=${did}${page}`, LISTING_MAX), "trail");
  return { looked: joined(list(said, "records").map(record)).reverse(), more: at(said, "more") === true };
}

type Record = Looked & { readonly jti: string };

function record(said: json.Json): Record {
  return {
    n: time(at(said, "n"), "n"),
    jti: text(said, "jti"),
    timeMs: Number(time(at(said, "time_ms"), "time_ms")),
    kid: text(said, "kid"),
    name: textOr(said, "name"),
    role: textOr(said, "role"),
    sid: textOr(said, "sid"),
    format: text(said, "format"),
    fromNs: timeOr(said, "from_ns"),
    untilNs: timeOr(said, "until_ns"),
    leads: leadsOf(said),
    outcome: text(said, "outcome"),
    rows: timeOr(said, "rows"),
  };
}

/** A streamed answer has two records of one request: its beginning, and how it ended. */
function joined(records: readonly Record[]): Looked[] {
  const found = new Map<string, Record>();
  for (const one of records) {
    const begun = found.get(one.jti);
    found.set(one.jti, begun ? { ...begun, outcome: one.outcome, rows: one.rows ?? begun.rows } : one);
  }
  return [...found.values()];
}
