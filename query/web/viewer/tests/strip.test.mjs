// What a strip carries, what is said of it and how it is laid out; each alarm has a twin in which nothing is wrong.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { readStrip } from "../build/strip/blocks.js";
import { check } from "../build/strip/check.js";
import { linesOf } from "../build/strip/lines.js";
import { pinned } from "../build/strip/pinned.js";
import { CHECKING, found, unable } from "../build/strip/words.js";
import { UNKNOWN } from "../build/net/part.js";
import { golden, text, trust } from "./common.mjs";

/** The blocks of a strip of a recorded answer. */
function blocks(name, about = {}) {
  const { answer, bundle, asked } = golden(name);
  const { did, leads, fromNs, untilNs } = asked;
  const said = { v: 1, did, from_ns: fromNs, until_ns: untilNs, leads, made_ns: untilNs, ...about };
  const json = JSON.stringify(said, (_, value) => (typeof value === "bigint" ? `#${value}` : value)).replace(/"#(-?\d+)"/g, "$1");
  return { about: json, trust, proof: bundle, answer: Buffer.from(answer).toString("base64") };
}

const read = (all) => readStrip((name) => all[name] ?? null);
const standing = (all, by = all.trust) => check(read(all), by).part.proof.standing;

test("a strip is judged by its own keys, or by those of the reader", () => {
  assert.equal(standing(blocks("all")), "anchored");
  assert.equal(standing(blocks("one")), "anchored");
  assert.equal(standing(blocks("cut")), "linked");
  const unanchored = blocks("all");
  unanchored.proof = unanchored.proof.replace(/"anchor":\{.*\}\}$/, '"anchor":null}');
  assert.equal(standing(unanchored), "linked");
  const other = JSON.parse(trust);
  const { providers, ...rest } = other;
  const strange = JSON.stringify({ ...rest, providers: [{ ...providers[0], sign: other.sequencers[0].sign }] });
  assert.equal(standing(blocks("all"), strange), "mismatch");
  assert.throws(() => standing(blocks("all"), "{}"), /trust file/);
});

