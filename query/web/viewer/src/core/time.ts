/**
 * Times. On the wire they are bigint nanoseconds since 1970; inside the viewer they are `number` milliseconds since
 * 1970, which hold 0.25 microseconds: fine enough to draw, and 60 times a second no bigint is made.
 */

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Half-open, in milliseconds. */
export interface Span {
  readonly from: number;
  readonly until: number;
}

export function msOf(ns: bigint): number {
  const whole = ns / 1_000_000n;
  return Number(whole) + Number(ns - whole * 1_000_000n) / 1e6;
}

/** Of whole milliseconds. */
export function nsOf(ms: number): bigint {
  return BigInt(Math.round(ms)) * 1_000_000n;
}

export function meets(a: Span, b: Span): boolean {
  return a.from < b.until && b.from < a.until;
}

/** The part of `a` inside `b`, if there is any. */
export function within(a: Span, b: Span): Span | undefined {
  const [from, until] = [Math.max(a.from, b.from), Math.min(a.until, b.until)];
  return from < until ? { from, until } : undefined;
}

/** Sorted, and each instant in one span: what touches is one. */
export function union(spans: readonly Span[]): Span[] {
  const all: { from: number; until: number }[] = [];
  for (const { from, until } of [...spans].sort((a, b) => a.from - b.from)) {
    const last = all.at(-1);
    if (last && from <= last.until) last.until = Math.max(last.until, until);
    else if (from < until) all.push({ from, until });
  }
  return all;
}

/** `2026-11-29 12:00:00.000`, UTC; as many digits as `digits` of the second. */
export function clock(ms: number, digits = 0): string {
  // Cut, never rounded: a label must not name an instant that is still to come.
  const iso = new Date(Math.floor(ms)).toISOString().replace("T", " ").slice(0, -1);
  return digits === 0 ? iso.slice(0, -4) : iso.slice(0, iso.length - 3 + Math.min(digits, 3));
}

/** The same by the reader's own clock, with its distance from UTC: `2026-11-29 13:00:00 +01:00`. */
export function local(ms: number): string {
  const ahead = -new Date(ms).getTimezoneOffset();
  const two = (n: number) => String(n).padStart(2, "0");
  const by = Math.abs(ahead);
  return `${clock(ms + ahead * MINUTE)} ${ahead < 0 ? "-" : "+"}${two(Math.floor(by / 60))}:${two(by % 60)}`;
}

/** A length of time in words: `350 ms`, `2.5 s`, `3 min`, `1.5 h`, `12 d`. */
export function length(ms: number): string {
  const number = (n: number) => String(Number(n.toPrecision(3)));
  if (ms < SECOND) return `${number(ms)} ms`;
  if (ms < 2 * MINUTE) return `${number(ms / SECOND)} s`;
  if (ms < 2 * HOUR) return `${number(ms / MINUTE)} min`;
  return ms < 3 * DAY ? `${number(ms / HOUR)} h` : `${number(ms / DAY)} d`;
}
