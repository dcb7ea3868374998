/** Calipers: two instants and two voltages, and what a clinician reads from them. */

import { MINUTE } from "./time.js";

export interface Calipers {
  readonly from: number;
  readonly until: number;
  /** Of the first and the second point, in mV from the base line. */
  readonly fromMv: number;
  readonly untilMv: number;
}

export interface Measured {
  readonly ms: number;
  readonly mv: number;
  /** Beats per minute if the two instants are one beat apart; null where they are one instant. */
  readonly bpm: number | null;
}

/** The second point minus the first in mV; the distance in ms. */
export function measure({ from, until, fromMv, untilMv }: Calipers): Measured {
  const ms = Math.abs(until - from);
  return { ms, mv: untilMv - fromMv, bpm: ms > 0 ? MINUTE / ms : null };
}

/** For people: whole ms, hundredths of a millivolt, whole beats. */
export function told({ ms, mv, bpm }: Measured): string {
  const beats = bpm === null || bpm > 999 ? "– bpm" : `${Math.round(bpm)} bpm`;
  return `${Math.round(ms)} ms · ${beats} · ${mv < 0 ? "−" : "+"}${Math.abs(mv).toFixed(2)} mV`;
}

/** At most this many lines are marched out on a side. */
const MARCH_MAX = 200;

/** The instants of a view that repeat the distance, for a rhythm to be held against; the two own ones are not in it. */
export function march({ from, until }: Calipers, view: { from: number; until: number }): number[] {
  const step = Math.abs(until - from);
  const first = Math.min(from, until);
  if (step <= 0 || (view.until - view.from) / step > MARCH_MAX) return [];
  const [low, high] = [Math.ceil((view.from - first) / step), Math.floor((view.until - first) / step)];
  const all = Array.from({ length: Math.max(high - low + 1, 0) }, (_, k) => low + k);
  return all.filter((k) => k !== 0 && k !== 1).map((k) => first + k * step);
}
