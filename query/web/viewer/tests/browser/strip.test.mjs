// A strip as somebody gets it: a file from a real node, opened from the disk, with no server. Each alarm has a twin in
// which nothing is wrong.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { Reader, browser, dark, gridRed, hatchGrey } from "./reader.mjs";
import { HOLE, MINUTE, Ward } from "./ward.mjs";

const MM = 96 / 25.4;
const GUTTER = 16 * MM;
const AXIS = 5 * MM;
const BAND = 4.5 * MM;
const LINE = "#lines figure:nth-child(1) canvas";

let ward, chrome, did, sid, file;

before(async () => {
  chrome = await browser();
  ward = await Ward.open({ day: false });
  did = await ward.did("bed-1");
  sid = await ward.grant(did);
  // Twenty seconds, the half minute that is missing, ten seconds.
  const span = { from: ward.first + 40_000, until: ward.first + MINUTE + HOLE + 10_000 };
  file = await ward.pull(did, sid, span, "strip.html", "--format", "html", "--trust", ward.trust);
}, { timeout: 900_000 });

after(async () => {
  await chrome?.close();
  await ward?.close();
});

/** Opens a strip, until it has said what it found. */
async function opened(path, options) {
  const reader = await Reader.alone(chrome, options);
  reader.home = pathToFileURL(path).href;
  await reader.page.goto(reader.home);
  await checked(reader);
  return reader;
}

function checked(reader) {
  return reader.page.waitForFunction(() => !/^(being|not) checked$/.test(document.querySelector("#badge-word").textContent));
}

/** What it says: the badge's colour and words. */
async function said({ page }) {
  return { colour: await page.getAttribute("#badge", "class"), word: await page.textContent("#badge-word"), lines: await page.locator("#lines canvas").count() };
}

async function closed(reader) {
  await reader.context.close();
  assert.deepEqual(reader.complaints, []);
  // It asked for itself, and for nothing else.
  assert.deepEqual(reader.requests.map((request) => request.url()), [reader.home]);
}

/** The strip with something in it changed; the change must change it. */
function changed(name, change) {
  const [path, whole] = [join(ward.folder, name), readFileSync(file, "utf8")];
  const other = change(whole);
  assert.notEqual(other, whole);
  writeFileSync(path, other);
  return path;
}

/** One bit of one byte in the middle of the rows that it carries; with `bit` 0 it is only written anew. */
function flipped(page, bit = 1) {
  return page.replace(/(id="answer">)([^<]*)/, (_, begin, letters) => {
    const bytes = Buffer.from(letters, "base64");
    bytes[Math.floor(bytes.length / 2)] ^= bit;
    return begin + bytes.toString("base64");
  });
}

test("opened from the disk it turns green by itself, asks nobody, and says whose keys it used", async () => {
  const reader = await opened(file);
  const { page } = reader;
  const { colour, word, lines } = await said(reader);
  assert.deepEqual([colour, lines], ["green", 6]);
  assert.match(word, /anchored, by the keys that this file carries/);
  assert.match(await page.textContent("header"), /Not for diagnosis.*UTC.*a file cannot vouch for itself: compare these fingerprints/s);
  // The fingerprints are those that the provider reads out.
  const shown = await page.locator("#keys dd").allTextContents();
  const told = await ward.says("trust", "show", ward.trust);
  assert.equal(shown.length, 2);
  for (const one of shown) assert.match(told, new RegExp(`^(provider|log) .*  ${one}$`, "m"));
  assert.match(await page.textContent("#facts"), /Gaps in the picture1, hatched.*clock.*synced/s);
  await closed(reader);
});

test("the badge is green only when everything has been checked and drawn", async () => {
  const reader = await Reader.alone(chrome);
  await reader.page.addInitScript(() => {
    globalThis.seen = [];
    const note = () => globalThis.seen.push([document.querySelector("#badge")?.className, document.querySelectorAll("#lines canvas").length]);
    new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true });
  });
  reader.home = pathToFileURL(file).href;
  await reader.page.goto(reader.home);
  await checked(reader);
  const seen = await reader.page.evaluate(() => globalThis.seen);
  assert.deepEqual([...new Set(seen.map(([colour]) => colour ?? "grey"))], ["grey", "green"]);
  assert.ok(seen.every(([colour, lines]) => colour !== "green" || lines === 6));
  await closed(reader);
});

