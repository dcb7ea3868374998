// Judges an answer in files: `node judge-files.mjs BUNDLE.json ANSWER.csv TRUST.json` prints the verdict and its codes.

import { readFileSync } from "node:fs";
import { parse } from "../dist/bundle.js";
import { parse as parseTrust } from "../dist/trust.js";
import { verify } from "../dist/verify.js";
import { answer } from "./common.mjs";

const [bundle, csv, trust] = process.argv.slice(2).map((path) => readFileSync(path, "utf8"));
const { verdict, findings } = verify(parse(bundle), answer(csv), {}, parseTrust(trust));
console.log(JSON.stringify([verdict, findings.map((one) => one.code)]));
