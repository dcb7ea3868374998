// What the tests read: golden vectors of this repository, and those of a second implementation in ../shared.

import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../../../../", import.meta.url);

/** A golden file of the repository, as text. */
export function golden(path) {
  return readFileSync(new URL(path, ROOT), "utf8");
}

/** A vector of the second implementation; its absence is a loud skip, and a failure in CI. */
export function shared(t, name) {
  const path = new URL(`../shared/vectors/${name}.json`, ROOT);
  if (existsSync(path)) return JSON.parse(readFileSync(path, "utf8"));
  const why = `${fileURLToPath(path)} is missing`;
  if (process.env.CI === "true") throw new Error(why);
  console.error(`SKIPPED: ${why}`);
  t.skip(why);
  return undefined;
}

/** The rows of a recorded answer: `time_ns,lead,...`, codes, empty for no value. */
export function answer(csv) {
  const [head, ...lines] = csv.trimEnd().split("\n").map((line) => line.split(","));
  const column = (i) => Int32Array.from(lines, (line) => (line[i] === "" ? -2147483648 : Number(line[i])));
  return {
    leads: head.slice(1),
    times: BigInt64Array.from(lines, (line) => BigInt(line[0])),
    codes: head.slice(1).map((_, i) => column(i + 1)),
  };
}

export const unhex = (digits) => Uint8Array.from(Buffer.from(digits, "hex"));
export const hex = (bytes) => Buffer.from(bytes).toString("hex");
