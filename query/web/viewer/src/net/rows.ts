/** Arrow answers (docs of `query/src/formats/arrow.rs`) to columns. Everything in them is a claim. */

import { BadInput, NO_VALUE } from "chordae-chain";
import { type Data, DataType, type Field, type Table, tableFromIPC } from "apache-arrow";
import { type Claim } from "./part.js";

const LEADS_MAX = 64;
/** What an Arrow stream ends with. One that was cut off is taken for whole by the library. */
const END = [255, 255, 255, 255, 0, 0, 0, 0];

export interface Rows {
  readonly leads: string[];
  readonly times: BigInt64Array;
  readonly codes: Int32Array[];
  /** Null of a column that no chunk has. */
  readonly claims: (Claim | null)[];
  /** Samples per second, the slowest if there are several; null for an answer without rows. */
  readonly rate: number | null;
}

/** Reads a whole Arrow answer. Throws {@link BadInput}. */
export function readRows(answer: Uint8Array): Rows {
  const end = answer.subarray(-END.length);
  if (!END.every((byte, i) => end[i] === byte)) throw new BadInput("the answer was cut off: its end is missing");
  let table: Table;
  try {
    table = tableFromIPC(answer);
  } catch (e) {
    throw new BadInput(`the answer is no Arrow stream: ${e instanceof Error ? e.message : e}`);
  }
  const [time, ...leads] = table.schema.fields;
  const typed = time?.name === "time" && DataType.isTimestamp(time.type) && leads.every((f) => DataType.isInt(f.type));
  if (!typed || leads.length > LEADS_MAX) throw new BadInput("the answer's columns are not `time` and leads");
  const column = (i: number) => (table.getChildAt(i)?.data ?? []) as readonly Data[];
  const rates = (table.schema.metadata.get("chordae.rate") ?? "").split(",").map((rate) => {
    const [num, den] = rate.split("/").map(Number);
    return (num ?? Number.NaN) / (den ?? Number.NaN);
  });
  return {
    leads: leads.map((field) => field.name),
    times: joined(BigInt64Array, column(0), table.numRows, 0n),
    codes: leads.map((_, i) => joined(Int32Array, column(i + 1), table.numRows, NO_VALUE)),
    claims: leads.map(claim),
    rate: rates.every((rate) => rate > 0) ? Math.min(...rates) : null,
  };
}

function claim({ metadata }: Field): Claim | null {
  const gain = Number(metadata.get("chordae.gain"));
  const unit = metadata.get("chordae.unit");
  if (unit === undefined || !Number.isFinite(gain) || gain === 0) return null;
  return { gain, baseline: Number(metadata.get("chordae.baseline") ?? 0), unit };
}

interface Columns<V, A> {
  new (length: number): A & { [place: number]: V; set(from: ArrayLike<V>, at: number): void };
}

/** The batches of a column, one after the other; `none` where there is no value. */
function joined<V, A>(make: Columns<V, A>, batches: readonly Data[], rows: number, none: V): A {
  const all = new make(rows);
  let at = 0;
  for (const batch of batches) {
    if (!(batch.values instanceof make)) throw new BadInput("a column of the answer has another type");
    all.set((batch.values as unknown as { subarray(a: number, b: number): ArrayLike<V> }).subarray(0, batch.length), at);
    if (batch.nullCount > 0) {
      for (let k = 0; k < batch.length; k++) if (!batch.getValid(k)) all[at + k] = none;
    }
    at += batch.length;
  }
  return all;
}
