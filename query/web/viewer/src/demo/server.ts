/** What only the demo's server answers. */

import { type Wrong } from "../net/part.js";

export type Deed = "nothing" | "flip-bit" | "swap-chunks" | "roll-back-ledger" | "widen-grant";

/** A copy, what was done to it, and what `chordae verify` says of it. */
export interface Copy {
  readonly copy: number;
  readonly said: string;
  readonly at_ms: number;
  readonly checker: { readonly verdict: "ok" | "unanchored" | "damaged"; readonly findings: readonly Wrong[] };
}

export function clinician(): Promise<{ trust: string; key: string }> {
  return asked("/demo/clinician", {});
}

export function copy(deed: Deed, did: string): Promise<Copy> {
  const headers = { "content-type": "application/json" };
  return asked("/demo/copies", { method: "POST", headers, body: JSON.stringify({ deed, did }) });
}

async function asked<T>(path: string, how: RequestInit): Promise<T> {
  const answer = await fetch(path, { ...how, cache: "no-store" });
  const said = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
  if (!answer.ok) throw new Error(String(said["detail"] ?? answer.statusText));
  return said as T;
}
