/** What the badge of a strip says. Nobody stands behind a file but its sender: the words name whose keys were used. */

import { type Badge, type Standing, badge } from "../core/badge.js";

/** Whose trust file it was checked by: the one in the file, or the reader's. */
export type By = "file" | "reader";

const KEYS: Record<By, string> = { file: "the keys that this file carries", reader: "the keys of your trust file" };

const SENTENCES: Partial<Record<Standing, (keys: string) => string>> = {
  anchored: (keys) => `Every row drawn here was recomputed by this page, and leads to a ledger signed with ${keys}.`,
  linked: (keys) => `The rows agree with their proof as far as there is one, but not all of them lead to a ledger signed with ${keys}; see below.`,
  mismatch: (keys) => `Something contradicts the proof, or ${keys}: below is what. No trace is drawn. Do not rely on this file.`,
  empty: () => "There are no rows in this window, so there is nothing to check.",
};

const GREY: Pick<Badge, "colour" | "sign"> = { colour: "grey", sign: "?" };

export const CHECKING: Badge = { ...GREY, word: "being checked", sentence: "Nothing is drawn before all of it is checked." };

/** What was found. */
export function found(standing: Standing, by: By): Badge {
  const known = badge([standing]);
  const word = standing === "anchored" ? `anchored, by ${KEYS[by]}` : known.word;
  return { ...known, word, sentence: SENTENCES[standing]?.(KEYS[by]) ?? known.sentence };
}

/** What kept it from being checked. */
export function unable(why: string): Badge {
  return { ...GREY, word: "cannot be checked", sentence: `Nothing is known of this strip, and nothing is drawn: ${why}.` };
}
