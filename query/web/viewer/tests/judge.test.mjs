// What may be drawn and what the badge says, on recorded answers; each alarm has a twin in which nothing is wrong.

import assert from "node:assert/strict";
import { test } from "node:test";
import { judgeMetadata, judgeRows } from "../build/net/judge.js";
import { readRows } from "../build/net/rows.js";
import { golden, trust } from "./common.mjs";

const judged = ({ answer, bundle, asked }, by = trust) => judgeRows(answer, bundle, asked, by);

test("a recorded answer is anchored, and in millivolts", () => {
  const part = judged(golden("all"));
  assert.equal(part.proof.standing, "anchored");
  assert.deepEqual(part.leads.map((lead) => [lead.name, lead.gain, lead.unit]), [["I", 1000, "mV"], ["II", 1000, "mV"]]);
  assert.equal(part.times.length, 750);
  assert.deepEqual([part.leads[0].low[0], part.leads[1].low[0]], [21, -9]);
  assert.deepEqual(part.qualities.map((q) => q.quality), ["synced"]);
  assert.deepEqual(judged(golden("one")).leads.map((lead) => lead.name), ["II"]);
});

test("one code that is another turns it red, and no row of it is handed out", () => {
  const { answer, ...rest } = golden("all");
  const at = Buffer.from(answer).indexOf(Buffer.from(new Int32Array([21, 56]).buffer));
  assert.ok(at > 0, "the first codes of lead I are in the answer");
  const changed = answer.slice();
  changed[at] += 1;
  const part = judged({ answer: changed, ...rest });
  assert.equal(part.proof.standing, "mismatch");
  assert.match(part.proof.findings[0].detail, /page/);
  assert.deepEqual([part.times.length, part.leads.length], [0, 0]);
});

test("a scale that is another turns it red: codes are right then, and millivolts are not", () => {
  const { answer, ...rest } = golden("all");
  const changed = answer.slice();
  const at = Buffer.from(changed).indexOf("1000");
  changed.set(Buffer.from("1001"), at);
  const part = judged({ answer: changed, ...rest });
  assert.equal(part.proof.standing, "mismatch");
  assert.match(part.proof.findings[0].detail, /scale of lead/);
});

test("a log, a provider or an anchor that the trust file does not know is not anchored", () => {
  const other = JSON.parse(trust);
  const whole = golden("all");
  const unanchored = { ...whole, bundle: whole.bundle.replace(/"anchor":\{.*\}\}$/, '"anchor":null}') };
  assert.notEqual(unanchored.bundle, whole.bundle);
  assert.equal(judged(unanchored).proof.standing, "linked");
  const strange = JSON.stringify({ ...other, providers: [] });
  assert.equal(judged(whole, strange).proof.standing, "mismatch");
});

test("pages that the window cuts are amber, not green", () => {
  const part = judged(golden("cut"));
  assert.ok(part.proof.unprovenRows > 0);
  assert.equal(part.proof.standing, "linked");
});

test("an answer for another window, stream or set of leads is refused", () => {
  const { answer, bundle, asked } = golden("all");
  const because = (change) => () => judgeRows(answer, bundle, { ...asked, ...change }, trust);
  assert.throws(because({ untilNs: asked.untilNs + 1n }), /window/);
  assert.throws(because({ fromNs: asked.fromNs - 1n }), /window/);
  const did = "00000000-0000-4000-8000-000000000000";
  assert.equal(because({ did })().proof.standing, "mismatch");
  assert.equal(because({ leads: ["I"] })().proof.standing, "mismatch");
  // The control: what ends at the server's now is an answer to a question that reaches further.
  assert.equal(because({ untilNs: asked.untilNs + 10n ** 9n, askedNs: asked.untilNs })().proof.standing, "anchored");
});

test("an answer that was cut off is no answer", () => {
  const { answer } = golden("all");
  for (const cut of [1, 8, 9, 4000]) assert.throws(() => readRows(answer.subarray(0, answer.length - cut)), /cut off|Arrow/);
  assert.equal(readRows(answer).times.length, 750);
});

test("metadata alone tells clocks and contradictions, and never that rows are right", () => {
  const { bundle, asked } = golden("all");
  const bare = bundle.replace(/"pages":\[.*?\}\]/g, '"pages":[]').replace(/"rows":\[\[1,500\],\[2,250\]\]/, '"rows":[]');
  const { proof, qualities } = judgeMetadata(bare, asked, trust);
  assert.deepEqual([proof.standing, proof.anchoredTo !== null, qualities.length], ["summary", true, 1]);
  const changed = bare.replaceAll('quality\\":\\"synced', 'quality\\":\\"unknown');
  assert.notEqual(changed, bare);
  assert.equal(judgeMetadata(changed, asked, trust).proof.standing, "mismatch");
});
