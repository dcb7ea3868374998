// The demo's page: connects by a click, breaks copies, and the browser's own check says what it finds.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { after, before, test } from "node:test";
import { Reader, browser } from "./reader.mjs";

const TARGET = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../../../target", import.meta.url));
const BIN = process.env.CHORDAE_BIN ?? join(TARGET, "debug/chordae");
/** Rows are asked for, proven and drawn in tiles of this length, ms. */
const TILE = 30_000;
const folder = mkdtempSync(join(tmpdir(), "chordae-demo-"));
let demo, chrome, url, reader;

before(async () => {
  const args = ["demo", "--data", join(folder, "data"), "--devices", "1", "--for", "240s"];
  demo = spawn(BIN, args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: demo.stdout })) {
    url = /(http:\/\/\S+)\/demo in a browser/.exec(line)?.[1];
    if (url) break;
  }
  assert.ok(url, "the demo says where its page is");
  demo.stdout.resume();
  chrome = await browser();
  reader = await Reader.alone(chrome);
  reader.ward = { url };
  await reader.page.goto(`${url}/demo`);
  await reader.page.click("#demo-connect");
});

after(async () => {
  await chrome?.close();
  demo?.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

const told = () => reader.page.textContent("#demo-told");
const says = (words) =>
  reader.page.waitForFunction((w) => new RegExp(w, "s").test(document.querySelector("#demo-told").textContent), words, { timeout: 30_000 });

/** Presses a button until it does something: what is not sealed or anchored yet comes within seconds. */
async function press(deed) {
  for (let tries = 0; tries < 30; tries++) {
    await reader.page.click(`[data-deed="${deed}"]:not([disabled])`);
    await reader.page.waitForSelector(`[data-deed="${deed}"]:not([disabled])`, { timeout: 60_000 });
    if (!/try again|to tamper with/.test(await told())) return;
    await new Promise((go) => setTimeout(go, 2000));
  }
  throw new Error(await told());
}

test("one click shows a live ECG", async () => {
  await reader.badge("amber", 30_000);
  await reader.page.waitForSelector('[data-do="live"][aria-pressed="true"]');
});

test("the control: an untouched copy, served the same way, is green", async () => {
  await press("nothing");
  await reader.badge("green", 60_000);
  await says("left as it is.*anchored");
});

for (const [deed, done] of [["flip-bit", "changed one sample"], ["swap-chunks", "swapped the values"]]) {
  test(`${deed}: red, and the page digests caught it; back is green`, async () => {
    await press(deed);
    await reader.badge("red", 30_000);
    await says(`${done}.*does not match.*Caught by the page digests.*pages-digest.*damaged.*file-digest`);
    // The picture may reach into the tile beside, whose rows are what its own proof says.
    const { from, until } = await reader.shown();
    const tile = (at) => Math.floor(at / TILE);
    const middle = (tile((from + until) / 2) + 0.5) * TILE;
    await reader.goTo(middle);
    await reader.badge("red");
    const broken = await reader.shown();
    assert.ok(tile(broken.from) === tile(middle) && tile(broken.until) === tile(middle), "one tile, and nothing else");
    assert.equal(broken.rows, 0, "what does not match is not drawn");
    await press("back");
    await reader.goTo(middle);
    await reader.badge("green", 60_000);
    assert.ok((await reader.shown()).rows > 0, "the control: there is something to draw");
  });
}

test("a ledger that was put back: red, and this browser's memory caught it; back is green", async () => {
  await press("roll-back-ledger");
  await reader.badge("red", 30_000);
  await says("put the ledger back from \\d+ entries to \\d+.*Caught by this browser's memory.*rolled-back");
  await press("back");
  await reader.badge("green", 60_000);
});

test("a grant that was widened: refused, and by which rule", async () => {
  await press("widen-grant");
  await says("were granted.*answered.*one nanosecond more.*refused \\(403, window\\).*access rule.*refused \\(403, session\\).*session's digest");
});
