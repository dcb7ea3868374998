// The words of the patients' and operators' pages: states are told by word and shape, times by the reader's own clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { length, local } from "../build/core/time.js";
import { commandState, deviceColumns, deviceState, streamColumns, streamState } from "../build/ui/operator/columns.js";
import { rowsOf, stillMay } from "../build/ui/patient/allowed.js";
import { fingerprint, partyWords, spanWords } from "../build/ui/words.js";

const NOW = Date.UTC(2026, 10, 30, 12);
const ns = (ms) => BigInt(ms) * 1_000_000n;
const DAY = 86_400_000;

test("a time is that of the reader's clock, and says how far that is from UTC", () => {
  const before = process.env.TZ;
  try {
    const noon = Date.UTC(2026, 6, 1, 12);
    for (const [zone, shown] of [["UTC", "12:00:00 +00:00"], ["Europe/Berlin", "14:00:00 +02:00"], ["America/St_Johns", "09:30:00 -02:30"]]) {
      process.env.TZ = zone;
      assert.equal(local(noon), `2026-07-01 ${shown}`);
    }
    // The hour that comes twice is told apart.
    process.env.TZ = "Europe/Berlin";
    const twice = Date.UTC(2026, 9, 25, 0, 30);
    assert.deepEqual([local(twice), local(twice + 3_600_000)], ["2026-10-25 02:30:00 +02:00", "2026-10-25 02:30:00 +01:00"]);
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
  assert.deepEqual([length(71 * 3_600_000), length(12 * DAY)], ["71 h", "12 d"]);
});

test("no bound is said, never left to be guessed", () => {
  assert.equal(spanWords({ fromNs: null, untilNs: null }), "the beginning to no end: what comes, too");
  assert.equal(fingerprint("0123456789ab"), "0123 4567 89ab");
  const kid = "0123456789abcdef".repeat(4);
  assert.equal(partyWords(kid, "Roe"), "Roe (0123 4567 89ab cdef)");
  assert.equal(partyWords(kid, null), "0123 4567 89ab cdef");
});

test("a device's state is a word with a shape, and no two look alike by colour alone", () => {
  const device = { id: "bed", kind: "device", enabled: true, revoked: false, status: "online", gateway: null, seenNs: null, endsNs: null };
  const all = [{}, { status: "offline" }, { status: null }, { enabled: false }, { revoked: true }, { kind: "gateway", status: null }].map((change) => deviceState({ ...device, ...change }));
  assert.deepEqual(all.map(({ word }) => word), ["online", "offline", "has said nothing", "disabled", "certificate revoked", "is not told"]);
  assert.equal(new Set(all.map(({ shape, word }) => shape + word)).size, all.length);
  assert.ok(all.every(({ shape }) => shape !== ""));
  const certificate = deviceColumns(() => NOW).find(({ name }) => name === "Certificate");
  const at = (days) => certificate.cell({ ...device, endsNs: ns(NOW + days * DAY) });
  assert.deepEqual([at(-1).tone, at(0).tone, at(13).tone, at(15).tone], ["bad", "bad", "wait", "good"]);
  assert.match(at(13).word, /renew it/);
});

test("a stream's line says what comes, how far it is sealed, its clock and what is missing", () => {
  const live = { seenNs: ns(NOW - 1000), newestNs: ns(NOW - 2000), offsetNs: -1_500_000_000n, clock: "free-running", missing: 3n };
  const line = { stream: "bed/ecg", did: "d", patient: null, chunks: 2n, sealedNs: ns(NOW - 12_000), live };
  const columns = streamColumns(() => NOW, () => new Map());
  const told = (row) => Object.fromEntries(columns.map(({ name, cell }) => [name, typeof cell(row) === "string" ? cell(row) : cell(row).word]));
  const all = told(line);
  assert.deepEqual([all.State, all["Last seen"], all["Not sealed yet"], all["Clock, offset"], all.Missing], ["comes in", "1 s ago", "10 s", "free-running, −1.5 s", "3 frames"]);
  assert.equal(told({ ...line, sealedNs: null })["Not sealed yet"], "all of it");
  assert.equal(told({ ...line, sealedNs: ns(NOW) })["Not sealed yet"], "0 ms");
  assert.equal(streamState({ ...line, live: { ...live, seenNs: ns(NOW - 31_000) } }, NOW).word, "silent for 31 s");
  const none = told({ ...line, live: null });
  assert.deepEqual([none.State, none["Last seen"], none["Not sealed yet"], none["Clock, offset"], none.Missing], ["nothing comes", "", "", "", ""]);
});

test("of a command it is said whether it was done, and why not", () => {
  const command = { state: "replied", ok: true, why: null };
  const word = (change) => commandState({ ...command, ...change }).word;
  assert.deepEqual([word({}), word({ ok: false, why: "no such lead" }), word({ ok: null })], ["done", "not done: no such lead", "not done: the device does not say why"]);
  assert.deepEqual([word({ state: "waiting" }), word({ state: "delivered" }), word({ state: "expired" })], ["waits for the device", "delivered, no reply yet", "expired"]);
});

test("only what she granted herself is listed, a line for each stream, and only what is open can be revoked", () => {
  const grant = { did: "d", fromNs: null, untilNs: null, leads: null };
  const section = { patient: "ann", requester: "ab".repeat(32), requesterName: "Roe", expiresNs: null, purpose: "", grants: [grant, { ...grant, did: "e" }] };
  const session = { sid: "s", state: "live", sections: [section, { ...section, patient: "eve" }] };
  const rows = rowsOf([session], "ann");
  assert.deepEqual(rows.map(({ grant, who }) => [grant.did, who]), [["d", "Roe (abab abab abab abab)"], ["e", "Roe (abab abab abab abab)"]]);
  assert.equal(new Set(rows.map(({ key }) => key)).size, 2);
  assert.deepEqual(["live", "not-in-the-log", "altered", "expired", "revoked"].map((state) => stillMay({ ...session, state })), [true, true, true, false, false]);
});