test("key pixels: paper, a pulse of 10 mm, boxes, traces, the badge; a hole is hatched and not crossed", async () => {
  const reader = await opened(file);
  const image = await reader.pixels(LINE);
  assert.ok(Math.abs(image.width - 266 * MM) < 2 && Math.abs(image.height - 159.5 * MM) < 2, `${image.width} x ${image.height}`);
  const is = (colour) => ([r, g, b]) => Math.abs(r - colour[0]) + Math.abs(g - colour[1]) + Math.abs(b - colour[2]) < 6;
  const paper = image.count(0, 0, image.width, image.height, is([0xff, 0xfa, 0xf8]));
  assert.ok(paper > image.width * image.height * 0.3, `paper: ${paper}`);
  // The first of twelve leads, 12 mm each, below a head of 6: the flat top of its pulse, and nothing just below it.
  const top = AXIS + (6 + 6 - 10) * MM;
  assert.ok(image.count(GUTTER / 2 - 2, top - 2, 4, 4, dark) > 0);
  assert.equal(image.count(GUTTER / 2 - 2, top + 4, 4, 8, dark), 0);
  const line = (k) => image.count(GUTTER + 100, AXIS + k * MM - 1, 200, 3, gridRed);
  assert.ok(line(5) > 100 && line(10) > 100, `thick lines: ${line(5)}, ${line(10)}`);
  const traces = (of) => of.count(GUTTER + 60, AXIS + 4, of.width - GUTTER - 80, of.height - AXIS - BAND - 8, dark);
  assert.ok(traces(image) > 5000, `${traces(image)}`);
  // The third line is in the middle of the hole: below the words nothing but hatches.
  const hole = await reader.pixels("#lines figure:nth-child(3) canvas");
  const [x, y, w, h] = [GUTTER + 60, AXIS + 4, hole.width - GUTTER - 80, hole.height / 2 - AXIS - 40];
  assert.equal(hole.count(x, y, w, h, ([r]) => r < 60), 0);
  assert.ok(hole.count(x, y, w, h, hatchGrey) > 5000, "it is hatched");
  assert.ok(image.count(x, y, w, h, ([r]) => r < 60) > 500, "the control: the first line has traces there");
  const badge = await reader.pixels("#badge");
  assert.ok(badge.count(0, 0, badge.width, badge.height, is([0x0b, 0x5d, 0x1e])) > 1000, "the badge is green");
  await closed(reader);
});

test("one bit of one sample: red, what and where is named, and no trace is drawn", async () => {
  const reader = await opened(changed("flipped.html", flipped));
  const { colour, lines } = await said(reader);
  assert.deepEqual([colour, lines], ["red", 1]);
  assert.match(await reader.page.textContent("#facts"), /What does not matchchunks\/[0-9a-f-]+\/.*parquet: .*page \d+/);
  const image = await reader.pixels(LINE);
  const red = ([r, g, b]) => r > 150 && g < 60 && b < 80;
  assert.ok(image.count(0, 0, image.width, image.height, red) > 1000, "red hatches");
  const badge = await reader.pixels("#badge");
  assert.ok(badge.count(0, 0, badge.width, badge.height, red) > 1000, "the badge is red");
  await closed(reader);
  const control = await opened(changed("anew.html", (page) => `${flipped(page, 0)}\n`));
  assert.equal((await said(control)).colour, "green");
  await closed(control);
});

