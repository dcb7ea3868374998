/**
 * A lead as a line of at most two points per pixel column: never an average, so a spike of one sample stays as high as
 * it is, whatever the zoom.
 */

import { NO_VALUE } from "./gaps.js";

/** Columns of one lead of a tile; `low` and `high` are one array where each row is one sample. */
export interface Trace {
  readonly times: Float64Array;
  readonly low: Int32Array;
  readonly high: Int32Array;
}

/** What draws: a path, or a list in a test. */
export interface Pen {
  moveTo(x: number, y: number): void;
  lineTo(x: number, y: number): void;
}

export interface Scale {
  /** Instant of x = 0. */
  readonly from: number;
  readonly pxPerMs: number;
  /** y of a code: `y0 - code * perCode`, downwards as a canvas has it. */
  readonly y0: number;
  readonly perCode: number;
}

/**
 * Draws a trace. The pen is lifted where a row has no value and where rows are further apart than `apart` ms.
 *
 * Columns are counted from the tile's own start and not from the edge of the screen, so that a spike does not flicker
 * from one column into the next while the paper moves.
 */
export function draw(pen: Pen, { times, low, high }: Trace, apart: number, scale: Scale): void {
  const { from, pxPerMs, y0, perCode } = scale;
  // Plain assignments below, and no arrays: while somebody zooms this runs over half a million samples a frame.
  let down = false;
  let before = -Infinity;
  let open = false;
  // Of the open column: its number, its first instant, its extremes, and which of them came first.
  let column = 0;
  let start = 0;
  let least = 0;
  let most = 0;
  let leastFirst = true;
  const close = () => {
    if (!open) return;
    open = false;
    const x = (start - from) * pxPerMs;
    const a = y0 - (leastFirst ? least : most) * perCode;
    const b = y0 - (leastFirst ? most : least) * perCode;
    if (down) pen.lineTo(x, a);
    else pen.moveTo(x, a);
    // A lone sample between two gaps is a dot, not nothing: a line of no length with round ends.
    if (a !== b || !down) pen.lineTo(x, b);
    down = true;
  };
  for (let k = 0; k < times.length; k++) {
    const t = times[k] as number;
    const l = low[k] as number;
    if (l === NO_VALUE || t - before > apart) {
      close();
      down = false;
    }
    before = t;
    if (l === NO_VALUE) continue;
    const h = high[k] as number;
    const c = Math.floor((t - from) * pxPerMs);
    if (!open || c !== column) {
      close();
      open = true;
      column = c;
      start = t;
      least = l;
      most = h;
      leastFirst = true;
      continue;
    }
    if (l < least) {
      least = l;
      leastFirst = false;
    }
    if (h > most) {
      most = h;
      leastFirst = true;
    }
  }
  close();
}
