// What of tiles and live rows is seen, and that it can be read.

import assert from "node:assert/strict";
import { test } from "node:test";
import { UNKNOWN, cut } from "../build/net/part.js";
import { COLOURS } from "../build/ui/colours.js";
import { seen } from "../build/ui/seen.js";
import { text } from "./common.mjs";

const T = Date.parse("2026-11-29T12:00:00Z");
const SHEET = { density: 4, width: 3000 };
/** Thirty seconds. */
const VIEW = { from: T, speed: 25 };
const EVER = { from: -Infinity, until: Infinity };

/** Rows of 10 ms from second to second. */
function rows(from, until) {
  const times = Float64Array.from({ length: (until - from) * 100 }, (_, k) => T + from * 1000 + k * 10);
  const codes = new Int32Array(times.length);
  return { times, apart: 15, leads: [{ name: "II", gain: 1, baseline: 0, unit: "mV", low: codes, high: codes }] };
}

function tile(part, { gaps = [], standing = "anchored", trouble = null } = {}) {
  const spans = gaps.map(([a, b]) => ({ from: T + 1000 * a, until: T + 1000 * b }));
  const place = { level: 0, n: T / 30_000 };
  const span = { from: T, until: T + 30_000 };
  const none = { times: new Float64Array(), leads: [], apart: 0 };
  return { span, standIns: [], tile: { ...(part ?? none), place, gaps: spans, qualities: [], trouble, proof: { ...UNKNOWN, standing } } };
}

const kinds = (found) => found.blanks.map(({ kind, from, until }) => [kind, (from - T) / 1000, (until - T) / 1000]);

test("live rows begin where sealed ones end, and lie on no hatch", () => {
  const live = [rows(8, 9), rows(9, 11), rows(11, 12), rows(14, 15)];
  const found = seen(VIEW, SHEET, [tile(rows(0, 10), { gaps: [[10, 30]] })], live, EVER, T + 20_000);
  const [sealed, cut, ...whole] = found.pieces;
  assert.equal(sealed.times.length, 1000);
  assert.deepEqual([cut.times[0] - T, cut.leads[0].low.length, whole.length], [10_000, 100, 2]);
  assert.deepEqual(found.standings, ["anchored", "open"]);
  const near = kinds(found).map(([kind, a, b]) => [kind, Math.round(a * 10) / 10, Math.round(b * 10) / 10]);
  assert.deepEqual(near, [["pending", 12, 14], ["pending", 15, 30]]);
});

test("an old hole is a gap, a young one behind the last row may still be sealed", () => {
  const at = (now) => kinds(seen(VIEW, SHEET, [tile(rows(0, 10), { gaps: [[4, 5], [10, 30]] })], [], EVER, now));
  assert.deepEqual(at(T + 60_000), [["gap", 4, 5], ["pending", 10, 30]]);
  assert.deepEqual(at(T + 3_600_000), [["gap", 4, 5], ["gap", 10, 30]]);
});

test("what did not come, what does not match and what is not granted are told apart", () => {
  const bounds = { from: T + 5000, until: T + 25_000 };
  const blanks = (one) => kinds(seen(VIEW, SHEET, [one], [], bounds, T + 60_000));
  const edges = [["outside", 0, 5], ["outside", 25, 30]];
  assert.deepEqual(blanks({ span: { from: T, until: T + 30_000 }, tile: undefined, standIns: [] }), [["missing", 5, 25], ...edges]);
  assert.deepEqual(blanks(tile(null, { standing: "mismatch" })), [["mismatch", 5, 25], ...edges]);
  assert.deepEqual(blanks(tile(null, { standing: "waiting", trouble: "busy" })), [["missing", 5, 25], ...edges]);
  assert.deepEqual(blanks(tile(rows(5, 25))), edges);
});

test("what is kept of another level stands in for a tile, under the words that it has not come", () => {
  const span = { from: T, until: T + 30_000 };
  const found = seen(VIEW, SHEET, [{ span, tile: undefined, standIns: cut(rows(-10, 40), span) }], [], EVER, T + 60_000);
  assert.deepEqual(found.pieces.map(({ times }) => [times[0], times.length]), [[T, 3000]]);
  assert.deepEqual([kinds(found), found.standings], [[["missing", 0, 30]], ["waiting"]]);
});

/** WCAG 2: (lighter + 0.05) / (darker + 0.05). */
function contrast(a, b) {
  const light = (hex) => {
    const long = hex.length === 4 ? hex.replace(/[0-9a-f]/gi, "$&$&") : hex;
    const [r, g, b] = [1, 3, 5].map((i) => parseInt(long.slice(i, i + 2), 16) / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}

test("words can be read on their ground, and the trace on its grid", () => {
  const css = text("query/web/viewer/src/ui/badge.css");
  const badges = [...css.matchAll(/^\.(green|amber|red|grey) \{ background: (#\w+); color: (#\w+);/gm)];
  assert.equal(badges.length, 4);
  for (const [, name, ground, words] of badges) assert.ok(contrast(ground, words) >= 4.5, name);
  for (const ink of ["text", "trace", "calipers", "note", "mismatch"]) assert.ok(contrast(COLOURS[ink], COLOURS.paper) >= 4.5, ink);
  assert.ok(contrast(COLOURS.trace, COLOURS.large) >= 7);
  assert.ok(contrast(COLOURS.paper, COLOURS.small) < 2, "the control: the grid stands back");
});
