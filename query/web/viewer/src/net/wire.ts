/** What questions and answers have in common: bounds, times, names of leads. */

import { json } from "chordae-chain";

/** Bytes of a listing: of streams, sessions or links. */
export const LISTING_MAX = 16 * 1024 * 1024;

/** A time of the service, in nanoseconds. */
export function time(value: json.Json | undefined, what: string): bigint {
  return json.integer(value, what, -(2n ** 63n), 2n ** 63n - 1n);
}

/** A field of an object; null where there is none. */
export function at(value: json.Json, key: string): json.Json {
  return (value instanceof Map ? value.get(key) : null) ?? null;
}

export function list(value: json.Json, key: string): json.Json[] {
  const found = at(value, key);
  return Array.isArray(found) ? found : [];
}

export function text(value: json.Json, key: string): string {
  return textOr(value, key) ?? "";
}

export function textOr(value: json.Json, key: string): string | null {
  const found = at(value, key);
  return typeof found === "string" ? found : null;
}

/** A time that may be absent. */
export function timeOr(value: json.Json, key: string): bigint | null {
  const found = at(value, key);
  return found === null ? null : time(found, key);
}

/** Names of leads; null: all. */
export function leadsOf(value: json.Json): string[] | null {
  return at(value, "leads") === null ? null : list(value, "leads").map(String);
}

/** The parameter that names leads, after `before`; nothing for all leads. */
export function leadsParameter(before: "?" | "&", leads: readonly string[] | null): string {
  if (leads === null) return "";
  const escaped = leads.map((name) => name.replace(/[\\,]/g, "\\$&")).join(",");
  return `${before}leads=${encodeURIComponent(escaped)}`;
}
