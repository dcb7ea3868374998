// The patient's and the operators' page in a real browser, at a real server, with real keys; the command line is the other side.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Reader, browser } from "./reader.mjs";
import { MINUTE, Ward } from "./ward.mjs";

const PHONE = { viewport: { width: 390, height: 800 } };
const SECOND = 1000;

let ward, chrome, twelve, sid, span;

before(async () => {
  chrome = await browser();
  ward = await Ward.open({ day: false });
  twelve = await ward.did("bed-1");
  ward.eve = await ward.party("eve", "patient");
  ward.moe = await ward.party("moe", "requester");
  ward.op = join(ward.data, "keys", "operator.pem");
  await ward.cli("party", "add", `${ward.op}.pub`, "--role", "operator");
  span = { from: ward.first + 10 * SECOND, until: ward.first + 40 * SECOND };
}, { timeout: 300_000 });

after(async () => {
  await chrome?.close();
  await ward?.close();
});

/** In front of a page, her key shown. */
async function at(path, key, options = {}) {
  const reader = await Reader.at(ward, chrome, { path, ...options });
  await reader.connect(key);
  return reader;
}

async function opened(path, key, options) {
  const reader = await at(path, key, options);
  await reader.page.waitForSelector("#open:not([hidden])");
  return reader;
}

/** A browser notes what it was refused. */
function forgive(reader, pattern) {
  reader.complaints = reader.complaints.filter((text) => !pattern.test(text));
}

/** What a field for a time is filled with; the tests' browser lives in UTC. */
const time = (ms) => new Date(ms).toISOString().slice(0, 19);

/** Fills the form as far as the question. */
async function fill(page, { to, from, until, leads, purpose = "second opinion", expires }) {
  await page.selectOption("#grant-stream", twelve);
  if (to) await page.fill("#grant-to", readFileSync(`${to}.pub`, "utf8"));
  await page.fill("#grant-from", from === undefined ? "" : time(from));
  await page.fill("#grant-until", until === undefined ? "" : time(until));
  if (expires !== undefined) await page.fill("#grant-expires", time(expires));
  if (leads) {
    await page.uncheck('#grant-leads input[value=""]');
    for (const lead of leads) await page.check(`#grant-leads input[value="${lead}"]`);
  }
  await page.fill("#grant-purpose", purpose);
  await page.click("#grant button[type=submit]");
}

/** What a command said when it failed; its own words are not looked at. */
const said = (why) => (e) => why.test(e.stderr) || assert.fail(`${e.stderr} is not ${why}`);

const tells = async (page, pattern) => {
  await page.waitForFunction((source) => new RegExp(source).test(document.querySelector("#said").textContent), pattern.source);
  return page.textContent("#said");
};

