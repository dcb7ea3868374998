/** What this key may look at: the grants of its sessions, or a patient's own streams. */

import { json } from "chordae-chain";
import { type Door, Refusal } from "./door.js";
import { LISTING_MAX, time } from "./wire.js";

const PAGES_MAX = 100;

/** A window of one stream that may be shown. */
export interface Grant {
  /** The session; null for a patient's own stream. */
  readonly sid: string | null;
  readonly did: string;
  readonly fromNs: bigint | null;
  readonly untilNs: bigint | null;
  /** Null: all. */
  readonly leads: string[] | null;
  readonly purpose: string;
}

/** All that is live now. */
export async function grantsOf(door: Door): Promise<Grant[]> {
  return [...(await sessions(door)), ...(await own(door))];
}

async function sessions(door: Door): Promise<Grant[]> {
  const found: Grant[] = [];
  let target = "/v1/sessions";
  for (let page = 0; page < PAGES_MAX; page++) {
    const said = json.read(await door.text(target, LISTING_MAX), "sessions");
    for (const one of list(said, "sessions")) {
      if (text(one, "state") === "live") found.push(...granted(one, door.kid));
    }
    const next = at(said, "next");
    if (typeof next !== "string") break;
    target = `/v1/sessions?from=${next}`;
  }
  return found;
}

/** What a session makes out to this key; its patient is shown all of it, and cannot use it. */
function granted(session: json.Json, kid: string): Grant[] {
  const sid = text(session, "sid");
  const mine = list(session, "sections").filter((section) => text(section, "requester") === kid);
  return mine.flatMap((section) =>
    list(section, "grants").map((grant) => ({
      sid,
      did: text(grant, "did"),
      fromNs: bound(at(grant, "from_ns")),
      untilNs: bound(at(grant, "until_ns")),
      leads: at(grant, "leads") === null ? null : list(grant, "leads").map(String),
      purpose: text(section, "purpose"),
    })),
  );
}

/** A patient sees her own streams without a session; anybody else is refused, or sees none. */
async function own(door: Door): Promise<Grant[]> {
  try {
    const said = json.read(await door.text("/v1/streams", LISTING_MAX), "streams");
    const whole = { sid: null, fromNs: null, untilNs: null, leads: null, purpose: "your own stream" };
    return list(said, "streams").map((stream) => ({ ...whole, did: text(stream, "did") }));
  } catch (e) {
    if (e instanceof Refusal && e.ends) return [];
    throw e;
  }
}

function at(value: json.Json, key: string): json.Json {
  return (value instanceof Map ? value.get(key) : null) ?? null;
}

function list(value: json.Json, key: string): json.Json[] {
  const found = at(value, key);
  return Array.isArray(found) ? found : [];
}

function text(value: json.Json, key: string): string {
  const found = at(value, key);
  return typeof found === "string" ? found : "";
}

function bound(value: json.Json): bigint | null {
  return value === null ? null : time(value, "bound");
}
