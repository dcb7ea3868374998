/** Gaps: spans without rows, and stretches of a lead without values. They are hatched, and no line crosses them. */

import { type Span } from "./time.js";

/** The code that means: no value. */
export const NO_VALUE = -2147483648;

/** A run of rows with one distance from sample to sample. */
export interface Run {
  readonly rows: number;
  readonly step: number;
}

/**
 * The spans of `window` that no row of `times` reaches over: a row reaches for one step, and a hole of up to half a
 * step is jitter. Times rise, but for rows of two chunks at one instant.
 */
export function gapsOf(times: Float64Array, runs: readonly Run[], window: Span): Span[] {
  const gaps: Span[] = [];
  let reached = window.from;
  let at = 0;
  // Before the first row, a phase of the sampling of less than a step is no gap.
  let slack = runs[0]?.step ?? 0;
  for (const { rows, step } of runs) {
    for (const end = Math.min(at + rows, times.length); at < end; at++) {
      const t = times[at] as number;
      if (t - reached > slack) gaps.push({ from: reached, until: t });
      reached = Math.max(reached, t + step);
      slack = step / 2;
    }
  }
  if (window.until - reached > slack) gaps.push({ from: reached, until: window.until });
  return gaps;
}

/** The stretches in which a lead has rows and no values. */
export function voidsOf(times: Float64Array, codes: Int32Array, step: number): Span[] {
  const voids: Span[] = [];
  let since: number | undefined;
  for (let k = 0; k < codes.length; k++) {
    if (codes[k] === NO_VALUE) since ??= k;
    else if (since !== undefined) {
      voids.push({ from: times[since] as number, until: times[k] as number });
      since = undefined;
    }
  }
  if (since !== undefined) {
    voids.push({ from: times[since] as number, until: (times[codes.length - 1] as number) + step });
  }
  return voids;
}

/** How good the device's clock was over a span, as the chunk's metadata says. */
export interface Quality extends Span {
  readonly quality: string;
}

/** Chunks begin at their first sample: up to a second at the slowest rate lies between two that follow each other. */
const BETWEEN = 1000;

/** Bands of equal quality, joined where they follow each other; the earlier chunk wins where two overlap. */
export function bands(chunks: readonly Quality[]): Quality[] {
  const found: Quality[] = [];
  for (const { quality, ...span } of [...chunks].sort((a, b) => a.from - b.from)) {
    const last = found.at(-1);
    const from = last ? Math.max(span.from, last.until) : span.from;
    if (from >= span.until) continue;
    if (last && last.quality === quality && from - last.until <= BETWEEN) {
      found[found.length - 1] = { ...last, until: span.until };
    } else found.push({ from, until: span.until, quality });
  }
  return found;
}
