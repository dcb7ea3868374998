import assert from "node:assert/strict";
import { test } from "node:test";
import * as paper from "../build/core/paper.js";
import * as time from "../build/core/time.js";

const sheet = { density: 4, width: 1000 };
const T = Date.parse("2026-11-29T12:00:00Z");

test("25 mm/s and 10 mm/mV are what they say", () => {
  const view = { from: T, speed: 25 };
  // 200 ms are five small boxes, one large one; 1 mV is two large ones.
  assert.equal(paper.xOf(T + 200, view, sheet), 5 * sheet.density);
  assert.equal(paper.heightOf(1, 10, sheet), 10 * sheet.density);
  assert.deepEqual(paper.spanOf(view, sheet), { from: T, until: T + 10_000 });
  assert.equal(paper.CSS_DENSITY * 25.4, 96);
});

test("a point of the paper and its instant are each other's inverse, in every zoom", () => {
  for (const speed of [0.003, 1, 12.5, 25, 50, 400]) {
    const view = { from: T, speed };
    for (const x of [0, 1, 500, 999]) {
      const back = paper.xOf(paper.msAt(x, view, sheet), view, sheet);
      assert.ok(Math.abs(back - x) < 0.001, `${speed} ${x} ${back}`);
    }
  }
});

test("zooming keeps the instant under the pointer, and ends at a beat and at a day", () => {
  let view = { from: T, speed: 25 };
  const kept = paper.msAt(300, view, sheet);
  for (let step = 0; step < 40; step++) {
    view = paper.zoomed(view, sheet, view.speed * 0.7, 300);
    assert.ok(Math.abs(paper.xOf(kept, view, sheet) - 300) < 0.01);
  }
  const day = paper.spanOf(view, sheet);
  assert.ok(Math.abs(day.until - day.from - 1.25 * time.DAY) < 1);
  view = paper.zoomed(view, sheet, 1e9, 300);
  assert.equal(view.speed, paper.SPEED_MAX);
});

test("panning by the width shows what comes next", () => {
  const view = { from: T, speed: 25 };
  assert.deepEqual(paper.spanOf(paper.panned(view, sheet, 1000), sheet), { from: T + 10_000, until: T + 20_000 });
  assert.deepEqual(paper.panned(paper.panned(view, sheet, 123), sheet, -123), view);
});

test("steps go over the speeds of paper and on beyond them", () => {
  const up = (speed, n) => (n === 0 ? [] : [paper.stepped(speed, 1), ...up(paper.stepped(speed, 1), n - 1)]);
  assert.deepEqual(up(12.5, 4), [25, 50, 100, 200]);
  assert.equal(paper.stepped(50, -1), 25);
  assert.equal(paper.stepped(30, -1), 25);
  assert.equal(paper.stepped(12.5, -1), 6.25);
});

test("the grid has a line each 40 ms at 25 mm/s, a thick one each 200 ms, fixed to the paper", () => {
  const small = paper.gridLines({ from: T + 1, until: T + 1000 }, 25, 1);
  assert.deepEqual(small.slice(0, 3), [T + 40, T + 80, T + 120]);
  assert.equal(small.length, 24);
  const large = paper.gridLines({ from: T, until: T + 1000 }, 25, 5);
  assert.deepEqual(large, [0, 200, 400, 600, 800].map((ms) => T + ms));
  assert.deepEqual(paper.gridLines({ from: T, until: T + 400 }, 12.5, 5), [T]);
});

test("labels are apart, at round instants, for a beat and for a day", () => {
  for (const ms of [800, 10_000, time.HOUR, time.DAY]) {
    const view = { from: T + 1234, speed: paper.speedFor(ms, sheet) };
    const { at, step } = paper.ticks(view, sheet, 120);
    assert.ok(at.length >= 2 && at.length <= 8, `${ms}: ${at.length}`);
    for (const t of at) assert.equal(t % step, 0);
  }
});

test("units of voltage are known, marks have none", () => {
  assert.deepEqual([paper.mvPer("mV"), paper.mvPer("uV"), paper.mvPer("1")], [1, 1e-3, null]);
});

test("nanoseconds become milliseconds and back, before 1970 too", () => {
  assert.equal(time.msOf(1_700_000_000_000_250_000n), 1_700_000_000_000.25);
  assert.equal(time.msOf(-1_500_000n), -1.5);
  assert.equal(time.nsOf(T), BigInt(T) * 1_000_000n);
  assert.equal(time.clock(T + 999, 3), "2026-11-29 12:00:00.999");
  assert.equal(time.clock(T + 999), "2026-11-29 12:00:00");
  assert.deepEqual([350, 2500, 3 * time.MINUTE, 90 * time.MINUTE, 5 * time.HOUR].map(time.length), ["350 ms", "2.5 s", "3 min", "90 min", "5 h"]);
});

test("a union has each instant once", () => {
  const spans = [[5, 7], [0, 2], [1, 3], [3, 4], [9, 9]].map(([from, until]) => ({ from, until }));
  assert.deepEqual(time.union(spans), [{ from: 0, until: 4 }, { from: 5, until: 7 }]);
});
