/**
 * Where which lead is drawn: strips, each a piece of a row.
 *
 *     rows      every lead on its own row, over the whole width
 *     3x4+1     I aVR V1 V4 / II aVL V2 V5 / III aVF V3 V6, and one rhythm row below; only with twelve leads
 *
 * Time runs on from column to column, as on paper: a strip shows its lead while its columns last, so all strips that
 * are above each other show the same instants.
 */

/** The twelve, in the order of the columns. */
export const TWELVE = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"] as const;
const COLUMNS = 4;
/** Whose row is the rhythm row, in order of preference. */
const RHYTHM = ["II", "V1", "I"];

export type Layout = "rows" | "3x4+1";

/** Fractions of the sheet: [0, 1) from left to right; the base line from top to bottom. */
export interface Strip {
  readonly lead: string;
  readonly left: number;
  readonly right: number;
  readonly base: number;
  /** The row's height, as a fraction. */
  readonly height: number;
}

/** The leads' own names of the twelve, or undefined where one is missing. Devices write AVR, avr or aVR. */
export function twelve(leads: readonly string[]): string[] | undefined {
  const found = TWELVE.map((name) => leads.find((lead) => lead.toLowerCase() === name.toLowerCase()));
  return found.every((name) => name !== undefined) ? found : undefined;
}

/** The layouts that these leads can have. */
export function possible(leads: readonly string[]): Layout[] {
  return twelve(leads) ? ["rows", "3x4+1"] : ["rows"];
}

/** The strips of a layout. What cannot be laid out 3x4+1 is laid out in rows. */
export function strips(layout: Layout, leads: readonly string[]): Strip[] {
  const all = layout === "3x4+1" ? twelve(leads) : undefined;
  return all ? columns(all, leads) : rows(leads);
}

function rows(leads: readonly string[]): Strip[] {
  const height = 1 / Math.max(leads.length, 1);
  return leads.map((lead, row) => ({ lead, left: 0, right: 1, base: (row + 0.5) * height, height }));
}

function columns(all: readonly string[], leads: readonly string[]): Strip[] {
  const perColumn = all.length / COLUMNS;
  const height = 1 / (perColumn + 1);
  const found = all.map((lead, place) => {
    const [column, row] = [Math.floor(place / perColumn), place % perColumn];
    return { lead, left: column / COLUMNS, right: (column + 1) / COLUMNS, base: (row + 0.5) * height, height };
  });
  const rhythm = RHYTHM.map((name) => leads.find((lead) => lead.toLowerCase() === name.toLowerCase())).find(Boolean);
  const row = { lead: rhythm ?? (all[0] as string), left: 0, right: 1, base: (perColumn + 0.5) * height, height };
  return [...found, row];
}

/** The strip under a point, in fractions of the sheet. */
export function stripAt(all: readonly Strip[], x: number, y: number): Strip | undefined {
  return all.find((s) => x >= s.left && x < s.right && Math.abs(y - s.base) <= s.height / 2);
}
