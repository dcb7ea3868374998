/**
 * What a strip carries, as blocks of text in the page (docs/FORMATS.md 11, strips):
 *
 *     about   which stream and window, which leads, made when     JSON
 *     trust   the keys it is checked against                      a trust file
 *     proof   the proof bundle                                    JSON
 *     answer  the rows, Arrow                                     base64
 *
 * Whoever made the file chose all four; nothing in them is believed before it is verified.
 */

import { BadInput, json } from "chordae-chain";
import { SECOND } from "../core/time.js";
import { type Question } from "../net/part.js";
import { time } from "../net/wire.js";

const LEADS_MAX = 64;
/** As `chordae pull` has it, and a page at each end to which it may have widened the window. */
const SPAN_MS_MAX = (600 + 2 * 10) * SECOND;

export interface Strip {
  readonly asked: Question;
  readonly madeNs: bigint;
  /** Texts of the other three, as they stand. */
  readonly trust: string;
  readonly proof: string;
  readonly answer: string;
}

/** Reads the blocks of a page. Throws {@link BadInput}. */
export function readStrip(block: (name: string) => string | null): Strip {
  const text = (name: string): string => {
    const found = block(name);
    if (found === null) throw new BadInput(`the file is not whole: it has no ${name}`);
    return found;
  };
  const at = json.fields(json.read(text("about"), "about"), "about", ["v", "did", "from_ns", "until_ns", "leads", "made_ns"]);
  if (json.integer(at("v"), "v", 0n, 2n ** 32n) !== 1n) throw new BadInput("the strip is of another version than 1");
  const [fromNs, untilNs, madeNs] = ["from_ns", "until_ns", "made_ns"].map((key) => time(at(key), key)) as [bigint, bigint, bigint];
  if (fromNs >= untilNs || untilNs - fromNs > BigInt(SPAN_MS_MAX) * 1_000_000n) {
    throw new BadInput("the window of the strip is empty, or longer than ten minutes");
  }
  const leads = at("leads") === null ? null : json.items(at("leads"), "leads", LEADS_MAX).map((name) => json.string(name, "lead"));
  // The whole window was asked for: it must be answered to its end, whenever the strip was made.
  const asked = { did: json.string(at("did"), "did"), fromNs, untilNs, askedNs: 2n ** 63n, leads };
  return { asked, madeNs, trust: text("trust"), proof: text("proof"), answer: text("answer") };
}
