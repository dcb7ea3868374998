// What the tests read: the recorded answers of this repository.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../../", import.meta.url);
const GOLDEN = new URL("query/python/tests/golden/", ROOT);

/** A recorded answer with its proof: `all`, `one` (only lead II), `cut` (pages that the window cuts). */
export function golden(name) {
  const bundle = readFileSync(new URL(`${name}.json`, GOLDEN), "utf8");
  const answer = new Uint8Array(readFileSync(new URL(`${name}.arrow`, GOLDEN)));
  const from = /"from_ns":(\d+)/.exec(bundle)[1];
  const until = /"until_ns":(\d+)/.exec(bundle)[1];
  const did = /"did":"([^"]+)"/.exec(bundle)[1];
  const leads = name === "one" ? ["II"] : null;
  const asked = { did, leads, fromNs: BigInt(from), untilNs: BigInt(until), askedNs: BigInt(until) + 10n ** 12n };
  return { answer, bundle, asked };
}

export const trust = readFileSync(new URL("trust.json", GOLDEN), "utf8");
export const root = fileURLToPath(ROOT);
export const text = (path) => readFileSync(new URL(path, ROOT), "utf8");

/** A pen that notes what it draws: a list of lines, each a list of points. */
export function pen() {
  const lines = [];
  return {
    lines,
    moveTo: (x, y) => lines.push([[x, y]]),
    lineTo: (x, y) => lines.at(-1).push([x, y]),
  };
}
