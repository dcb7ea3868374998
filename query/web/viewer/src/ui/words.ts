/** What is allowed, and to whom, in words. */

import { local, msOf } from "../core/time.js";
import { type Allowed } from "../net/sessions.js";

export function boundary(ns: bigint | null, none: string): string {
  return ns === null ? none : local(msOf(ns));
}

export function spanWords({ fromNs, untilNs }: Pick<Allowed, "fromNs" | "untilNs">): string {
  return `${boundary(fromNs, "the beginning")} to ${boundary(untilNs, "no end: what comes, too")}`;
}

export function leadWords(leads: readonly string[] | null): string {
  return leads === null ? "all" : leads.join(", ");
}

/** A key id for people who compare it: groups of four. */
export function fingerprint(kid: string): string {
  return kid.replace(/(.{4})(?=.)/g, "$1 ");
}

/** A party by her name, which proves nothing, and the beginning of her key id, which does. */
export function partyWords(kid: string, name: string | null): string {
  const short = fingerprint(kid.slice(0, 16));
  return name === null ? short : `${name} (${short})`;
}