test("the reader's own trust file decides: hers green, another's red, none grey", async () => {
  const elsewhere = join(ward.folder, "elsewhere");
  const strange = join(ward.folder, "strange.json");
  await ward.says("init", "--data", elsewhere);
  await ward.says("trust", "export", "--data", elsewhere, "--out", strange);
  const reader = await opened(file);
  const { page } = reader;
  const by = async (text) => {
    await page.fill("#own", text);
    await page.click("#own-form button");
    await checked(reader);
    return said(reader);
  };
  const other = await by(readFileSync(strange, "utf8"));
  assert.deepEqual([other.colour, other.lines], ["red", 1]);
  assert.match(await page.textContent("#facts"), /not signed by a trusted provider/);
  const none = await by("{}");
  assert.deepEqual([none.colour, none.word, none.lines], ["grey", "cannot be checked", 0]);
  const own = await by(readFileSync(ward.trust, "utf8"));
  assert.deepEqual([own.colour, own.word], ["green", "anchored, by the keys of your trust file"]);
  assert.equal(await page.isVisible("#warning"), false);
  assert.equal((await by("")).word, "anchored, by the keys that this file carries");
  await page.setInputFiles("#own-file", strange);
  await page.waitForFunction(() => document.querySelector("#badge").className === "red");
  await closed(reader);
});

test("a strip that is not whole is grey, and a forged one fails", async () => {
  const cut = await opened(changed("cut.html", (page) => page.replace('id="proof"', 'id="prof"')));
  assert.deepEqual(await said(cut), { colour: "grey", word: "cannot be checked", lines: 0 });
  await closed(cut);
  const late = (page) => page.replace(/"until_ns":(\d+)/, (_, ns) => `"until_ns":${BigInt(ns) + 1n}`);
  const other = await opened(changed("late.html", late));
  assert.equal((await said(other)).colour, "red");
  await closed(other);
});

test("names are text, no other script runs, and nothing can be sent", async () => {
  const name = `</script><img src=x onerror="document.title='broken'">`;
  const trust = JSON.parse(readFileSync(ward.trust, "utf8"));
  trust.providers[0].name = name;
  const named = join(ward.folder, "named.json");
  writeFileSync(named, JSON.stringify(trust));
  const span = { from: ward.first, until: ward.first + 10_000 };
  const path = await ward.pull(did, sid, span, "named.html", "--format", "html", "--leads", "II", "--trust", named);
  const reader = await opened(path);
  const { page } = reader;
  assert.equal((await said(reader)).colour, "green");
  assert.match(await page.textContent("#keys"), /provider <\/script><img src=x/);
  assert.equal(await page.locator("img").count(), 0);
  assert.match(await page.textContent("#window"), /of its leads only II$/);
  assert.match(await page.title(), /^ECG strip 20/);
  await closed(reader);
  const more = `<script>document.title = "broken"</script><img src="${ward.url}/icon.svg">`;
  writeFileSync(path, readFileSync(path, "utf8").replace("<main>", `${more}<main>`));
  const forged = await opened(path);
  assert.doesNotMatch(await forged.page.title(), /broken/);
  const sent = await forged.page.evaluate((url) => fetch(url).then(() => "sent", () => "refused"), ward.url);
  assert.equal(sent, "refused");
  // Chromium tells of requests that its policy stopped: they failed.
  for (const request of forged.requests.slice(1)) assert.match(request.failure()?.errorText ?? "sent", /csp/i);
  assert.ok(forged.complaints.length >= 2 && forged.complaints.every((text) => /Content Security Policy|Refused|Failed to fetch|Fetch API/i.test(text)));
  await forged.context.close();
});

test("printed, a second is 25 mm, a line is whole, and each page says what it is", async () => {
  const reader = await opened(file);
  const { page } = reader;
  const pdf = (await page.pdf({ preferCSSPageSize: true })).toString("latin1");
  const [, width, height] = /\/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]/.exec(pdf).map(Number);
  assert.deepEqual([Math.round(width), Math.round(height)], [842, 595]);
  // A line a page, the head with the first of them, and one page for what was checked.
  assert.equal(pdf.match(/\/Type \/Page\b/g).length, 7);
  await page.emulateMedia({ media: "print" });
  const canvas = await page.locator(LINE).boundingBox();
  assert.ok(Math.abs(canvas.width - 266 * MM) < 1, `${canvas.width} px`);
  for (const caption of await page.locator("figcaption").allTextContents()) {
    assert.match(caption, /UTC · 25 mm\/s · 10 mm\/mV · filter: none · stream .* ✔ anchored · NOT FOR DIAGNOSIS/);
  }
  assert.equal(await page.isVisible("#check"), false);
  await closed(reader);
});
