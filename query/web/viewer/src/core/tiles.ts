/**
 * What to fetch for a view.
 *
 *     level 0   rows as they were recorded, in tiles of 30 s: whole pages, so that a proof is about every row
 *     level n   least and greatest code of buckets of 16 * 4^n ms, 1024 buckets a tile; nothing can prove those
 *
 * The level is the coarsest whose buckets are no wider than a pixel. Tiles lie on a grid, so panning asks for each
 * once, and two readers of one stream ask the server for the same windows.
 */

import { SECOND, type Span } from "./time.js";

export const RAW_TILE = 30 * SECOND;
export const BUCKETS = 1024;
const FIRST_BUCKET = 64;
/** A bucket of 65 s: a day on a small screen. */
export const LEVEL_MAX = 6;

export interface Place {
  readonly level: number;
  /** Which tile of the level, counted from 1970. */
  readonly n: number;
}

/** Milliseconds of a bucket; of level 0, where there is none, 0. */
export function bucketOf(level: number): number {
  return level === 0 ? 0 : FIRST_BUCKET * 4 ** (level - 1);
}

export function lengthOf(level: number): number {
  return level === 0 ? RAW_TILE : BUCKETS * bucketOf(level);
}

export function placeSpan({ level, n }: Place): Span {
  return { from: n * lengthOf(level), until: (n + 1) * lengthOf(level) };
}

export function keyOf({ level, n }: Place): string {
  return `${level}/${n}`;
}

export function levelFor(msPerPx: number): number {
  let level = 0;
  while (level < LEVEL_MAX && bucketOf(level + 1) <= msPerPx) level += 1;
  return level;
}

/** The tiles of a level that meet a span, from left to right. */
export function covering(level: number, { from, until }: Span): Place[] {
  const length = lengthOf(level);
  const first = Math.floor(from / length);
  const count = Math.max(Math.ceil(until / length) - first, 0);
  return Array.from({ length: count }, (_, k) => ({ level, n: first + k }));
}

/**
 * What a view needs, the most urgent first: what is seen, from the middle outwards; then, so that panning finds
 * something, one screen's worth on each side at most.
 */
export function wanted(view: Span, msPerPx: number, bounds: Span): Place[] {
  const level = levelFor(msPerPx);
  const middle = (view.from + view.until) / 2;
  const far = (p: Place) => Math.abs((placeSpan(p).from + placeSpan(p).until) / 2 - middle);
  const seen = covering(level, view).sort((a, b) => far(a) - far(b));
  const numbers = seen.map((p) => p.n);
  const beside = [Math.min(...numbers) - 1, Math.max(...numbers) + 1].map((n) => ({ level, n }));
  const allowed = (p: Place) => placeSpan(p).from < bounds.until && bounds.from < placeSpan(p).until;
  return [...seen, ...beside].filter(allowed);
}

/** Something that is kept while there is room. */
interface Weighed {
  readonly bytes: number;
}

/** The least recently used go first once all together weigh more than `bytesMax`. */
export class Cache<T extends Weighed> {
  private readonly held = new Map<string, T>();
  private bytes = 0;

  constructor(private readonly bytesMax: number) {}

  get(key: string): T | undefined {
    const found = this.held.get(key);
    if (found) {
      this.held.delete(key);
      this.held.set(key, found);
    }
    return found;
  }

  set(key: string, one: T): void {
    this.bytes += one.bytes - (this.held.get(key)?.bytes ?? 0);
    this.held.delete(key);
    this.held.set(key, one);
    for (const [old, { bytes }] of this.held) {
      if (this.bytes <= this.bytesMax || old === key) break;
      this.held.delete(old);
      this.bytes -= bytes;
    }
  }

  values(): T[] {
    return [...this.held.values()];
  }

  clear(): void {
    this.held.clear();
    this.bytes = 0;
  }
}