test("what a patient grants in the browser a clinician pulls, and not a nanosecond or a lead more", async () => {
  const reader = await opened("/patient", ward.ann, { timezoneId: "UTC" });
  const { page } = reader;
  assert.match(await page.textContent("#mine"), /bed-1\/ecg/);
  await page.selectOption("#grant-stream", twelve);
  await page.waitForSelector('#grant-leads input[value="V1"]');
  // Not whole tens of seconds: rounded inwards, and she is told.
  await fill(page, { to: ward.roe, from: span.from - 3 * SECOND, until: span.until + 9 * SECOND, leads: ["I", "II"] });
  const asked = await page.textContent("#confirm[open]");
  assert.ok(asked.includes(time(span.from).replace("T", " ")) && asked.includes(time(span.until).replace("T", " ")), asked);
  assert.match(asked, /leads: I, II/);
  const { stdout } = await ward.cli("party", "list", "--json");
  const roe = JSON.parse(stdout).find(({ name }) => name === "roe");
  assert.ok(asked.replaceAll(" ", "").includes(roe.id), "the whole fingerprint is shown before she signs");
  await page.click("#confirm-yes");
  sid = /session ([0-9a-f]{64})/.exec(await tells(page, /Granted/))[1];
  assert.match(await page.textContent("#allowed"), /roe \([0-9a-f]{4} .*● may see.*bed-1\/ecg.*I, II.*second opinion/s);

  const pulled = await ward.pull(twelve, sid, span, "granted.csv", "--leads", "I,II", "--format", "csv", "--trust", ward.trust);
  const rows = readFileSync(pulled, "utf8").trim().split("\n").length - 1;
  assert.equal(rows, 15_000, "30 s of 500 Hz");
  const refused = (change, leads, why) => assert.rejects(ward.pull(twelve, sid, { ...span, ...change }, "no.csv", ...leads), said(why));
  await refused({ longer: 1n }, ["--leads", "I,II"], /more than one grant of the session allows/);
  await refused({ sooner: 1n }, ["--leads", "I,II"], /more than one grant of the session allows/);
  await refused({}, ["--leads", "I,II,V1"], /more than one grant of the session allows/);
  await refused({}, [], /more than one grant of the session allows/);
  // As the other implementation reads it.
  const shown = (await ward.cli("session", "show", "--key", ward.roe, "--session", sid, "--json")).stdout;
  // As text: a number of JavaScript would hide nanoseconds.
  const ns = (name) => new RegExp(`"${name}": ?(\\d+)`).exec(shown)[1];
  assert.deepEqual([ns("from_ns"), ns("until_ns")], [`${span.from}000000`, `${span.until}000000`]);
  assert.deepEqual(JSON.parse(shown).sections[0].grants[0].leads, ["I", "II"]);
  await reader.keptItsKey();
  await reader.close();
});

test("who looked: the clinician's pull is there, with her name, what she asked for and what she was refused", async () => {
  const reader = await opened("/patient", ward.ann, { timezoneId: "UTC" });
  const { page } = reader;
  await page.selectOption("#looked-stream", twelve);
  await page.waitForFunction(() => /roe/.test(document.querySelector("#looked").textContent));
  const rows = await page.$$eval("#looked tbody tr", (all) => all.map((row) => row.textContent));
  const at = (ms) => time(ms).replace("T", " ");
  const good = rows.find((row) => /● was (sent|answered)/.test(row) && row.includes(at(span.from)) && row.includes(at(span.until)));
  assert.ok(good && /roe/.test(good) && /requester/.test(good) && good.includes(sid.slice(0, 8)) && /15000/.test(good), JSON.stringify(rows));
  assert.ok(rows.some((row) => /✕ refused/.test(row)), "refusals are there, too");
  assert.ok(!rows.some((row) => /^.*ann \(/.test(row)), "her own looking is hidden");
  await page.check("#looked-own");
  assert.ok((await page.$$("#looked tbody tr")).length > rows.length);
  // Sorted by keyboard, and back.
  await page.focus("#looked th:nth-child(1) button");
  await page.keyboard.press("Enter");
  assert.equal(await page.getAttribute("#looked th:nth-child(1)", "aria-sort"), "ascending");
  await reader.close();
});

test("what cannot hold is not signed, and what the server refuses is told in words", async () => {
  const reader = await opened("/patient", ward.ann, { timezoneId: "UTC" });
  const { page } = reader;
  const before = JSON.parse((await ward.cli("session", "list", "--json")).stdout).length;
  await fill(page, { from: span.from, until: span.until });
  await tells(page, /say to whom/);
  await page.fill("#grant-to", readFileSync(ward.roe, "utf8"));
  await page.click("#grant button[type=submit]");
  await tells(page, /a secret key/);
  await fill(page, { to: ward.eve, ...span });
  await page.click("#confirm-yes");
  await tells(page, /not the public identity of a requester/);
  await fill(page, { to: ward.roe, from: span.from + 1 * SECOND, until: span.from + 19 * SECOND });
  await tells(page, /longer span/);
  await fill(page, { to: ward.roe, ...span, expires: Date.now() - MINUTE });
  await tells(page, /ended already/);
  // Cancel, and Escape, sign nothing.
  for (const no of ["Escape", "Enter"]) {
    await fill(page, { to: ward.roe, ...span, expires: Date.now() + MINUTE * 60 });
    await page.waitForSelector("#confirm[open]");
    await page.keyboard.press(no);
    await page.waitForSelector("#confirm:not([open])", { state: "attached" });
  }
  assert.equal(JSON.parse((await ward.cli("session", "list", "--json")).stdout).length, before);
  // Known to nobody here.
  const stranger = join(ward.folder, "stranger.pem");
  await ward.says("key", "new", "--role", "requester", "--name", "stranger", "--out", stranger);
  await fill(page, { to: stranger, ...span });
  await page.click("#confirm-yes");
  await tells(page, /requester who is not known here.*party add/);
  forgive(reader, /status of 400/);
  await reader.close();
});

test("a grant that another key signed is refused; its twin by the patient is taken", async () => {
  const reader = await opened("/patient", ward.ann);
  const { page } = reader;
  // What the page signs, changed on its way: the entry is another patient's, over the same stream.
  const eve = await opened("/patient", ward.eve);
  let body;
  await eve.page.route("**/v1/streams", async (route) => {
    const answer = await route.fetch();
    await route.fulfill({ response: answer, json: { streams: [{ did: twelve, stream: "bed-1/ecg", newest: 1 }] } });
  });
  await eve.page.click("#leave");
  await eve.connect(ward.eve);
  // The server tells her who looked at her own streams only.
  await eve.page.waitForFunction(() => /no patient's/.test(document.querySelector("#trouble").textContent));
  await eve.page.route("**/v1/trail?*", (route) => route.fulfill({ json: { did: twelve, records: [], more: false } }));
  await eve.connect(ward.eve);
  await eve.page.waitForSelector("#open:not([hidden])");
  await fill(eve.page, { to: ward.roe, ...span });
  await eve.page.click("#confirm-yes");
  await tells(eve.page, /not the signer's/);
  forgive(eve, /status of 40[34]/);
  await eve.close();

  // The patient's own post with a byte of the signature, or of the sections, changed.
  await page.route("**/v1/sessions", async (route) => {
    if (route.request().method() !== "POST") return route.continue();
    body = route.request().postDataBuffer();
    const changed = Buffer.from(body);
    changed[changed.length - 1] ^= 1;
    await route.continue({ postData: changed });
  });
  await fill(page, { to: ward.roe, ...span });
  await page.click("#confirm-yes");
  await tells(page, /sections are not the ones that the event signs|not sealed/);
  await page.unroute("**/v1/sessions");
  const headers = { "content-type": "application/cbor" };
  const send = (bytes) => fetch(`${ward.url}/v1/sessions`, { method: "POST", headers, body: bytes });
  assert.equal((await send(body)).status, 201, "the control: as she signed it, it is taken");
  forgive(reader, /status of 40[03]/);
  await reader.close();
});

test("she revokes, with one question, and the next pull is refused", async () => {
  const pull = (name) => ward.pull(twelve, sid, span, name, "--leads", "I,II", "--format", "csv", "--trust", ward.trust);
  await pull("before.csv");
  const reader = await opened("/patient", ward.ann, PHONE);
  const { page } = reader;
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= PHONE.viewport.width, `${wide} px wide on a phone`);
  const row = page.locator(`#allowed tr[data-key^="${sid}"]`);
  await row.getByRole("button", { name: "Revoke" }).click();
  await page.click("#confirm button:first-of-type");
  await pull("cancelled.csv");
  await row.getByRole("button", { name: "Revoke" }).click();
  assert.match(await page.textContent("#confirm"), /roe.*bed-1\/ecg/s);
  await page.click("#confirm-yes");
  await tells(page, /Revoked/);
  assert.match(await row.textContent(), /✕ revoked/);
  assert.equal(await row.getByRole("button", { name: "Revoke" }).isVisible(), false);
  await assert.rejects(pull("after.csv"), said(/the session is unknown, revoked/));
  // Another patient's revocation of a grant of hers is refused.
  const other = await ward.grant(twelve, "--from", `${BigInt(span.from) * 1_000_000n}`);
  const own = ward.ann;
  ward.ann = ward.eve;
  await assert.rejects(ward.revoke(other), said(/no such session/));
  ward.ann = own;
  await reader.close();
});

test("an operator sees devices and streams as they are, and a command and what became of it", async () => {
  ward.live("bed-2", "--leads", "3", "--rate", "250", "--for", "600s");
  await ward.did("bed-2");
  const reader = await opened("/operator", ward.op);
  const { page } = reader;
  const line = (table, name) => page.locator(`#${table} tbody tr`, { hasText: name });
  const until = (table, name, pattern) =>
    page.waitForFunction(([table, name, source]) => {
      const rows = [...document.querySelectorAll(`#${table} tbody tr`)].map((row) => row.textContent);
      return rows.some((row) => row.includes(name) && new RegExp(source).test(row));
    }, [table, name, pattern.source], { timeout: 30_000 });
  assert.match(await page.textContent("#ready"), /● ready/);
  await until("devices", "bed-2", /● online.*ago.* left/);
  await until("streams", "bed-2/ecg", /● comes in.*ago.*● none/);
  assert.match(await line("streams", "bed-2/ecg").textContent(), /ann \(/);
  assert.match(await line("streams", "bed-3/ecg").textContent(), /– nothing comes/);
  const told = JSON.parse((await ward.cli("stream", "list", "--json")).stdout).find((one) => one.stream === "bed-2/ecg");
  assert.ok(Date.now() - told.live.seen_ns / 1e6 < 10_000 && told.live.missing_frames === 0, JSON.stringify(told));

  await line("devices", "bed-2").getByRole("button", { name: "Command" }).click();
  assert.equal(await page.inputValue("#order-device"), "bed-2");
  await page.selectOption("#order-do", "set-rate");
  await page.fill("#order-hz", "500");
  await page.click("#order button[type=submit]");
  assert.match(await page.textContent("#confirm[open]"), /bed-2.*set-rate.*500/s);
  await page.click("#confirm-yes");
  await tells(page, /Sent/);
  await until("commands", "set-rate", /● done/);
  const commands = JSON.parse((await ward.cli("device", "commands", "--json")).stdout);
  assert.equal(commands[0].command.rate_num, 500);
  assert.match(commands[0].by, /^[0-9a-f]{64}$/, "an operator's key, not the socket");
  // The server's own word on what cannot be.
  await page.selectOption("#order-do", "identify");
  await page.fill("#order-stream", "no/such");
  await page.click("#order button[type=submit]");
  await page.click("#confirm-yes");
  await tells(page, /command: /);

  // It renews by itself, and what has the focus keeps it.
  const button = line("devices", "bed-2").getByRole("button", { name: "Command" });
  await button.focus();
  const before = await page.textContent("#when");
  ward.device.kill("SIGKILL");
  await until("devices", "bed-2", /○ offline/);
  assert.notEqual(await page.textContent("#when"), before);
  assert.ok(await button.evaluate((one) => one === document.activeElement), "the focus stays");
  await until("streams", "bed-2/ecg", /○ silent for/);
  forgive(reader, /status of 400/);
  await reader.keptItsKey();
  await reader.close();
}, { timeout: 120_000 });

test("a patient's and a clinician's key get no operator's data, and an operator's none of a patient", async () => {
  for (const key of [ward.ann, ward.roe]) {
    const reader = await at("/operator", key);
    await reader.page.waitForFunction(() => /no operator's/.test(document.querySelector("#trouble").textContent));
    assert.equal(await reader.page.isVisible("#open"), false);
    assert.doesNotMatch(await reader.page.textContent("main"), /bed-\d/);
    forgive(reader, /status of 403/);
    await reader.close();
  }
  for (const key of [ward.op, ward.roe]) {
    const reader = await at("/patient", key);
    await reader.page.waitForFunction(() => /no patient's/.test(document.querySelector("#trouble").textContent));
    assert.equal(await reader.page.isVisible("#open"), false);
    await reader.close();
  }
});