test("whatever was changed in a block is a mismatch, and none of the rows is handed out", () => {
  const whole = blocks("all");
  const bytes = Buffer.from(whole.answer, "base64");
  const at = bytes.indexOf(Buffer.from(new Int32Array([21, 56]).buffer));
  bytes[at] ^= 1;
  const changed = [
    { ...whole, answer: bytes.toString("base64") },
    { ...whole, answer: whole.answer.slice(0, -8) },
    { ...whole, answer: `${whole.answer}!` },
    { ...whole, proof: whole.proof.slice(0, -1) },
    { ...whole, proof: golden("one").bundle },
    blocks("all", { leads: ["I"] }),
    blocks("one", { leads: null }),
    blocks("all", { did: "00000000-0000-4000-8000-000000000000" }),
    blocks("all", { until_ns: golden("all").asked.untilNs + 1n }),
  ];
  for (const [i, one] of changed.entries()) {
    const { part } = check(read(one), one.trust);
    assert.deepEqual([part.proof.standing, part.times.length, part.leads.length], ["mismatch", 0, 0], `${i}`);
    assert.notEqual(part.proof.findings[0].detail, "", `${i}`);
  }
  const first = check(read(changed[0]), trust).part.proof.findings[0];
  assert.match(`${first.object}: ${first.detail}`, /^chunks\/.*parquet: the rows of page \d+ are not the chunk's$/);
});

test("what is not whole, of another version or too long is refused", () => {
  const { asked } = golden("all");
  for (const name of ["about", "trust", "proof", "answer"]) assert.throws(() => read({ ...blocks("all"), [name]: null }), /not whole/);
  assert.throws(() => read(blocks("all", { v: 2 })), /version/);
  assert.throws(() => read(blocks("all", { until_ns: asked.fromNs })), /window/);
  assert.throws(() => read(blocks("all", { until_ns: asked.fromNs + 621n * 10n ** 9n })), /window/);
  assert.throws(() => read(blocks("all", { patient: "Ann" })), /keys/);
  assert.equal(read(blocks("all", { until_ns: asked.fromNs + 620n * 10n ** 9n })).asked.fromNs, asked.fromNs);
});

test("only what is anchored is green, and the words say by whose keys", () => {
  for (const by of ["file", "reader"]) {
    const colours = ["anchored", "linked", "open", "mismatch", "empty", "waiting", "summary"].map((one) => found(one, by).colour);
    assert.deepEqual(colours, ["green", "amber", "amber", "red", "grey", "grey", "grey"]);
  }
  assert.match(found("anchored", "file").word, /by the keys that this file carries/);
  assert.match(found("anchored", "reader").word, /by the keys of your trust file/);
  assert.deepEqual([CHECKING.colour, unable("no").colour], ["grey", "grey"]);
});

test("fingerprints are key ids in groups of four", () => {
  const { trust: known } = check(read(blocks("all")), trust);
  const id = createHash("sha256").update(Buffer.from(JSON.parse(trust).providers[0].sign, "base64url")).digest("hex");
  const [provider, log] = pinned(known);
  assert.equal(provider.fingerprint, id.match(/.{4}/g).join(" "));
  assert.deepEqual([provider.role, log.role, log.name, provider.retired], ["provider", "log", JSON.parse(trust).origin, null]);
  const policy = { ...known.policy, witnesses: new Map([["w1", { name: "w1.example", key: new Uint8Array(32), id: new Uint8Array(4) }]]) };
  const more = pinned({ ...known, policy, retired: new Map([[id, 7n]]) });
  assert.deepEqual(more.map((one) => [one.role, one.retired]), [["provider", 7n], ["log", null], ["witness", null]]);
});

const T = Date.parse("2026-11-29T12:00:00Z");

/** A part with so many leads, of so many seconds at 100 Hz, of which some are missing. */
function part(leads, seconds, gaps = []) {
  const all = Array.from({ length: seconds * 100 }, (_, k) => T + k * 10);
  const times = Float64Array.from(all.filter((t) => !gaps.some((gap) => t >= gap.from && t < gap.until)));
  const codes = new Int32Array(times.length);
  const window = { from: T, until: T + seconds * 1000 };
  const named = Array.from({ length: leads }, (_, k) => ({ name: `L${k}`, gain: 1, baseline: 0, unit: "mV", low: codes, high: codes }));
  return { times, leads: named, apart: 15, window, gaps, qualities: [], proof: { ...UNKNOWN, standing: "anchored" } };
}

test("lines are ten seconds long, and at most twelve leads high", () => {
  const lines = linesOf(part(2, 25));
  assert.deepEqual(lines.map(({ span }) => [span.from - T, span.until - T]), [[0, 10_000], [10_000, 20_000], [20_000, 25_000]]);
  assert.ok(lines.every(({ widthMm }) => widthMm === 266), "250 mm and the gutter");
  const { sheet, view } = lines[0].scene;
  assert.ok(Math.abs(sheet.width / sheet.density - 250) < 0.2 && view.speed === 25, "25 mm are a second");
  assert.deepEqual(lines.map(({ scene }) => scene.pieces[0].times.length), [1000, 1000, 500]);
  const behind = lines[2].scene.blanks.at(-1);
  assert.deepEqual([behind.kind, behind.from - T], ["outside", 25_000]);
  const many = linesOf(part(15, 20));
  assert.deepEqual(many.map(({ scene }) => scene.strips.length), [8, 7, 8, 7]);
  // An A4 page across, with 8 mm around: caption, axis, leads, band; the head fits on the first page as well.
  for (const leads of [1, 2, 12, 15, 32]) assert.ok(linesOf(part(leads, 10)).every(({ heightMm }) => heightMm <= 160), `${leads}`);
});

test("a gap is hatched, and no piece of a line reaches over it but with its pen up", () => {
  const gap = { from: T + 4000, until: T + 12_000 };
  const [first, second] = linesOf(part(1, 20, [gap]));
  for (const { scene } of [first, second]) assert.deepEqual(scene.blanks.map(({ kind, from, until }) => [kind, from, until]), [["gap", gap.from, gap.until]]);
  assert.deepEqual([first, second].map(({ scene }) => scene.pieces[0].times.length), [400, 800]);
  assert.equal(linesOf(part(1, 20))[0].scene.blanks.length, 0, "the control");
});

test("what does not match is one line without a trace", () => {
  const { part: red } = check(read(blocks("one", { leads: null })), trust);
  const [line, ...more] = linesOf(red);
  assert.equal(more.length, 0);
  assert.deepEqual([line.scene.pieces, line.scene.strips, line.scene.blanks[0].kind], [[], [], "mismatch"]);
});

test("bitmaps fit a browser's memory, and are a printer's where there are few", () => {
  const pixels = (lines) => lines.reduce((n, { scene }) => n + scene.width * scene.height, 0);
  assert.ok(pixels(linesOf(part(12, 600))) <= 64 * 1024 * 1024);
  assert.ok(pixels(linesOf(part(32, 600))) <= 64 * 1024 * 1024);
  assert.equal(linesOf(part(12, 10))[0].scene.sheet.density, 10);
  assert.ok(linesOf(part(12, 600))[0].scene.sheet.density > 96 / 25.4, "never coarser than a screen");
});

test("the page runs one script by its hash, has one style, and names no host", () => {
  const page = text("query/web/dist/strip.html");
  const hash = (found) => createHash("sha256").update(found[1]).digest("base64");
  const [script, style] = [/<script>([^]*?)<\/script>/, /<style>([^]*?)<\/style>/].map((pattern) => hash(pattern.exec(page)));
  const policy = /Content-Security-Policy" content="([^"]*)"/.exec(page)[1];
  assert.equal(policy, `default-src 'none'; script-src 'sha256-${script}'; style-src 'sha256-${style}'; base-uri 'none'; form-action 'none'`);
  assert.doesNotMatch(page, /https?:|\b(src|action)=|@import|url\(/);
  assert.equal(page.match(/<script/g).length, 1);
});
