/** From the blocks of a strip and a trust file to what may be drawn, and what is to be said of it. */

import { type TrustFile, json, parseTrust } from "chordae-chain";
import { type Part } from "../net/part.js";
import { judgeRows, orWrong } from "../net/judge.js";
import { type Strip } from "./blocks.js";

export interface Checked {
  readonly part: Part;
  /** What it was checked against. */
  readonly trust: TrustFile;
}

/**
 * Judges all of a strip by a trust file's text: the one in the strip, or the reader's own. Throws what keeps it from
 * judging, a trust file that is none above all; what contradicts the proof is in the part, without its rows.
 */
export function check(strip: Strip, trustText: string): Checked {
  const trust = parseTrust(trustText);
  const part = orWrong(strip.asked, () => judgeRows(json.base64(strip.answer.trim(), "answer"), strip.proof, strip.asked, trustText));
  return { part, trust };
}
