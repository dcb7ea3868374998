import assert from "node:assert/strict";
import { test } from "node:test";
import { Events } from "../build/core/events.js";
import { Notes } from "../build/core/notes.js";
import { badge } from "../build/core/badge.js";
import * as tiles from "../build/core/tiles.js";

const T = Date.parse("2026-11-29T12:00:00Z");
const ever = { from: -Infinity, until: Infinity };

test("the level is the coarsest whose buckets are no wider than a pixel", () => {
  assert.deepEqual([0.1, 63, 64, 255, 256, 61_700, 1e9].map(tiles.levelFor), [0, 0, 1, 1, 2, 5, 6]);
});

test("raw tiles are whole pages, so every row of one can be proven", () => {
  const { from, until } = tiles.placeSpan({ level: 0, n: 7 });
  assert.deepEqual([from % 10_000, until % 10_000], [0, 0]);
});

test("tiles of a view cover it once, the middle first, and few are asked for", () => {
  for (const ms of [800, 10_000, 90_000, 3_600_000, 86_400_000]) {
    const view = { from: T + 7, until: T + 7 + ms };
    const all = tiles.wanted(view, ms / 1400, ever);
    const seen = tiles.covering(all[0].level, view);
    assert.ok(all.length <= 10, `${ms}: ${all.length}`);
    assert.deepEqual(all.slice(0, seen.length).map(tiles.keyOf).sort(), seen.map(tiles.keyOf).sort());
    const [first, last] = [tiles.placeSpan(seen[0]), tiles.placeSpan(seen.at(-1))];
    assert.ok(first.from <= view.from && last.until >= view.until);
    const far = (p) => Math.abs((tiles.placeSpan(p).from + tiles.placeSpan(p).until - view.from - view.until) / 2);
    assert.equal(far(all[0]), Math.min(...seen.map(far)));
  }
});

test("nothing outside the grant is asked for", () => {
  const view = { from: T, until: T + 60_000 };
  const bounds = { from: T + 30_000, until: T + 59_000 };
  for (const p of tiles.wanted(view, 10, bounds)) {
    const span = tiles.placeSpan(p);
    assert.ok(span.from < bounds.until && span.until > bounds.from);
  }
});

test("the cache forgets what was used longest ago, and never what was just put in", () => {
  const cache = new tiles.Cache(100);
  cache.set("a", { bytes: 40 });
  cache.set("b", { bytes: 40 });
  cache.get("a");
  cache.set("c", { bytes: 40 });
  assert.deepEqual(["a", "b", "c"].map((key) => cache.get(key) !== undefined), [true, false, true]);
  cache.set("d", { bytes: 1000 });
  assert.deepEqual(cache.values(), [{ bytes: 1000 }]);
  cache.set("d", { bytes: 10 });
  cache.set("e", { bytes: 90 });
  assert.equal(cache.values().length, 2);
});

test("the badge shows the worst of what is seen", () => {
  const colour = (...parts) => badge(parts).colour;
  assert.equal(colour("anchored", "anchored", "empty"), "green");
  assert.equal(colour("anchored", "linked"), "amber");
  assert.equal(colour("anchored", "open"), "amber");
  assert.equal(colour("anchored", "waiting"), "grey");
  assert.equal(colour("anchored", "summary"), "grey");
  assert.equal(colour("mismatch", "anchored", "summary", "waiting"), "red");
  assert.equal(colour(), "grey");
  const signs = ["anchored", "linked", "mismatch", "waiting"].map((one) => badge([one]).sign);
  assert.equal(new Set(signs).size, 4, "a state is known without its colour");
});

test("events are put together from pieces, wherever they are cut", () => {
  const text = ': beat\n\nevent: rows\nid: 7.1\ndata: {"a":1}\n\nevent: end\r\ndata: x\r\ndata: y\r\n\r\nevent: half';
  for (let cut = 0; cut <= text.length; cut++) {
    const events = new Events();
    const found = [...events.take(text.slice(0, cut)), ...events.take(text.slice(cut))];
    assert.deepEqual(found, [
      { name: "rows", data: '{"a":1}', id: "7.1" },
      { name: "end", data: "x\ny", id: null },
    ]);
  }
  assert.throws(() => new Events().take("x".repeat(17 * 1024 * 1024)));
});

test("notes are kept per stream, and a store that rots gives none", () => {
  const held = new Map();
  const store = { getItem: (key) => held.get(key) ?? null, setItem: (key, text) => held.set(key, text) };
  const notes = new Notes(store, "a");
  const note = (id, at) => ({ id, at, lead: "II", text: "pause?", author: "roe", written: T });
  notes.add(note("1", T + 5));
  notes.add(note("2", T));
  assert.deepEqual(notes.all().map((n) => n.id), ["2", "1"]);
  assert.deepEqual(new Notes(store, "b").all(), []);
  notes.remove("2");
  assert.deepEqual(notes.all(), [note("1", T + 5)]);
  for (const rot of ["{", "7", '[null, 1, {"id":"x"}]']) {
    held.set("chordae notes a", rot);
    assert.deepEqual(notes.all(), []);
  }
});
