/** The sessions that a party granted, or may use. */

import { json } from "chordae-chain";
import { type Door } from "./door.js";
import { LISTING_MAX, at, leadsOf, list, text, textOr, timeOr } from "./wire.js";

const PAGES_MAX = 100;

/** What is allowed of one stream. */
export interface Allowed {
  readonly did: string;
  readonly fromNs: bigint | null;
  readonly untilNs: bigint | null;
  /** Null: all. */
  readonly leads: string[] | null;
}

export interface Section {
  /** Key ids. */
  readonly patient: string;
  readonly requester: string;
  /** As the server knows her; proves nothing. */
  readonly requesterName: string | null;
  readonly expiresNs: bigint | null;
  readonly purpose: string;
  readonly grants: Allowed[];
}

export interface Session {
  readonly sid: string;
  /** `live`, `expired`, `revoked`, `not-in-the-log`, `altered`. */
  readonly state: string;
  readonly sections: Section[];
}

/** All whose record is kept; a revoked one has none. */
export async function sessionsOf(door: Door): Promise<Session[]> {
  const found: Session[] = [];
  let target = "/v1/sessions";
  for (let page = 0; page < PAGES_MAX; page++) {
    const said = json.read(await door.text(target, LISTING_MAX), "sessions");
    found.push(...list(said, "sessions").map(session));
    const next = at(said, "next");
    if (typeof next !== "string") break;
    target = `/v1/sessions?from=${next}`;
  }
  return found;
}

function session(said: json.Json): Session {
  return { sid: text(said, "sid"), state: text(said, "state"), sections: list(said, "sections").map(section) };
}

function section(said: json.Json): Section {
  return {
    patient: text(said, "patient"),
    requester: text(said, "requester"),
    requesterName: textOr(said, "requester_name"),
    expiresNs: timeOr(said, "expires_ns"),
    purpose: text(said, "purpose"),
    grants: list(said, "grants").map((grant) => ({
      did: text(grant, "did"),
      fromNs: timeOr(grant, "from_ns"),
      untilNs: timeOr(grant, "until_ns"),
      leads: leadsOf(grant),
    })),
  };
}
