// What is drawn: layouts, lines, gaps, calipers.

import assert from "node:assert/strict";
import { test } from "node:test";
import { march, measure, told } from "../build/core/calipers.js";
import { NO_VALUE, bands, gapsOf, voidsOf } from "../build/core/gaps.js";
import { possible, stripAt, strips, twelve } from "../build/core/layout.js";
import { draw } from "../build/core/line.js";
import { pen } from "./common.mjs";

const LEADS = ["V6", "V5", "V4", "V3", "V2", "V1", "aVF", "AVL", "aVR", "III", "II", "I", "marks"];

test("3x4+1 has the columns of paper, and the rhythm row below", () => {
  const all = strips("3x4+1", LEADS);
  assert.equal(all.length, 13);
  const names = (row) => all.filter((s) => s.base === (row + 0.5) / 4 && s.right - s.left < 1).map((s) => s.lead);
  assert.deepEqual([0, 1, 2].map(names), [["I", "aVR", "V1", "V4"], ["II", "AVL", "V2", "V5"], ["III", "aVF", "V3", "V6"]]);
  assert.deepEqual(all.at(-1), { lead: "II", left: 0, right: 1, base: 3.5 / 4, height: 0.25 });
  assert.equal(stripAt(all, 0.6, 0.4).lead, "V2");
});

test("with fewer leads there are rows only, each of them once", () => {
  assert.equal(twelve(LEADS.slice(1)), undefined);
  assert.deepEqual(possible(["MLII", "V5"]), ["rows"]);
  assert.deepEqual(strips("3x4+1", ["MLII", "V5"]).map((s) => [s.lead, s.base]), [["MLII", 0.25], ["V5", 0.75]]);
  assert.deepEqual(strips("rows", LEADS).map((s) => s.lead), LEADS);
});

const SCALE = { from: 0, pxPerMs: 1, y0: 0, perCode: -1 };
const traced = (codes, { step = 2, scale = SCALE, times, high } = {}) => {
  const at = times ?? codes.map((_, k) => k * step);
  const [low, top] = [Int32Array.from(codes), high ? Int32Array.from(high) : undefined];
  const drawn = pen();
  draw(drawn, { times: Float64Array.from(at), low, high: top ?? low }, 1.5 * step, scale);
  return drawn.lines;
};

test("samples that are apart are joined as they are", () => {
  assert.deepEqual(traced([3, 1, 4]), [[[0, 3], [0, 3], [2, 1], [4, 4]]]);
});

test("a spike of one sample keeps its height at every zoom, and a column has two points at most", () => {
  const codes = Array.from({ length: 5000 }, (_, k) => (k === 3333 ? 900 : k === 1111 ? -700 : k % 5));
  for (const pxPerMs of [1, 0.3, 0.01, 0.001]) {
    const [line, ...others] = traced(codes, { scale: { ...SCALE, pxPerMs } });
    assert.equal(others.length, 0);
    const heights = line.map(([, y]) => y);
    assert.deepEqual([Math.max(...heights), Math.min(...heights)], [900, -700], `${pxPerMs}`);
    assert.ok(line.length <= 2 * Math.ceil(10_000 * pxPerMs) + 2);
  }
});

test("within a column the extremes keep their order, so slopes lean the right way", () => {
  const wide = { ...SCALE, pxPerMs: 0.01 };
  assert.deepEqual(traced([5, 1, 9], { scale: wide })[0].map(([, y]) => y), [1, 9]);
  assert.deepEqual(traced([5, 9, 1], { scale: wide })[0].map(([, y]) => y), [9, 1]);
});

test("no line crosses a gap, nor a value that is not there", () => {
  assert.equal(traced([1, 2, NO_VALUE, 3, 4]).length, 2);
  assert.equal(traced([1, 2, 3, 4], { times: [0, 2, 100, 102] }).length, 2);
  // Even where both sides fall into one column of pixels.
  assert.equal(traced([1, 2, 3, 4], { times: [0, 2, 100, 102], scale: { ...SCALE, pxPerMs: 1e-4 } }).length, 2);
  // The control: jitter of less than half a step is joined.
  assert.equal(traced([1, 2, 3, 4], { times: [0, 2.9, 4, 6.5] }).length, 1);
});

test("a bucket is drawn from its least to its greatest", () => {
  assert.deepEqual(traced([-5, 1], { high: [7, 2] })[0].map(([, y]) => y), [-5, 7, 1, 2]);
});

test("gaps are the spans that no row reaches over", () => {
  const times = Float64Array.from([0, 10, 20, 60, 70]);
  const runs = [{ rows: 5, step: 10 }];
  assert.deepEqual(gapsOf(times, runs, { from: 0, until: 80 }), [{ from: 30, until: 60 }]);
  assert.deepEqual(gapsOf(times, runs, { from: -50, until: 200 }), [
    { from: -50, until: 0 }, { from: 30, until: 60 }, { from: 80, until: 200 },
  ]); // prettier-ignore
  assert.deepEqual(gapsOf(new Float64Array(), [], { from: 1, until: 2 }), [{ from: 1, until: 2 }]);
  // A phase of less than a step before the first row, and jitter, are none.
  assert.deepEqual(gapsOf(Float64Array.from([4, 14, 28]), [{ rows: 3, step: 10 }], { from: 0, until: 40 }), []);
});

test("a lead that is off has a stretch of its own", () => {
  const [times, codes] = [Float64Array.from([0, 10, 20, 30]), Int32Array.from([1, NO_VALUE, NO_VALUE, 2])];
  assert.deepEqual(voidsOf(times, codes, 10), [{ from: 10, until: 30 }]);
  assert.deepEqual(voidsOf(times, codes.fill(NO_VALUE), 10), [{ from: 0, until: 40 }]);
});

test("bands of clock quality join where they are equal, and none covers another", () => {
  const chunk = (from, until, quality) => ({ from, until, quality });
  const [a, b] = [chunk(0, 10_000, "synced"), chunk(10_004, 20_000, "synced")];
  const [other, late] = [chunk(20_000, 30_000, "unknown"), chunk(5000, 8000, "unknown")];
  const far = [chunk(40_000, 50_000, "synced"), chunk(55_000, 60_000, "synced")];
  assert.deepEqual(bands([other, a, b, late, ...far]), [chunk(0, 20_000, "synced"), other, ...far]);
});

test("calipers say ms, bpm and mV, and march out", () => {
  const calipers = { from: 1000, until: 1800, fromMv: 0.1, untilMv: -0.4 };
  assert.deepEqual(measure(calipers), { ms: 800, mv: -0.5, bpm: 75 });
  assert.equal(told(measure(calipers)), "800 ms · 75 bpm · −0.50 mV");
  assert.equal(told(measure({ ...calipers, until: 1000 })), "0 ms · – bpm · −0.50 mV");
  assert.deepEqual(march(calipers, { from: 0, until: 4000 }), [200, 2600, 3400]);
  assert.deepEqual(march({ ...calipers, until: 1001 }, { from: 0, until: 4000 }), []);
});
