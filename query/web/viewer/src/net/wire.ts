/** What questions and answers have in common: bounds, times, names of leads. */

import { json } from "chordae-chain";

/** Bytes of a listing: of streams, sessions or links. */
export const LISTING_MAX = 16 * 1024 * 1024;

/** A time of the service, in nanoseconds. */
export function time(value: json.Json | undefined, what: string): bigint {
  return json.integer(value, what, -(2n ** 63n), 2n ** 63n - 1n);
}

/** The parameter that names leads, after `before`; nothing for all leads. */
export function leadsParameter(before: "?" | "&", leads: readonly string[] | null): string {
  if (leads === null) return "";
  const escaped = leads.map((name) => name.replace(/[\\,]/g, "\\$&")).join(",");
  return `${before}leads=${encodeURIComponent(escaped)}`;
}
