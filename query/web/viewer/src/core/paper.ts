/**
 * ECG paper: millimetres, milliseconds, millivolts and pixels.
 *
 *     speed   mm of paper per second     12.5, 25, 50; between and below them while zooming
 *     gain    mm of paper per millivolt  5, 10, 20
 *     density pixels per mm              96 / 25.4 of CSS, or as the reader calibrated the screen with a card
 *
 * A view is the left edge and the speed; the rest follows.
 */

import { DAY, MINUTE, SECOND, type Span } from "./time.js";

export const SPEEDS = [12.5, 25, 50] as const;
export const GAINS = [5, 10, 20] as const;
/** What CSS takes a millimetre for. */
export const CSS_DENSITY = 96 / 25.4;
/** Width of a bank or identity card (ISO/IEC 7810 ID-1), which a reader lays on the screen to calibrate it. */
export const CARD_MM = 85.6;
/** A beat fills the screen; beyond this, samples are far apart even at 500 Hz. */
export const SPEED_MAX = 400;
/** From this speed on the grid is drawn: below, five of its boxes are more than a second. */
export const GRID_SPEED_MIN = 5;

export interface View {
  /** Instant of the left edge, ms. */
  readonly from: number;
  /** mm per second. */
  readonly speed: number;
}

/** What turns a view into pixels. */
export interface Sheet {
  /** Pixels per mm. */
  readonly density: number;
  /** Pixels from the left edge of the traces to the right one. */
  readonly width: number;
}

export function pxPerMs(view: View, sheet: Sheet): number {
  return (view.speed * sheet.density) / SECOND;
}

/** Of a CSS pixel, whatever the density: a printed page shows what the screen shows, from the same rows. */
export function msPerCssPx({ speed }: View): number {
  return SECOND / (speed * CSS_DENSITY);
}

export function xOf(ms: number, view: View, sheet: Sheet): number {
  return (ms - view.from) * pxPerMs(view, sheet);
}

export function msAt(x: number, view: View, sheet: Sheet): number {
  return view.from + x / pxPerMs(view, sheet);
}

export function spanOf(view: View, sheet: Sheet): Span {
  return { from: view.from, until: msAt(sheet.width, view, sheet) };
}

/** Moves the paper by pixels: to the left for later times. */
export function panned(view: View, sheet: Sheet, px: number): View {
  return { ...view, from: view.from + px / pxPerMs(view, sheet) };
}

/** Another speed, with the instant under `x` staying where it is. */
export function zoomed(view: View, sheet: Sheet, speed: number, x: number): View {
  const bounded = Math.min(Math.max(speed, slowest(sheet)), SPEED_MAX);
  const kept = msAt(x, view, sheet);
  const then = { from: view.from, speed: bounded };
  return { from: kept - x / pxPerMs(then, sheet), speed: bounded };
}

/** The speed at which `ms` fill the sheet. */
export function speedFor(ms: number, sheet: Sheet): number {
  return (sheet.width / sheet.density / ms) * SECOND;
}

/** A day, and a little around it, fills the sheet. */
export function slowest(sheet: Sheet): number {
  return speedFor(1.25 * DAY, sheet);
}

/** The next speed of paper above or below, or a step of a quarter where there is none. */
export function stepped(speed: number, direction: 1 | -1): number {
  const near = 1e-6 * speed;
  const next = direction > 0 ? SPEEDS.find((s) => s > speed + near) : SPEEDS.findLast((s) => s < speed - near);
  const inside = speed >= SPEEDS[0] / 2 && speed <= 2 * SPEEDS[2];
  return inside && next !== undefined ? next : speed * 2 ** direction;
}

/** Upwards from the base line, in pixels. */
export function heightOf(mv: number, gain: number, sheet: Sheet): number {
  return mv * gain * sheet.density;
}

/** Vertical lines of the grid inside a span: instants that are multiples of a small box (1 mm) or a large one (5 mm). */
export function gridLines(span: Span, speed: number, boxMm: 1 | 5): number[] {
  const step = (boxMm * SECOND) / speed;
  const first = Math.ceil(span.from / step);
  const count = Math.max(Math.ceil(span.until / step) - first, 0);
  return Array.from({ length: count }, (_, k) => (first + k) * step);
}

const TICKS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500,
  ...[1, 2, 5, 10, 15, 30].map((s) => s * SECOND),
  ...[1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440].map((m) => m * MINUTE),
]; // prettier-ignore

/** Instants to label, at least `apartPx` from each other, and the length of a step between them. */
export function ticks(view: View, sheet: Sheet, apartPx: number): { readonly at: number[]; readonly step: number } {
  const least = apartPx / pxPerMs(view, sheet);
  const step = TICKS.find((t) => t >= least) ?? DAY;
  const { from, until } = spanOf(view, sheet);
  const first = Math.ceil(from / step);
  const count = Math.max(Math.ceil(until / step) - first, 0);
  return { at: Array.from({ length: count }, (_, k) => (first + k) * step), step };
}

/** Millivolts in one unit of a lead; null where the unit is no voltage (marks): it is drawn as if it were one. */
export function mvPer(unit: string): number | null {
  return { mV: 1, uV: 1e-3, "µV": 1e-3, V: 1e3, nV: 1e-6 }[unit] ?? null;
}
