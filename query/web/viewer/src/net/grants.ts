/** What this key may look at: the grants of its sessions, or a patient's own streams. */

import { type Door, Refusal } from "./door.js";
import { type Allowed, type Session, sessionsOf } from "./sessions.js";
import { streamsOf, wholeOf } from "./streams.js";

/** A window of one stream that may be shown. */
export interface Grant extends Allowed {
  /** The session; null for a patient's own stream. */
  readonly sid: string | null;
  readonly purpose: string;
}

/** All that is live now. */
export async function grantsOf(door: Door): Promise<Grant[]> {
  const live = (await sessionsOf(door)).filter(({ state }) => state === "live");
  return [...live.flatMap((session) => granted(session, door.kid)), ...(await own(door))];
}

/** What a session makes out to this key; its patient is shown all of it, and cannot use it. */
function granted({ sid, sections }: Session, kid: string): Grant[] {
  const mine = sections.filter(({ requester }) => requester === kid);
  return mine.flatMap(({ purpose, grants }) => grants.map((grant) => ({ ...grant, sid, purpose })));
}

/** A patient sees her own streams without a session; anybody else is refused, or sees none. */
async function own(door: Door): Promise<Grant[]> {
  try {
    return (await streamsOf(door)).map(wholeOf);
  } catch (e) {
    if (e instanceof Refusal && e.ends) return [];
    throw e;
  }
}
