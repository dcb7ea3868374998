/**
 * A strip on paper: lines of ten seconds, one below the other, each a picture of its own.
 *
 *     .----------------- 10 s, 250 mm -----------------.
 *     | leads 1 to 12                                  |   no more leads in one picture than an A4 page
 *     '------------------------------------------------'   across takes at 10 mm/mV
 *     | leads 13 to 15 ...                             |
 *
 * Bitmaps are as fine as a printer's, or as the memory of a browser allows.
 */

import { type Strip, strips } from "../core/layout.js";
import { SECOND, type Span, meets } from "../core/time.js";
import { type Part, cut } from "../net/part.js";
import { AXIS_MM, BAND_MM, type Blank, GUTTER_MM, type Scene, sheetOf } from "../ui/scene.js";

export const SPEED = 25;
export const GAIN = 10;
const LINE_MS = 10 * SECOND;
const LEADS_PER_LINE = 12;
/** Height of a lead: what an A4 page has for all of them, within bounds. */
const LEADS_MM = 144;
const LEAD_MM = { least: 12, most: 30 };
/** Above the first lead: its name, and what of it is high. */
const HEAD_MM = 6;
/** 254 dpi. */
const DENSITY_MAX = 10;
/** Of all pictures together: 256 MiB. */
const PIXELS_MAX = 64 * 1024 * 1024;

export interface Line {
  readonly span: Span;
  /** Size on paper. */
  readonly widthMm: number;
  readonly heightMm: number;
  readonly scene: Scene;
}

/** The pictures of a part, in the order of reading. */
export function linesOf(part: Part): Line[] {
  const { from, until } = part.window;
  const groups = groupsOf(part.leads.map((lead) => lead.name));
  // Where there is no lead, one line says why.
  const count = part.leads.length === 0 ? 1 : Math.ceil((until - from) / LINE_MS);
  const spans = Array.from({ length: count }, (_, k) => ({ from: from + k * LINE_MS, until: from + (k + 1) * LINE_MS }));
  const widthMm = GUTTER_MM + (LINE_MS / SECOND) * SPEED;
  const leadsMm = Math.max(groups[0]?.length ?? 0, 1) * leadMm(groups);
  const heightMm = AXIS_MM + HEAD_MM + leadsMm + BAND_MM;
  const head = HEAD_MM / (HEAD_MM + leadsMm);
  const density = Math.min(DENSITY_MAX, Math.sqrt(PIXELS_MAX / (widthMm * heightMm * count * groups.length)));
  const [width, height] = [widthMm, heightMm].map((mm) => Math.floor(mm * density)) as [number, number];
  return spans.flatMap((span) => {
    const about = {
      view: { from: span.from, speed: SPEED },
      sheet: sheetOf(width, density),
      gain: GAIN,
      pieces: cut(part, span),
      blanks: blanksOf(part).filter((blank) => meets(blank, span)),
      bands: part.qualities.filter((band) => meets(band, span)),
      standings: [part.proof.standing],
      notes: [],
      calipers: null,
      width,
      height,
    };
    const shown = { from: span.from, until: Math.min(span.until, until) };
    return groups.map((leads) => ({ span: shown, widthMm, heightMm, scene: { ...about, strips: below(head, leads) } }));
  });
}

/** As few groups as there must be, of about as many leads each. */
function groupsOf(leads: readonly string[]): string[][] {
  const count = Math.max(Math.ceil(leads.length / LEADS_PER_LINE), 1);
  const size = Math.ceil(leads.length / count);
  return Array.from({ length: count }, (_, k) => leads.slice(k * size, (k + 1) * size));
}

/** A row each, below a head that takes a part of the height. */
function below(head: number, leads: readonly string[]): Strip[] {
  const rest = 1 - head;
  return strips("rows", leads).map((strip) => ({ ...strip, base: head + strip.base * rest, height: strip.height * rest }));
}

function leadMm(groups: readonly string[][]): number {
  const most = Math.max(groups[0]?.length ?? 0, 1);
  return Math.min(Math.max(LEADS_MM / most, LEAD_MM.least), LEAD_MM.most);
}

/** What is not drawn as a line: gaps, what does not match, and the paper behind the end. */
function blanksOf({ window, gaps, proof }: Part): Blank[] {
  const behind: Blank = { from: window.until, until: window.until + LINE_MS, kind: "outside", words: "after the end of this strip" };
  if (proof.standing === "mismatch") {
    return [{ ...window, kind: "mismatch", words: "does not match its proof: nothing is drawn" }, behind];
  }
  return [...gaps.map((gap): Blank => ({ ...gap, kind: "gap", words: "no data" })), behind];
}
