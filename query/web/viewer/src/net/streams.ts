/** The streams that a party may see without a session: a patient her own, an operator the names of all. */

import { json } from "chordae-chain";
import { type Door } from "./door.js";
import { type Grant } from "./grants.js";
import { newestRow } from "./newest.js";
import { LISTING_MAX, list, text } from "./wire.js";

export interface Stream {
  readonly did: string;
  /** DEVICE/STREAM. */
  readonly name: string;
}

export async function streamsOf(door: Door): Promise<Stream[]> {
  const said = json.read(await door.text("/v1/streams", LISTING_MAX), "streams");
  return list(said, "streams").map((stream) => ({ did: text(stream, "did"), name: text(stream, "stream") }));
}

/** A patient's own stream, all of it. */
export function wholeOf({ did }: Stream): Grant {
  return { sid: null, did, fromNs: null, untilNs: null, leads: null, purpose: "your own stream" };
}

/** The leads of a stream's newest sealed row; none where the last day has no rows. */
export async function leadsOf(door: Door, stream: Stream, nowMs: number): Promise<string[]> {
  const end = await newestRow(door, wholeOf(stream), nowMs);
  if (end === null) return [];
  const untilNs = BigInt(Math.floor(end)) * 1_000_000n;
  const window = `/v1/streams/${stream.did}/window?from=${untilNs - 1_000_000_000n}&until=${untilNs}&format=json`;
  const said = json.read(await door.text(window, LISTING_MAX), "window");
  return list(said, "leads").map((lead) => text(lead, "name"));
}
