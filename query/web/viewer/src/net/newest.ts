/** Where a stream's newest sealed rows are, by its links: of the last hour, or the last day, that the grant allows. */

import { json } from "chordae-chain";
import { DAY, HOUR, msOf, nsOf } from "../core/time.js";
import { type Door } from "./door.js";
import { type Grant } from "./grants.js";
import { LISTING_MAX, time } from "./wire.js";

/** The end of the newest chunk, ms; null where the last day has none. */
export async function newestRow(door: Door, { did, fromNs, untilNs }: Grant, now: number): Promise<number | null> {
  const until = untilNs !== null && untilNs < nsOf(now) ? untilNs : nsOf(now);
  for (const back of [HOUR, DAY]) {
    const early = until - nsOf(back);
    const from = fromNs !== null && fromNs > early ? fromNs : early;
    if (from >= until) return null;
    const said = json.read(await door.text(`/v1/streams/${did}/chunks?from=${from}&until=${until}`, LISTING_MAX), "links");
    const links = said instanceof Map ? said.get("links") : null;
    const ends = (Array.isArray(links) ? links : []).map((link) => time(link instanceof Map ? link.get("end_ns") : null, "end_ns"));
    if (ends.length > 0) return msOf(ends.reduce((a, b) => (a > b ? a : b)));
  }
  return null;
}
