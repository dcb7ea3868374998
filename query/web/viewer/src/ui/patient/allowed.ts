/** Who may see what: a line for each stream that a session allows. */

import { type Allowed, type Section, type Session } from "../../net/sessions.js";
import { type Column, type State } from "../table.js";
import { boundary, fingerprint, leadWords, partyWords, spanWords } from "../words.js";

export interface AllowedRow {
  readonly key: string;
  readonly session: Session;
  readonly section: Section;
  readonly grant: Allowed;
  readonly who: string;
  readonly span: string;
}

const STATES: Record<string, State> = {
  live: { word: "may see", shape: "●", tone: "good" },
  expired: { word: "has ended", shape: "○", tone: "none" },
  revoked: { word: "revoked", shape: "✕", tone: "none" },
  "not-in-the-log": { word: "not in the ledger yet", shape: "◔", tone: "wait" },
  altered: { word: "altered: nothing is sent", shape: "▲", tone: "bad" },
};

/** Of sessions that this key granted. */
export function rowsOf(sessions: readonly Session[], kid: string): AllowedRow[] {
  return sessions.flatMap((session) =>
    session.sections.flatMap((section, i) =>
      section.patient !== kid
        ? []
        : section.grants.map((grant, j) => ({
            key: `${session.sid} ${i} ${j}`,
            session,
            section,
            grant,
            who: partyWords(section.requester, section.requesterName),
            span: spanWords(grant),
          })),
    ),
  );
}

/** Whether there is anything to revoke. */
export function stillMay({ state }: Session): boolean {
  return state !== "revoked" && state !== "expired";
}

export function allowedColumns(nameOf: (did: string) => string): Column<AllowedRow>[] {
  return [
    { name: "Who", cell: ({ who }) => who, title: ({ section }) => fingerprint(section.requester) },
    { name: "Now", cell: ({ session }) => STATES[session.state] ?? { word: session.state, shape: "?", tone: "wait" } },
    { name: "Stream", cell: ({ grant }) => nameOf(grant.did) },
    { name: "From, until", cell: ({ span }) => span, by: ({ grant }) => grant.fromNs ?? 0n },
    { name: "Leads", cell: ({ grant }) => leadWords(grant.leads) },
    { name: "What for", cell: ({ section }) => section.purpose },
    { name: "Ends by itself", cell: ({ section }) => boundary(section.expiresNs, "never"), by: ({ section }) => section.expiresNs ?? 2n ** 63n },
    { name: "Session", cell: ({ session }) => `${session.sid.slice(0, 8)}…`, title: ({ session }) => session.sid },
  ];
}
