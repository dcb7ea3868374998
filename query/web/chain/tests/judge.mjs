// Judges bundles against the recorded answers, a JSON line each: `[name, bundle]` in, `[verdict, [code, ...]]` out.
// (tests/python/test_twins.py holds it against the Python package.)

import { createInterface } from "node:readline";
import { parse } from "../dist/bundle.js";
import { BadInput } from "../dist/bytes.js";
import { parse as parseTrust } from "../dist/trust.js";
import { verify } from "../dist/verify.js";
import { answer, golden } from "./common.mjs";

const FOLDER = "query/python/tests/golden/";
const TRUST = parseTrust(golden(`${FOLDER}trust.json`));
const ROWS = new Map(["all", "one", "cut"].map((name) => [name, answer(golden(`${FOLDER}${name}.csv`))]));

for await (const line of createInterface({ input: process.stdin })) {
  const [name, text] = JSON.parse(line);
  let told = ["damaged", ["metadata"]];
  try {
    const { verdict, findings } = verify(parse(text), ROWS.get(name), name === "one" ? { leads: ["II"] } : {}, TRUST);
    told = [verdict, findings.map((one) => one.code)];
  } catch (e) {
    if (!(e instanceof BadInput)) throw e;
  }
  console.log(JSON.stringify(told));
}
